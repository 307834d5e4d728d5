"""Networks and parameters of one layer in the form that other libraries share: layers with their gates stacked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array, DType
from ..recurrent.fused import Fused, Orders, added, fuse, split
from ..recurrent.layout import converted, layout, walk
from ..recurrent.spec import GRU_AFTER, CellSpec, cell_of


@dataclass(slots=True)
class Layers:
    """An embedding, layers of one or two directions, an output layer."""

    layers: list[list[Fused]]  # without an output layer of their own
    E: Array | None = None  # (n_x, vocabulary)
    Wy: Array | None = None  # (n_y, n_a), or (n_y, 2 n_a) of two directions
    by: Array | None = None  # (n_y,)

    @property
    def n_a(self) -> int:
        """The number of hidden states of the top layer, of both directions."""
        return sum(fused.W_a.shape[1] for fused in self.layers[-1])


def assembled(name: str, found: Layers, orders: Orders, network: bool, dtype: DType) -> Any:
    """Return a network of gates that are stacked in this order, in new arrays of this dtype.

    If it has one layer in one direction, no embedding, and a network is not asked for, return parameters.  The name is
    that of the argument.
    """
    made = _assembled(found, orders, network)
    in_dtype(name, made, dtype)
    return made


def in_dtype(name: str, made: Any, dtype: DType) -> None:
    """Round the arrays of parameters or of a network, which are new, to a dtype; the name is for the message."""
    where: str
    entries: Any
    for where, entries in walk(made, "network"):
        for key in entries:
            what = f"{name}: {key if entries is made else f'{where}[{key!r}]'}"
            entries[key] = _checks.real(what, entries[key], dtype=dtype)


def _assembled(found: Layers, orders: Orders, network: bool) -> Any:
    if not network and found.E is None and [len(layer) for layer in found.layers] == [1]:
        ((fused,),) = found.layers
        fused.Wy, fused.by = found.Wy, found.by
        return split(fused, orders)
    made: list[Any] = [] if found.E is None else [{"E": found.E.copy("C")}]
    for layer in found.layers:
        directions = [split(fused, orders) for fused in layer]
        made.append(directions[0] if len(layer) == 1 else tuple(directions))
    if found.Wy is not None and found.by is not None:
        made.append({"Wy": found.Wy.copy("C"), "by": found.by[:, None].copy()})
    return made


def apart(parameters: Any, orders: Orders) -> tuple[Layers, list[str]]:
    """Check the caller's parameters or network and stack the gates in this order, in new arrays.

    They are of float32 if all arrays that are read are, else of float64.  Also return the layers' names, as the caller
    would spell them.
    """
    if not isinstance(parameters, (list, tuple)):
        own = [parameters[key] for key in cell_of(parameters).all_entries if key in parameters]
        fused = fuse(parameters, orders, dtype=_checks.kernels_for(*own).dtype)
        return Layers([[fused]], None, fused.Wy, fused.by), ["parameters"]
    parts = layout(parameters, "parameters")
    dtype = _checks.kernels_for(*[value for _, entry in walk(parts.network()) for value in entry.values()]).dtype
    parts = converted(parts, "parameters", None, "linear", dtype)
    layers = []
    for layer in parts.layers:
        for direction in layer:
            if direction.spec.sizes(direction.parameters)[0] == 0:
                raise ValueError(f"{direction.name}: expected one unit at least, got n_a = 0")
        layers.append([fuse(direction.parameters, orders, dtype=dtype) for direction in layer])
    found = Layers(layers)
    if parts.embedding is not None:
        found.E = parts.embedding["E"].copy()
    if parts.output is not None:
        found.Wy, found.by = parts.output["Wy"].copy(), parts.output["by"][:, 0].copy()
    first = int(found.E is not None)
    return found, [f"parameters[{first + k}]" for k in range(len(layers))]


def two_biases(spec: CellSpec, order: str, n_a: int, b_x: Array, b_a: Array) -> tuple[Array, Array | None]:
    """Return the one bias and `bca` of a layer that has a bias of the input and one of the hidden state.

    They are added but for the candidate of a GRU whose reset is after the product.
    """
    bca = None
    if spec is GRU_AFTER:
        rows = _candidate(order, n_a)
        bca, b_a = b_a[rows].copy(), b_a.copy()
        b_a[rows] = 0.0
    return added(b_x, b_a), bca


def second_bias(fused: Fused, order: str) -> Array:
    """Return the bias of the hidden state: zeros but for `bca`."""
    b_a = np.zeros_like(fused.b)
    if fused.bca is not None:
        b_a[_candidate(order, len(fused.bca))] = fused.bca
    return b_a


def _candidate(order: str, n_a: int) -> slice:
    """Return the rows of the candidate of a GRU."""
    k = order.index("c")
    return slice(k * n_a, (k + 1) * n_a)


def output_layer(found: Layers, weight: tuple[str, Array], bias: tuple[str, Array] | None, letters: str) -> None:
    """Check an output layer and add it: its weight with n_a along the axis that the letters tell, its bias."""
    name, Wy = weight
    axis = letters.split(", ").index("n_y")
    n_y = _checks.dimensions(name, Wy, letters).shape[axis]
    Wy = _checks.shaped(name, Wy, letters, (n_y, found.n_a) if axis == 0 else (found.n_a, n_y))
    found.Wy = Wy if axis == 0 else Wy.T
    found.by = np.zeros(n_y) if bias is None else _checks.shaped(*bias, "n_y", (n_y,))


def array(name: str, value: Any) -> Array:
    """Return what `real` does, of a tensor of PyTorch on any device too."""
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu()
            value = (value.double() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
        except (NotImplementedError, RuntimeError, TypeError) as error:  # one without data, a sparse or quantized one
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{name}: expected a dense tensor, got one that is no array ({reason})") from error
    return _checks.real(name, value)
