"""Networks of several layers and both directions.

A network is a list, and its parameters are all there is to it:

    [{"E": ...},                       optional: an embedding, whose columns stand for indices
     parameters,                       a layer: the recurrent parameters of an RNN, an LSTM or a GRU
     (parameters, parameters),         a layer of both directions: left to right, right to left
     ...,
     {"Wy": ..., "by": ...}]           optional: the output layer, y = softmax(Wy a + by)

A layer reads the hidden states of the one below it; of two directions the columns are side by side, those from left to
right first.  From right to left an example begins with its own last step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import _checks, _kernels, _updates
from .._checks import FLOAT64, Array, DType, Parameters
from .activations import sigmoid, softmax
from .spec import CELLS, OUTPUTS, CellSpec, cell_of, check_output, gru_form

__all__ = ["network_backward", "network_forward"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"softmax": softmax, "sigmoid": sigmoid, "linear": np.asarray}


class Direction(NamedTuple):
    """One direction of a layer."""

    name: str  # as the caller would spell it: network[2][1]
    spec: CellSpec
    parameters: Parameters

    def arrays(self) -> tuple[list[Any], list[Any]]:
        """Return weights and biases in the order of the kernels."""
        p, gates = self.parameters, self.spec.gates
        if not gates:
            return [p["Wax"], p["Waa"]], [p["ba"]]
        biases = [p["b" + gate] for gate in gates]
        if "bca" in self.spec.entries:
            biases.append(p["bca"])
        return [p["W" + gate] for gate in gates], biases

    def gradients(self, dW: list[Array], db: list[Array]) -> dict[str, Array]:
        """Name gradients that are in the order of `arrays`, in the order of the parameters."""
        gates = self.spec.gates
        names = ["Wax", "Waa"] if not gates else ["W" + gate for gate in gates]
        biases = ["ba"] if not gates else ["b" + gate for gate in gates] + ["bca"]
        found = dict(zip(names, dW, strict=True)) | dict(zip(biases, db, strict=False))
        return {"d" + key: found[key] for key in self.spec.entries}


class Layout(NamedTuple):
    """The parts of a network."""

    embedding: Mapping[str, Any] | None
    layers: list[list[Direction]]
    output: Mapping[str, Any] | None

    def output_name(self, name: str) -> str:
        """Return the output layer's name, as the caller would spell it."""
        return f"{name}[{len(self.layers) + (self.embedding is not None)}]"

    def network(self) -> list[Any]:
        """Return the list that has these parts, without entries that no function reads."""
        layers = [[{key: d.parameters[key] for key in d.spec.entries} for d in layer] for layer in self.layers]
        entries = [layer[0] if len(layer) == 1 else tuple(layer) for layer in layers]
        return [
            *([] if self.embedding is None else [self.embedding]),
            *entries,
            *([] if self.output is None else [self.output]),
        ]

    def cells(self) -> list[list[CellSpec]]:
        """Return the cell of each layer and direction."""
        return [[direction.spec for direction in layer] for layer in self.layers]


def _direction(name: str, parameters: Any) -> Direction:
    """Return a direction of a layer, or raise the error that names what it is not."""
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise TypeError(f"{name}: expected the parameters of a layer, or a pair of them, got {kind}")
    try:
        spec = cell_of(parameters)
    except (ValueError, KeyError) as error:
        raise type(error)(f"{name}: {str(error).partition(': ')[2]}") from error
    extra = [key for key in (spec.output, "Wy", "Wya", "by") if key in parameters]
    if extra:
        raise ValueError(
            f"{name}: expected the recurrent parameters alone, got {extra[0]!r} as well; the output layer is the last "
            "entry of a network"
        )
    return Direction(name, spec, parameters)


def layout(network: Any, name: str = "network") -> Layout:
    """Return the parts of a network; sizes are not checked.

    Raises
    ------
    TypeError, ValueError, KeyError
        If it is no network; the message names the entry.
    """
    if not isinstance(network, (list, tuple)):
        kind = type(network).__name__
        raise TypeError(f"{name}: expected a list of layers, got {kind}")
    entries = list(enumerate(network))
    embedding = output = None
    if entries and isinstance(entries[0][1], Mapping) and "E" in entries[0][1]:
        embedding = entries.pop(0)[1]
        _only(f"{name}[0]", embedding, "E")
    if entries and isinstance(entries[-1][1], Mapping) and "Wy" in entries[-1][1] and not _recurrent(entries[-1][1]):
        k, output = entries.pop()
        _only(f"{name}[{k}]", output, "Wy", "by")
    if not entries:
        raise ValueError(f"{name}: expected one recurrent layer at least, got none")
    layers = []
    for k, entry in entries:
        where = f"{name}[{k}]"
        if isinstance(entry, Mapping):
            layers.append([_direction(where, entry)])
            continue
        if not isinstance(entry, (list, tuple)) or len(entry) != 2:
            got = f"{len(entry)} entries" if isinstance(entry, (list, tuple)) else type(entry).__name__
            expected = "the parameters of a layer, or a pair of them (left to right, right to left)"
            raise TypeError(f"{where}: expected {expected}, got {got}")
        pair = [_direction(f"{where}[{i}]", parameters) for i, parameters in enumerate(entry)]
        if pair[0].spec is not pair[1].spec:
            raise ValueError(f"{where}[1]: expected {pair[0].spec.title}, as {where}[0], got {pair[1].spec.title}")
        layers.append(pair)
    return Layout(embedding, layers, output)


def _recurrent(entry: Mapping[str, Any]) -> bool:
    return any(spec.identifier in entry for spec in CELLS.values())


def _only(name: str, entry: Mapping[str, Any], *keys: str) -> None:
    """Refuse an entry that lacks one of these keys, or has another one."""
    for key in keys:
        _checks.entry(entry, key, name)
    for key in entry:
        if key not in keys:
            raise ValueError(f"{name}: expected the entries {', '.join(map(repr, keys))} alone, got {key!r} as well")


def walk(network: Any, name: str = "network") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every dict of a nested list, with its name as the caller would spell it."""
    if isinstance(network, Mapping):
        yield name, network
        return
    if not isinstance(network, (list, tuple)):
        raise TypeError(f"{name}: expected a mapping, or a list of them, got {type(network).__name__}")
    for k, entry in enumerate(network):
        yield from walk(entry, f"{name}[{k}]")


def shapes(parts: Layout, name: str, n_x: int | None, output: Any) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return the shape of every entry by its name, and the letters that explain it.

    n_x is None where only the weights tell it; without an `output` that layer is left out.
    """
    found: dict[str, tuple[str, tuple[int, int]]] = {}
    if parts.embedding is not None:
        where = f"{name}[0]['E']"
        n_x, vocabulary = _checks.dimensions(where, parts.embedding["E"], "n_x, vocabulary").shape
        found[where] = "n_x, vocabulary", (n_x, vocabulary)
    for layer in parts.layers:
        units: list[int] = []
        for where, spec, parameters in layer:
            n_a, columns = spec.sizes(parameters, where)
            if units and n_a != units[0]:
                raise ValueError(f"{where}: expected n_a = {units[0]} units, as {layer[0].name}, got {n_a}")
            if n_a == 0:
                raise ValueError(f"{where}: expected one unit at least, got n_a = 0")
            n_x = columns if n_x is None else n_x
            units.append(n_a)
            wanted = spec.parameters(n_a, n_x)
            found |= {f"{where}[{key!r}]": wanted[key] for key in spec.entries}
        n_x = sum(units)
    if parts.output is not None and output is not None:
        assert n_x is not None
        where = parts.output_name(name)
        n_y = len(_checks.dimensions(f"{where}['Wy']", parts.output["Wy"], "n_y, n_a"))
        found |= {f"{where}[{key!r}]": wanted for key, wanted in _checks.output_shapes("Wy", n_y, n_x).items()}
    return found


def _fits(parts: Layout, n_x: int | None, output: Any, dtype: DType) -> bool:
    """Whether every entry is as the kernels take it; in small networks `converted` takes as long as a layer."""

    def plain(array: Any, shape: tuple[int, int]) -> bool:
        fits: bool = type(array) is np.ndarray and array.dtype is dtype and array.shape == shape
        return fits and array.flags.carray and array.size > 0

    try:
        if parts.embedding is not None:
            E = parts.embedding["E"]
            n_x = E.shape[0]
            if not plain(E, (n_x, E.shape[1])):
                return False
        for layer in parts.layers:
            units = []
            for direction in layer:
                weights, biases = direction.arrays()
                n_a, columns = weights[0].shape
                units.append(n_a)
                n_x = columns - (n_a if direction.spec.gates else 0) if n_x is None else n_x
                wanted = [(n_a, n_a + n_x)] * len(weights) if direction.spec.gates else [(n_a, n_x), (n_a, n_a)]
                if not all(map(plain, weights, wanted)) or not all(plain(b, (n_a, 1)) for b in biases):
                    return False
            if len({*units}) > 1:
                return False
            n_x = sum(units)
        if parts.output is not None and output is not None:
            Wy, by = parts.output["Wy"], parts.output["by"]
            return plain(Wy, (Wy.shape[0], n_x or 0)) and plain(by, (Wy.shape[0], 1))
    except _checks.MISFIT:
        return False
    return True


def converted(parts: Layout, name: str, n_x: int | None, output: Any, dtype: DType = FLOAT64) -> Layout:
    """Convert all parameters, or raise the error that names the misfit; the first arguments are those of `shapes`."""
    if _fits(parts, n_x, output, dtype):
        return parts
    wanted = shapes(parts, name, n_x, output)

    def entries(where: str, values: Mapping[str, Any]) -> dict[str, Array]:
        own = {key: wanted[f"{where}[{key!r}]"] for key in values if f"{where}[{key!r}]" in wanted}
        return _checks.weights(values, own, where, dtype)

    embedding = None if parts.embedding is None else entries(f"{name}[0]", parts.embedding)
    layers = []
    for layer in parts.layers:
        directions = []
        for where, spec, parameters in layer:
            own = {key: wanted[f"{where}[{key!r}]"] for key in spec.entries}
            directions.append(Direction(where, spec, _checks.weights(parameters, own, where, dtype)))
        layers.append(directions)
    top = parts.output
    if top is not None and output is not None:
        top = entries(parts.output_name(name), top)
    return Layout(embedding, layers, top)


@dataclass(slots=True)
class NetworkCache:
    """What a forward pass over a network keeps for the backward pass."""

    parts: Layout
    x: Any  # (n_x, m, T_x) or indices (m, T_x), as the kernels take it
    embedded: Array | None  # (n_x, m, T_x), with an embedding
    lengths: bytes | None
    a: Array  # (n_a, m, T_x) of the top layer, the array that was returned
    output: str | None
    layers: list[list[tuple[Array, Array | None]]]  # of each layer and direction: buffer, hidden states as columns
    made: int  # `_updates.count` at the forward pass

    def __repr__(self) -> str:
        cells = ["both directions of " * (len(layer) - 1) + layer[0].spec.title for layer in self.parts.layers]
        return f"<the caches of a network: {'; '.join(cells)}>"

    def check(self) -> None:
        """Refuse a cache that is older than an update of one of its arrays, see `_updates.check`."""
        if self.made != _updates.count:
            entries = walk(self.parts.network())
            arrays = {f"{name}[{key!r}]": value[key] for name, value in entries for key in value}
            _updates.check(self.made, {"x": self.x, **arrays})


def _input(x: Any, parts: Layout, lengths: Any, dtype: DType) -> tuple[Any, Array | None, bytes | None]:
    """Convert the input: x or indices, the embedded input if there is an embedding, the lengths."""
    array = _checks.any_array("x", x, "n_x, m, T_x")
    indices = _checks.are_indices(array, 3)
    if parts.embedding is not None and not indices:
        got = f"{array.ndim} dimensions of dtype {array.dtype}"
        raise ValueError(f"x: expected integers of shape (m, T_x), indices for the embedding network[0], got {got}")
    array = array if indices else _checks.dense("x", array, "n_x, m, T_x", dtype, _checks.used_steps(lengths))
    m, T_x = array.shape[-2:]
    _checks.columns_fit("x", m, T_x)
    kept = None if lengths is None else _checks.lengths(lengths, m, T_x)
    if not indices:
        return array, None, kept
    if parts.embedding is None:
        where, spec, parameters = parts.layers[0][0]
        return _checks.indices("x", array, spec.sizes(parameters, where)[1], kept).copy(), None, kept
    E = _checks.dimensions("network[0]['E']", parts.embedding["E"], "n_x, vocabulary", dtype)
    array = _checks.indices("x", array, E.shape[1], kept, "vocabulary").copy()
    safe = array if kept is None else np.where(_checks.within(kept, T_x), array, 0)
    return array, E[:, safe], kept


def initial_states(
    states: Any, cells: list[list[CellSpec]], m: int, sizes: list[int], name: str, dtype: DType = FLOAT64
) -> list[list[tuple[Any, ...]]]:
    """Convert the states of all layers and directions, nested as `network_forward` returns them."""
    if states is None:
        return [[(None,) * len(spec.states) for spec in layer] for layer in cells]
    if not isinstance(states, (list, tuple)) or len(states) != len(cells):
        got = f"{len(states)} entries" if isinstance(states, (list, tuple)) else type(states).__name__
        raise ValueError(f"{name}: expected a list of {len(cells)} entries, one for each layer, got {got}")
    found: list[list[tuple[Any, ...]]] = []
    for k, (layer, n_a, value) in enumerate(zip(cells, sizes, states, strict=True)):
        values = [value] if len(layer) == 1 else [None, None] if value is None else value
        if len(layer) == 2 and (not isinstance(values, (list, tuple)) or len(values) != 2):
            raise ValueError(f"{name}[{k}]: expected a pair, of both directions, got {type(value).__name__}")
        row: list[tuple[Any, ...]] = []
        for i, (spec, entry) in enumerate(zip(layer, values, strict=True)):
            where = f"{name}[{k}]" if len(layer) == 1 else f"{name}[{k}][{i}]"
            letters = spec.states
            named = {where: entry}
            if entry is None:
                named = {f"{where}[{s}]": None for s in range(len(letters))}
            elif len(letters) > 1:
                each = _checks.unpacked(where, entry, ", ".join(letters))
                named = {f"{where}[{s}]": one for s, one in enumerate(each)}
            row.append(tuple(None if v is None else _checks.state(key, v, n_a, m, dtype) for key, v in named.items()))
        found.append(row)
    return found


def _nested(layers: list[list[list[Array]]]) -> list[Any]:
    """Return states as they are shown: an array or a tuple of a direction, a pair of these of a layer of both."""
    shown = [[states[0] if len(states) == 1 else tuple(states) for states in layer] for layer in layers]
    return [layer[0] if len(layer) == 1 else tuple(layer) for layer in shown]


def _without_steps(lengths: bytes | None, T_x: int) -> Any:
    """Return which examples have no step, or None if all have one."""
    if T_x == 0:
        return slice(None)
    if lengths is None:
        return None
    none = np.frombuffer(lengths, np.intp) == 0
    return none if none.any() else None


def network_forward(
    x: Any,
    network: Sequence[Any],
    *,
    states: Any = None,
    lengths: Any = None,
    output: str | None = "softmax",
    cache: bool = True,
    dtype: Any = np.float64,
) -> tuple[Any, Array, list[Any], NetworkCache | None]:
    """Run a network of several layers, in one or both directions, over all steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x), or of integers, shape (m, T_x)
        Input of every step.  Integers (m, T_x) are indices: of the columns of the embedding, or of one-hot columns if
        there is none.
    network : list
        The layers, as the module `cyrnn.recurrent.network` describes them: optionally an embedding ``{"E": (n_x,
        vocabulary)}``; then the recurrent parameters of each layer, as for `rnn_forward`, `lstm_forward` or
        `gru_forward` without the output layer, or a pair of them for a layer of both directions; optionally an output
        layer ``{"Wy": (n_y, n_a), "by": (n_y, 1)}``.  The inputs of a layer are the n_a units of the one below, or the
        2 n_a of its two directions, those from left to right first.
    states : list, optional
        Initial states, nested as they are returned; an entry may be None for zeros, and its arrays (n_a, 1) for all
        examples.  Zeros by default.
    lengths : array_like of integers, shape (m,), optional
        Valid time steps of each example, 0 to T_x.  From right to left an example begins with its own last step.  The
        result of an example is bit for bit that of running it alone without padding.
    output : str or None
        The output layer's activation: ``"softmax"``, ``"sigmoid"`` or ``"linear"``; with None the output layer is not
        read.  Without an output layer it has no meaning.
    cache : bool
        False to keep nothing for the backward pass.
    dtype : numpy.float64 or numpy.float32
        Precision of the computation and of every array that is returned, whatever the arguments are; those of another
        one are converted, at every call.

    Returns
    -------
    y : numpy.ndarray of `dtype`, shape (n_y, m, T_x), or None
        Predictions; None without an output.
    a : numpy.ndarray of `dtype`, shape (n_a, m, T_x)
        Hidden states of the top layer, (2 n_a, m, T_x) of two directions; zero past the lengths.  `network_backward`
        reads them for the gradient of the output layer: change a copy.
    states : list
        The states of each layer after the last step that an example has (from right to left: after its first step), to
        carry on: a (n_a, m), or (a, c) of an LSTM; a pair of these for two directions.
    caches : NetworkCache or None
        For `network_backward`, which reads a dense `x`, `a` and the parameters as they are when it runs; indices, and
        the columns of the embedding, are those of the forward pass.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape, or layers do not fit each other; the message names the entry, as
        ``network[2][1]['Wf']``.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> network = cyrnn.initialize_network("gru", n_x=3, n_a=[5, 4], n_y=2, rng=0, bidirectional=True)
    >>> y, a, states, caches = cyrnn.network_forward(np.ones((3, 10, 7)), network)
    >>> y.shape, a.shape, states[1][0].shape
    ((2, 10, 7), (8, 10, 7), (4, 10))
    """
    kernels, made = _checks.kernels(dtype), _updates.count
    check_output(output)
    parts = layout(network)
    array, embedded, kept = _input(x, parts, lengths, kernels.dtype)
    dense = embedded if embedded is not None else array if array.ndim == 3 else None
    where, spec, parameters = parts.layers[0][0]
    if embedded is None and dense is not None and spec.sizes(parameters, where)[1] != len(dense):
        spec.check_input("x", dense, parameters, where)
    checked = converted(parts, "network", None if dense is None else len(dense), output, kernels.dtype)
    m, T_x = array.shape[-2:]
    sizes = [layer[0].spec.sizes(layer[0].parameters)[0] for layer in checked.layers]
    initial = initial_states(states, checked.cells(), m, sizes, "states", kernels.dtype)
    index = None if dense is not None else array
    below: tuple[Array, ...] | None = None
    buffers: list[list[tuple[Array, Array | None]]] = []
    last: list[list[list[Array]]] = []
    n_top = sizes[-1] * len(checked.layers[-1])
    a = np.empty((n_top, m, T_x), kernels.dtype)
    y: Any = None
    none = _without_steps(kept, T_x)
    for k, layer in enumerate(checked.layers):
        top = k == len(checked.layers) - 1
        inner: list[tuple[Array, Array | None]] = []
        ends: list[list[Array]] = []
        fused = top and len(layer) == 1 and checked.output is not None and output is not None
        Wy = by = None
        if fused and checked.output is not None:
            Wy, by = checked.output["Wy"], checked.output["by"]
        for i, direction in enumerate(layer):
            weights, biases = direction.arrays()
            buffer, hidden, y, states_after = kernels.network.forward(
                direction.spec.form, i == 1, m, T_x, dense if below is None else None, index if below is None else None,
                below, initial[k][i], weights, biases, a[i * sizes[-1] : (i + 1) * sizes[-1]] if top else None, not top,
                Wy, by, OUTPUTS[output if fused else None], kept, cache,
            )  # fmt: skip
            if none is not None:
                for state, begin in zip(states_after, initial[k][i], strict=True):
                    state[:, none] = 0.0 if begin is None else np.broadcast_to(begin, state.shape)[:, none]
            inner.append((buffer, hidden))
            ends.append(states_after)
        below = None if top else tuple(hidden for _, hidden in inner if hidden is not None)
        if cache:
            buffers.append(inner)
        last.append(ends)
    if checked.output is not None and output is not None and len(checked.layers[-1]) == 2:
        y = ACTIVATIONS[output](kernels.dense.forward(a, checked.output["Wy"], checked.output["by"]))
        if kept is not None:
            y[:, np.arange(T_x) >= np.frombuffer(kept, np.intp)[:, None]] = 0.0
    if not cache:
        return y, a, _nested(last), None
    return y, a, _nested(last), NetworkCache(parts, array, embedded, kept, a, output, buffers, made)


def network_backward(
    caches: NetworkCache, *, dz: Any = None, da: Any = None, dstates: Any = None
) -> tuple[list[Any], Any, list[Any]]:
    """Gradients through a network of several layers.

    Parameters
    ----------
    caches : NetworkCache
        As `network_forward` returns it.
    dz : array_like, shape (n_y, m, T_x), optional
        Gradient of the loss with respect to the output layer before its activation, as the losses return it.
    da : array_like, shape (n_a, m, T_x), optional
        Gradient with respect to the hidden states of the top layer, beside what comes through the output layer.
    dstates : list, optional
        Gradients with respect to the states that `network_forward` returned, nested as they are; None for zeros, and
        (n_a, 1) for the same of all examples.
        What `dz` and `da` hold past the lengths is not used.

    Returns
    -------
    gradients : list
        New arrays of the caches' dtype, nested as the network is, under the parameters' names with a d in front:
        ``gradients[0]["dWf"]``.
    dx : numpy.ndarray of the caches' dtype, shape (n_x, m, T_x), or None
        Zero past the lengths; None where `x` was of indices.
    dstates : list
        Gradients with respect to the initial states, nested as they are.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an argument is of a wrong type or shape; the message names it.
    RuntimeError
        If `update_parameters_with_adam` or `update_parameters_with_gd` changed one of the parameters in place since the
        forward pass.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> network = cyrnn.initialize_network("lstm", n_x=3, n_a=[5, 4], n_y=2, rng=0)
    >>> y, a, states, caches = cyrnn.network_forward(np.ones((3, 10, 7)), network)
    >>> loss, dz = cyrnn.cross_entropy(y, np.zeros((10, 7), int))
    >>> gradients, dx, dstates = cyrnn.network_backward(caches, dz=dz)
    >>> gradients[1]["dWf"].shape, gradients[2]["dWy"].shape, dx.shape
    ((4, 9), (2, 4), (3, 10, 7))
    """
    if not isinstance(caches, NetworkCache):
        got = "None, which network_forward returns with cache=False" if caches is None else type(caches).__name__
        raise TypeError(f"caches: expected what network_forward returned, got {got}")
    caches.check()
    kernels = _kernels.of(caches.a.dtype)
    kept, x, embedded = caches.lengths, caches.x, caches.embedded
    m, T_x = x.shape[-2:]
    dense = embedded if embedded is not None else x if x.ndim == 3 else None
    for layer in caches.parts.layers:
        for where, spec, parameters in layer:
            if spec.name == "gru" and gru_form(parameters) is not spec:
                raise ValueError(f"{where}: expected {spec.title}, as in the forward pass, got the other form")
    read = caches.output if dz is None else "linear"  # whether the output layer is
    checked = converted(caches.parts, "network", None if dense is None else len(dense), read, kernels.dtype)
    sizes = [layer[0].spec.sizes(layer[0].parameters)[0] for layer in checked.layers]
    n_top = len(caches.a)
    outside = None if kept is None else ~_checks.within(kept, T_x)
    used = _checks.used_steps(kept)
    gradients: list[Any] = []
    total = None
    if da is not None:
        total = _checks.shaped("da", da, "n_a, m, T_x", (n_top, m, T_x), kernels.dtype, used)
    if dz is not None:
        if checked.output is None:
            raise ValueError("dz: expected None for a network without an output layer, got a gradient")
        n_y = len(checked.output["Wy"])
        dz = np.ascontiguousarray(_checks.shaped("dz", dz, "n_y, m, T_x", (n_y, m, T_x), kernels.dtype, used))
        if outside is not None:
            dz = np.where(outside, dz.dtype.type(0), dz)
        da_output, dWy, dby = kernels.dense.backward(dz, caches.a, checked.output["Wy"])
        total = da_output if total is None else np.add(total, da_output, out=da_output)
        gradients.append({"dWy": dWy, "dby": dby})
    elif checked.output is not None:
        gradients.append({"d" + key: np.zeros(np.shape(value), kernels.dtype) for key, value in checked.output.items()})
    if total is None:
        total = np.zeros((n_top, m, T_x), kernels.dtype)
    d_last = initial_states(dstates, checked.cells(), m, sizes, "dstates", kernels.dtype)
    d_last = [[tuple(_full(d, m) for d in direction) for direction in layer] for layer in d_last]
    none = _without_steps(kept, T_x)
    d_hidden: tuple[Array, ...] | None = None
    d_initial: list[list[list[Array]]] = []
    dx: Any = None
    for k in reversed(range(len(checked.layers))):
        layer, first = checked.layers[k], k == 0
        below = None if first else tuple(hidden for _, hidden in caches.layers[k - 1])
        d_below: tuple[Array, ...] | None = None
        row, begins = [], []
        for i, direction in enumerate(layer):
            weights, _ = direction.arrays()
            n_a = sizes[k]
            from_above = (total[i * n_a : (i + 1) * n_a], None) if d_hidden is None else (None, d_hidden[i])
            dx_i, d_below, d_begin, dW, db = kernels.network.backward(
                direction.spec.form, i == 1, m, T_x, dense if first else None,
                x if first and dense is None else None, below, weights, kept, caches.layers[k][i][0],
                *from_above, d_last[k][i], d_below,
            )  # fmt: skip
            if none is not None:
                for gradient, end in zip(d_begin, d_last[k][i], strict=True):
                    if end is not None:
                        gradient[:, none] = end[:, none]
            if dx_i is not None:
                dx = dx_i if dx is None else np.add(dx, dx_i, out=dx)
            row.append(direction.gradients(dW, db))
            begins.append(d_begin)
        gradients.append(row[0] if len(row) == 1 else tuple(row))
        d_initial.append(begins)
        d_hidden = d_below
    if checked.embedding is not None:
        dE = np.zeros(checked.embedding["E"].shape)  # float64: an index may come often
        inside = np.ones((m, T_x), bool) if outside is None else ~outside
        np.add.at(dE.T, x[inside], dx[:, inside].T)
        gradients.append({"dE": dE.astype(kernels.dtype, copy=False)})
        dx = None
    return gradients[::-1], dx, _nested(d_initial[::-1])


def _full(d: Any, m: int) -> Any:
    """Return the gradient of a state for every example."""
    return d if d is None or d.shape[1] == m else np.repeat(d, m, axis=1)
