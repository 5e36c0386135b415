"""How exactly products are computed where something is measured."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def in_float32(function: Callable) -> Callable:
    """Returns a function that takes all its products in float32, of which a GPU or TPU takes 10 or 8 bits by itself.

    A score or a gradient then does not depend on the device that it was measured on, but for rounding.
    """

    @functools.wraps(function)
    def exact(*arguments: Any, **others: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return function(*arguments, **others)

    return exact
