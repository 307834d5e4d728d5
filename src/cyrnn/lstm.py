"""The LSTM of the notebook: one cell and the whole sequence, forward and backward.

    ft  = sigmoid(Wf [a<t-1>, x<t>] + bf)        forget gate
    it  = sigmoid(Wi [a<t-1>, x<t>] + bi)        update gate
    cct = tanh(Wc [a<t-1>, x<t>] + bc)           candidate
    ot  = sigmoid(Wo [a<t-1>, x<t>] + bo)        output gate
    c<t> = ft * c<t-1> + it * cct
    a<t> = ot * tanh(c<t>)
    y<t> = softmax(Wy a<t> + by)

In every weight matrix the n_a columns of the hidden state come before the n_x columns of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _kernels
from ._arrays import Array, Parameters
from ._caches import Steps, backward_by_steps, tape_of
from ._output import output_shapes, output_sizes, predictions

__all__ = ["lstm_backward", "lstm_cell_backward", "lstm_cell_forward", "lstm_forward"]

GATES = "fico"  # the order of the gates in every buffer: forget, update, candidate, output
CACHE = "a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters"


@dataclass(slots=True)
class LstmTape:
    """What `lstm_forward` keeps for `lstm_backward`."""

    a: Array  # (T_x + 1, m, n_a), row 0 the initial state
    c: Array  # (T_x + 1, m, n_a), row 0 the initial memory
    gates: Array  # (T_x, m, 4, n_a), f i c o
    x: Any  # (n_x, m, T_x), the caller's array
    parameters: Parameters

    def __len__(self) -> int:
        return len(self.gates)

    def step(self, t: int) -> tuple[Any, ...]:
        """Return the cell's cache of step t."""
        a, c = self.a, self.c
        ft, it, cct, ot = self.gates[t].transpose(1, 2, 0)
        return a[t + 1].T, c[t + 1].T, a[t].T, c[t].T, ft, it, cct, ot, self.x[:, :, t], self.parameters


def _run(name: str, x: Array, a0: Array, c0: Array | None, p: Parameters) -> tuple[Array, ...]:
    """All steps: a, c (n_a, m, T_x), y (n_y, m, T_x), the caches a, c (T_x + 1, m, n_a) and gates."""
    n_x, m, T_x = x.shape
    _, n_a = p["Wy"].shape
    _arrays.mapping(p)
    _arrays.columns_fit(name, m, T_x)
    a_cache, c_cache, gates = _arrays.buffers((T_x + 1, m, n_a), (T_x + 1, m, n_a), (T_x, m, 4, n_a))
    a, c = np.empty((n_a, m, T_x)), np.empty((n_a, m, T_x))
    work = np.empty(_kernels.lstm.forward_work(n_x, n_a, m, T_x))
    weights = p["Wf"], p["Wi"], p["Wc"], p["Wo"]
    biases = p["bf"], p["bi"], p["bc"], p["bo"]
    _kernels.lstm.forward(x, a0, c0, *weights, *biases, a_cache, c_cache, gates, a, c, work)
    return a, c, predictions(a_cache, p, "Wy", T_x), a_cache, c_cache, gates


def _gates(n_a: int, n_x: int) -> dict[str, tuple[str, tuple[int, int]]]:
    return {f"W{gate}": ("n_a, n_a + n_x", (n_a, n_a + n_x)) for gate in GATES}


def _checked(name: str, x: Array, parameters: Any, **states: Any) -> tuple[Any, ...]:
    """Convert the arguments of `_run`, or raise the error that names the one that does not fit."""
    n_x, m, _ = x.shape
    n_y, n_a = output_sizes(parameters, "Wy")
    wanted = _gates(n_a, n_x) | {f"b{gate}": ("n_a, 1", (n_a, 1)) for gate in GATES}
    wanted |= output_shapes("Wy", n_y, n_a)
    a0, *c0 = (_arrays.state(state, value, n_a, m) for state, value in states.items())
    return name, x, a0, c0[0] if c0 else None, _arrays.weights(parameters, wanted)


def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Parameters
) -> tuple[Array, Array, Array, tuple[Any, ...]]:
    """One step of the LSTM.

    The equations stand at the top of this module.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
        Input at this step.
    a_prev, c_prev : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Hidden state and memory before the step.
    parameters : mapping
        ``Wf Wi Wc Wo`` (n_a, n_a + n_x), ``bf bi bc bo`` (n_a, 1), ``Wy`` (n_y, n_a), ``by`` (n_y, 1).

    Returns
    -------
    a_next, c_next : numpy.ndarray of float64, shape (n_a, m)
        Hidden state and memory after the step, new arrays.
    yt_pred : numpy.ndarray of float64, shape (n_y, m)
        Prediction, a new array.
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
    try:
        result = _run("xt", _arrays.plain(xt)[..., None], a_prev, _arrays.plain(c_prev), parameters)
    except _arrays.MISFIT:
        result = ()
    if not result:
        x = _arrays.dimensions("xt", xt, "n_x, m")[..., None]
        result = _run(*_checked("xt", x, parameters, a_prev=a_prev, c_prev=c_prev))
    a, c, y, _, _, gates = result
    a_next, c_next = a[..., 0], c[..., 0]
    ft, it, cct, ot = np.ascontiguousarray(gates[0].transpose(1, 2, 0))
    cache = (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)
    return a_next, c_next, y[..., 0], cache


def lstm_forward(x: Any, a0: Any, parameters: Parameters) -> tuple[Array, Array, Array, tuple[Steps, Any]]:
    """Run the LSTM over all steps, the memory starting at zero.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
        Input of every step.  Used without a conversion if it is float64.
    a0 : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Initial hidden state; copied.
    parameters : mapping
        As for `lstm_cell_forward`.

    Returns
    -------
    a : numpy.ndarray of float64, shape (n_a, m, T_x)
        Hidden states, a new array that shares memory with nothing.
    y : numpy.ndarray of float64, shape (n_y, m, T_x)
        Predictions, a new array.
    c : numpy.ndarray of float64, shape (n_a, m, T_x)
        Memory cells, a new array that shares memory with nothing.
    caches : tuple
        ``(steps, x)``: `steps` behaves as a list of the cells' caches, one per step, and `x` is the
        very object passed.  `lstm_backward` reads `x` and `parameters` as they are when it runs.

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
    try:
        result = _run("x", x, a0, None, parameters)
    except _arrays.MISFIT:
        result = ()
    if not result:
        array = _arrays.dimensions("x", x, "n_x, m, T_x")
        result = _run(*_checked("x", array, parameters, a0=a0))
    a, c, y, a_cache, c_cache, gates = result
    tape = LstmTape(a_cache, c_cache, gates, x if isinstance(x, np.ndarray) else _arrays.real("x", x), parameters)
    return a, y, c, (Steps(tape), x)


def _run_back(da: Array, dc: Array | None, x: Array, *cache: Array, p: Parameters) -> dict[str, Array]:
    """Gradients of all steps; `cache` is a_prev, c_prev, c_next, ft, it, cct, ot, each (n_a, m, T_x)."""
    n_a, m, T_x = da.shape
    n_x = x.shape[0]
    _arrays.mapping(p)
    _arrays.columns_fit("da", m, T_x)
    dx, da0, dc0 = np.empty((n_x, m, T_x)), np.empty((n_a, m)), np.empty((n_a, m))
    dW, db = np.empty((4, n_a, n_a + n_x)), np.empty((4, n_a))
    work = np.empty(_kernels.lstm.backward_work(n_x, n_a, m, T_x))
    weights = p["Wf"], p["Wi"], p["Wc"], p["Wo"]
    _kernels.lstm.backward(da, dc, x, *cache, *weights, dx, da0, dc0, dW, db, work)
    dbf, dbi, dbc, dbo = db[..., None]
    return {
        "dx": dx, "da0": da0, "dc0": dc0, "dWf": dW[0], "dbf": dbf, "dWi": dW[1], "dbi": dbi,
        "dWc": dW[2], "dbc": dbc, "dWo": dW[3], "dbo": dbo,
    }  # fmt: skip


def _cell_back(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """`lstm_cell_backward` of (da_next, dc_next, cache), with the names that its caller gives them."""
    da_next, dc_next, cache = values
    try:
        a_next, c_next, a_prev, c_prev, *gates, xt, parameters = cache
        if _arrays.plain(a_next).shape != c_next.shape:
            raise ValueError  # not read here, but a cache whose parts do not fit together is none
        views = [_arrays.plain(v)[..., None] for v in (da_next, xt, a_prev, c_prev, c_next, *gates)]
        gradients = _run_back(views[0], _arrays.plain(dc_next), *views[1:], p=parameters)
    except _arrays.MISFIT:
        gradients = {}
    if not gradients:
        da_name, dc_name, name = names
        _arrays.unpacked(name, cache, CACHE)
        entries = dict(zip(CACHE.split(", "), cache, strict=True))
        spelled = {letter: f"{name}[{k}] ({letter})" for k, letter in enumerate(entries)}
        n_a, m = _arrays.dimensions(spelled["a_next"], cache[0], "n_a, m").shape
        for letter in ("c_next", "ft", "it", "cct", "ot"):
            entries[letter] = _arrays.shaped(spelled[letter], entries[letter], "n_a, m", (n_a, m))
        for letter in ("a_prev", "c_prev"):
            entries[letter] = _arrays.state(spelled[letter], entries[letter], n_a, m)
        xt = _arrays.columns(spelled["xt"], entries["xt"], "n_x", m)
        da = _arrays.shaped(da_name, da_next, "n_a, m", (n_a, m))
        dc = _arrays.shaped(dc_name, dc_next, "n_a, m", (n_a, m))
        parts = [entries[letter][..., None] for letter in ("a_prev", "c_prev", "c_next", "ft", "it", "cct", "ot")]
        weights = _arrays.weights(cache[9], _gates(n_a, len(xt)))
        gradients = _run_back(da[..., None], dc, xt[..., None], *parts, p=weights)
    dx, da_prev, dc_prev = gradients.pop("dx"), gradients.pop("da0"), gradients.pop("dc0")
    return {"dxt": dx[..., 0], "da_prev": da_prev, "dc_prev": dc_prev, **gradients}


def lstm_cell_backward(da_next: Any, dc_next: Any, cache: Sequence[Any]) -> dict[str, Array]:
    """Gradients of one step of the LSTM.

    The equations stand at the top of ``_kernels/lstm.pyx``: `dc_next` and the part of `da_next` that
    reaches c_next through ``a_next = ot * tanh(c_next)`` are added, and the sum goes on to the gates
    and to c_prev.

    Parameters
    ----------
    da_next, dc_next : array_like, shape (n_a, m)
        Gradients of the loss with respect to the hidden state and the memory after the step.
    cache : tuple
        As `lstm_cell_forward` returns it, or made by hand.

    Returns
    -------
    dict of new float64 arrays
        ``dxt`` (n_x, m), ``da_prev``, ``dc_prev`` (n_a, m), ``dWf dWi dWc dWo`` (n_a, n_a + n_x),
        ``dbf dbi dbc dbo`` (n_a, 1).

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


def lstm_backward(da: Any, caches: Sequence[Any]) -> dict[str, Array]:
    """Gradients through all steps of the LSTM, the memory's gradient carried from step to step.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient of the loss with respect to every hidden state.  It may have fewer steps than the
        caches: then the gradients are those of the first T_x steps.
    caches : tuple
        ``(steps, x)`` as `lstm_forward` returns it.  `steps` may also be any sequence of the cells'
        caches: made in a loop, sliced, joined, edited.  Its arrays, `x` and the `parameters` it holds
        are read as they are now.

    Returns
    -------
    dict of new float64 arrays
        ``dx`` (n_x, m, T_x), ``da0`` (n_a, m), ``dWf dWi dWc dWo`` (n_a, n_a + n_x),
        ``dbf dbi dbc dbo`` (n_a, 1).

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the caches is of a wrong type or shape; the message names it.

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
    steps, _ = _arrays.unpacked("caches", caches, "steps, x")
    da = _arrays.dimensions("da", da, "n_a, m, T_x")
    T_x = da.shape[2]
    tape = tape_of(steps, LstmTape, "lstm_forward", T_x)
    if tape is None:
        return backward_by_steps(_cell_back, ["da_prev", "dc_prev"], da, steps)
    gates = tape.gates[:T_x].transpose(2, 3, 1, 0)
    cache = tape.a[:T_x].T, tape.c[:T_x].T, tape.c[1 : T_x + 1].T, *gates
    try:
        gradients = _run_back(da, None, tape.x[:, :, :T_x], *cache, p=tape.parameters)
    except _arrays.MISFIT:
        gradients = {}
    if not gradients:
        _, m, n_a = tape.a.shape
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        x = _arrays.columns("x", tape.x, "n_x", m, len(tape))[:, :, :T_x]
        weights = _arrays.weights(tape.parameters, _gates(n_a, len(x)))
        gradients = _run_back(da, None, x, *cache, p=weights)
    del gradients["dc0"]
    return gradients
