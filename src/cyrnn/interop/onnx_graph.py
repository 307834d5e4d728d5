"""The weights of a recurrent network in an ONNX graph, or the reason why it has no counterpart here."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.fused import Fused, added
from ..recurrent.spec import CELLS

INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
ACTIVATIONS = {"RNN": ["tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}
# Operators that change no value of their first input: what stands between the layers.
MOVE = {"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
PICK = {"Gather", "Slice"}


class Graph:
    """A model's graph, to walk along in both directions."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.model, self.nodes = onnx, model, list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output if name}
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = {value.name for value in model.graph.input}

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return the attributes of a node, text as str."""
        values = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}

    def constant(self, name: str) -> Any:
        """Return the array of an initializer or a Constant node, one value of a ConstantOfShape, else None."""
        tensor, node = self.stored.get(name), self.maker.get(name)
        if node is not None and node.op_type in ("Constant", "ConstantOfShape"):
            tensor = self.attributes(node).get("value")
            if tensor is None and node.op_type == "ConstantOfShape":
                return np.zeros(1)
        return None if tensor is None else self.onnx.numpy_helper.to_array(tensor)

    def origin(self, name: str, operators: set[str]) -> str:
        """Follow a tensor back over the first inputs of these operators."""
        while name in self.maker and self.maker[name].op_type in operators:
            name = self.maker[name].input[0]
        return name

    def users(self, name: str) -> Iterator[Any]:
        """Yield the nodes that read the values of a tensor."""
        return (node for node in self.nodes if name in node.input and node.op_type != "Shape")

    def keeps_units(self, node: Any, name: str) -> bool:
        """Tell whether a node only moves the dimensions of this tensor or picks steps of it, in their order."""
        if node.input[0] != name:
            return False
        if node.op_type == "Gather":  # one step; several could be units in another order
            index = self.constant(node.input[1])
            return index is not None and index.size == 1
        if node.op_type == "Slice":
            steps = self.constant(node.input[4]) if len(node.input) > 4 else 1
            return steps is not None and bool(np.all(steps == 1))
        return node.op_type in MOVE

    def over_the_last(self, node: Any) -> bool:
        """Tell whether a Softmax goes over the last dimension."""
        opset = max((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        axis = self.attributes(node).get("axis", -1 if opset >= 13 else 1)
        if axis == -1:
            return True
        graph = self.onnx.shape_inference.infer_shapes(self.model).graph
        values = {value.name: value for value in [*graph.value_info, *graph.output]}
        value = values.get(node.output[0])
        return value is not None and axis == len(value.type.tensor_type.shape.dim) - 1


def spelled(node: Any) -> str:
    """Return the operator and, where it has one, the name of a node."""
    return f"{node.op_type} {node.name!r}" if node.name else str(node.op_type)


def network(onnx: Any, model: Any) -> Fused:
    """Read the one recurrent network of a model."""
    graph = Graph(onnx, model)
    found = [node for node in graph.nodes if node.op_type in ("RNN", "LSTM", "GRU")]
    if not found:
        operators = sorted({node.op_type for node in graph.nodes})
        raise ValueError(f"path: expected a model with one operator RNN or LSTM, got only {operators}")
    if len(found) > 1 or found[0].op_type == "GRU":
        raise ValueError(f"path: expected one operator RNN or LSTM, got {', '.join(map(spelled, found))}")
    check(graph, found[0])
    fused = recurrent_layer(graph, found[0])
    output_layer(graph, found[0], fused)
    return fused


def check(graph: Graph, node: Any) -> None:
    """Refuse what an operator RNN or LSTM can do and the functions of cyrnn cannot."""
    where = f"path: {spelled(node)}"
    expected: dict[str, tuple[Any, ...]] = {
        "direction": ("forward",), "layout": (0, 1), "input_forget": (0,), "activations": (ACTIVATIONS[node.op_type],),
    }  # fmt: skip
    for name, value in graph.attributes(node).items():
        got = [text.decode().lower() for text in value] if name == "activations" else value
        if name != "hidden_size" and got not in expected.get(name, ()):
            wanted = " or ".join(map(str, expected.get(name, ["none"])))
            raise ValueError(f"{where}: attribute {name!r}: expected {wanted}, got {got}")
    given = dict(zip(INPUTS, node.input, strict=False))
    for name in ("sequence_lens", "P"):
        if given.get(name):
            raise ValueError(f"{where}: input {name!r}: expected none, got {given[name]!r}")
    origin = graph.origin(given["X"], MOVE)
    if origin not in graph.inputs:
        what = f"the result of {spelled(graph.maker[origin])}" if origin in graph.maker else f"the constant {origin!r}"
        raise ValueError(f"{where}: input 'X': expected an input of the model, got {what}")
    for name in ("initial_h", "initial_c"):
        origin = graph.origin(given.get(name, ""), MOVE | PICK | {"Expand"})
        value = graph.constant(origin)
        if np.any(value) if value is not None else origin in graph.maker:
            raise ValueError(f"{where}: input {name!r}: expected zeros or an input of the model, got {origin!r}")


def recurrent_layer(graph: Graph, node: Any) -> Fused:
    """Read the weights of an operator RNN or LSTM."""
    where = f"path: {spelled(node)}"
    given = dict(zip(INPUTS, node.input, strict=False))

    def weights(name: str, letters: str) -> Array:
        array = graph.constant(given[name])
        if array is None:
            raise ValueError(f"{where}: input {name!r}: expected a constant, got {given[name]!r}")
        return _checks.dimensions(f"{where}: input {name!r}", array, letters)

    letters_W, letters_R, letters_B = "1, gates n_a, n_x", "1, gates n_a, n_a", "1, 2 gates n_a"
    W, R = weights("W", letters_W), weights("R", letters_R)
    n_a, n_x = R.shape[2], W.shape[2]
    size = graph.attributes(node).get("hidden_size", n_a)
    if n_a == 0 or size != n_a:
        raise ValueError(f"{where}: attribute 'hidden_size': expected the n_a = {n_a} of the input 'R', got {size}")
    spec = CELLS[node.op_type.lower()]
    rows = spec.n_gates * n_a
    _checks.shaped(f"{where}: input 'R'", R, letters_R, (1, rows, n_a))
    _checks.shaped(f"{where}: input 'W'", W, letters_W, (1, rows, n_x))
    if not given.get("B"):
        return Fused(spec, W[0], R[0], np.zeros(rows))
    B = _checks.shaped(f"{where}: input 'B'", weights("B", letters_B), letters_B, (1, 2 * rows))
    return Fused(spec, W[0], R[0], added(B[0, :rows], B[0, rows:]))


def output_layer(graph: Graph, recurrent: Any, fused: Fused) -> None:
    """Follow the states to the end of the graph; set the output layer if there is one."""
    # What a tensor is: the states, the output layer before its softmax, or what nothing may follow.
    pending = list(zip(recurrent.output, ["states", "states", "end"], strict=False))  # Y, Y_h, Y_c
    while pending:
        name, what = pending.pop()
        for user in graph.users(name) if name else ():
            op, then = user.op_type, ""
            if graph.keeps_units(user, name):
                then = "end" if what == "linear" and op not in ("Cast", "Identity", "Reshape") else what
            elif what == "states" and op in ("MatMul", "Gemm") and fused.Wy is None and user.input[0] == name:
                then = "linear"
                product(graph, user, fused)
            elif what == "linear" and op == "Add" and fused.by is None:
                then = "linear"
                bias(graph, user, user.input[1 if user.input[0] == name else 0], fused)
            elif what == "linear" and op == "Softmax" and graph.over_the_last(user):
                then = "end"
            if not then:
                raise ValueError(
                    f"path: {spelled(user)}: expected after the {spelled(recurrent)} nothing but one linear layer of "
                    f"its states and a softmax over the last dimension, got {op} of {name!r}"
                )
            pending += [(output, then) for output in user.output]
    if fused.Wy is not None and fused.by is None:
        fused.by = np.zeros(len(fused.Wy))


def product(graph: Graph, node: Any, fused: Fused) -> None:
    """Read the weights of a linear layer from a MatMul, or with the bias from a Gemm."""
    where = f"path: {spelled(node)}"
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | graph.attributes(node)
    for name, wanted in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        if attributes[name] != wanted:
            raise ValueError(f"{where}: attribute {name!r}: expected {wanted}, got {attributes[name]}")
    W = graph.constant(node.input[1])
    if W is None:
        raise ValueError(f"{where}: input 'B': expected a constant, got {node.input[1]!r}")
    name, n_a = f"{where}: input 'B'", fused.W_a.shape[1]
    if attributes["transB"]:
        n_y = len(_checks.dimensions(name, W, "n_y, n_a"))
        fused.Wy = _checks.shaped(name, W, "n_y, n_a", (n_y, n_a))
    else:
        n_y = _checks.dimensions(name, W, "n_a, n_y").shape[1]
        fused.Wy = _checks.shaped(name, W, "n_a, n_y", (n_a, n_y)).T
    if len(node.input) > 2 and node.input[2]:
        bias(graph, node, node.input[2], fused)


def bias(graph: Graph, node: Any, name: str, fused: Fused) -> None:
    """Read the bias of the linear layer from an input of an Add or a Gemm."""
    assert fused.Wy is not None
    b, n_y = graph.constant(name), len(fused.Wy)
    if b is None or b.size != n_y or b.shape[-1:] != (n_y,):
        got = repr(name) if b is None else f"shape {b.shape}"
        raise ValueError(f"path: {spelled(node)}: expected a constant bias of shape (n_y) = ({n_y},), got {got}")
    fused.by = _checks.real(f"path: {spelled(node)}: bias", b.reshape(-1))
