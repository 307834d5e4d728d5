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
from ._caches import Steps, tape_of

__all__ = ["rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward"]

CACHE = "a_next, a_prev, xt, parameters"


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


def _run(x: Array, a0: Array, parameters: Parameters, n_y: int, n_a: int) -> tuple[Array, Array, Array]:
    """All steps: a (n_a, m, T_x), y (n_y, m, T_x) and the cache (T_x + 1, m, n_a)."""
    n_x, m, T_x = x.shape
    Wax = _arrays.weight(parameters, "Wax", "n_a, n_x", (n_a, n_x))
    Waa = _arrays.weight(parameters, "Waa", "n_a, n_a", (n_a, n_a))
    Wya = _arrays.weight(parameters, "Wya", "n_y, n_a", (n_y, n_a))
    ba = _arrays.weight(parameters, "ba", "n_a, 1", (n_a, 1))
    by = _arrays.weight(parameters, "by", "n_y, 1", (n_y, 1))
    _arrays.fits(m=m, T_x=T_x + 1, n=max(n_x, n_a, n_y))
    cache = np.empty((T_x + 1, m, n_a))
    cache[0] = a0
    a = np.empty((n_a, m, T_x))
    y = np.empty((n_y, m, T_x))
    if m and T_x:
        kernels, output = _kernels.rnn, _kernels.output
        work = np.empty(kernels.forward_work(n_x, n_a, m, T_x))
        kernels.forward(x, Wax, Waa, ba, cache, a, work)
        if n_y:
            work = np.empty(output.forward_work(n_a, n_y, m, T_x))
            output.forward(cache[1:], Wya, by, y, work)
    return a, y, cache


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
    x = _arrays.dimensions("xt", xt, "n_x, m")
    n_x, m = x.shape
    n_y, n_a = _arrays.output_sizes(parameters, "Wya")
    a0 = _arrays.state("a_prev", a_prev, n_a, m)
    a, y, _ = _run(x.reshape(n_x, m, 1), a0, parameters, n_y, n_a)
    a_next = a.reshape(n_a, m)
    return a_next, y.reshape(n_y, m), (a_next, a_prev, xt, parameters)


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
    array = _arrays.dimensions("x", x, "n_x, m, T_x")
    n_y, n_a = _arrays.output_sizes(parameters, "Wya")
    state = _arrays.state("a0", a0, n_a, array.shape[1])
    a, y, cache = _run(array, state, parameters, n_y, n_a)
    tape = RnnTape(cache, x if isinstance(x, np.ndarray) else array, parameters)
    return a, y, (Steps(tape), x)


class _Gradients:
    """Sums of the weight gradients and the state's gradient on its way from step to step."""

    def __init__(self, n_x: int, n_a: int, m: int) -> None:
        self.dWax, self.dWaa, self.dba = np.zeros((n_a, n_x)), np.zeros((n_a, n_a)), np.zeros((n_a, 1))
        self.carry = np.zeros((m, n_a))

    def add(self, da: Array, x: Array, parameters: Parameters, a_prev: Array, a_next: Array) -> Array:
        """Go back through the steps of da (n_a, m, T_x); return dx (n_x, m, T_x)."""
        n_x, m, T_x = x.shape
        n_a = da.shape[0]
        Wax = _arrays.weight(parameters, "Wax", "n_a, n_x", (n_a, n_x))
        Waa = _arrays.weight(parameters, "Waa", "n_a, n_a", (n_a, n_a))
        dx = np.empty((n_x, m, T_x))
        if m and T_x:
            kernels = _kernels.rnn
            work = np.empty(kernels.backward_work(n_x, n_a, m, T_x))
            kernels.backward(
                da, x, Wax, Waa, a_prev, a_next, self.carry, dx, self.dWax, self.dWaa, self.dba, work
            )
        return dx

    def add_cell(self, da: Array, name: str, cache: Any) -> Array:
        """Go back through one cell; da (n_a, m), the result dxt (n_x, m)."""
        a_next, a_prev, xt, parameters = _arrays.unpacked(name, cache, CACHE)
        m, n_a = self.carry.shape
        n_x = self.dWax.shape[1]
        x = _arrays.shaped(f"{name}[2] (xt)", xt, "n_x, m", (n_x, m))
        before = _arrays.time_major(f"{name}[1] (a_prev)", a_prev, n_a, m)
        after = _arrays.time_major(f"{name}[0] (a_next)", a_next, n_a, m)
        dx = self.add(da.reshape(n_a, m, 1), x.reshape(n_x, m, 1), parameters, before, after)
        return dx.reshape(n_x, m)

    def weights(self) -> dict[str, Array]:
        return {"dWax": self.dWax, "dWaa": self.dWaa, "dba": self.dba}

    def state(self) -> Array:
        return np.ascontiguousarray(self.carry.T)


def _sizes(name: str, cache: Any) -> tuple[int, int, int]:
    """Return n_x, n_a and m of one cell's cache."""
    a_next, _, xt, _ = _arrays.unpacked(name, cache, CACHE)
    n_a, m = _arrays.dimensions(f"{name}[0] (a_next)", a_next, "n_a, m").shape
    n_x, _ = _arrays.dimensions(f"{name}[2] (xt)", xt, "n_x, m").shape
    return n_x, n_a, m


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
    n_x, n_a, m = _sizes("cache", cache)
    da = _arrays.shaped("da_next", da_next, "n_a, m", (n_a, m))
    gradients = _Gradients(n_x, n_a, m)
    dxt = gradients.add_cell(da, "cache", cache)
    return {"dxt": dxt, "da_prev": gradients.state(), **gradients.weights()}


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
    if tape is not None:
        _, m, n_a = tape.a.shape
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        x = _arrays.dimensions("x", tape.x, "n_x, m, T_x")
        x = _arrays.shaped("x", x, "n_x, m, T_x", (x.shape[0], m, len(tape)))[:, :, :T_x]
        gradients = _Gradients(x.shape[0], n_a, m)
        dx = gradients.add(da, x, tape.parameters, tape.a[:T_x], tape.a[1 : T_x + 1])
    else:
        n_x, n_a, m = _sizes("caches[0][0]", steps[0])
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        gradients = _Gradients(n_x, n_a, m)
        dx = np.empty((n_x, m, T_x))
        for t in reversed(range(T_x)):
            dx[:, :, t] = gradients.add_cell(da[:, :, t], f"caches[0][{t}]", steps[t])
    return {"dx": dx, "da0": gradients.state(), **gradients.weights()}
