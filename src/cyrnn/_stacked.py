"""The weights of one network as other libraries keep them: the gates of a matrix one below the other.

W_x and W_a are apart and there is one bias; what differs between libraries (the order of the gates,
transposes, names, a second bias) is the business of `exchange` and `onnx_files`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, lstm, rnn
from ._arrays import Array


@dataclass(slots=True)
class Stacked:
    """An RNN (g = 1) or an LSTM (g = 4), with or without an output layer."""

    W_x: Array  # (g n_a, n_x)
    W_a: Array  # (g n_a, n_a)
    b: Array  # (g n_a,)
    Wy: Array | None = None  # (n_y, n_a)
    by: Array | None = None  # (n_y,)

    @property
    def is_lstm(self) -> bool:
        """Whether there are four gates."""
        rows, n_a = self.W_a.shape
        return bool(rows != n_a)


def stack(parameters: Any, order: str) -> Stacked:
    """Check the caller's parameters and stack their gates in this order, in new arrays."""
    _arrays.mapping(parameters)
    if "Wax" in parameters and "Wf" in parameters:
        raise ValueError("parameters: expected the entries of an RNN ('Wax') or of an LSTM ('Wf'), got both")
    if "Wax" in parameters:
        n_a, n_x = _arrays.dimensions("parameters['Wax']", parameters["Wax"], "n_a, n_x").shape
        wanted, key = rnn._recurrent(n_a, n_x) | {"ba": ("n_a, 1", (n_a, 1))}, "Wya"
    elif "Wf" in parameters:
        n_a, both = _arrays.dimensions("parameters['Wf']", parameters["Wf"], "n_a, n_a + n_x").shape
        if both < n_a:
            raise ValueError(f"parameters['Wf']: expected shape (n_a, n_a + n_x), got {(n_a, both)}")
        wanted, key = lstm._gates(n_a, both - n_a) | {f"b{gate}": ("n_a, 1", (n_a, 1)) for gate in order}, "Wy"
    else:
        got = sorted(map(str, parameters))
        raise KeyError(f"parameters: expected an entry 'Wax' (of an RNN) or 'Wf' (of an LSTM), got only {got}")
    if n_a == 0:
        raise ValueError("parameters: expected one unit at least, got n_a = 0")
    if key in parameters or "by" in parameters:
        n_y, _ = _arrays.output_sizes(parameters, key)
        wanted |= _arrays.output_shapes(key, n_y, n_a)
    p = _arrays.weights(parameters, wanted)
    if key == "Wya":
        stacked = Stacked(p["Wax"].copy(), p["Waa"].copy(), p["ba"][:, 0].copy())
    else:
        W = np.concatenate([p["W" + gate] for gate in order])
        b = np.concatenate([p["b" + gate] for gate in order])
        stacked = Stacked(W[:, n_a:].copy(), W[:, :n_a].copy(), b[:, 0].copy())
    if key in p:
        stacked.Wy, stacked.by = p[key].copy(), p["by"][:, 0].copy()
    return stacked


def unstack(stacked: Stacked, order: str) -> dict[str, Array]:
    """Return the parameters of gates that are stacked in this order, in new arrays."""
    n_a = stacked.W_a.shape[1]
    if stacked.is_lstm:
        W, b = np.hstack([stacked.W_a, stacked.W_x]), stacked.b[:, None]
        rows = {gate: slice(k * n_a, (k + 1) * n_a) for k, gate in enumerate(order)}
        p = {kind + gate: of[rows[gate]].copy() for gate in lstm.GATES for kind, of in (("W", W), ("b", b))}
    else:
        p = {"Wax": stacked.W_x.copy("C"), "Waa": stacked.W_a.copy("C"), "ba": stacked.b[:, None].copy()}
    if stacked.Wy is not None and stacked.by is not None:
        p |= {"Wy" if stacked.is_lstm else "Wya": stacked.Wy.copy("C"), "by": stacked.by[:, None].copy()}
    return p


def gates(name: str, shape: tuple[int, ...], letters: str, axis: int) -> int:
    """Return how many gates the recurrent weights have, whose gates lie along this axis: 1 or 4."""
    n_a = shape[1 - axis]
    count = next((count for count in (1, 4) if n_a and shape[axis] == count * n_a), 0)
    if not count:
        what = ", that of a GRU" if n_a and shape[axis] == 3 * n_a else ""
        raise ValueError(f"{name}: expected shape ({letters}) with 1 gate (RNN) or 4 (LSTM), got {shape}{what}")
    return count


def added(first: Array, second: Array) -> Array:
    """Return the sum of two biases as a new array; with zeros it is the first bit for bit, -0.0 too."""
    return np.add(first, second, out=first.copy(), where=second != 0)
