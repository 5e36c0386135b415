"""Stands in for `python -m`: knows a network that compiles in a moment, by the name `mini`."""

import runpy
import sys

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from brittle_jax.models.network import ARCHITECTURES
from tests.mini_network import MINI

if __name__ == "__main__":
    dash_m, module, *arguments = sys.argv[1:]
    assert dash_m == "-m"
    ARCHITECTURES["mini"] = MINI
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
