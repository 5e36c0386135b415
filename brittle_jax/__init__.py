"""One-class image anomaly detection with frozen teachers and distilled students, in JAX and Flax.

Mai, Davies and Griffin, *Brittle Features May Help Anomaly Detection* (2021), https://arxiv.org/abs/2104.10453.

`brittle_jax.load_detector(run)` reads the detector of a finished run; see `brittle_jax.apply.loaded`.
`brittle_jax.export_detector(run, file)` exports the detector of a finished run; see `brittle_jax.apply.export`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Imported when they are first asked for: they need JAX.
_MODULE_OF = {"load_detector": "brittle_jax.apply.loaded", "export_detector": "brittle_jax.apply.export"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
