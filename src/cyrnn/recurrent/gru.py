"""The GRU: one cell and the whole sequence, forward and backward, in both forms.

    ut = sigmoid(Wu [a<t-1>, x<t>] + bu)                                update gate
    rt = sigmoid(Wr [a<t-1>, x<t>] + br)                                reset gate
    cct = tanh(Wc [rt * a<t-1>, x<t>] + bc)                             candidate, reset before the product
    cct = tanh(Wcx x<t> + bc + rt * (Wca a<t-1> + bca))                 candidate, reset after the product
    a<t> = ut * cct + (1 - ut) * a<t-1>
    y<t> = softmax(Wy a<t> + by)

In every weight matrix the n_a columns of the hidden state come before the n_x columns of the input: Wc = [Wca, Wcx].
Parameters with an entry ``bca`` are those of the second form.  Cho et al. 2014 (arXiv:1406.1078) reset before the
product; PyTorch, Keras by default and ONNX with linear_before_reset = 1 reset after it.
"""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from .. import _checks, _kernels, _updates
from .._checks import Array, Parameters
from .._kernels import Kernels
from .caches import CacheList, SequenceCache, backward_by_steps, kernels_of, sequence_of, used_of
from .spec import GRU, GRU_AFTER, CellSpec, gru_form

__all__ = ["gru_backward", "gru_cell_backward", "gru_cell_forward", "gru_forward"]

CACHE = "a_next, a_prev, cct, ut, rt, hct, xt, parameters"


def _weights(p: Parameters) -> tuple[Any, ...]:
    """Return the recurrent parameters as the kernels take them; without `bca` None stands for it."""
    bca = None
    if "bca" in p:
        bca = p["bca"]
        if bca is None:
            raise TypeError  # None would be the other form
    return p["Wu"], p["Wr"], p["Wc"], p["bu"], p["br"], p["bc"], bca


def _run(
    kernels: Kernels, x: Array, a0: Array | None, p: Parameters, lengths: Any, cache: bool, output: str | None
) -> tuple[Any, ...]:
    """All steps: a (n_a, m, T_x), y (n_y, m, T_x), and what the backward pass needs: the lengths and a buffer."""
    if lengths is not None:
        lengths = _checks.lengths(lengths, *x.shape[-2:])
    a, y, kept = kernels.recurrent.gru_forward(
        *_checks.dense_or_indices(x), a0, *_weights(p), *GRU.output_layer(p, output), lengths, cache
    )
    return a, y, lengths, kept


def _step(kernels: Kernels, xt: Array, a_prev: Array | None, p: Parameters, output: str | None) -> tuple[Array, ...]:
    """One step: a_next (n_a, m), yt (n_y, m), the slots (4, n_a, m)."""
    result: tuple[Array, ...] = kernels.recurrent.gru_cell_forward(
        *_checks.dense_or_indices(xt), a_prev, *_weights(p), *GRU.output_layer(p, output)
    )
    return result


def _form(parameters: Any) -> CellSpec:
    """Return the form of the GRU, of anything that was passed as its parameters."""
    _checks.mapping(parameters)
    return gru_form(parameters)


@overload
def gru_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str = ...
) -> tuple[Array, Array, tuple[Any, ...]]: ...
@overload
def gru_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None
) -> tuple[Array, Any, tuple[Any, ...]]: ...
@overload
def gru_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None = ..., dtype: Any
) -> tuple[Any, Any, tuple[Any, ...]]: ...
def gru_cell_forward(
    xt: Any, a_prev: Any, parameters: Parameters, *, output: str | None = "softmax", dtype: Any = np.float64
) -> tuple[Array, Any, tuple[Any, ...]]:
    """One step of the GRU.

    In every weight matrix the n_a columns of the hidden state come before the n_x columns of the input,
    ``Wc = [Wca, Wcx]``::

        ut = sigmoid(Wu [a_prev, xt] + bu)                     update gate
        rt = sigmoid(Wr [a_prev, xt] + br)                     reset gate
        cct = tanh(Wc [rt * a_prev, xt] + bc)                  candidate, without bca
        cct = tanh(Wcx xt + bc + rt * (Wca a_prev + bca))      candidate, with bca
        a_next = ut * cct + (1 - ut) * a_prev
        yt_pred = softmax(Wy a_next + by)

    Parameters
    ----------
    xt : array_like, shape (n_x, m), or of integers, shape (m,)
        Input at this step.  Integers (m,) are indices, from 0 to n_x - 1, that stand for one-hot columns.
    a_prev : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Hidden state before the step.
    parameters : mapping
        ``Wu Wr Wc`` (n_a, n_a + n_x), ``bu br bc`` (n_a, 1), ``Wy`` (n_y, n_a), ``by`` (n_y, 1).  With ``bca``
        (n_a, 1) the reset gate acts after the product, without it before the product.
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
        ``(a_next, a_prev, cct, ut, rt, hct, xt, parameters)``: the first is the array returned; a_prev, xt and
        parameters are what was passed; the gates are new, and so is hct, what the hidden state contributes to the
        candidate: ``rt * a_prev``, or ``Wca a_prev + bca`` where the reset is after the product.
        `gru_cell_backward` reads them as they are when it runs.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"W" + gate: np.ones((2, 5)) for gate in "urc"} | {"b" + gate: np.zeros((2, 1)) for gate in "urc"}
    >>> p |= {"Wy": np.eye(2), "by": np.zeros((2, 1))}
    >>> a_next, yt_pred, cache = cyrnn.gru_cell_forward(np.ones((3, 4)), np.zeros((2, 1)), p)
    >>> a_next[0]
    array([0.94786341, 0.94786341, 0.94786341, 0.94786341])
    """
    kernels = _checks.kernels(dtype)
    try:
        result = _step(kernels, xt, a_prev, parameters, output)
    except _checks.MISFIT:
        result = ()
    if not result:
        x = _form(parameters).input("xt", xt, "n_x, m", parameters, dtype=kernels.dtype)
        _checks.real("a_prev", a_prev)  # which may not be None
        (a,), weights = _form(parameters).checked("xt", x, parameters, output, kernels.dtype, a_prev=a_prev)
        result = _step(kernels, x, a, weights, output)
    a_next, yt_pred, slots = result
    return a_next, yt_pred, (a_next, a_prev, *slots, xt, parameters)


@overload
def gru_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: Literal[True] = ...
) -> tuple[Array, Array, tuple[CacheList, Any]]: ...
@overload
def gru_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: Literal[False]
) -> tuple[Array, Array, None]: ...
@overload
def gru_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str = ..., cache: bool
) -> tuple[Array, Array, tuple[CacheList, Any] | None]: ...
@overload
def gru_forward(
    x: Any, a0: Any, parameters: Parameters, *, lengths: Any = ..., output: str | None, cache: bool = ...
) -> tuple[Array, Any, Any]: ...
@overload
def gru_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    lengths: Any = ...,
    output: str | None = ...,
    cache: bool = ...,
    dtype: Any,
) -> tuple[Any, Any, Any]: ...
def gru_forward(
    x: Any,
    a0: Any,
    parameters: Parameters,
    *,
    lengths: Any = None,
    output: str | None = "softmax",
    cache: bool = True,
    dtype: Any = np.float64,
) -> tuple[Array, Any, Any]:
    """Run the GRU over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x), or of integers, shape (m, T_x)
        Input of every step.  Used without a conversion if it is of `dtype`.  Integers (m, T_x) are indices, from 0 to
        n_x - 1: each stands for a one-hot column, with the same bits in every result, and n_x is what the weights have.
        They are used without a conversion if they are numpy.intp.
    a0 : array_like, shape (n_a, m), or (n_a, 1) for all examples, or None
        Initial hidden state; copied.  None for zeros.
    parameters : mapping
        As for `gru_cell_forward`.
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
        very object passed.  `gru_backward` reads `x` and `parameters` as they are when it runs.
        With lengths the arrays of a step are read-only copies, zero past the lengths.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape or `parameters` lacks an entry; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> rng = np.random.default_rng(0)
    >>> p = cyrnn.initialize_parameters("gru", n_x=3, n_a=5, n_y=2, rng=rng, reset="after")
    >>> a, y_pred, caches = cyrnn.gru_forward(rng.normal(size=(3, 10, 4)), np.zeros((5, 1)), p)
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
        array = _form(parameters).input("x", x, "n_x, m, T_x", parameters, lengths, dtype=kernels.dtype)
        states, weights = _form(parameters).checked("x", array, parameters, output, kernels.dtype, a0=a0)
        result = _run(kernels, array, states[0], weights, lengths, cache, output)
    a, y_pred, lengths, kept = result
    if kept is None:
        return a, y_pred, None
    array = x if isinstance(x, np.ndarray) else np.asarray(array)
    form = gru_form(parameters)
    return a, y_pred, (CacheList(SequenceCache(form, kept, a.shape, lengths, array, parameters, made)), x)


def _named(form: CellSpec, dW: Array, db: Array) -> dict[str, Array]:
    """Return the gradients of the weights by name; dW is of cct, ut, rt, db of the slots."""
    (dWc, dWu, dWr), (dbc, dbu, dbr, dbca) = dW, db
    gradients = {"dWu": dWu, "dbu": dbu, "dWr": dWr, "dbr": dbr, "dWc": dWc, "dbc": dbc}
    return gradients if form is GRU else {**gradients, "dbca": dbca}


def _same_form(sequence: SequenceCache) -> None:
    """Refuse parameters that got or lost ``bca`` since the forward pass."""
    now = gru_form(sequence.parameters)
    if now is not sequence.spec:
        wanted = f"expected those of {sequence.spec.title}, as in the forward pass"
        raise ValueError(f"caches: parameters: {wanted}, got those of {now.title}")


def _run_back(da: Array, x: Array, sequence: SequenceCache, p: Parameters) -> dict[str, Array]:
    """Gradients of the first steps of a sequence, as many as `da` has."""
    after = sequence.spec is GRU_AFTER
    dx, da0, dW, db = sequence.kernels.recurrent.gru_backward(
        da, *_checks.dense_or_indices(x), sequence.lengths, sequence.buffer, after, p["Wu"], p["Wr"], p["Wc"]
    )
    return {"dx": dx, "da0": da0, **_named(sequence.spec, dW, db)}


def _step_back(da: Array, cache: Sequence[Any], p: Parameters, form: CellSpec) -> dict[str, Array]:
    """Gradients of one step from its cache."""
    a_next, a_prev, cct, ut, rt, hct, xt, _ = cache
    if a_next.shape != cct.shape:
        raise ValueError  # not read here, but all parts of a cache must fit together
    dxt, da_prev, dW, db = _kernels.of(a_next.dtype).recurrent.gru_cell_backward(
        da, a_prev, cct, ut, rt, hct, *_checks.dense_or_indices(xt), form is GRU_AFTER, p["Wu"], p["Wr"], p["Wc"]
    )
    return {"dxt": dxt, "da_prev": da_prev, **_named(form, dW, db)}


def _cell_back(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """`gru_cell_backward` of (da_next, cache), with the names that its caller gives them."""
    da_next, cache = values
    try:
        return _step_back(da_next, cache, cache[-1], gru_form(cache[-1]))
    except _checks.MISFIT:
        pass
    da_name, name = names
    _checks.unpacked(name, cache, CACHE)
    entries = dict(zip(CACHE.split(", "), cache, strict=True))
    spelled = {letter: f"{name}[{k}] ({letter})" for k, letter in enumerate(entries)}
    dtype = _checks.kernels_for(cache[0]).dtype
    n_a, m = _checks.dimensions(spelled["a_next"], cache[0], "n_a, m", dtype).shape
    _checks.columns_fit(da_name, m)
    for letter in ("a_next", *GRU.slots):
        entries[letter] = _checks.shaped(spelled[letter], entries[letter], "n_a, m", (n_a, m), dtype)
    entries["a_prev"] = _checks.state(spelled["a_prev"], entries["a_prev"], n_a, m, dtype)
    form = _form(cache[7])
    entries["xt"], n_x = form.cached_input(spelled["xt"], entries["xt"], cache[7], m, dtype=dtype)
    da_next = _checks.shaped(da_name, da_next, "n_a, m", (n_a, m), dtype)
    weights = _checks.weights(cache[7], form.weights(n_a, n_x), dtype=dtype)
    return _step_back(da_next, list(entries.values()), weights, form)


def gru_cell_backward(da_next: Any, cache: Sequence[Any]) -> dict[str, Array]:
    """Gradients of one step of the GRU.

    The equations stand at the top of ``_kernels/cells/gru.pxd``.

    Parameters
    ----------
    da_next : array_like, shape (n_a, m)
        Gradient of the loss with respect to the hidden state after the step.
    cache : tuple
        As `gru_cell_forward` returns it, or made by hand.  The form is that of its parameters.
        Its parameters are read as they are now: an update in place since the forward pass is not detected here.

    Returns
    -------
    dict of new arrays, of the cache's dtype
        ``dxt`` (n_x, m), ``da_prev`` (n_a, m), ``dWu dWr dWc`` (n_a, n_a + n_x), ``dbu dbr dbc`` (n_a, 1); where the
        reset is after the product also ``dbca`` (n_a, 1).
        ``dxt`` is None where `xt` was of indices.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the cache is of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"W" + gate: np.ones((2, 5)) for gate in "urc"} | {"b" + gate: np.zeros((2, 1)) for gate in "urc"}
    >>> p |= {"Wy": np.eye(2), "by": np.zeros((2, 1))}
    >>> a_next, yt_pred, cache = cyrnn.gru_cell_forward(np.ones((3, 4)), np.zeros((2, 4)), p)
    >>> cyrnn.gru_cell_backward(np.ones((2, 4)), cache)["dbu"][0]
    array([0.17980983])
    """
    return _cell_back(("da_next", "cache"), (da_next, cache))


def gru_backward(da: Any, caches: Sequence[Any]) -> dict[str, Array]:
    """Gradients through all steps of the GRU.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient of the loss with respect to every hidden state.  It may have fewer steps than the
        caches: then the gradients are those of the first T_x steps.  What it holds past the lengths that
        `gru_forward` was given is not used, and dx is zero there.
    caches : tuple
        ``(steps, x)`` as `gru_forward` returns it.  `steps` may also be any sequence of the cells'
        caches: made in a loop, sliced, joined, edited.  Its arrays, `x` and the `parameters` it holds
        are read as they are now; in a list that was edited an update in place is not detected.

    Returns
    -------
    dict of new arrays, of the caches' dtype
        ``dx`` (n_x, m, T_x), ``da0`` (n_a, m), ``dWu dWr dWc`` (n_a, n_a + n_x), ``dbu dbr dbc`` (n_a, 1); where the
        reset is after the product also ``dbca`` (n_a, 1).
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
    >>> p = cyrnn.initialize_parameters("gru", n_x=2, n_a=2, n_y=2, rng=0)
    >>> a, y_pred, caches = cyrnn.gru_forward(np.ones((2, 3, 7)), np.zeros((2, 3)), p)
    >>> gradients = cyrnn.gru_backward(np.ones((2, 3, 7)), caches)
    >>> gradients["dx"].shape, gradients["da0"].shape, gradients["dWu"].shape, gradients["dbu"].shape
    ((2, 3, 7), (2, 3), (2, 4), (2, 1))
    """
    try:
        sequence = caches[0].sequence
        if sequence.spec.name == GRU.name and len(caches) == 2:
            _same_form(sequence)
            sequence.check()
            return _run_back(da, sequence.x, sequence, sequence.parameters)
    except _checks.MISFIT:
        pass
    steps, _ = _checks.unpacked("caches", caches, "steps, x")
    dtype, used = kernels_of(steps).dtype, used_of(steps)
    da = _checks.dimensions("da", da, "n_a, m, T_x", dtype, used)
    _checks.columns_fit("da", *da.shape[1:])
    sequence = sequence_of(steps, GRU, da.shape[2])
    if sequence is None:
        return backward_by_steps(_cell_back, {"da": da}, steps)
    _same_form(sequence)
    sequence.check()
    n_a, m, _ = sequence.shape
    _checks.shaped("da", da, "n_a, m, T_x", (n_a, m, da.shape[2]), dtype)
    x, n_x = GRU.cached_input("x", sequence.x, sequence.parameters, m, len(sequence), sequence.lengths, dtype=dtype)
    weights = _checks.weights(sequence.parameters, GRU.weights(n_a, n_x), dtype=dtype)
    return _run_back(da, x, sequence, weights)
