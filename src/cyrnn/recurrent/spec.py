"""What a cell is to the Python side: one table, read by everything that knows cells.

The kernels have a table of their own, of slots and products: ``_kernels/cells/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks

# As _kernels/schedule/output.pxd counts them.
OUTPUTS: dict[str | None, int] = {"softmax": 0, "sigmoid": 1, "linear": 2, None: 3}
Shapes = dict[str, tuple[str, tuple[int, int]]]  # of the entries: the letters that explain a shape, and the shape


@dataclass(frozen=True, slots=True)
class CellSpec:
    """A cell's parameters and states."""

    name: str  # as in the functions' names; the two forms of the GRU share it
    form: str  # as in the kernels' table
    title: str  # in messages
    long_title: str  # in messages that do not show an entry's name
    states: tuple[str, ...]  # what a step carries to the next one
    gates: str  # the letters of the gates, in the order of every buffer; "" where the weights have no gates
    slots: tuple[str, ...]  # what the notebook's cache holds of a step beside the states, in the order of the buffer
    entries: Mapping[str, str]  # the recurrent parameters and the letters of their shapes, in their usual order
    identifier: str  # the entry that tells the cell
    output: str  # the entry of the output layer's weights

    def __reduce__(self) -> tuple[Any, ...]:
        return cell_named, (self.form,)  # a copy is the row of the table itself

    @property
    def n_gates(self) -> int:
        """How many matrices of n_a rows the weights of a state are stacked of."""
        return max(1, len(self.gates))

    @property
    def all_entries(self) -> tuple[str, ...]:
        """The names of all parameters, in their usual order."""
        return *self.entries, self.output, "by"

    def weights(self, n_a: int, n_x: int) -> Shapes:
        """Return the shapes of the recurrent weights."""
        return self._shapes(n_a, n_x, "W")

    def parameters(self, n_a: int, n_x: int) -> Shapes:
        """Return the shapes of the recurrent weights, then of the biases."""
        return self._shapes(n_a, n_x, "W") | self._shapes(n_a, n_x, "b")

    def _shapes(self, n_a: int, n_x: int, kind: str) -> Shapes:
        sizes = {"n_a": n_a, "n_x": n_x, "n_a + n_x": n_a + n_x, "1": 1}
        shapes = {}
        for key, letters in self.entries.items():
            if key.startswith(kind):
                rows, columns = letters.split(", ")
                shapes[key] = letters, (sizes[rows], sizes[columns])
        return shapes

    def sizes(self, parameters: Any, where: str = "parameters") -> tuple[int, int]:
        """Return n_a and n_x, read off the entry that tells the cell.

        Raises
        ------
        ValueError
            If it has not the dimensions of a weight matrix.
        """
        letters, name = self.entries[self.identifier], f"{where}[{self.identifier!r}]"
        n_a, columns = _checks.dimensions(name, _checks.entry(parameters, self.identifier, where), letters).shape
        if letters == "n_a, n_x":
            return n_a, columns
        if columns < n_a:
            raise ValueError(f"{name}: expected shape ({letters}), got {(n_a, columns)}")
        return n_a, columns - n_a

    def output_layer(self, parameters: Any, output: str | None) -> tuple[Any, Any, int]:
        """Return the output layer as the kernels take it: weights, bias, activation.  Nothing is checked."""
        if output is None:
            return None, None, OUTPUTS[None]
        return parameters[self.output], parameters["by"], OUTPUTS[output]

    def output_sizes(self, parameters: Any) -> tuple[int, int]:
        """Return n_y and n_a of an output layer that is wanted; the error says how it is not."""
        try:
            return _checks.output_sizes(parameters, self.output)
        except _checks.Missing as error:
            raise _checks.Missing(f"{error}; without an output layer pass output=None") from error

    def input(
        self, name: str, value: Any, letters: str, parameters: Any, lengths: Any = None, *, dtype: _checks.DType
    ) -> NDArray[Any]:
        """Convert the input of a forward pass: to its dtype, or to numpy.intp if it is of indices.

        Indices are checked, the shape of a dense input is not.
        """
        array = _checks.any_input(name, value, letters)
        if not _checks.are_indices(array, letters.count(",") + 1):
            return _checks.dense(name, value, letters, dtype, _checks.used_steps(lengths))
        kept = None if lengths is None else _checks.lengths(lengths, *array.shape)
        return _checks.indices(name, array, self.sizes(parameters)[1], kept)

    def cached_input(
        self,
        name: str,
        value: Any,
        parameters: Any,
        m: int,
        T_x: int | None = None,
        lengths: bytes | None = None,
        *,
        dtype: _checks.DType,
    ) -> tuple[NDArray[Any], int]:
        """Convert the input that a cache holds, of a step or of T_x steps, for the backward pass; also return n_x."""
        rest = (m,) if T_x is None else (m, T_x)
        array = _checks.any_input(name, value)
        if not _checks.are_indices(array, len(rest) + 1):
            x = _checks.columns(name, value, "n_x", *rest, dtype=dtype, used=_checks.used_steps(lengths))
            return x, len(x)
        if array.shape != rest:
            letters = "m" if T_x is None else "m, T_x"
            raise ValueError(f"{name}: expected shape ({letters}) = {rest}, got {array.shape}")
        n_x = self.sizes(parameters)[1]
        return _checks.indices(name, array, n_x, lengths), n_x

    def checked(
        self, name: str, x: NDArray[Any], parameters: Any, output: Any, dtype: _checks.DType, **states: Any
    ) -> tuple[list[_checks.Array | None], dict[str, _checks.Array]]:
        """Convert the states and parameters that a forward pass reads, or raise the error that names the misfit."""
        by_index = x.dtype == _checks.INTP
        n_x = self.sizes(parameters)[1] if by_index else x.shape[0]
        rest = x.shape if by_index else x.shape[1:]
        m = rest[0]
        _checks.columns_fit(name, *rest)
        check_output(output)
        if output is None:
            n_a, layer = self.sizes(parameters)[0], {}
        else:
            n_y, n_a = self.output_sizes(parameters)
            layer = _checks.output_shapes(self.output, n_y, n_a)
        if not by_index:
            self.check_input(name, x, parameters)
        converted = [
            None if value is None else _checks.state(key, value, n_a, m, dtype) for key, value in states.items()
        ]
        return converted, _checks.weights(parameters, self.parameters(n_a, n_x) | layer, dtype=dtype)

    def check_input(self, name: str, x: _checks.Array, parameters: Any, where: str = "parameters") -> None:
        """Refuse an input whose first dimension is not n_x, if another one is and all weights agree on n_x."""
        n_x = self.sizes(parameters, where)[1]
        if x.shape[0] == n_x or n_x not in x.shape[1:]:
            return  # if that does not fit, the check of the weights says so
        wanted = self.entries[self.identifier]
        others = [key for key, letters in self.entries.items() if letters == wanted]
        if len({np.shape(_checks.entry(parameters, key, where)) for key in others}) > 1:
            return
        letters = "n_x, m, T_x" if x.ndim == 3 else "n_x, m"
        if x.ndim == 2:
            hint = f"{name}.T has it"
        elif x.shape[2] == n_x:
            hint = f"{name}.transpose(2, 0, 1) of (m, T_x, n_x) or {name}.transpose(2, 1, 0) of (T_x, m, n_x) has it"
        else:
            hint = f"{name}.transpose(1, 0, 2) of (m, n_x, T_x) has it"
        expected = f"n_x = {n_x} as in {where}[{self.identifier!r}]"
        raise ValueError(f"{name}: expected shape ({letters}) with {expected}, got {x.shape}; {hint}")


RNN = CellSpec(
    name="rnn",
    form="rnn",
    title="an RNN",
    long_title="a basic RNN",
    states=("a",),
    gates="",
    slots=(),
    entries={"Wax": "n_a, n_x", "Waa": "n_a, n_a", "ba": "n_a, 1"},
    identifier="Wax",
    output="Wya",
)
LSTM = CellSpec(
    name="lstm",
    form="lstm",
    title="an LSTM",
    long_title="an LSTM",
    states=("a", "c"),
    gates="fico",
    slots=("ft", "it", "cct", "ot"),
    entries={part + gate: letters for gate in "fico" for part, letters in (("W", "n_a, n_a + n_x"), ("b", "n_a, 1"))},
    identifier="Wf",
    output="Wy",
)
GRU = CellSpec(
    name="gru",
    form="gru_before",
    title="a GRU, reset before the product",
    long_title="a GRU, reset before the product",
    states=("a",),
    gates="cur",
    slots=("cct", "ut", "rt", "hct"),
    entries={part + gate: letters for gate in "urc" for part, letters in (("W", "n_a, n_a + n_x"), ("b", "n_a, 1"))},
    identifier="Wu",
    output="Wy",
)
GRU_AFTER = replace(
    GRU,
    form="gru_after",
    title="a GRU, reset after the product",
    long_title="a GRU, reset after the product",
    entries={**GRU.entries, "bca": "n_a, 1"},
)
CELLS = {spec.form: spec for spec in (RNN, LSTM, GRU, GRU_AFTER)}
NAMES = tuple(dict.fromkeys(spec.name for spec in CELLS.values()))


def gru_form(parameters: Any) -> CellSpec:
    """Return the form of the GRU that parameters belong to: with an entry ``bca`` its reset is after the product."""
    return GRU_AFTER if "bca" in parameters else GRU


def check_output(output: Any) -> None:
    """Refuse what is no output layer."""
    if not isinstance(output, str | None):
        raise TypeError(f"output: expected 'softmax', 'sigmoid', 'linear' or None, got {type(output).__name__}")
    if output not in OUTPUTS:
        raise ValueError(f"output: expected 'softmax', 'sigmoid', 'linear' or None, got {output!r}")


def cell_named(form: str) -> CellSpec:
    """Return a row of the table."""
    return CELLS[form]


def cell_of(parameters: Any) -> CellSpec:
    """Return the cell that parameters belong to.

    Raises
    ------
    TypeError
        If they are no mapping.
    ValueError, KeyError
        If they have the entries of several cells, or of none.
    """
    _checks.mapping(parameters)
    cells = [RNN, LSTM, gru_form(parameters)]
    found = [spec for spec in cells if spec.identifier in parameters]
    if len(found) == 1:
        return found[0]
    titles = {spec.identifier: spec.title.partition(",")[0] for spec in cells}
    if found:
        wanted = " or ".join(f"of {titles[spec.identifier]} ({spec.identifier!r})" for spec in found)
        raise ValueError(f"parameters: expected the entries {wanted}, got {'both' if len(found) == 2 else 'all'}")
    wanted = " or ".join(f"{key!r} (of {title})" for key, title in titles.items())
    raise _checks.Missing(f"parameters: expected an entry {wanted}, got only {sorted(map(str, parameters))}")
