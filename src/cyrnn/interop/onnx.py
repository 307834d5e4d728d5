"""Networks to and from ONNX files: a chain of operators RNN, LSTM and GRU, an embedding before it, the output layer.

ONNX stacks the gates of an LSTM in the order i, o, f, c, those of a GRU in the order z, r, h, where z = 1 - ut: Wu and
bu change sign, which is exact.  It has two biases one behind the other.  The package ``onnx`` is imported when a
function of this module is called.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array, Parameters
from .._version import __version__
from ..recurrent.fused import Fused, fuse, split
from ..recurrent.layout import converted, layout, walk
from ..recurrent.spec import check_output
from .layers import in_dtype
from .onnx_graph import Network, network

__all__ = ["export_onnx", "import_onnx"]

ORDERS = {"lstm": "iofc", "gru": "urc"}
ACTIVATIONS: dict[str, tuple[str, dict[str, int]]] = {
    "softmax": ("Softmax", {"axis": -1}),
    "sigmoid": ("Sigmoid", {}),
    "linear": ("Identity", {}),
}
STATES = (("a", "h"), ("c", "c"))  # here and in ONNX
OPSET, IR_VERSION = 14, 7  # the oldest that have the operators as they are today


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("the package onnx is needed for this: pip install onnx") from error
    return onnx


def _turned(fused: Fused) -> Fused:
    """Turn the update gate of a GRU, the first one, into that of ONNX, or back."""
    if fused.spec.name != "gru":
        return fused
    sign = np.where(np.arange(len(fused.b)) < fused.W_a.shape[1], -1.0, 1.0)
    return replace(fused, W_x=sign[:, None] * fused.W_x, W_a=sign[:, None] * fused.W_a, b=sign * fused.b)


def _network(parameters: Any) -> Network:
    """Check the parameters of a layer or a network, and stack them as ONNX has them, in new arrays."""
    if not isinstance(parameters, (list, tuple)):
        fused = _turned(fuse(parameters, ORDERS))
        return Network(None, [[fused]], fused.Wy, fused.by)
    parts = converted(layout(parameters, "parameters"), "parameters", None, "linear")
    embedding = None if parts.embedding is None else parts.embedding["E"].T
    found = Network(
        embedding, [[_turned(fuse(d.parameters, ORDERS, False)) for d in layer] for layer in parts.layers]
    )  # fmt: skip
    if parts.output is not None:
        found.Wy, found.by = parts.output["Wy"], parts.output["by"][:, 0]
    return found


def _weights(layer: Sequence[Fused]) -> dict[str, Array]:
    """Return the inputs W, R and B of an operator."""
    B = []
    for q in layer:
        second = np.zeros_like(q.b)  # the bias of the recurrent product
        if q.bca is not None:
            second[-len(q.bca) :] = q.bca
        B.append(np.concatenate([q.b, second]))
    return {"W": np.stack([q.W_x for q in layer]), "R": np.stack([q.W_a for q in layer]), "B": np.stack(B)}


class _Nodes:
    """A graph that grows: nodes, and the inputs and outputs of the model with their sizes."""

    def __init__(self, onnx: Any, real: int) -> None:
        self.onnx, self.real = onnx, real
        self.nodes: list[Any] = []
        self.infos: tuple[list[Any], list[Any]] = ([], [])  # inputs, outputs

    def add(self, op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        self.nodes.append(self.onnx.helper.make_node(op, inputs, outputs, **attributes))
        return outputs[0]

    def input(self, name: str, shape: list[Any], element: int | None = None) -> str:
        """Add an input of the model."""
        self.infos[0].append(self.onnx.helper.make_tensor_value_info(name, element or self.real, shape))
        return name

    def output(self, name: str, shape: list[Any]) -> str:
        """Add an output of the model."""
        self.infos[1].append(self.onnx.helper.make_tensor_value_info(name, self.real, shape))
        return name

    def layer(self, X: str, layer: Sequence[Fused], suffix: str, directions: list[str]) -> str:
        """Add a recurrent operator with its initial states; return its states as (T_x, m, units).

        All outputs of the operator get names, since OpenCV cannot read a model in which one is left out.
        """
        spec, n_a = layer[0].spec, layer[0].W_a.shape[1]
        initial, made = [], [f"Y{suffix}"]
        for state, operand in STATES[: len(spec.states)]:
            rows = []
            for each in directions:
                name = self.input(f"{state}0{each}", [n_a, "m"])
                turned = self.add("Transpose", [name], f"{name}_rows", perm=[1, 0])
                rows.append(self.add("Unsqueeze", [turned, "axis_0"], f"initial_{operand}{each}"))
            both = len(rows) == 2
            initial.append(self.add("Concat", rows, f"initial_{operand}{suffix}", axis=0) if both else rows[0])
            made.append(f"Y_{operand}{suffix}")
        weights = [f"{name}{suffix}" for name in "WRB"]
        attributes: dict[str, Any] = {"hidden_size": n_a}
        if len(layer) == 2:
            attributes["direction"] = "bidirectional"
        if spec.form == "gru_after":
            attributes["linear_before_reset"] = 1
        self.add(spec.name.upper(), [X, *weights, "", *initial], *made, **attributes)
        if len(layer) == 1:
            return self.add("Squeeze", [made[0], "axis_1"], f"a_rows{suffix}")
        pairs = self.add("Transpose", [made[0]], f"a_pairs{suffix}", perm=[0, 2, 1, 3])
        return self.add("Reshape", [pairs, "rows"], f"a_rows{suffix}")

    def last_rows(self, Y: str, directions: int) -> str:
        """Return the last states of an operator as (m, units)."""
        if directions == 1:
            return self.add("Squeeze", [Y, "axis_0"], "last_rows")
        pairs = self.add("Transpose", [Y], "last_pairs", perm=[1, 0, 2])
        return self.add("Reshape", [pairs, "last_shape"], "last_rows")

    def last(self, Y: str, name: str, n_a: int, direction: int | None) -> None:
        """Add a last state as an output of the model; direction is None of a layer that has one."""
        if direction is None:
            rows = self.add("Squeeze", [Y, "axis_0"], f"{name}_rows")
        else:
            rows = self.add("Gather", [Y, f"direction_{direction}"], f"{name}_rows", axis=0)
        self.add("Transpose", [rows], self.output(name, [n_a, "m"]), perm=[1, 0])


def export_onnx(
    path: str | os.PathLike[str],
    parameters: Parameters | Sequence[Any],
    *,
    output: str | None = "softmax",
    dtype: Any = "float32",
    last: bool = False,
) -> None:
    """Write a layer or a network as an ONNX model.

    The arrays of the model have the names, the order of dimensions and the meaning that they have here:
    inputs ``x`` (n_x, m, T_x), ``a0`` (n_a, m) and, of an LSTM, ``c0`` (n_a, m); outputs ``a`` (n_a, m, T_x),
    ``y`` (n_y, m, T_x), if the parameters have an output layer, and, of an LSTM, ``c``, which differs: it is
    (n_a, m), the cell state after the last step, since the operator gives no other.  m and T_x are free.

    Of a network ``x`` is of integers (m, T_x), if it has an embedding; ``a`` is of the top layer, (2 n_a, m, T_x) of
    two directions; the states of layer k, counted from 0, are the inputs ``a0_k`` and ``c0_k`` and, after the last
    step, the outputs ``a_k`` and ``c_k``; of two directions ``a0_k_0`` (left to right), ``a0_k_1`` and so on, as
    ``states[k][0]`` and ``states[k][1]`` of `network_forward`.

    Parameters
    ----------
    path : str or path-like
        The file to write; one that exists is replaced.
    parameters : mapping or list
        As for `rnn_forward`, `lstm_forward` or `gru_forward`; the output layer (``Wya`` or ``Wy``, and ``by``) may be
        missing.  Or a network, as for `network_forward`.
    output : str or None
        The output layer's activation: ``"softmax"``, ``"sigmoid"`` or ``"linear"``; None for a model without ``y``.
    dtype : {"float32", "float64"}, or the type of NumPy
        Of the weights, the inputs and the outputs.  ONNX Runtime has these operators in float32 alone, so
        that is the default, and the weights are rounded to it.  In float64 nothing is lost and ONNX's
        reference evaluator computes with it.
    last : bool
        Whether the output layer reads the states after the last step, of two directions each after its own, and not the
        hidden states of every step: ``y`` is then (n_y, m).

    Returns
    -------
    None

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError, ValueError, KeyError
        If an entry is missing, of a wrong type or shape, or too large for float32; the message names it.
        Then nothing is written.

    Examples
    --------
    >>> import numpy as np, cyrnn, onnx, tempfile
    >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cyrnn.export_onnx(f"{folder}/rnn.onnx", p)
    ...     graph = onnx.load(f"{folder}/rnn.onnx").graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['x', 'a0'], ['a', 'y'])
    """
    onnx = _onnx()
    path = _checks.path(path)
    dtype = getattr(dtype, "__name__", dtype)  # numpy.float32
    if not isinstance(dtype, (str, np.dtype)) or dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}")
    check_output(output)
    _checks.flag("last", last)
    found, single = _network(parameters), not isinstance(parameters, (list, tuple))
    suffixes = [""] if single else [f"_{k}" for k in range(len(found.layers))]
    weights = {}
    if found.embedding is not None:
        weights["E_transposed"] = found.embedding
    for layer, suffix in zip(found.layers, suffixes, strict=True):
        weights |= {name + suffix: value for name, value in _weights(layer).items()}
    if output is None:
        found.Wy = None
    if found.Wy is not None and found.by is not None:
        weights |= {"Wy_transposed": found.Wy.T, "by": found.by}
    with np.errstate(over="ignore"):
        tensors = {name: value.astype(dtype, order="C") for name, value in weights.items()}
    for name, value in tensors.items():
        if np.isinf(value).sum() != np.isinf(weights[name]).sum():
            raise ValueError(f"parameters: expected numbers that {dtype} can hold, got larger ones (ONNX's {name})")

    graph = _Nodes(onnx, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    if found.embedding is None:
        n_x = found.layers[0][0].W_x.shape[1]
        rows = graph.add("Transpose", [graph.input("x", [n_x, "m", "T_x"])], "X", perm=[2, 1, 0])
    else:
        indices = graph.input("x", ["m", "T_x"], onnx.TensorProto.INT64)
        turned = graph.add("Transpose", [indices], "x_rows", perm=[1, 0])
        rows = graph.add("Gather", ["E_transposed", turned], "X", axis=0)
    names = [
        [suffix] if len(layer) == 1 else [f"{suffix}_0", f"{suffix}_1"]
        for layer, suffix in zip(found.layers, suffixes, strict=True)
    ]
    for layer, suffix, directions in zip(found.layers, suffixes, names, strict=True):
        rows = graph.layer(rows, layer, suffix, directions)
    units = sum(q.W_a.shape[1] for q in found.layers[-1])
    graph.add("Transpose", [rows], graph.output("a", [units, "m", "T_x"]), perm=[2, 1, 0])
    if found.Wy is not None and output is not None:
        op, attributes = ACTIVATIONS[output]
        if last:
            rows = graph.last_rows(f"Y_h{suffixes[-1]}", len(found.layers[-1]))
        graph.add("MatMul", [rows, "Wy_transposed"], "product")
        graph.add("Add", ["product", "by"], "z")
        graph.add(op, ["z"], "y_rows", **attributes)
        shape, perm = ([len(found.Wy), "m"], [1, 0]) if last else ([len(found.Wy), "m", "T_x"], [2, 1, 0])
        graph.add("Transpose", ["y_rows"], graph.output("y", shape), perm=perm)
    for layer, suffix, directions in zip(found.layers, suffixes, names, strict=True):
        for i, each in enumerate(directions):
            for state, operand in STATES[: len(layer[0].spec.states)]:
                if each or state == "c":  # else the output a has it
                    which = i if len(directions) == 2 else None
                    graph.last(f"Y_{operand}{suffix}", f"{state}{each}", layer[0].W_a.shape[1], which)

    read = {name for node in graph.nodes for name in node.input}
    integers = {"axis_0": [0], "axis_1": [1], "direction_0": 0, "direction_1": 1}
    integers |= {"rows": [0, 0, -1], "last_shape": [0, -1]}
    tensors |= {name: np.array(value) for name, value in integers.items() if name in read}
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
    title = found.layers[0][0].spec.name if single else "network"
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, title, *graph.infos, initializers),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="cyrnn", producer_version=__version__,
    )  # fmt: skip
    onnx.save(model, path)


def import_onnx(path: str | os.PathLike[str], *, dtype: Any = np.float64) -> Any:
    """Parameters from an ONNX model, one that `export_onnx` wrote or another.

    The model has a chain of operators RNN, LSTM and GRU, forward or bidirectional, that reads an input of the model or
    rows that a Gather picks by it, and at most one linear layer (MatMul and Add, or Gemm) and a softmax or sigmoid of
    its outputs after it; between them stand only operators that are proved to move axes or to pick steps.  Weights that
    the graph computes from constants are computed.  The two biases of an operator are added, but for the candidate of a
    GRU with linear_before_reset = 1, whose second one is ``bca``; without biases they are zeros.

    Parameters
    ----------
    path : str or path-like
        The file to read.
    dtype : numpy.float64 or numpy.float32
        Of the arrays returned.  Of weights in float32 and narrower types both are exact, but for a sum of two biases
        in float32, which is rounded once.

    Returns
    -------
    dict of new arrays, or list of dicts
        Of one layer in one direction without an embedding its parameters: ``Wax Waa ba`` of an RNN, ``Wf bf Wi bi Wc bc
        Wo bo`` of an LSTM, ``Wu bu Wr br Wc bc`` of a GRU, with ``bca`` if its reset is after the product; with a
        linear layer also ``Wya`` or ``Wy``, and ``by``.  Of any other model a network, as `network_forward` takes it.
        Without a linear layer pass ``output=None`` to the functions of cyrnn; else as ``output`` what the model has:
        softmax, sigmoid, or ``"linear"`` for neither.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError
        If `path` is no path.
    OSError
        If the file cannot be read.
    ValueError
        If it is no valid ONNX model, or not such a one.  The message names the operator with its attribute or
        input that has no counterpart here: the direction reverse, other activations than the default ones, clip,
        input_forget, peepholes, an initial state other than zeros or an input of the model or a part of
        one, sequence lengths other than T_x or an input, weights that depend on an input, axes that are mixed, an
        output of the model that is not the network's; or a number that `dtype` cannot hold.

    Examples
    --------
    >>> import numpy as np, cyrnn, tempfile
    >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cyrnn.export_onnx(f"{folder}/rnn.onnx", p)
    ...     q = cyrnn.import_onnx(f"{folder}/rnn.onnx")
    >>> all((q[name] == p[name]).all() for name in p)
    True
    """
    onnx, dtype = _onnx(), _checks.kernels(dtype).dtype
    path = _checks.path(path)  # before onnx takes a number for an open file
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each format that onnx reads, by the file's extension, has errors of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"path: expected a valid ONNX model, got one with {reason}") from error
    parameters = _parameters(network(onnx, model))
    for where, entries in walk(parameters, "network"):
        for key, value in entries.items():
            if not np.isfinite(value).all():
                name = key if entries is parameters else f"{where}[{key!r}]"
                raise ValueError(f"path: expected finite weights, got some of {name} that are not")
    in_dtype("path", parameters, dtype)
    return parameters


def _parameters(found: Network) -> Any:
    """Return the parameters of one layer in one direction, or a network, in new arrays."""
    output = {} if found.Wy is None or found.by is None else {"Wy": found.Wy, "by": found.by[:, None]}
    layers = [[split(_turned(q), ORDERS) for q in layer] for layer in found.layers]
    if found.embedding is None and len(layers) == len(layers[0]) == 1:
        spec = found.layers[0][0].spec
        output = {spec.output if key == "Wy" else key: value for key, value in output.items()}
        return layers[0][0] | {key: value.copy("C") for key, value in output.items()}
    parts: list[Any] = [layer[0] if len(layer) == 1 else tuple(layer) for layer in layers]
    if found.embedding is not None:
        parts.insert(0, {"E": np.array(found.embedding.T, np.float64, order="C")})
    return [*parts, {key: value.copy("C") for key, value in output.items()}] if output else parts
