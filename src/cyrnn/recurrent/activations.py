"""The two activations that the notebook imports: softmax and sigmoid."""

from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array

__all__ = ["sigmoid", "softmax"]

PART = 1 << 22  # values; between two parts the interpreter answers signals


def sigmoid(x: Any) -> Any:
    """Logistic function of every element.

    ``1 / (1 + exp(-x))``, within 2 units in the last place for every number and without overflow.

    Parameters
    ----------
    x : array_like of real numbers, any shape
        Computed in float32 if it is an array of that, else in float64.

    Returns
    -------
    numpy.ndarray of float64 or float32, the shape of `x`
        A new array; a scalar where `x` is a scalar.

    Raises
    ------
    TypeError, ValueError
        If `x` does not hold real numbers.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.sigmoid([0.0, 2.0, -1000.0])
    array([0.5       , 0.88079708, 0.        ])
    """
    kernels = _checks.kernels_for(x)
    out = _checks.real("x", x, dtype=kernels.dtype).copy()  # C-contiguous
    flat = out.reshape(-1)
    for start in range(0, flat.size, PART):
        kernels.activations.sigmoid(flat[start : start + PART])
    return out[()] if out.ndim == 0 else out


def softmax(x: Any) -> Array:
    """Softmax over the first axis.

    ``exp(x) / sum(exp(x))``, each example with its own maximum subtracted first, so that neither the
    size of the numbers nor the other examples matter.

    Parameters
    ----------
    x : array_like of real numbers, shape (n_y, ...)
        One example a column, as in the notebook: (n_y,), (n_y, m) or (n_y, m, T_x).
        Computed in float32 if it is an array of that, else in float64.

    Returns
    -------
    numpy.ndarray of float64 or float32, the shape of `x`
        A new array; each column sums to 1.

    Raises
    ------
    TypeError, ValueError
        If `x` does not hold real numbers or is a scalar.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.softmax([[1000.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    kernels = _checks.kernels_for(x)
    array = _checks.real("x", x, dtype=kernels.dtype)
    if array.ndim == 0:
        raise ValueError("x: expected shape (n_y, ...), got a scalar")
    out = np.empty(array.shape, array.dtype)
    if out.size:
        if array.ndim != 3:
            array = array.reshape(array.shape[0], -1, 1)
        kernels.activations.softmax(array, out.reshape(array.shape))
    return out
