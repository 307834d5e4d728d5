"""The weights of a recurrent network in an ONNX graph, or the reason why it has no counterpart here.

The nodes are taken in their order, and of every tensor is found what it is (`onnx_tensors`).  A node that reads a
result of the network, and is neither a layer of it nor proved to keep the values, is an error.

The recurrent operators are a chain: the first reads an input of the model, or rows of an embedding, each other one all
states of all steps of the one before it, in the same order of steps and examples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.fused import Fused, added
from ..recurrent.spec import CELLS, CellSpec
from .onnx_tensors import (
    FLOATS,
    INTEGERS,
    Axis,
    Constant,
    Dim,
    Filled,
    Graph,
    Joined,
    Tensor,
    Unknown,
    Unproved,
    Value,
    axis_number,
    is_floating,
    merged,
    size,
)


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator of ONNX has, and may have if it is a cell of this package."""

    activations: list[str]  # the default ones
    inputs: list[str]
    outputs: list[str]  # what they hold
    attributes: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # its own, with their possible values


COMMON = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
OPERATORS = {
    "RNN": Operator(["tanh"], COMMON, ["states", "last"]),
    "LSTM": Operator(
        ["sigmoid", "tanh", "tanh"],
        [*COMMON, "initial_c", "P"],
        ["states", "last", "memory"],
        {"input_forget": (0,)},
    ),
    "GRU": Operator(["sigmoid", "tanh"], COMMON, ["states", "last"], {"linear_before_reset": (0, 1)}),
}


@dataclass(slots=True)
class Network:
    """What a model is made of."""

    embedding: Array | None = None  # (vocabulary, n_x)
    layers: list[list[Fused]] = field(default_factory=list)  # of each layer its directions, the gates as ONNX has them
    Wy: Array | None = None  # (n_y, n_a)
    by: Array | None = None  # (n_y,)


def spelled(node: Any) -> str:
    """Return the operator and, where it has one, the name of a node."""
    return f"{node.op_type} {node.name!r}" if node.name else str(node.op_type)


def told(value: Value | None, name: str) -> str:
    """Say what a tensor is, for a message."""
    if isinstance(value, Unknown):
        return f"the result of {spelled(value.node)} ({value.why})" if value.node else value.why
    if isinstance(value, Tensor) and value.what == "input":
        axes = "" if value.whole and apart(value.axes) else "a part or several axes in one of "
        return f"{axes}the input {value.name!r}"
    return f"the constant {name!r}" if isinstance(value, Constant | Filled) else repr(name)


def is_result(value: Value | None) -> bool:
    """Tell whether a tensor is a result of the network."""
    value = value.parts[0] if isinstance(value, Joined) else value
    return isinstance(value, Tensor) and value.what not in ("input", "embedded")


def apart(axes: tuple[Axis, ...]) -> bool:
    """Tell whether no axis is made of several."""
    return all(len(axis) <= 1 for axis in axes)


def fits(axis: Axis, wanted: int) -> bool:
    """Tell whether an axis can have this size."""
    return size(axis) == wanted or not isinstance(size(axis), int)


def network(onnx: Any, model: Any) -> Network:
    """Read the one recurrent network of a model."""
    graph, nodes = Graph(onnx, model), list(model.graph.node)
    reader = Reader(graph)
    for node in nodes:
        recurrent = node.op_type in OPERATORS and graph.is_standard(node)
        made = reader.recurrent_layer(node) if recurrent else reader.results(node)
        graph.values.update({name: value for name, value in zip(node.output, made, strict=False) if name})
    if not reader.found.layers:
        operators = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in nodes})
        raise ValueError(f"path: expected a model with an operator RNN, LSTM or GRU, got only {operators}")
    return reader.network([output.name for output in model.graph.output])


class Reader:
    """The network that has been found in the nodes so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.found = graph, Network()
        self.node: Any = None  # the last recurrent operator
        self.x: Tensor  # what the first one reads
        self.batch: tuple[Axis, Axis]  # examples and steps
        self.lengths: tuple[str, Tensor] | None = None  # the input of them
        self.states: Tensor  # of every step of the last layer
        self.unbiased: list[str] = []  # what reads the product of the output layer, before its bias is added

    def network(self, outputs: list[str]) -> Network:
        """Return the network, if all outputs of the model are results of it."""
        top = len(self.found.layers) - 1
        for name in outputs:
            value = self.graph.values.get(name)
            inner = isinstance(value, Tensor) and value.what == "states" and value.layer < top
            if inner or not is_result(value):
                got = "the states of a layer below it" if inner else told(value, name)
                raise ValueError(f"path: output {name!r}: expected a result of the {spelled(self.node)}, got {got}")
            if isinstance(value, Tensor) and value.what == "product":
                self.unbiased.append(f"output {name!r}")
        if self.found.Wy is not None and self.found.by is None:
            self.found.by = np.zeros(len(self.found.Wy))
        elif self.unbiased:
            raise ValueError(f"path: {self.unbiased[0]}: expected the linear layer with its bias, got it without")
        return self.found

    def results(self, node: Any) -> list[Value]:
        """Return what the results of an operator are that is not the recurrent one."""
        values = self.graph.values
        read = list(self.graph.read(node))
        results = [name for name in read if is_result(values.get(name))]
        try:
            if results and node.op_type in LAYERS and self.graph.is_standard(node):
                tensor = values[results[0]]
                if not isinstance(tensor, Tensor):
                    raise Unproved("it reads the last states of several layers")
                return [LAYERS[node.op_type](self, node, results[0], tensor)]
            return self.graph.results(node)
        except Unproved as error:
            if results:
                raise ValueError(
                    f"path: {spelled(node)}: expected after the {spelled(self.node)} nothing but one linear layer of "
                    f"its states and a softmax or sigmoid of it, got {node.op_type} of {results[0]!r} ({error})"
                ) from error
            origin = [value for name in read if isinstance(value := values.get(name), Unknown)]
            return [origin[0] if origin else Unknown(node, str(error))] * len(node.output)

    # The recurrent layer

    def recurrent_layer(self, node: Any) -> list[Value]:
        """Check and read a recurrent operator, and return what its results are."""
        operator, where = OPERATORS[node.op_type], f"path: {spelled(node)}"
        if self.found.Wy is not None:
            raise ValueError(f"{where}: expected no layer after the linear layer, got {node.op_type}")
        given = {name: got for name, got in zip(operator.inputs, node.input, strict=False) if got}
        attributes = self.graph.attributes(node)
        check_attributes(where, operator, attributes)
        if "P" in given:
            raise ValueError(f"{where}: input 'P': expected none, got {given['P']!r}")
        form = node.op_type.lower()
        if form == "gru":
            form = "gru_after" if attributes.get("linear_before_reset", 0) else "gru_before"
        directions = self.recurrent_weights(where, CELLS[form], given, attributes)
        n_a, n_x = directions[0].W_a.shape[1], directions[0].W_x.shape[1]
        batch_first = attributes.get("layout", 0) == 1
        X = self.graph.values[given["X"]]
        if self.found.layers:
            self.input_from_below(where, X, given["X"], batch_first, n_x)
        else:
            self.first_input(where, X, given["X"], batch_first, n_x)
        both = (Dim(2),) if len(directions) == 2 else ()
        for name in ("initial_h", "initial_c"):
            if name in given:
                self.initial_state(f"{where}: input {name!r}", given[name], len(directions), n_a, batch_first)
        lengths = self.lengths_of(where, given["sequence_lens"]) if "sequence_lens" in given else None
        if self.found.layers and not same_lengths(lengths, self.lengths):
            got, wanted = (repr(each[0]) if each else "none" for each in (lengths, self.lengths))
            raise ValueError(f"{where}: input 'sequence_lens': expected that of the layer below, {wanted}, got {got}")
        self.node, self.lengths = node, lengths
        self.found.layers.append(directions)
        units = (Dim(n_a),) if n_a > 1 else ()
        m, steps = self.batch
        last: tuple[Axis, ...] = (m, both, units) if batch_first else (both, m, units)
        axes: tuple[Axis, ...] = (m, steps, both, units) if batch_first else (steps, both, m, units)
        # With lengths the last step of all is not the last one of each example: no step of these may be picked.
        self.states = Tensor(
            "states", "", axes, self.x.element, picks=None if lengths else steps, features=merged((both, units)),
            layer=len(self.found.layers) - 1,
        )  # fmt: skip
        return [self.states, *(replace(self.states, what=w, axes=last, picks=both) for w in operator.outputs[1:])]

    def first_input(self, where: str, X: Value, name: str, batch_first: bool, n_x: int) -> None:
        """Check what the first recurrent operator reads: an input of the model, or what an embedding makes of one."""
        known = isinstance(X, Tensor) and X.what in ("input", "embedded") and X.whole and X.element in FLOATS
        if not known or not isinstance(X, Tensor) or len(X.axes) != 3 or not apart(X.axes):
            raise ValueError(f"{where}: input 'X': expected an input of the model, got {told(X, name)}")
        if not fits(X.axes[2], n_x):
            raise ValueError(f"{where}: input 'X': expected n_x = {n_x} as in 'W', got {size(X.axes[2])}")
        if X.what == "embedded":
            if X.axes[2] != X.features:
                raise ValueError(f"{where}: input 'X': expected the embedding as its last axis, got another one")
            self.found.embedding = X.embedding
        self.x = X
        self.batch = (X.axes[0], X.axes[1]) if batch_first else (X.axes[1], X.axes[0])

    def input_from_below(self, where: str, X: Value, name: str, batch_first: bool, n_x: int) -> None:
        """Check what any other recurrent operator reads: the states of the one before it, of all steps."""
        below, (m, steps) = self.states, self.batch
        wanted = f"the states of the {spelled(self.node)}"
        if not isinstance(X, Tensor) or X.what != "states" or X.layer != below.layer:
            raise ValueError(f"{where}: input 'X': expected {wanted}, got {told(X, name)}")
        order = (m, steps) if batch_first else (steps, m)
        if X.axes != (*order, below.features):
            axes = "(m, T_x, units)" if batch_first else "(T_x, m, units)"
            raise ValueError(
                f"{where}: input 'X': expected {wanted} of all steps in the order {axes}, the directions one behind "
                f"the other, got other axes in {name!r}"
            )
        if size(below.features) != n_x:
            raise ValueError(f"{where}: input 'X': expected n_x = {n_x} as in 'W', got {size(below.features)}")

    def recurrent_weights(
        self, where: str, spec: CellSpec, given: dict[str, str], attributes: dict[str, Any]
    ) -> list[Fused]:
        """Read the weights of a recurrent operator, of each direction."""

        def weights(name: str, letters: str) -> Array:
            return _checks.dimensions(f"{where}: input {name!r}", self.weights(where, name, given[name]), letters)

        n = 2 if attributes.get("direction") == "bidirectional" else 1
        letters_W, letters_R, letters_B = f"{n}, gates n_a, n_x", f"{n}, gates n_a, n_a", f"{n}, 2 gates n_a"
        W, R = weights("W", letters_W), weights("R", letters_R)
        n_a, n_x = R.shape[2], W.shape[2]
        units = attributes.get("hidden_size", n_a)
        if n_a == 0 or units != n_a:
            wanted = f"the n_a = {n_a} of the input 'R'"
            raise ValueError(f"{where}: attribute 'hidden_size': expected {wanted}, got {units}")
        rows = spec.n_gates * n_a
        _checks.shaped(f"{where}: input 'R'", R, letters_R, (n, rows, n_a))
        _checks.shaped(f"{where}: input 'W'", W, letters_W, (n, rows, n_x))
        B = np.zeros((n, 2 * rows))
        if "B" in given:
            B = _checks.shaped(f"{where}: input 'B'", weights("B", letters_B), letters_B, (n, 2 * rows))
        directions = []
        for W_x, W_a, b in zip(W, R, B, strict=True):
            fused = Fused(spec, W_x, W_a, added(b[:rows], b[rows:]))
            if "bca" in spec.entries:  # of the candidate, which comes last, the two biases stay apart
                fused.b[-n_a:], fused.bca = b[rows - n_a : rows], b[-n_a:]
            directions.append(fused)
        return directions

    def weights(self, where: str, what: str, name: str) -> Any:
        """Return a constant of a floating type as an array that converts to float64."""
        array = self.graph.constant(name)
        if array is None:
            raise ValueError(
                f"{where}: input {what!r}: expected a constant, got {told(self.graph.values.get(name), name)}"
            )
        if not is_floating(array):
            raise ValueError(f"{where}: input {what!r}: expected floating-point numbers, got dtype {array.dtype}")
        return array.astype(np.float64) if array.dtype.kind != "f" else array

    def initial_state(self, where: str, name: str, directions: int, n_a: int, batch_first: bool) -> None:
        """Refuse an initial state that is neither zeros nor an input of the model or a part of one."""
        value = self.graph.values[name]
        if isinstance(value, Constant) and value.array.dtype != object and not np.any(value.array):
            return
        if isinstance(value, Filled) and value.value == 0:
            return
        axis = 1 if batch_first else 0
        joined = isinstance(value, Joined) and value.axis == axis and len(value.parts) == directions
        parts = value.parts if joined and isinstance(value, Joined) else [value]
        if all(
            self.is_another_input(part, 3) and part.element in FLOATS and fits(part.axes[2], n_a)
            and fits(part.axes[axis], 1 if joined else directions)
            for part in parts
        ):  # fmt: skip
            return
        raise ValueError(f"{where}: expected zeros or an input of the model, got {told(value, name)}")

    def lengths_of(self, where: str, name: str) -> tuple[str, Tensor] | None:
        """Return what says how many steps each example has: an input of the model, or None if all have all."""
        value, n = self.graph.values[name], size(self.batch[1])
        if isinstance(value, Constant) and np.all(value.array == n):
            return None
        if isinstance(value, Filled) and value.value == n:
            return None
        if self.is_another_input(value, 1) and value.element in INTEGERS:
            return name, value
        got = told(value, name)
        raise ValueError(f"{where}: input 'sequence_lens': expected an input of the model or T_x, got {got}")

    def is_another_input(self, value: Value, rank: int) -> TypeGuard[Tensor]:
        """Tell whether a tensor is another input than x, or a part of one, with as many axes."""
        other = isinstance(value, Tensor) and value.what == "input" and value.name != self.x.name
        return other and isinstance(value, Tensor) and len(value.axes) == rank and apart(value.axes)

    # The output layer

    def product(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Read the weights of a linear layer from a MatMul, or with the bias from a Gemm."""
        where, found = f"path: {spelled(node)}", self.found
        of_states = tensor.what in ("states", "last") and tensor.layer == len(found.layers) - 1
        if not of_states or found.Wy is not None or node.input[0] != name:
            raise Unproved("it is not the one linear layer of the states")
        if tensor.what == "last" and len(found.layers[-1]) == 2:
            raise Unproved("the last states of two directions are of different steps")
        if tensor.axes[-1:] != (tensor.features,):
            raise Unproved("its sums are not over the units")
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | self.graph.attributes(node)
        for attribute, got in attributes.items():
            wanted = {"alpha": (1.0,), "beta": (1.0,), "transA": (0,), "transB": (0, 1)}.get(attribute, ("none",))
            if got not in wanted:
                raise ValueError(f"{where}: attribute {attribute!r}: expected {wanted[0]}, got {got}")
        W, n_a = self.weights(where, "B", node.input[1]), size(tensor.features)
        what = f"{where}: input 'B'"
        if attributes["transB"]:
            n_y = len(_checks.dimensions(what, W, "n_y, n_a"))
            found.Wy = _checks.shaped(what, W, "n_y, n_a", (n_y, n_a))
        else:
            n_y = _checks.dimensions(what, W, "n_a, n_y").shape[1]
            found.Wy = _checks.shaped(what, W, "n_a, n_y", (n_a, n_y)).T
        features = (Dim(n_y),) if n_y != 1 else ()
        made = replace(tensor, what="product", axes=(*tensor.axes[:-1], features), features=features)
        return self.with_bias(node, node.input[2], made) if len(node.input) > 2 and node.input[2] else made

    def bias(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Read the bias of the linear layer from an Add."""
        if tensor.what != "product" or self.found.by is not None or node.attribute:
            raise Unproved("it is not the bias of the one linear layer")
        return self.with_bias(node, node.input[1 if node.input[0] == name else 0], tensor)

    def with_bias(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Set the bias of the linear layer; return its result."""
        assert self.found.Wy is not None
        b, n_y = self.graph.constant(name), len(self.found.Wy)
        if b is None or b.size != n_y or b.shape[-1:] != (n_y,):
            got = told(self.graph.values.get(name), name) if b is None else f"shape {b.shape}"
            raise ValueError(f"path: {spelled(node)}: expected a constant bias of shape (n_y) = ({n_y},), got {got}")
        if tensor.axes[-1:] != (tensor.features,):
            raise Unproved("what it adds is not one number for each output")
        self.found.by = _checks.real("by", self.weights(f"path: {spelled(node)}", "bias", name).reshape(-1))
        units: tuple[Axis, ...] = ((),) * max(0, b.ndim - len(tensor.axes))
        return replace(tensor, what="logits", axes=units + tensor.axes)

    def softmax(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Return the predictions, of one class for each of which the sum is 1."""
        attributes = self.graph.attributes(node)
        k = axis_number(attributes.pop("axis", -1 if self.graph.opset >= 13 else 1), len(tensor.axes))
        # Before operator set 13 it goes over all axes from this one on.
        over = tensor.axes[k] if self.graph.opset >= 13 else merged(tensor.axes[k:])
        if over != tensor.features or attributes:
            raise Unproved("it is not over the outputs alone")
        return self.sigmoid(node, name, tensor)

    def sigmoid(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Return the predictions, of each output by itself."""
        if tensor.what not in ("product", "logits"):
            raise Unproved("it is not of the linear layer")
        if tensor.what == "product":
            self.unbiased.append(spelled(node))
        return replace(tensor, what="y")


LAYERS: dict[str, Callable[[Reader, Any, str, Tensor], Tensor]] = {
    "Add": Reader.bias, "Gemm": Reader.product, "MatMul": Reader.product, "Sigmoid": Reader.sigmoid,
    "Softmax": Reader.softmax,
}  # fmt: skip


def same_lengths(first: tuple[str, Tensor] | None, second: tuple[str, Tensor] | None) -> bool:
    """Tell whether two recurrent operators have the same lengths."""
    if first is None or second is None:
        return first is second
    (name, one), (other_name, other) = first, second
    return name == other_name or (one.whole and other.whole and one.name == other.name)


def check_attributes(where: str, operator: Operator, attributes: dict[str, Any]) -> None:
    """Refuse what a recurrent operator can do and the functions of this package cannot."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    expected = {
        "direction": ("forward", "bidirectional"), "layout": (0, 1), "activations": (directions * operator.activations,)
    }  # fmt: skip
    for name, value in attributes.items():
        got = [text.decode().lower() for text in value] if name == "activations" else value
        values = (expected | operator.attributes).get(name, ())
        if name != "hidden_size" and got not in values:
            wanted = " or ".join(map(str, values)) or "none"
            why = ", since a layer of one direction runs from left to right" if got == "reverse" else ""
            raise ValueError(f"{where}: attribute {name!r}: expected {wanted}, got {got}{why}")
