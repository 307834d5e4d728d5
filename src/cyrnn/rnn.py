"""The basic RNN of the notebook: one cell and the whole sequence, forward and backward.

a<t> = tanh(Wax x<t> + Waa a<t-1> + ba)
y<t> = softmax(Wya a<t> + by)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _kernels
from ._arrays import Array, Parameters
from ._caches import Steps, backward_by_steps, tape_of
from ._output import output_shapes, output_sizes, predictions

__all__ = ["rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward"]

CACHE = "a_next, a_prev, xt, parameters"
WEIGHTS = "dWax", "dWaa", "dba"


@dataclass(slots=True)
class RnnTape:
    """What `rnn_forward` keeps for `rnn_backward`."""

    a: Array  # (T_x + 1, m, n_a), row 0 the initial state
    x: Any  # (n_x, m, T_x), the caller's array
    parameters: Parameters

    def __len__(self) -> int:
        return len(self.a) - 1

    def step(self, t: int) -> tuple[Any, ...]:
        """Return the cell's cache of step t."""
        return self.a[t + 1].T, self.a[t].T, self.x[:, :, t], self.parameters


def _run(name: str, x: Array, a0: Array, p: Parameters) -> tuple[Array, Array, Array]:
    """All steps: a (n_a, m, T_x), y (n_y, m, T_x) and the cache (T_x + 1, m, n_a)."""
    n_x, m, T_x = x.shape
    _, n_a = p["Wya"].shape
    _arrays.mapping(p)
    _arrays.columns_fit(name, m, T_x)
    cache = np.empty((T_x + 1, m, n_a))
    a = np.empty((n_a, m, T_x))
    work = np.empty(_kernels.rnn.forward_work(n_x, n_a, m, T_x))
    _kernels.rnn.forward(x, a0, p["Wax"], p["Waa"], p["ba"], cache, a, work)
    return a, predictions(cache, p, "Wya", T_x), cache


def _checked(name: str, x: Array, state: str, a0: Any, parameters: Any) -> tuple[str, Array, Array, Parameters]:
    """Convert the arguments of `_run`, or raise the error that names the one that does not fit."""
    n_x, m, _ = x.shape
    n_y, n_a = output_sizes(parameters, "Wya")
    wanted = {
        "Wax": ("n_a, n_x", (n_a, n_x)),
        "Waa": ("n_a, n_a", (n_a, n_a)),
        "ba": ("n_a, 1", (n_a, 1)),
        **output_shapes("Wya", n_y, n_a),
    }
    return name, x, _arrays.state(state, a0, n_a, m), _arrays.weights(parameters, wanted)


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Parameters) -> tuple[Array, Array, tuple[Any, ...]]:
    """One step of the basic RNN.

    ``a_next = tanh(Wax xt + Waa a_prev + ba)``, ``yt_pred = softmax(Wya a_next + by)``.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
        Input at this step.
    a_prev : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Hidden state before the step.
    parameters : mapping
        ``Wax`` (n_a, n_x), ``Waa`` (n_a, n_a), ``Wya`` (n_y, n_a), ``ba`` (n_a, 1), ``by`` (n_y, 1).

    Returns
    -------
    a_next : numpy.ndarray of float64, shape (n_a, m)
        Hidden state after the step, a new array.
    yt_pred : numpy.ndarray of float64, shape (n_y, m)
        Prediction, a new array.
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
    try:
        result = _run("xt", _arrays.plain(xt)[..., None], a_prev, parameters)
    except _arrays.MISFIT:
        result = None
    if result is None:
        x = _arrays.dimensions("xt", xt, "n_x, m")[..., None]
        result = _run(*_checked("xt", x, "a_prev", a_prev, parameters))
    a, y, _ = result
    a_next = a[..., 0]
    return a_next, y[..., 0], (a_next, a_prev, xt, parameters)


def rnn_forward(x: Any, a0: Any, parameters: Parameters) -> tuple[Array, Array, tuple[Steps, Any]]:
    """Run the basic RNN over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
        Input of every step.  Used without a conversion if it is float64.
    a0 : array_like, shape (n_a, m), or (n_a, 1) for all examples
        Initial hidden state; copied.
    parameters : mapping
        As for `rnn_cell_forward`.

    Returns
    -------
    a : numpy.ndarray of float64, shape (n_a, m, T_x)
        Hidden states, a new array that shares memory with nothing.
    y_pred : numpy.ndarray of float64, shape (n_y, m, T_x)
        Predictions, a new array.
    caches : tuple
        ``(steps, x)``: `steps` behaves as a list of the cells' caches, one per step, and `x` is the
        very object passed.  `rnn_backward` reads `x` and `parameters` as they are when it runs.

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
    try:
        result = _run("x", x, a0, parameters)
    except _arrays.MISFIT:
        result = None
    if result is None:
        array = _arrays.dimensions("x", x, "n_x, m, T_x")
        result = _run(*_checked("x", array, "a0", a0, parameters))
    a, y_pred, cache = result
    tape = RnnTape(cache, x if isinstance(x, np.ndarray) else _arrays.real("x", x), parameters)
    return a, y_pred, (Steps(tape), x)


def _run_back(da: Array, x: Array, a_prev: Array, a_next: Array, p: Parameters) -> tuple[Array, ...]:
    """Go back through all steps of sequences (n, m, T_x): dx, da0, dWax, dWaa, dba."""
    n_a, m, T_x = da.shape
    n_x = x.shape[0]
    _arrays.mapping(p)
    _arrays.columns_fit("da", m, T_x)
    dx, da0 = np.empty((n_x, m, T_x)), np.empty((n_a, m))
    dWax, dWaa, dba = np.empty((n_a, n_x)), np.empty((n_a, n_a)), np.empty((n_a, 1))
    work = np.empty(_kernels.rnn.backward_work(n_x, n_a, m, T_x))
    _kernels.rnn.backward(da, x, a_prev, a_next, p["Wax"], p["Waa"], dx, da0, dWax, dWaa, dba, work)
    return dx, da0, dWax, dWaa, dba


def _checked_back(parameters: Any, n_a: int, n_x: int) -> Parameters:
    """Convert the weights that the backward pass reads, or raise the error that names one."""
    wanted = {"Wax": ("n_a, n_x", (n_a, n_x)), "Waa": ("n_a, n_a", (n_a, n_a))}
    return _arrays.weights(parameters, wanted)


def _cell_back(names: Sequence[str], values: Sequence[Any]) -> dict[str, Array]:
    """`rnn_cell_backward` of (da_next, cache), with the names that its caller gives them."""
    da_next, cache = values
    plain = _arrays.plain
    try:
        a_next, a_prev, xt, p = cache
        views = plain(da_next)[..., None], plain(xt)[..., None], plain(a_prev)[..., None], plain(a_next)[..., None]
        result = _run_back(*views, p)
    except _arrays.MISFIT:
        result = ()
    if not result:
        da_name, name = names
        a_next, a_prev, xt, p = _arrays.unpacked(name, cache, CACHE)
        a_next = _arrays.dimensions(f"{name}[0] (a_next)", a_next, "n_a, m")
        n_a, m = a_next.shape
        a_prev = _arrays.state(f"{name}[1] (a_prev)", a_prev, n_a, m)
        xt = _arrays.columns(f"{name}[2] (xt)", xt, "n_x", m)
        da_next = _arrays.shaped(da_name, da_next, "n_a, m", (n_a, m))
        views = da_next[..., None], xt[..., None], a_prev[..., None], a_next[..., None]
        result = _run_back(*views, _checked_back(p, n_a, len(xt)))
    dx, da_prev, dWax, dWaa, dba = result
    return {"dxt": dx[..., 0], "da_prev": da_prev, "dWax": dWax, "dWaa": dWaa, "dba": dba}


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

    Returns
    -------
    dict of new float64 arrays
        ``dxt`` (n_x, m), ``da_prev`` (n_a, m), ``dWax`` (n_a, n_x), ``dWaa`` (n_a, n_a), ``dba`` (n_a, 1).

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
        caches: then the gradients are those of the first T_x steps.
    caches : tuple
        ``(steps, x)`` as `rnn_forward` returns it.  `steps` may also be any sequence of the cells'
        caches: made in a loop, sliced, joined, edited.  Its arrays, `x` and the `parameters` it holds
        are read as they are now.

    Returns
    -------
    dict of new float64 arrays
        ``dx`` (n_x, m, T_x), ``da0`` (n_a, m), ``dWax`` (n_a, n_x), ``dWaa`` (n_a, n_a), ``dba`` (n_a, 1).

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument or an entry of the caches is of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "Wya": np.eye(2), "ba": np.zeros((2, 1)), "by": np.zeros((2, 1))}
    >>> a, y_pred, caches = cyrnn.rnn_forward(np.ones((2, 3, 7)), np.zeros((2, 3)), p)
    >>> gradients = cyrnn.rnn_backward(np.ones((2, 3, 7)), caches)
    >>> {name: value.shape for name, value in gradients.items()}
    {'dx': (2, 3, 7), 'da0': (2, 3), 'dWax': (2, 2), 'dWaa': (2, 2), 'dba': (2, 1)}
    """
    steps, _ = _arrays.unpacked("caches", caches, "steps, x")
    da = _arrays.dimensions("da", da, "n_a, m, T_x")
    T_x = da.shape[2]
    tape = tape_of(steps, RnnTape, "rnn_forward", T_x)
    if tape is None:
        return backward_by_steps(_cell_back, ["da_prev"], da, steps)
    states = tape.a[:T_x].T, tape.a[1 : T_x + 1].T
    try:
        result = _run_back(da, tape.x[:, :, :T_x], *states, tape.parameters)
    except _arrays.MISFIT:
        result = ()
    if not result:
        _, m, n_a = tape.a.shape
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        x = _arrays.columns("x", tape.x, "n_x", m, len(tape))[:, :, :T_x]
        result = _run_back(da, x, *states, _checked_back(tape.parameters, n_a, len(x)))
    return dict(zip(("dx", "da0", *WEIGHTS), result, strict=True))
