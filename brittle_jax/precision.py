"""Full precision of matrix products and convolutions, for everything that is measured."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def in_float32(function: Callable) -> Callable:
    """Returns a function whose matrix products and convolutions are computed in float32.

    By default a GPU or TPU keeps only 10 or 8 bits of their mantissa. With this, a score or a gradient is the same on
    every device, up to rounding.
    """

    @functools.wraps(function)
    def exact(*arguments: Any, **others: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return function(*arguments, **others)

    return exact
