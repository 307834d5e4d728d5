"""The LSTM of the notebook: one cell and the whole sequence, forward and backward.

    ft  = sigmoid(Wf [a<t-1>, x<t>] + bf)        forget gate
    it  = sigmoid(Wi [a<t-1>, x<t>] + bi)        input gate (the notebook's "update gate")
    cct = tanh(Wc [a<t-1>, x<t>] + bc)           candidate
    ot  = sigmoid(Wo [a<t-1>, x<t>] + bo)        output gate
    c<t> = ft * c<t-1> + it * cct
    a<t> = ot * tanh(c<t>)
    y<t> = softmax(Wy a<t> + by)

In every weight matrix the n_a columns of the hidden state come before the n_x columns of the input.
"""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from .. import _checks, _kernels, _updates
from .._checks import Array, Parameters
from .._kernels import Kernels
from .caches import CacheList, SequenceCache, backward_by_steps, kernels_of, sequence_of, used_of
from .spec import LSTM

__all__ = ["lstm_backward", "lstm_cell_backward", "lstm_cell_forward", "lstm_forward"]

CACHE = "a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters"


def _run(
    kernels: Kernels,
    x: Array,
    a0: Array | None,
    c0: Array | None,
    p: Parameters,
    lengths: Any,
    cache: bool,
    output: str | None,
) -> tuple[Any, ...]:
    """All steps: a (n_a, m, T_x), y (n_y, m, T_x), c (n_a, m, T_x), and what the backward pass needs."""
    if lengths is not None:
        lengths = _checks.lengths(lengths, *x.shape[-2:])
    a, y, c, kept = kernels.recurrent.lstm_forward(
        *_checks.dense_or_indices(x), a0, c0, p["Wf"], p["Wi"], p["Wc"], p["Wo"], p["bf"], p["bi"], p["bc"], p["bo"],
        *LSTM.output_layer(p, output), lengths, cache,
    )  # fmt: skip
    return a, y, c, lengths, kept


def _step(
    kernels: Kernels, xt: Array, a_prev: Array | None, c_prev: Array | None, p: Parameters, output: str | None
) -> tuple[Array, ...]:
    """One step: a_next, c_next (n_a, m), yt (n_y, m), the gates (4, n_a, m)."""
    result: tuple[Array, ...] = kernels.recurrent.lstm_cell_forward(
        *_checks.dense_or_indices(xt), a_prev, c_prev,
        p["Wf"], p["Wi"], p["Wc"], p["Wo"], p["bf"], p["bi"], p["bc"], p["bo"],
        *LSTM.output_layer(p, output),
    )  # fmt: skip
    return result


@overload
def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Parameters, *, output: str = ...
) -> tuple[Array, Array, Array, tuple[Any, ...]]: ...
@overload
def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Parameters, *, output: str | None
) -> tuple[Array, Array, Any, tuple[Any, ...]]: ...
@overload
def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Parameters, *, output: str | None = ..., dtype: Any
) -> tuple[Any, Any, Any, tuple[Any, ...]]: ...
def lstm_cell_forward(
    xt: Any,
    a_prev: Any,
    c_prev: Any,
    parameters: Parameters,
    *,
    output: str | None = "softmax",
    dtype: Any = np.float64,
) -> tuple[Array, Array, Any, tuple[Any, ...]]:
    """One step of the LSTM.

    In every weight matrix the n_a columns of the hidden state come before the n_x columns of the input::

        ft = sigmoid(Wf [a_prev, xt] + bf)     forget gate
        it = sigmoid(Wi [a_prev, xt] + bi)     input gate (the notebook's "update gate")
        cct = tanh(Wc [a_prev, xt] + bc)       candidate
        ot = sigmoid(Wo [a_prev, xt] + bo)     output gate
        c_next = ft * c_prev + it * cct
        a_next = ot * tanh(c_next)
        yt_pred = softmax(Wy a_next + by)

    Parameters
    ----------
    xt : array_like, shape (n_x, m), or of integers, shape (m,)
        Input at this step.  Integers (m,) are indices, from 0 to n_x - 1, that stand for one-hot columns.
    a_prev, c_prev : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Hidden state and cell state before the step.
    parameters : mapping
        ``Wf Wi Wc Wo`` (n_a, n_a + n_x), ``bf bi bc bo`` (n_a, 1), ``Wy`` (n_y, n_a), ``by`` (n_y, 1).
    output : str or None
        The output layer's activation: ``"softmax"`` (the notebook's), ``"sigmoid"``, ``"linear"``; None for no output
        layer: y is None and its two entries are not read.
    dtype : numpy.float64 or numpy.float32
        Precision of the computation and of every array that is returned, whatever the arguments are; those of another
        one are converted, at every call.

    Returns
    -------
    a_next, c_next : numpy.ndarray of `dtype`, shape (n_a, m)
        Hidden state and cell state after the step, new arrays.
    yt_pred : numpy.ndarray of `dtype`, shape (n_y, m)
        Prediction, a new array; None without an output.
    cache : tuple
        ``(a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)``: the first two are the
        arrays returned; a_prev, c_prev, xt and parameters are what was passed; the gates are new.
        `lstm_cell_backward` reads them as they are when it runs.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"W" + gate: np.ones((2, 5)) for gate in "fico"} | {"b" + gate: np.zeros((2, 1)) for gate in "fico"}
    >>> p |= {"Wy": np.eye(2), "by": np.zeros((2, 1))}
    >>> a_next, c_next, yt_pred, cache = cyrnn.lstm_cell_forward(np.ones((3, 4)), np.zeros((2, 1)), np.zeros((2, 1)), p)
    >>> c_next[0]
    array([0.94786341, 0.94786341, 0.94786341, 0.94786341])
    """
    kernels = _checks.kernels(dtype)
    try:
        result = _step(kernels, xt, a_prev, c_prev, parameters, output)
    except _checks.MISFIT:
        result = ()
    if not result:
        x = LSTM.input("xt", xt, "n_x, m", parameters, dtype=kernels.dtype)
        for name, value in (("a_prev", a_prev), ("c_prev", c_prev)):
            _checks.real(name, value)  # which may not be None
        (a, c), weights = LSTM.checked("xt", x, parameters, output, kernels.dtype, a_prev=a_prev, c_prev=c_prev)
        result = _step(kernels, x, a, c, weights, output)
    a_next, c_next, yt_pred, (ft, it, cct, ot) = result
    return a_next, c_next, yt_pred, (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)


@overload
def lstm_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    c0: Any = ...,
    lengths: Any = ...,
    output: str = ...,
    cache: Literal[True] = ...,
) -> tuple[Array, Array, Array, tuple[CacheList, Any]]: ...
@overload
def lstm_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    c0: Any = ...,
    lengths: Any = ...,
    output: str = ...,
    cache: Literal[False],
) -> tuple[Array, Array, Array, None]: ...
@overload
def lstm_forward(
    x: Any, a0: Any, parameters: Parameters, *, c0: Any = ..., lengths: Any = ..., output: str = ..., cache: bool
) -> tuple[Array, Array, Array, tuple[CacheList, Any] | None]: ...
@overload
def lstm_forward(
    x: Any, a0: Any, parameters: Parameters, *, c0: Any = ..., lengths: Any = ..., output: str | None, cache: bool = ...
) -> tuple[Array, Any, Array, Any]: ...
@overload
def lstm_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    c0: Any = ...,
    lengths: Any = ...,
    output: str | None = ...,
    cache: bool = ...,
    dtype: Any,
) -> tuple[Any, Any, Any, Any]: ...
def lstm_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    c0: Any = None,
    lengths: Any = None,
    output: str | None = "softmax",
    cache: bool = True,
    dtype: Any = np.float64,
) -> tuple[Array, Any, Array, Any]:
    """Run the LSTM over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x), or of integers, shape (m, T_x)
        Input of every step.  Used without a conversion if it is of `dtype`.  Integers (m, T_x) are indices, from 0 to
        n_x - 1: each stands for a one-hot column, with the same bits in every result, and n_x is what the weights have.
        They are used without a conversion if they are numpy.intp.
    a0 : array_like, shape (n_a, m), or (n_a, 1) for all examples, or None
        Initial hidden state; copied.  None for zeros.
    parameters : mapping
        As for `lstm_cell_forward`.
    c0 : array_like, shape (n_a, m), or (n_a, 1) for all examples, optional
        Initial cell state; copied.  Zeros by default, as in the notebook.
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
    y : numpy.ndarray of `dtype`, shape (n_y, m, T_x)
        Predictions, a new array; zero past the lengths.  None without an output.
    c : numpy.ndarray of `dtype`, shape (n_a, m, T_x)
        Cell states, a new array that shares memory with nothing; zero past the lengths.
    caches : tuple
        ``(steps, x)``: `steps` behaves as a list of the cells' caches, one per step, and `x` is the
        very object passed.  `lstm_backward` reads `x` and `parameters` as they are when it runs.
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
    >>> p = {"W" + gate: rng.normal(size=(n_a, n_a + n_x)) for gate in "fico"}
    >>> p |= {"b" + gate: np.zeros((n_a, 1)) for gate in "fico"}
    >>> p |= {"Wy": rng.normal(size=(n_y, n_a)), "by": np.zeros((n_y, 1))}
    >>> a, y, c, caches = cyrnn.lstm_forward(rng.normal(size=(n_x, m, T_x)), np.zeros((n_a, m)), p)
    >>> a.shape, y.shape, c.shape, len(caches[0])
    ((5, 10, 4), (2, 10, 4), (5, 10, 4), 4)
    """
    kernels, made = _checks.kernels(dtype), _updates.count
    try:
        result = _run(kernels, x, a0, c0, parameters, lengths, cache, output)
    except _checks.MISFIT:
        result = ()
    array = x
    if not result:
        array = LSTM.input("x", x, "n_x, m, T_x", parameters, lengths, dtype=kernels.dtype)
        states, weights = LSTM.checked("x", array, parameters, output, kernels.dtype, a0=a0, c0=c0)
        result = _run(kernels, array, states[0], states[1], weights, lengths, cache, output)
    a, y, c, lengths, kept = result
    if kept is None:
        return a, y, c, None
    array = x if isinstance(x, np.ndarray) else np.asarray(array)
    return a, y, c, (CacheList(SequenceCache(LSTM, kept, a.shape, lengths, array, parameters, made)), x)


def _run_back(da: Array, dc: Array | None, x: Array, sequence: SequenceCache, p: Parameters) -> dict[str, Array]:
    """Gradients of the first steps of a sequence, as many as `da` has."""
    dx, da0, dc0, dW, db = sequence.kernels.recurrent.lstm_backward(
        da, dc, *_checks.dense_or_indices(x), sequence.lengths, sequence.buffer, p["Wf"], p["Wi"], p["Wc"], p["Wo"]
    )
    (dWf, dWi, dWc, dWo), (dbf, dbi, dbc, dbo) = dW, db
    return {
        "dx": dx, "da0": da0, "dc0": dc0,
        "dWf": dWf, "dbf": dbf, "dWi": dWi, "dbi": dbi, "dWc": dWc, "dbc": dbc, "dWo": dWo, "dbo": dbo,
    }  # fmt: skip


def _step_back(da: Array, dc: Array, cache: Sequence[Any], p: Parameters) -> dict[str, Array]:
    """Gradients of one step from its cache."""
    a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, _ = cache
    if a_next.shape != c_next.shape:
        raise ValueError  # not read here, but all parts of a cache must fit together
    dxt, da_prev, dc_prev, dW, db = _kernels.of(a_next.dtype).recurrent.lstm_cell_backward(
        da, dc, c_next, a_prev, c_prev, ft, it, cct, ot, *_checks.dense_or_indices(xt),
        p["Wf"], p["Wi"], p["Wc"], p["Wo"],
    )  # fmt: skip
    (dWf, dWi, dWc, dWo), (dbf, dbi, dbc, dbo) = dW, db
    return {
        "dxt": dxt, "da_prev": da_prev, "dc_prev": dc_prev,
        "dWf": dWf, "dbf": dbf, "dWi": dWi, "dbi": dbi, "dWc": dWc, "dbc": dbc, "dWo": dWo, "dbo": dbo,
    }  # fmt: skip


def _cell_back(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """`lstm_cell_backward` of (da_next, dc_next, cache), with the names that its caller gives them."""
    da_next, dc_next, cache = values
    try:
        return _step_back(da_next, dc_next, cache, cache[-1])
    except _checks.MISFIT:
        pass
    da_name, dc_name, name = names
    _checks.unpacked(name, cache, CACHE)
    entries = dict(zip(CACHE.split(", "), cache, strict=True))
    spelled = {letter: f"{name}[{k}] ({letter})" for k, letter in enumerate(entries)}
    dtype = _checks.kernels_for(cache[0]).dtype
    n_a, m = _checks.dimensions(spelled["a_next"], cache[0], "n_a, m", dtype).shape
    _checks.columns_fit(da_name, m)
    for letter in ("a_next", "c_next", "ft", "it", "cct", "ot"):
        entries[letter] = _checks.shaped(spelled[letter], entries[letter], "n_a, m", (n_a, m), dtype)
    for letter in ("a_prev", "c_prev"):
        entries[letter] = _checks.state(spelled[letter], entries[letter], n_a, m, dtype)
    entries["xt"], n_x = LSTM.cached_input(spelled["xt"], entries["xt"], cache[9], m, dtype=dtype)
    da = _checks.shaped(da_name, da_next, "n_a, m", (n_a, m), dtype)
    dc = _checks.shaped(dc_name, dc_next, "n_a, m", (n_a, m), dtype)
    weights = _checks.weights(cache[9], LSTM.weights(n_a, n_x), dtype=dtype)
    return _step_back(da, dc, list(entries.values()), weights)


def lstm_cell_backward(da_next: Any, dc_next: Any, cache: Sequence[Any]) -> dict[str, Array]:
    """Gradients of one step of the LSTM.

    The equations stand at the top of ``_kernels/cells/lstm.pxd``: `dc_next` and the part of `da_next` that
    reaches c_next through ``a_next = ot * tanh(c_next)`` are added, and the sum goes on to the gates
    and to c_prev.

    Parameters
    ----------
    da_next, dc_next : array_like, shape (n_a, m)
        Gradients of the loss with respect to the hidden state and the cell state after the step.
    cache : tuple
        As `lstm_cell_forward` returns it, or made by hand.
        Its parameters are read as they are now: an update in place since the forward pass is not detected here.

    Returns
    -------
    dict of new arrays, of the cache's dtype
        ``dxt`` (n_x, m), ``da_prev``, ``dc_prev`` (n_a, m), ``dWf dWi dWc dWo`` (n_a, n_a + n_x),
        ``dbf dbi dbc dbo`` (n_a, 1).
        ``dxt`` is None where `xt` was of indices.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the cache is of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"W" + gate: np.ones((2, 5)) for gate in "fico"} | {"b" + gate: np.zeros((2, 1)) for gate in "fico"}
    >>> p |= {"Wy": np.eye(2), "by": np.zeros((2, 1))}
    >>> a_next, c_next, yt_pred, cache = cyrnn.lstm_cell_forward(np.ones((3, 4)), np.zeros((2, 4)), np.ones((2, 4)), p)
    >>> cyrnn.lstm_cell_backward(np.ones((2, 4)), np.zeros((2, 4)), cache)["dc_prev"][0]
    array([0.07761725, 0.07761725, 0.07761725, 0.07761725])
    """
    return _cell_back(("da_next", "dc_next", "cache"), (da_next, dc_next, cache))


def lstm_backward(da: Any, caches: Sequence[Any], *, dc: Any = None) -> dict[str, Array]:
    """Gradients through all steps of the LSTM, the gradient of the cell state carried from step to step.

    A long sequence may be run in chunks that carry ``a[:, :, -1]`` and ``c[:, :, -1]`` into the next
    chunk's `a0` and `c0`.  Going back from the last chunk to the first, add ``da0`` and ``dc0`` of a chunk to
    ``da[:, :, -1]`` and ``dc[:, :, -1]`` of the one before: dx, da0 and dc0 are then those of the whole
    sequence, bit for bit, and the weights' gradients are the sums over the chunks.  Leave the addition out
    and the gradient is truncated at chunk boundaries (truncated backpropagation through time).

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient of the loss with respect to every hidden state.  It may have fewer steps than the
        caches: then the gradients are those of the first T_x steps.  What it holds past the lengths that
        `lstm_forward` was given is not used, and dx is zero there.
    caches : tuple
        ``(steps, x)`` as `lstm_forward` returns it.  `steps` may also be any sequence of the cells'
        caches: made in a loop, sliced, joined, edited.  Its arrays, `x` and the `parameters` it holds
        are read as they are now; in a list that was edited an update in place is not detected.
    dc : array_like, shape (n_a, m, T_x), optional
        Gradient that reaches every cell state from outside, beside what comes through the hidden states.
        Zeros by default; past the lengths as for `da`.

    Returns
    -------
    dict of new arrays, of the caches' dtype
        ``dx`` (n_x, m, T_x), ``da0`` and ``dc0`` (n_a, m), ``dWf dWi dWc dWo`` (n_a, n_a + n_x),
        ``dbf dbi dbc dbo`` (n_a, 1).
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
    >>> p = {"W" + gate: np.ones((2, 5)) for gate in "fico"} | {"b" + gate: np.zeros((2, 1)) for gate in "fico"}
    >>> p |= {"Wy": np.eye(2), "by": np.zeros((2, 1))}
    >>> a, y, c, caches = cyrnn.lstm_forward(np.ones((3, 4, 7)), np.zeros((2, 4)), p)
    >>> gradients = cyrnn.lstm_backward(np.ones((2, 4, 7)), caches)
    >>> gradients["dx"].shape, gradients["da0"].shape, gradients["dWf"].shape, gradients["dbf"].shape
    ((3, 4, 7), (2, 4), (2, 5), (2, 1))
    """
    try:
        sequence = caches[0].sequence
        if sequence.spec is LSTM and len(caches) == 2:
            sequence.check()
            return _run_back(da, dc, sequence.x, sequence, sequence.parameters)
    except _checks.MISFIT:
        pass
    steps, _ = _checks.unpacked("caches", caches, "steps, x")
    dtype, used = kernels_of(steps).dtype, used_of(steps)
    da = _checks.dimensions("da", da, "n_a, m, T_x", dtype, used)
    _checks.columns_fit("da", *da.shape[1:])
    sequence = sequence_of(steps, LSTM, da.shape[2])
    if sequence is not None:
        sequence.check()
    if sequence is not None:
        _checks.shaped("da", da, "n_a, m, T_x", (*sequence.shape[:2], da.shape[2]), dtype)
    if dc is not None:
        dc = _checks.shaped("dc", dc, "n_a, m, T_x", da.shape, dtype, used)
    if sequence is None:
        return backward_by_steps(_cell_back, {"da": da, "dc": dc}, steps)
    n_a, m, _ = sequence.shape
    x, n_x = LSTM.cached_input("x", sequence.x, sequence.parameters, m, len(sequence), sequence.lengths, dtype=dtype)
    weights = _checks.weights(sequence.parameters, LSTM.weights(n_a, n_x), dtype=dtype)
    return _run_back(da, dc, x, sequence, weights)
