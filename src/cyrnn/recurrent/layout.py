"""What a network of several layers is: its parts, their shapes, and the conversion of its parameters and states.

A network is a list, and its parameters are all there is to it:

    [{"E": ...},                       optional: an embedding, whose columns stand for indices
     parameters,                       a layer: the recurrent parameters of an RNN, an LSTM or a GRU
     (parameters, parameters),         a layer of both directions: left to right, right to left
     ...,
     {"Wy": ..., "by": ...}]           optional: the output layer, y = softmax(Wy a + by)

A layer reads the hidden states of the one below it; of two directions the columns are side by side, those from left to
right first.  From right to left an example begins with its own last step.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .. import _checks
from .._checks import FLOAT64, Array, DType, Parameters
from .spec import CELLS, CellSpec, cell_of


def _names(spec: CellSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of weights and biases in the order of the kernels."""
    if not spec.gates:
        return ("Wax", "Waa"), ("ba",)
    weights, biases = (tuple(part + gate for gate in spec.gates) for part in "Wb")
    return weights, biases + tuple(key for key in spec.entries if key == "bca")


NAMES = {form: _names(spec) for form, spec in CELLS.items()}
# of each entry the name of its gradient, and its place among those of the weights and biases
GRADIENTS = {
    form: [("d" + key, [*NAMES[form][0], *NAMES[form][1]].index(key)) for key in spec.entries]
    for form, spec in CELLS.items()
}


NO_STATES = {form: (None,) * len(spec.states) for form, spec in CELLS.items()}


class Direction(NamedTuple):
    """One direction of a layer."""

    name: str  # as the caller would spell it: network[2][1]
    spec: CellSpec
    parameters: Parameters

    def arrays(self) -> tuple[list[Any], list[Any]]:
        """Return weights and biases in the order of the kernels."""
        p, (weights, biases) = self.parameters, NAMES[self.spec.form]
        return [p[key] for key in weights], [p[key] for key in biases]

    def gradients(self, dW: list[Array], db: list[Array]) -> dict[str, Array]:
        """Name gradients that are in the order of `arrays`, in the order of the parameters."""
        found = dW + db
        return {key: found[k] for key, k in GRADIENTS[self.spec.form]}


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
        places = {"E": "an embedding is the first entry of a network", "Wy": "the output layer is the last entry"}
        hint = "".join(f"; {place}" for key, place in places.items() if key in parameters)
        raise type(error)(f"{name}: {str(error).partition(': ')[2]}{hint}") from error
    extra = [key for key in (spec.output, "Wy", "Wya", "by") if key in parameters]
    if extra:
        raise ValueError(
            f"{name}: expected the recurrent parameters alone, got {extra[0]!r} as well; the output layer is the last "
            "entry of a network"
        )
    return Direction(name, spec, parameters)


KNOWN: dict[Any, tuple[bool, list[list[tuple[str, CellSpec]]]]] = {}  # by their names: is there an embedding; layers
MOST_KNOWN = 64


def layout(network: Any, name: str = "network") -> Layout:
    """Return the parts of a network; sizes are not checked.

    Raises
    ------
    TypeError, ValueError, KeyError
        If it is no network; the message names the entry.
    """
    keys = _keys(network)
    known = None if keys is None else KNOWN.get((name, keys))
    if known is not None:  # the same names as in a network that was well
        embedded, directions = known
        entries = network[embedded : embedded + len(directions)]
        layers = [
            [Direction(*each, p) for each, p in zip(layer, (entry,) if len(layer) == 1 else entry, strict=True)]
            for layer, entry in zip(directions, entries, strict=True)
        ]
        last = embedded + len(directions)
        return Layout(network[0] if embedded else None, layers, network[last] if last < len(network) else None)
    found = _layout(network, name)
    if keys is not None:
        if len(KNOWN) >= MOST_KNOWN:
            KNOWN.clear()
        KNOWN[name, keys] = found.embedding is not None, [[(d.name, d.spec) for d in layer] for layer in found.layers]
    return found


def _keys(network: Any) -> Any:
    """Return the names of all entries of lists and tuples of dicts, by which a layout is known; None of others."""
    keys: list[Any] = []
    if type(network) is not list and type(network) is not tuple:
        return None
    for entry in network:
        if type(entry) is dict:
            keys.append(tuple(entry))
        elif type(entry) is tuple and len(entry) == 2 and type(entry[0]) is type(entry[1]) is dict:
            keys.append((tuple(entry[0]), None, tuple(entry[1])))
        else:
            return None
    return tuple(keys)


def _layout(network: Any, name: str) -> Layout:
    """Return the parts of a network whose names are not known."""
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
    layers: list[list[Direction]] = []
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
        if key not in entry:
            _checks.entry(entry, key, name)  # raises: it is not there
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


def _entry(layer: list[Direction]) -> str:
    """Return the name of a layer, of one direction or both."""
    return layer[0].name if len(layer) == 1 else layer[0].name.removesuffix("[0]")


def shapes(parts: Layout, name: str, n_x: int | None, output: Any) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return the shape of every entry by its name, and the letters that explain it.

    n_x is None where only the weights tell it; without an `output` that layer is left out.
    """
    found: dict[str, tuple[str, tuple[int, int]]] = {}
    if parts.embedding is not None:
        where, E = f"{name}[0]['E']", _checks.entry(parts.embedding, "E", f"{name}[0]")
        n_x, vocabulary = _checks.dimensions(where, E, "n_x, vocabulary").shape
        found[where] = "n_x, vocabulary", (n_x, vocabulary)
    for k, layer in enumerate(parts.layers):
        units: list[int] = []
        for where, spec, parameters in layer:
            n_a, columns = spec.sizes(parameters, where)
            if columns != n_x and n_x is not None and (k or parts.embedding is not None):
                key = spec.identifier
                letters, shape = spec.parameters(n_a, n_x)[key]
                got = n_a, shape[1] - n_x + columns
                below = f"rows of {name}[0]['E']" if k == 0 else f"units of {_entry(parts.layers[k - 1])}"
                raise ValueError(
                    f"{where}[{key!r}]: expected shape ({letters}) = {shape}, with n_x = {n_x} {below}, got {got}"
                )
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
        n_y = len(_checks.dimensions(f"{where}['Wy']", _checks.entry(parts.output, "Wy", where), "n_y, n_a"))
        found |= {f"{where}[{key!r}]": wanted for key, wanted in _checks.output_shapes("Wy", n_y, n_x).items()}
    return found


def converted(parts: Layout, name: str, n_x: int | None, output: Any, dtype: DType = FLOAT64) -> Layout:
    """Convert all parameters, or raise the error that names the misfit; the first arguments are those of `shapes`."""
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


def initial_states(
    states: Any, parts: Layout, m: int, sizes: list[int], name: str, dtype: DType
) -> list[list[tuple[Any, ...]]]:
    """Convert the states of all layers and directions of a network, nested as `network_forward` returns them."""
    if states is None:
        return [[NO_STATES[direction.spec.form] for direction in layer] for layer in parts.layers]
    return nested_states(states, parts.cells(), m, sizes, name, dtype)


def nested_states(
    states: Any, cells: list[list[CellSpec]], m: int, sizes: list[int], name: str, dtype: DType = FLOAT64
) -> list[list[tuple[Any, ...]]]:
    """Convert the states of all layers and directions, nested as `network_forward` returns them."""
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
