"""The output layer that both cells share: y = softmax(Wy a + by) over all steps."""

from typing import Any

import numpy as np

from . import _arrays, _kernels
from ._arrays import Array, Parameters


def predictions(cache: Array, p: Parameters, key: str, T_x: int) -> Array:
    """Return y (n_y, m, T_x) from the states (T_x + 1, m, n_a) and the weights named `key` and by."""
    _, m, n_a = cache.shape
    n_y = len(p[key])
    y = np.empty((n_y, m, T_x))
    work = np.empty(_kernels.output.forward_work(n_a, n_y, m, T_x))
    try:
        _kernels.output.forward(cache, p[key], p["by"], y, work)
    except _arrays.MISFIT:  # convert here: the steps have been computed and need not be again
        converted = _arrays.weights(p, output_shapes(key, n_y, n_a))
        _kernels.output.forward(cache, converted[key], converted["by"], y, work)
    return y


def output_shapes(key: str, n_y: int, n_a: int) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return the shapes of the output layer's weights, with the letters that explain them."""
    return {key: ("n_y, n_a", (n_y, n_a)), "by": ("n_y, 1", (n_y, 1))}


def output_sizes(parameters: Any, key: str) -> tuple[int, int]:
    """Return n_y and n_a, the shape of the output layer's weights."""
    n_y, n_a = _arrays.dimensions(f"parameters[{key!r}]", _arrays.entry(parameters, key), "n_y, n_a").shape
    return n_y, n_a
