"""The basic RNN of the notebook: one cell and the whole sequence, forward and backward.

a<t> = tanh(Wax x<t> + Waa a<t-1> + ba)
y<t> = softmax(Wya a<t> + by)
"""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from .. import _checks, _kernels, _updates
from .._checks import Array, Parameters
from .._kernels import Kernels
from .caches import CacheList, SequenceCache, backward_by_steps, kernels_of, sequence_of, used_of
from .spec import RNN

__all__ = ["rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward"]

CACHE = "a_next, a_prev, xt, parameters"


def _run(
    kernels: Kernels, x: Array, a0: Array | None, p: Parameters, lengths: Any, cache: bool, output: str | None
) -> tuple[Any, ...]:
    """All steps: a (n_a, m, T_x), y (n_y, m, T_x), and what the backward pass needs: the lengths and a buffer."""
    if lengths is not None:
        lengths = _checks.lengths(lengths, *x.shape[-2:])
    a, y, kept = kernels.recurrent.rnn_forward(
        *_checks.dense_or_indices(x), a0, p["Wax"], p["Waa"], p["ba"], *RNN.output_layer(p, output), lengths, cache
    )
    return a, y, lengths, kept


def _step(kernels: Kernels, xt: Array, a_prev: Array | None, p: Parameters, output: str | None) -> tuple[Array, ...]:
    """One step: a_next (n_a, m) and yt (n_y, m)."""
    result: tuple[Array, ...] = kernels.recurrent.rnn_cell_forward(
        *_checks.dense_or_indices(xt), a_prev, p["Wax"], p["Waa"], p["ba"], *RNN.output_layer(p, output)
    )
    return result


@overload
def rnn_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str = ...
) -> tuple[Array, Array, tuple[Any, ...]]: ...
@overload
def rnn_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None
) -> tuple[Array, Any, tuple[Any, ...]]: ...
@overload
def rnn_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None = ..., dtype: Any
) -> tuple[Any, Any, tuple[Any, ...]]: ...
def rnn_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None = "softmax", dtype: Any = np.float64
) -> tuple[Array, Any, tuple[Any, ...]]:
    """One step of the basic RNN.

    ``a_next = tanh(Wax xt + Waa a_prev + ba)``, ``yt_pred = softmax(Wya a_next + by)``.

    Parameters
    ----------
    xt : array_like, shape (n_x, m), or of integers, shape (m,)
        Input at this step.  Integers (m,) are indices, from 0 to n_x - 1, that stand for one-hot columns.
    a_prev : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Hidden state before the step.
    parameters : mapping
        ``Wax`` (n_a, n_x), ``Waa`` (n_a, n_a), ``Wya`` (n_y, n_a), ``ba`` (n_a, 1), ``by`` (n_y, 1).
    output : str or None
        The output layer's activation: ``"softmax"`` (the notebook's), ``"sigmoid"``, ``"linear"``; None for no output
        layer: y is None and its two entries are not read.
    dtype : numpy.float64 or numpy.float32
        Precision of the computation and of every array that is returned, whatever the arguments are; those of another
        one are converted, at every call.

    Returns
    -------
    a_next : numpy.ndarray of `dtype`, shape (n_a, m)
        Hidden state after the step, a new array.
    yt_pred : numpy.ndarray of `dtype`, shape (n_y, m)
        Prediction, a new array; None without an output.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)``: the first is the array returned, the others what was
        passed.  `rnn_cell_backward` reads them as they are when it runs.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "Wya": np.eye(2), "ba": np.zeros((2, 1)), "by": np.zeros((2, 1))}
    >>> a_next, yt_pred, cache = cyrnn.rnn_cell_forward(np.ones((2, 3)), np.zeros((2, 1)), p)
    >>> a_next[0]
    array([0.76159416, 0.76159416, 0.76159416])
    """
    kernels = _checks.kernels(dtype)
    try:
        result = _step(kernels, xt, a_prev, parameters, output)
    except _checks.MISFIT:
        result = ()
    if not result:
        x = RNN.input("xt", xt, "n_x, m", parameters, dtype=kernels.dtype)
        _checks.real("a_prev", a_prev)  # which may not be None
        (a,), weights = RNN.checked("xt", x, parameters, output, kernels.dtype, a_prev=a_prev)
        result = _step(kernels, x, a, weights, output)
    a_next, yt_pred = result
    return a_next, yt_pred, (a_next, a_prev, xt, parameters)


@overload
def rnn_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: Literal[True] = ...
) -> tuple[Array, Array, tuple[CacheList, Any]]: ...
@overload
def rnn_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: Literal[False]
) -> tuple[Array, Array, None]: ...
@overload
def rnn_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: bool
) -> tuple[Array, Array, tuple[CacheList, Any] | None]: ...
@overload
def rnn_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str | None, cache: bool = ...
) -> tuple[Array, Any, Any]: ...
@overload
def rnn_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    lengths: Any = ...,
    output: str | None = ...,
    cache: bool = ...,
    dtype: Any,
) -> tuple[Any, Any, Any]: ...
def rnn_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    lengths: Any = None,
    output: str | None = "softmax",
    cache: bool = True,
    dtype: Any = np.float64,
) -> tuple[Array, Any, Any]:
    """Run the basic RNN over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x), or of integers, shape (m, T_x)
        Input of every step.  Used without a conversion if it is of `dtype`.  Integers (m, T_x) are indices, from 0 to
        n_x - 1: each stands for a one-hot column, with the same bits in every result, and n_x is what the weights have.
        They are used without a conversion if they are numpy.intp.
    a0 : array_like, shape (n_a, m), or (n_a, 1) for all examples, or None
        Initial hidden state; copied.  None for zeros.
    parameters : mapping
        As for `rnn_cell_forward`.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x; copied.  What `x` holds past them is not used.  The result of an
        example is bit for bit that of running it alone without padding, in time proportional to the sum
        of the lengths.  All steps by default, as in the notebook.
    output : str or None
        The output layer's activation: ``"softmax"`` (the notebook's), ``"sigmoid"``, ``"linear"``; None for no output
        layer: y is None and its two entries are not read.
    cache : bool
        False to keep nothing for the backward pass: `caches` is None, and no memory but the results
        grows with T_x (with lengths a table too, 8 bytes a step, or a step and example in a small call).
    dtype : numpy.float64 or numpy.float32
        Precision of the computation and of every array that is returned, whatever the arguments are; those of another
        one are converted, at every call.

    Returns
    -------
    a : numpy.ndarray of `dtype`, shape (n_a, m, T_x)
        Hidden states, a new array that shares memory with nothing; zero past the lengths.
    y_pred : numpy.ndarray of `dtype`, shape (n_y, m, T_x)
        Predictions, a new array; zero past the lengths.  None without an output.
    caches : tuple
        ``(steps, x)``: `steps` behaves as a list of the cells' caches, one per step, and `x` is the
        very object passed.  `rnn_backward` reads `x` and `parameters` as they are when it runs.
        With lengths the arrays of a step are read-only copies, zero past the lengths.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> rng = np.random.default_rng(0)
    >>> n_x, n_a, n_y, m, T_x = 3, 5, 2, 10, 4
    >>> p = {"Wax": rng.normal(size=(n_a, n_x)), "Waa": rng.normal(size=(n_a, n_a)),
    ...      "Wya": rng.normal(size=(n_y, n_a)), "ba": np.zeros((n_a, 1)), "by": np.zeros((n_y, 1))}
    >>> a, y_pred, caches = cyrnn.rnn_forward(rng.normal(size=(n_x, m, T_x)), np.zeros((n_a, m)), p)
    >>> a.shape, y_pred.shape, len(caches[0])
    ((5, 10, 4), (2, 10, 4), 4)
    """
    kernels, made = _checks.kernels(dtype), _updates.count
    try:
        result = _run(kernels, x, a0, parameters, lengths, cache, output)
    except _checks.MISFIT:
        result = ()
    array = x
    if not result:
        array = RNN.input("x", x, "n_x, m, T_x", parameters, lengths, dtype=kernels.dtype)
        states, weights = RNN.checked("x", array, parameters, output, kernels.dtype, a0=a0)
        result = _run(kernels, array, states[0], weights, lengths, cache, output)
    a, y_pred, lengths, kept = result
    if kept is None:
        return a, y_pred, None
    array = x if isinstance(x, np.ndarray) else np.asarray(array)
    return a, y_pred, (CacheList(SequenceCache(RNN, kept, a.shape, lengths, array, parameters, made)), x)


def _run_back(da: Array, x: Array, sequence: SequenceCache, p: Parameters) -> dict[str, Array]:
    """Gradients of the first steps of a sequence, as many as `da` has."""
    dx, da0, dWax, dWaa, dba = sequence.kernels.recurrent.rnn_backward(
        da, *_checks.dense_or_indices(x), sequence.lengths, sequence.buffer, p["Wax"], p["Waa"]
    )
    return {"dx": dx, "da0": da0, "dWax": dWax, "dWaa": dWaa, "dba": dba}


def _step_back(da: Array, cache: Sequence[Any], p: Parameters) -> dict[str, Array]:
    """Gradients of one step from its cache."""
    a_next, a_prev, xt, _ = cache
    dxt, da_prev, dWax, dWaa, dba = _kernels.of(a_next.dtype).recurrent.rnn_cell_backward(
        da, a_next, a_prev, *_checks.dense_or_indices(xt), p["Wax"], p["Waa"]
    )
    return {"dxt": dxt, "da_prev": da_prev, "dWax": dWax, "dWaa": dWaa, "dba": dba}


def _cell_back(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """`rnn_cell_backward` of (da_next, cache), with the names that its caller gives them."""
    da_next, cache = values
    try:
        return _step_back(da_next, cache, cache[-1])
    except _checks.MISFIT:
        pass
    da_name, name = names
    a_next, a_prev, xt, p = _checks.unpacked(name, cache, CACHE)
    dtype = _checks.kernels_for(a_next).dtype
    a_next = _checks.dimensions(f"{name}[0] (a_next)", a_next, "n_a, m", dtype)
    n_a, m = a_next.shape
    a_prev = _checks.state(f"{name}[1] (a_prev)", a_prev, n_a, m, dtype)
    _checks.columns_fit(da_name, m)
    xt, n_x = RNN.cached_input(f"{name}[2] (xt)", xt, p, m, dtype=dtype)
    da_next = _checks.shaped(da_name, da_next, "n_a, m", (n_a, m), dtype)
    return _step_back(da_next, (a_next, a_prev, xt, p), _checks.weights(p, RNN.weights(n_a, n_x), dtype=dtype))


def rnn_cell_backward(da_next: Any, cache: Sequence[Any]) -> dict[str, Array]:
    """Gradients of one step of the basic RNN.

    With ``dz = (1 - a_next^2) * da_next``: ``dxt = Wax' dz``, ``da_prev = Waa' dz``, ``dWax = dz xt'``,
    ``dWaa = dz a_prev'``, ``dba`` the sum of dz over the examples.

    Parameters
    ----------
    da_next : array_like, shape (n_a, m)
        Gradient of the loss with respect to the hidden state after the step.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)`` as `rnn_cell_forward` returns it, or made by hand.
        Its parameters are read as they are now: an update in place since the forward pass is not detected here.

    Returns
    -------
    dict of new arrays, of the cache's dtype
        ``dxt`` (n_x, m), ``da_prev`` (n_a, m), ``dWax`` (n_a, n_x), ``dWaa`` (n_a, n_a), ``dba`` (n_a, 1).
        ``dxt`` is None where `xt` was of indices.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the cache is of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "Wya": np.eye(2), "ba": np.zeros((2, 1)), "by": np.zeros((2, 1))}
    >>> a_next, yt_pred, cache = cyrnn.rnn_cell_forward(np.ones((2, 3)), np.zeros((2, 3)), p)
    >>> cyrnn.rnn_cell_backward(np.ones((2, 3)), cache)["dba"]
    array([[1.25992302],
           [1.25992302]])
    """
    return _cell_back(("da_next", "cache"), (da_next, cache))


def rnn_backward(da: Any, caches: Sequence[Any]) -> dict[str, Array]:
    """Gradients through all steps of the basic RNN.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient of the loss with respect to every hidden state.  It may have fewer steps than the
        caches: then the gradients are those of the first T_x steps.  What it holds past the lengths that
        `rnn_forward` was given is not used, and dx is zero there.
    caches : tuple
        ``(steps, x)`` as `rnn_forward` returns it.  `steps` may also be any sequence of the cells'
        caches: made in a loop, sliced, joined, edited.  Its arrays, `x` and the `parameters` it holds
        are read as they are now; in a list that was edited an update in place is not detected.

    Returns
    -------
    dict of new arrays, of the caches' dtype
        ``dx`` (n_x, m, T_x), ``da0`` (n_a, m), ``dWax`` (n_a, n_x), ``dWaa`` (n_a, n_a), ``dba`` (n_a, 1).
        ``dx`` is None where `x` was of indices.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the caches is of a wrong type or shape; the message names it.
    RuntimeError
        If `update_parameters_with_adam` or `update_parameters_with_gd` changed one of the parameters in place since the
        forward pass.  A change by other code cannot be detected: the gradients are then those of neither network.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "Wya": np.eye(2), "ba": np.zeros((2, 1)), "by": np.zeros((2, 1))}
    >>> a, y_pred, caches = cyrnn.rnn_forward(np.ones((2, 3, 7)), np.zeros((2, 3)), p)
    >>> gradients = cyrnn.rnn_backward(np.ones((2, 3, 7)), caches)
    >>> {name: value.shape for name, value in gradients.items()}
    {'dx': (2, 3, 7), 'da0': (2, 3), 'dWax': (2, 2), 'dWaa': (2, 2), 'dba': (2, 1)}
    """
    try:
        sequence = caches[0].sequence
        if sequence.spec is RNN and len(caches) == 2:
            sequence.check()
            return _run_back(da, sequence.x, sequence, sequence.parameters)
    except _checks.MISFIT:
        pass
    steps, _ = _checks.unpacked("caches", caches, "steps, x")
    dtype, used = kernels_of(steps).dtype, used_of(steps)
    da = _checks.dimensions("da", da, "n_a, m, T_x", dtype, used)
    _checks.columns_fit("da", *da.shape[1:])
    sequence = sequence_of(steps, RNN, da.shape[2])
    if sequence is not None:
        sequence.check()
    if sequence is None:
        return backward_by_steps(_cell_back, {"da": da}, steps)
    n_a, m, _ = sequence.shape
    _checks.shaped("da", da, "n_a, m, T_x", (n_a, m, da.shape[2]), dtype)
    x, n_x = RNN.cached_input("x", sequence.x, sequence.parameters, m, len(sequence), sequence.lengths, dtype=dtype)
    weights = _checks.weights(sequence.parameters, RNN.weights(n_a, n_x), dtype=dtype)
    return _run_back(da, x, sequence, weights)
