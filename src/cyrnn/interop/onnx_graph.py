"""The weights of a recurrent network in an ONNX graph, or the reason why it has no counterpart here.

The nodes are taken in their order, and of every tensor is found what it is (`onnx_tensors`).  A node that reads a
result of the network, and is neither a layer of it nor proved to keep the values, is an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.fused import Fused, added
from ..recurrent.spec import CELLS
from .onnx_tensors import (
    FLOATS,
    INTEGERS,
    Axis,
    Constant,
    Dim,
    Filled,
    Graph,
    Tensor,
    Unknown,
    Unproved,
    Value,
    axis_number,
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
    "RNN": Operator(["tanh"], COMMON, ["states", "states"]),
    "LSTM": Operator(
        ["sigmoid", "tanh", "tanh"],
        [*COMMON, "initial_c", "P"],
        ["states", "states", "memory"],
        {"input_forget": (0,)},
    ),
}
OTHERS = ["GRU"]  # recurrent operators that are no cell here


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
    return repr(name) if isinstance(value, Tensor) else f"the constant {name!r}"


def is_result(value: Value | None) -> bool:
    """Tell whether a tensor is a result of the network."""
    return isinstance(value, Tensor) and value.what != "input"


def apart(axes: tuple[Axis, ...]) -> bool:
    """Tell whether no axis is made of several."""
    return all(len(axis) <= 1 for axis in axes)


def fits(axis: Axis, wanted: int) -> bool:
    """Tell whether an axis can have this size."""
    return size(axis) == wanted or not isinstance(size(axis), int)


def network(onnx: Any, model: Any) -> Fused:
    """Read the one recurrent network of a model."""
    graph, nodes = Graph(onnx, model), list(model.graph.node)
    found = [node for node in nodes if graph.is_standard(node) and node.op_type in (*OPERATORS, *OTHERS)]
    if not found:
        operators = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in nodes})
        raise ValueError(f"path: expected a model with one operator RNN or LSTM, got only {operators}")
    if len(found) > 1 or found[0].op_type in OTHERS:
        raise ValueError(f"path: expected one operator RNN or LSTM, got {', '.join(map(spelled, found))}")
    reader = Reader(graph, found[0])
    for node in nodes:
        made = reader.recurrent_layer() if node is found[0] else reader.results(node)
        graph.values.update({name: value for name, value in zip(node.output, made, strict=False) if name})
    return reader.network([output.name for output in model.graph.output])


class Reader:
    """The network that has been found in the nodes so far."""

    def __init__(self, graph: Graph, recurrent: Any) -> None:
        self.graph, self.node = graph, recurrent
        self.fused: Fused  # from the recurrent operator on
        self.unbiased: list[str] = []  # what reads the product of the output layer, before its bias is added

    def network(self, outputs: list[str]) -> Fused:
        """Return the network, if all outputs of the model are results of it."""
        for name in outputs:
            value = self.graph.values.get(name)
            if not is_result(value):
                raise ValueError(
                    f"path: output {name!r}: expected a result of the {spelled(self.node)}, got {told(value, name)}"
                )
            if isinstance(value, Tensor) and value.what == "product":
                self.unbiased.append(f"output {name!r}")
        if self.fused.Wy is not None and self.fused.by is None:
            self.fused.by = np.zeros(len(self.fused.Wy))
        elif self.unbiased:
            raise ValueError(f"path: {self.unbiased[0]}: expected the linear layer with its bias, got it without")
        return self.fused

    def results(self, node: Any) -> list[Value]:
        """Return what the results of an operator are that is not the recurrent one."""
        values = self.graph.values
        read = list(self.graph.read(node))
        results = [name for name in read if is_result(values.get(name))]
        try:
            if results and node.op_type in LAYERS and self.graph.is_standard(node):
                tensor = values[results[0]]
                assert isinstance(tensor, Tensor)
                return [LAYERS[node.op_type](self, node, results[0], tensor)]
            return self.graph.results(node)
        except Unproved as error:
            if results:
                raise ValueError(
                    f"path: {spelled(node)}: expected after the {spelled(self.node)} nothing but one linear layer of "
                    f"its states and a softmax over its outputs, got {node.op_type} of {results[0]!r} ({error})"
                ) from error
            origin = [value for name in read if isinstance(value := values.get(name), Unknown)]
            return [origin[0] if origin else Unknown(node, str(error))] * len(node.output)

    # The recurrent layer

    def recurrent_layer(self) -> list[Value]:
        """Check and read the recurrent operator, and return what its results are."""
        operator, where = OPERATORS[self.node.op_type], f"path: {spelled(self.node)}"
        given = {name: got for name, got in zip(operator.inputs, self.node.input, strict=False) if got}
        attributes = self.graph.attributes(self.node)
        check_attributes(where, operator, attributes)
        if "P" in given:
            raise ValueError(f"{where}: input 'P': expected none, got {given['P']!r}")
        self.recurrent_weights(where, given, attributes)
        n_a, n_x = self.fused.W_a.shape[1], self.fused.W_x.shape[1]
        X = self.graph.values[given["X"]]
        known = isinstance(X, Tensor) and X.what == "input" and X.whole and X.element in FLOATS
        if not known or not isinstance(X, Tensor) or len(X.axes) != 3 or not apart(X.axes):
            raise ValueError(f"{where}: input 'X': expected an input of the model, got {told(X, given['X'])}")
        if not fits(X.axes[2], n_x):
            raise ValueError(f"{where}: input 'X': expected n_x = {n_x} as in 'W', got {size(X.axes[2])}")
        batch_first = attributes.get("layout", 0) == 1
        m, steps = X.axes[:2] if batch_first else X.axes[1::-1]
        for name in ("initial_h", "initial_c"):
            if name in given:
                self.initial_state(f"{where}: input {name!r}", given[name], X, n_a, batch_first)
        lengths = "sequence_lens" in given and self.lengths(where, given["sequence_lens"], X, steps)
        units = (Dim(n_a),) if n_a > 1 else ()
        last: tuple[Axis, ...] = (m, (), units) if batch_first else ((), m, units)
        axes: tuple[Axis, ...] = (m, steps, (), units) if batch_first else (steps, (), m, units)
        # With lengths the last step of all is not the last one of each example: no step of these may be picked.
        every = Tensor(operator.outputs[0], "", axes, X.element, steps=None if lengths else steps, features=units)
        return [every, *(replace(every, what=what, axes=last, steps=None) for what in operator.outputs[1:])]

    def recurrent_weights(self, where: str, given: dict[str, str], attributes: dict[str, Any]) -> None:
        """Read the weights of the recurrent operator."""

        def weights(name: str, letters: str) -> Array:
            return _checks.dimensions(f"{where}: input {name!r}", self.weights(where, name, given[name]), letters)

        letters_W, letters_R, letters_B = "1, gates n_a, n_x", "1, gates n_a, n_a", "1, 2 gates n_a"
        W, R = weights("W", letters_W), weights("R", letters_R)
        n_a, n_x = R.shape[2], W.shape[2]
        units = attributes.get("hidden_size", n_a)
        if n_a == 0 or units != n_a:
            wanted = f"the n_a = {n_a} of the input 'R'"
            raise ValueError(f"{where}: attribute 'hidden_size': expected {wanted}, got {units}")
        spec = CELLS[self.node.op_type.lower()]
        rows = spec.n_gates * n_a
        _checks.shaped(f"{where}: input 'R'", R, letters_R, (1, rows, n_a))
        _checks.shaped(f"{where}: input 'W'", W, letters_W, (1, rows, n_x))
        b = np.zeros(rows)
        if "B" in given:
            B = _checks.shaped(f"{where}: input 'B'", weights("B", letters_B), letters_B, (1, 2 * rows))
            b = added(B[0, :rows], B[0, rows:])
        self.fused = Fused(spec, W[0], R[0], b)

    def weights(self, where: str, what: str, name: str) -> Any:
        """Return a constant of a floating type as an array that converts to float64."""
        array = self.graph.constant(name)
        if array is None:
            raise ValueError(
                f"{where}: input {what!r}: expected a constant, got {told(self.graph.values.get(name), name)}"
            )
        if array.dtype.name == "bfloat16":  # a type that NumPy has not of its own
            return array.astype(np.float64)
        if array.dtype.kind != "f":
            raise ValueError(f"{where}: input {what!r}: expected floating-point numbers, got dtype {array.dtype}")
        return array

    def initial_state(self, where: str, name: str, X: Tensor, n_a: int, batch_first: bool) -> None:
        """Refuse an initial state that is neither zeros nor an input of the model or a part of one."""
        value = self.graph.values[name]
        if isinstance(value, Constant) and value.array.dtype != object and not np.any(value.array):
            return
        if isinstance(value, Filled) and value.value == 0:
            return
        if self.is_another_input(value, X, 3) and value.element in FLOATS:
            direction, units = value.axes[1 if batch_first else 0], value.axes[2]
            if fits(direction, 1) and fits(units, n_a):
                return
        raise ValueError(f"{where}: expected zeros or an input of the model, got {told(value, name)}")

    def lengths(self, where: str, name: str, X: Tensor, steps: Axis) -> bool:
        """Tell whether examples may have different numbers of steps: an input of the model says how many."""
        value = self.graph.values[name]
        if isinstance(value, Constant) and np.all(value.array == size(steps)):
            return False
        if isinstance(value, Filled) and value.value == size(steps):
            return False
        if self.is_another_input(value, X, 1) and value.element in INTEGERS:
            return True
        got = told(value, name)
        raise ValueError(f"{where}: input 'sequence_lens': expected an input of the model or T_x, got {got}")

    @staticmethod
    def is_another_input(value: Value, X: Tensor, rank: int) -> TypeGuard[Tensor]:
        """Tell whether a tensor is another input than X, or a part of one, with as many axes."""
        other = isinstance(value, Tensor) and value.what == "input" and value.name != X.name
        return other and isinstance(value, Tensor) and len(value.axes) == rank and apart(value.axes)

    # The output layer

    def product(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Read the weights of a linear layer from a MatMul, or with the bias from a Gemm."""
        where, fused = f"path: {spelled(node)}", self.fused
        if tensor.what != "states" or fused.Wy is not None or node.input[0] != name:
            raise Unproved("it is not the one linear layer of the states")
        if tensor.axes[-1:] != (tensor.features,):
            raise Unproved("its sums are not over the units")
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | self.graph.attributes(node)
        for attribute, got in attributes.items():
            wanted = {"alpha": (1.0,), "beta": (1.0,), "transA": (0,), "transB": (0, 1)}.get(attribute, ("none",))
            if got not in wanted:
                raise ValueError(f"{where}: attribute {attribute!r}: expected {wanted[0]}, got {got}")
        W, n_a = self.weights(where, "B", node.input[1]), fused.W_a.shape[1]
        what = f"{where}: input 'B'"
        if attributes["transB"]:
            n_y = len(_checks.dimensions(what, W, "n_y, n_a"))
            fused.Wy = _checks.shaped(what, W, "n_y, n_a", (n_y, n_a))
        else:
            n_y = _checks.dimensions(what, W, "n_a, n_y").shape[1]
            fused.Wy = _checks.shaped(what, W, "n_a, n_y", (n_a, n_y)).T
        features = (Dim(n_y),) if n_y != 1 else ()
        made = replace(tensor, what="product", axes=(*tensor.axes[:-1], features), features=features)
        return self.with_bias(node, node.input[2], made) if len(node.input) > 2 and node.input[2] else made

    def bias(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Read the bias of the linear layer from an Add."""
        if tensor.what != "product" or self.fused.by is not None or node.attribute:
            raise Unproved("it is not the bias of the one linear layer")
        return self.with_bias(node, node.input[1 if node.input[0] == name else 0], tensor)

    def with_bias(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Set the bias of the linear layer; return its result."""
        assert self.fused.Wy is not None
        b, n_y = self.graph.constant(name), len(self.fused.Wy)
        if b is None or b.size != n_y or b.shape[-1:] != (n_y,):
            got = told(self.graph.values.get(name), name) if b is None else f"shape {b.shape}"
            raise ValueError(f"path: {spelled(node)}: expected a constant bias of shape (n_y) = ({n_y},), got {got}")
        if tensor.axes[-1:] != (tensor.features,):
            raise Unproved("what it adds is not one number for each output")
        self.fused.by = _checks.real("by", self.weights(f"path: {spelled(node)}", "bias", name).reshape(-1))
        units: tuple[Axis, ...] = ((),) * max(0, b.ndim - len(tensor.axes))
        return replace(tensor, what="logits", axes=units + tensor.axes)

    def softmax(self, node: Any, name: str, tensor: Tensor) -> Tensor:
        """Return the predictions."""
        if tensor.what not in ("product", "logits"):
            raise Unproved("it is not of the linear layer")
        attributes = self.graph.attributes(node)
        k = axis_number(attributes.pop("axis", -1 if self.graph.opset >= 13 else 1), len(tensor.axes))
        # Before operator set 13 it goes over all axes from this one on.
        over = tensor.axes[k] if self.graph.opset >= 13 else merged(tensor.axes[k:])
        if over != tensor.features or attributes:
            raise Unproved("it is not over the outputs alone")
        if tensor.what == "product":
            self.unbiased.append(spelled(node))
        return replace(tensor, what="y")


LAYERS: dict[str, Callable[[Reader, Any, str, Tensor], Tensor]] = {
    "Add": Reader.bias, "Gemm": Reader.product, "MatMul": Reader.product, "Softmax": Reader.softmax,
}  # fmt: skip


def check_attributes(where: str, operator: Operator, attributes: dict[str, Any]) -> None:
    """Refuse what a recurrent operator can do and the functions of this package cannot."""
    expected = {"direction": ("forward",), "layout": (0, 1), "activations": (operator.activations,)}
    for name, value in attributes.items():
        got = [text.decode().lower() for text in value] if name == "activations" else value
        values = (expected | operator.attributes).get(name, ())
        if name != "hidden_size" and got not in values:
            wanted = " or ".join(map(str, values)) or "none"
            raise ValueError(f"{where}: attribute {name!r}: expected {wanted}, got {got}")
