"""The weights of one network as other libraries keep them: the gates stacked in one matrix.

W_x and W_a are apart and there is one bias.  What differs between libraries (the order of the gates, transposes, names,
a second bias) is handled in `interop`.  An order has the letter z for the update gate of a GRU where the other library
has z = 1 - u: since 1 - sigmoid(s) is sigmoid(-s), its weights and its bias change sign, which is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _checks
from .._checks import FLOAT64, Array, DType
from .spec import CELLS, CellSpec, cell_of

Orders = Mapping[str, str]  # the gates in another library's order, by the cell's name


@dataclass(slots=True)
class Fused:
    """The parameters of a cell, with or without an output layer; g is the number of its gates."""

    spec: CellSpec
    W_x: Array  # (g n_a, n_x)
    W_a: Array  # (g n_a, n_a)
    b: Array  # (g n_a,)
    bca: Array | None = None  # (n_a,), of a GRU with its reset after the product
    Wy: Array | None = None  # (n_y, n_a)
    by: Array | None = None  # (n_y,)


def fuse(
    parameters: Any, orders: Orders, with_output: bool = True, name: str = "parameters", dtype: DType = FLOAT64
) -> Fused:
    """Check the caller's parameters and stack their gates in this order, in new arrays.

    An output layer is read if there is one and it is wanted.
    """
    spec = cell_of(parameters)
    n_a, n_x = spec.sizes(parameters, name)
    wanted, key = spec.parameters(n_a, n_x), spec.output
    if n_a == 0:
        raise ValueError(f"{name}: expected one unit at least, got n_a = 0")
    if with_output and (key in parameters or "by" in parameters):
        n_y, _ = _checks.output_sizes(parameters, key)
        wanted |= _checks.output_shapes(key, n_y, n_a)
    p = _checks.weights(parameters, wanted, name, dtype)
    if spec.gates:
        order = orders[spec.name]
        W, b = (np.concatenate([-p[k + "u"] if gate == "z" else p[k + gate] for gate in order]) for k in "Wb")
        fused = Fused(spec, W[:, n_a:].copy(), W[:, :n_a].copy(), b[:, 0].copy())
        if "bca" in p:
            fused.bca = p["bca"][:, 0].copy()
    else:
        fused = Fused(spec, p["Wax"].copy(), p["Waa"].copy(), p["ba"][:, 0].copy())
    if key in p:
        fused.Wy, fused.by = p[key].copy(), p["by"][:, 0].copy()
    return fused


def split(fused: Fused, orders: Orders) -> dict[str, Array]:
    """Return the parameters of gates that are stacked in this order, in new arrays."""
    spec, n_a = fused.spec, fused.W_a.shape[1]
    if spec.gates:
        stacked = {"W": np.hstack([fused.W_a, fused.W_x]), "b": fused.b[:, None]}
        rows = {gate: slice(k * n_a, (k + 1) * n_a) for k, gate in enumerate(orders[spec.name])}
        p = {}
        for key in spec.entries:
            kind, gate = key[0], key[1:]
            if gate in rows:
                p[key] = stacked[kind][rows[gate]].copy()
            elif gate == "u":
                p[key] = np.negative(stacked[kind][rows["z"]], order="C")
        if fused.bca is not None:
            p["bca"] = fused.bca[:, None].copy()
    else:
        p = {"Wax": fused.W_x.copy("C"), "Waa": fused.W_a.copy("C"), "ba": fused.b[:, None].copy()}
    if fused.Wy is not None and fused.by is not None:
        p |= {spec.output: fused.Wy.copy("C"), "by": fused.by[:, None].copy()}
    return p


def cell_with_gates(name: str, shape: tuple[int, ...], letters: str, axis: int) -> CellSpec:
    """Return the cell whose recurrent weights, with the gates along this axis, have such a shape.

    Of a GRU it is the form with its reset before the product: a shape does not tell the form.
    """
    n_a = shape[1 - axis]
    for spec in CELLS.values():
        if n_a and shape[axis] == spec.n_gates * n_a:
            return spec
    raise ValueError(f"{name}: expected shape ({letters}) with 1 gate (RNN), 3 (GRU) or 4 (LSTM), got {shape}")


def added(first: Array, second: Array) -> Array:
    """Return the sum of two biases as a new array; with zeros it is the first bit for bit, -0.0 too."""
    return np.add(first, second, out=first.copy(), where=second != 0)
