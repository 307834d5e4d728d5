"""The linear output layer: z = Wya a + by (basic RNN) or Wy a + by (LSTM), forward and backward.

`softmax` of it is what the forward passes return as predictions; without one it is the output of a
regression.
"""

from typing import Any

import numpy as np

from .. import _checks, _kernels
from .._checks import Array, Parameters

__all__ = ["output_backward", "output_forward"]


def _key(parameters: Parameters) -> str:
    """Return the name of the output layer's weights."""
    return "Wya" if "Wya" in parameters else "Wy"


def _run(a: Array, W: Array, b: Array) -> Array:
    """Return z; one step is a sequence of one."""
    if not isinstance(a, np.ndarray):
        raise TypeError  # a table, say, which slices otherwise
    z: Array = _kernels.of(a.dtype).dense.forward(a if a.ndim == 3 else a[:, :, None], W, b)
    return z if a.ndim == 3 else z[:, :, 0]


def _run_back(dz: Array, a: Array, W: Array) -> tuple[Array, Array, Array]:
    if not isinstance(a, np.ndarray) or not isinstance(dz, np.ndarray):
        raise TypeError
    if a.ndim == 3:
        result: tuple[Array, Array, Array] = _kernels.of(a.dtype).dense.backward(dz, a, W)
        return result
    da, dW, db = _kernels.of(a.dtype).dense.backward(dz[:, :, None], a[:, :, None], W)
    return da[:, :, 0], dW, db


def _checked(a: Any, parameters: Any) -> tuple[Array, str, int, int]:
    """Convert the hidden states, or raise the error that names the misfit; the weights' name and sizes."""
    _checks.mapping(parameters)
    key = _key(parameters)
    n_y, n_a = _checks.output_sizes(parameters, key)
    a = _checks.real("a", a, "n_a, m, T_x", _checks.kernels_for(a).dtype)
    if a.ndim not in (2, 3) or len(a) != n_a:
        raise ValueError(f"a: expected shape (n_a, m, T_x) or (n_a, m) with n_a = {n_a}, got {a.shape}")
    _checks.columns_fit("a", *a.shape[1:])
    return np.ascontiguousarray(a), key, n_y, n_a


def output_forward(a: Any, parameters: Parameters) -> Array:
    """Linear output of every step.

    ``z = Wya a + by`` for the basic RNN, ``z = Wy a + by`` for the LSTM.

    Parameters
    ----------
    a : array_like, shape (n_a, m, T_x), or (n_a, m) for one step
        Hidden states, as the forward passes return them.  An array of float32 is computed in float32, anything else in
        float64.
    parameters : mapping
        ``Wya`` or else ``Wy`` (n_y, n_a), and ``by`` (n_y, 1).

    Returns
    -------
    numpy.ndarray of float64 or float32, shape (n_y, m, T_x) or (n_y, m)
        A new array.  Its `softmax` is bit for bit the prediction of the forward passes, but for probabilities below
        2.2e-308, in float32 1.2e-38, which are zero in a forward pass (subnormals are flushed there).

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> cyrnn.output_forward(np.ones((2, 3)), {"Wy": np.array([[1.0, 2.0]]), "by": np.array([[0.5]])})
    array([[3.5, 3.5, 3.5]])
    """
    try:
        return _run(a, parameters[_key(parameters)], parameters["by"])
    except _checks.MISFIT:
        pass
    a, key, n_y, n_a = _checked(a, parameters)
    p = _checks.weights(parameters, _checks.output_shapes(key, n_y, n_a), dtype=a.dtype)
    return _run(a, p[key], p["by"])


def output_backward(dz: Any, a: Any, parameters: Parameters) -> dict[str, Array]:
    """Gradients of the output layer.

    With ``z = W a + by``: ``da = W' dz``, ``dW`` the sum of ``dz a'`` over the steps, ``dby`` the sum of dz over the
    examples and steps.

    Parameters
    ----------
    dz : array_like, shape (n_y, m, T_x), or (n_y, m) for one step
        Gradient of the loss with respect to z, as `cross_entropy` and `mean_squared_error` return it.
    a : array_like, shape (n_a, m, T_x) or (n_a, m)
        Hidden states, as the forward passes return them.  An array of float32 is computed in float32, anything else in
        float64.
    parameters : mapping
        ``Wya`` or else ``Wy`` (n_y, n_a).

    Returns
    -------
    dict of new arrays, of float64 or float32
        ``da``, the shape of `a`, which `rnn_backward` and `lstm_backward` take; ``dWya`` or ``dWy`` (n_y, n_a), named
        like the entry of `parameters`; ``dby`` (n_y, 1).

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    The gradients of all parameters of an RNN, from predictions and labels:

    >>> import numpy as np, cyrnn
    >>> rng = np.random.default_rng(0)
    >>> p = cyrnn.initialize_parameters("rnn", n_x=3, n_a=5, n_y=2, rng=rng)
    >>> a, y_pred, caches = cyrnn.rnn_forward(rng.normal(size=(3, 10, 4)), np.zeros((5, 1)), p)
    >>> loss, dz = cyrnn.cross_entropy(y_pred, np.zeros((10, 4), int))
    >>> output = cyrnn.output_backward(dz, a, p)
    >>> gradients = output | cyrnn.rnn_backward(output["da"], caches)
    >>> sorted(gradients)
    ['dWaa', 'dWax', 'dWya', 'da', 'da0', 'dba', 'dby', 'dx']
    """
    try:
        key = _key(parameters)
        da, dW, db = _run_back(dz, a, parameters[key])
        return {"da": da, "d" + key: dW, "dby": db}
    except _checks.MISFIT:
        pass
    a, key, n_y, n_a = _checked(a, parameters)
    letters = "n_y, m, T_x" if a.ndim == 3 else "n_y, m"
    dz = np.ascontiguousarray(_checks.shaped("dz", dz, letters, (n_y, *a.shape[1:]), a.dtype))
    W = _checks.weights(parameters, {key: ("n_y, n_a", (n_y, n_a))}, dtype=a.dtype)[key]
    da, dW, db = _run_back(dz, a, W)
    return {"da": da, "d" + key: dW, "dby": db}
