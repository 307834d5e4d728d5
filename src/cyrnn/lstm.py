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
from ._caches import Steps, tape_of

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


def _gate_weights(parameters: Parameters, n_a: int, n_x: int) -> list[Array]:
    shape = n_a, n_a + n_x
    return [_arrays.weight(parameters, f"W{gate}", "n_a, n_a + n_x", shape) for gate in GATES]


def _run(
    x: Array, a0: Array, c0: Array | float, parameters: Parameters, n_y: int, n_a: int
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """All steps: a, c (n_a, m, T_x), y (n_y, m, T_x) and the caches a, c (T_x + 1, m, n_a), gates."""
    n_x, m, T_x = x.shape
    weights = _gate_weights(parameters, n_a, n_x)
    biases = [_arrays.weight(parameters, f"b{gate}", "n_a, 1", (n_a, 1)) for gate in GATES]
    Wy = _arrays.weight(parameters, "Wy", "n_y, n_a", (n_y, n_a))
    by = _arrays.weight(parameters, "by", "n_y, 1", (n_y, 1))
    _arrays.fits(m=m, T_x=T_x + 1, n=max(n_x, 4 * n_a, n_y))
    a_cache, c_cache = np.empty((T_x + 1, m, n_a)), np.empty((T_x + 1, m, n_a))
    a_cache[0], c_cache[0] = a0, c0
    gates = np.empty((T_x, m, 4, n_a))
    a, c, y = np.empty((n_a, m, T_x)), np.empty((n_a, m, T_x)), np.empty((n_y, m, T_x))
    if m and T_x:
        kernels, output = _kernels.lstm, _kernels.output
        work = np.empty(kernels.forward_work(n_x, n_a, m, T_x))
        kernels.forward(x, *weights, *biases, a_cache, c_cache, gates, a, c, work)
        if n_y:
            work = np.empty(output.forward_work(n_a, n_y, m, T_x))
            output.forward(a_cache[1:], Wy, by, y, work)
    return a, c, y, a_cache, c_cache, gates


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
    array([0.94785942, 0.94785942, 0.94785942, 0.94785942])
    """
    x = _arrays.dimensions("xt", xt, "n_x, m")
    n_x, m = x.shape
    n_y, n_a = _arrays.output_sizes(parameters, "Wy")
    a0 = _arrays.state("a_prev", a_prev, n_a, m)
    c0 = _arrays.state("c_prev", c_prev, n_a, m)
    a, c, y, _, _, gates = _run(x.reshape(n_x, m, 1), a0, c0, parameters, n_y, n_a)
    a_next, c_next = a.reshape(n_a, m), c.reshape(n_a, m)
    ft, it, cct, ot = np.ascontiguousarray(gates[0].transpose(1, 2, 0))
    cache = (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)
    return a_next, c_next, y.reshape(n_y, m), cache


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
    array = _arrays.dimensions("x", x, "n_x, m, T_x")
    n_y, n_a = _arrays.output_sizes(parameters, "Wy")
    state = _arrays.state("a0", a0, n_a, array.shape[1])
    a, c, y, *cache = _run(array, state, 0.0, parameters, n_y, n_a)
    tape = LstmTape(*cache, x if isinstance(x, np.ndarray) else array, parameters)
    return a, y, c, (Steps(tape), x)


class _Gradients:
    """Sums of the weight gradients and the states' gradients on their way from step to step."""

    def __init__(self, n_x: int, n_a: int, m: int) -> None:
        self.dW, self.db = np.zeros((4, n_a, n_a + n_x)), np.zeros((4, n_a))
        self.da_carry, self.dc_carry = np.zeros((m, n_a)), np.zeros((m, n_a))

    def add(
        self,
        da: Array,
        x: Array,
        parameters: Parameters,
        a_prev: Array,
        c_prev: Array,
        c_next: Array,
        gates: Array,
    ) -> Array:
        """Go back through the steps of da (n_a, m, T_x); return dx (n_x, m, T_x)."""
        n_x, m, T_x = x.shape
        n_a = da.shape[0]
        weights = _gate_weights(parameters, n_a, n_x)
        dx = np.empty((n_x, m, T_x))
        if m and T_x:
            kernels = _kernels.lstm
            work = np.empty(kernels.backward_work(n_x, n_a, m, T_x))
            carries = self.da_carry, self.dc_carry
            kernels.backward(
                da, x, *weights, a_prev, c_prev, c_next, gates, *carries, dx, self.dW, self.db, work
            )
        return dx

    def add_cell(self, da: Array, name: str, cache: Any) -> Array:
        """Go back through one cell; da (n_a, m), the result dxt (n_x, m)."""
        _arrays.unpacked(name, cache, CACHE)
        m, n_a = self.da_carry.shape
        n_x = self.dW.shape[2] - n_a
        x = _arrays.shaped(f"{name}[8] (xt)", cache[8], "n_x, m", (n_x, m))
        c_next, a_prev, c_prev = (
            _arrays.time_major(f"{name}[{k}] ({letter})", cache[k], n_a, m)
            for k, letter in ((1, "c_next"), (2, "a_prev"), (3, "c_prev"))
        )
        gates = np.empty((1, m, 4, n_a))
        for k, letter in enumerate(("ft", "it", "cct", "ot")):
            gates[0, :, k] = _arrays.state(f"{name}[{4 + k}] ({letter})", cache[4 + k], n_a, m)
        dx = self.add(
            da.reshape(n_a, m, 1), x.reshape(n_x, m, 1), cache[9], a_prev, c_prev, c_next, gates
        )
        return dx.reshape(n_x, m)

    def weights(self) -> dict[str, Array]:
        named = {}
        for gate, dW, db in zip(GATES, self.dW, self.db, strict=True):
            named |= {f"dW{gate}": dW, f"db{gate}": db.reshape(-1, 1)}
        return named


def _sizes(name: str, cache: Any) -> tuple[int, int, int]:
    """Return n_x, n_a and m of one cell's cache."""
    a_next, *_, xt, _ = _arrays.unpacked(name, cache, CACHE)
    n_a, m = _arrays.dimensions(f"{name}[0] (a_next)", a_next, "n_a, m").shape
    n_x, _ = _arrays.dimensions(f"{name}[8] (xt)", xt, "n_x, m").shape
    return n_x, n_a, m


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
    array([0.06963706, 0.06963706, 0.06963706, 0.06963706])
    """
    n_x, n_a, m = _sizes("cache", cache)
    da = _arrays.shaped("da_next", da_next, "n_a, m", (n_a, m))
    dc = _arrays.shaped("dc_next", dc_next, "n_a, m", (n_a, m))
    gradients = _Gradients(n_x, n_a, m)
    gradients.dc_carry[:] = dc.T
    dxt = gradients.add_cell(da, "cache", cache)
    da_prev, dc_prev = gradients.da_carry.T, gradients.dc_carry.T
    return {
        "dxt": dxt,
        "da_prev": np.ascontiguousarray(da_prev),
        "dc_prev": np.ascontiguousarray(dc_prev),
        **gradients.weights(),
    }


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
    if tape is not None:
        _, m, n_a = tape.a.shape
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        x = _arrays.dimensions("x", tape.x, "n_x, m, T_x")
        x = _arrays.shaped("x", x, "n_x, m, T_x", (x.shape[0], m, len(tape)))[:, :, :T_x]
        gradients = _Gradients(x.shape[0], n_a, m)
        buffers = tape.a[:T_x], tape.c[:T_x], tape.c[1 : T_x + 1], tape.gates[:T_x]
        dx = gradients.add(da, x, tape.parameters, *buffers)
    else:
        n_x, n_a, m = _sizes("caches[0][0]", steps[0])
        _arrays.shaped("da", da, "n_a, m, T_x", (n_a, m, T_x))
        gradients = _Gradients(n_x, n_a, m)
        dx = np.empty((n_x, m, T_x))
        for t in reversed(range(T_x)):
            dx[:, :, t] = gradients.add_cell(da[:, :, t], f"caches[0][{t}]", steps[t])
    return {"dx": dx, "da0": np.ascontiguousarray(gradients.da_carry.T), **gradients.weights()}
