"""ONNX files: against the reference evaluator in float64, ONNX Runtime in float32, and PyTorch's exporters."""

import collections
import functools
import importlib
import os
import sys

import numpy as np
import pytest
from cells import CELLS, IDS, TORCH_CELLS
from reference import within as close
from test_exchange import only, parameters, refuse, same_bits

import cyrnn

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx_models  # noqa: E402, which needs onnx

SHAPE = 3, 5, 2, 4, 7  # n_x, n_a, n_y, m, T_x

each_cell = pytest.mark.parametrize("cell", CELLS, ids=IDS)
each_of_torch = pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.torch], ids=lambda cell: cell.name)
OPERATORS = ("RNN", "LSTM", "GRU")
GATES = {"lstm": "iofc", "gru": "urc"}  # in ONNX's order; its z is 1 - ut
each_output = pytest.mark.parametrize("output", [True, False], ids=["output", "no output"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def expected(cell, q):
    """What the exported model gives for x, a0 and c0, from the cell called step by step."""
    a, c, steps = q.a0, q.c0, []
    for t in range(q.x.shape[2]):
        steps.append(cell.cell_forward(q.x[:, :, t], a, c, q.p))
        a, c = steps[-1].a, steps[-1].c
    results = {name: np.stack([getattr(step, name) for step in steps], 2) for name in ("a", "y")}
    return results | ({"c": c} if cell.name == "lstm" else {})


def feed(cell, q, dtype):
    names = ("x", "a0", "c0") if cell.name == "lstm" else ("x", "a0")
    return {name: getattr(q, name).astype(dtype) for name in names}


def split(cell, W, R, B):
    """Our parameters from the weights of one direction as ONNX has them, gate by gate."""
    if cell.name == "rnn":
        return {"Wax": W, "Waa": R, "ba": (B[:5] + B[5:])[:, None]}
    gates, p = GATES[cell.kind], {}
    n_a = R.shape[1]
    for k, gate in enumerate(gates):
        rows, sign = slice(k * n_a, (k + 1) * n_a), -1 if gate == "u" else 1
        first, second = B[: len(W)][rows], B[len(W) :][rows]
        if cell.name == "gru_after" and gate == "c":
            p |= {"bc": first[:, None], "bca": second[:, None]}
        else:
            p["b" + gate] = sign * (first + second)[:, None]
        p["W" + gate] = sign * np.hstack([R[rows], W[rows]])
    return {name: p[name] for name in cell.inputs}


def torch_module(torch, cell, output=True, n_x=3, **options):
    """A layer or a stack of PyTorch with random float64 weights, and a linear layer of its states."""
    torch.manual_seed(5)
    module = torch.nn.Module()
    module.layers = getattr(torch.nn, cell.torch)(n_x, 5, **options)
    if output:
        module.head = torch.nn.Linear(10 if options.get("bidirectional") else 5, 2)
    return module.double()


def of_torch(cell, module, layer=0, reverse=False):
    """Our parameters of a layer of PyTorch in one direction, from its weights in ONNX's order."""
    suffix = f"_l{layer}" + ("_reverse" if reverse else "")
    gates = cell.torch_gates or "a"
    arrays = {
        key: dict(zip(gates, np.split(getattr(module.layers, name + suffix).detach().numpy(), len(gates)), strict=True))
        for key, name in {"W": "weight_ih", "R": "weight_hh", "b": "bias_ih", "B": "bias_hh"}.items()
    }
    W, R, b, B = (np.concatenate([arrays[key][gate] for gate in GATES.get(cell.kind, "a")]) for key in "WRbB")
    return split(cell, W, R, np.concatenate([b, B]))


def head_of_torch(module, key="Wy"):
    return {key: module.head.weight.detach().numpy(), "by": module.head.bias.detach().numpy()[:, None]}


def same_network(got, expected):
    """The same lists and tuples of the same arrays, bit for bit."""
    if isinstance(expected, dict):
        same_bits(got, {name: np.asarray(value, np.float64) for name, value in expected.items()})
        return
    assert type(got) is type(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        same_network(one, other)


def sizes(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@each_cell
@each_output
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exported_model(cell, output, dtype, path):
    p, before = parameters(cell, output)
    cyrnn.export_onnx(path, p, dtype=dtype)
    same_bits(p, before)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    inputs = {value.name: sizes(value) for value in model.graph.input}
    outputs = {value.name: sizes(value) for value in model.graph.output}
    lstm = cell.name == "lstm"
    assert inputs == {"x": [3, "m", "T_x"], "a0": [5, "m"]} | ({"c0": [5, "m"]} if lstm else {})
    y = {"y": [2, "m", "T_x"]} if output else {}
    assert outputs == {"a": [5, "m", "T_x"]} | y | ({"c": [5, "m"]} if lstm else {})
    (node,) = [node for node in model.graph.node if node.op_type in OPERATORS]
    assert node.op_type == cell.kind.upper()
    after = {a.name: a.i for a in node.attribute if a.name == "linear_before_reset"}
    assert after == ({"linear_before_reset": 1} if cell.name == "gru_after" else {})
    back = cyrnn.import_onnx(path)
    assert list(back) == list(p)
    same_bits(back, {name: value.astype(dtype).astype(np.float64) for name, value in p.items()})


@each_cell
def test_float32_is_the_default_and_paths_are_text_too(cell, path):
    p, _ = parameters(cell)
    cyrnn.export_onnx(str(path), p)
    as_float32 = path.read_bytes()
    cyrnn.export_onnx(path, p, dtype="float32")
    assert path.read_bytes() == as_float32
    assert {t.data_type for t in onnx.load(path).graph.initializer} == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    same_bits(cyrnn.import_onnx(str(path)), cyrnn.import_onnx(path))


@each_cell
@pytest.mark.parametrize("shape", [SHAPE, (6, 3, 4, 1, 2)], ids=str)
def test_reference_evaluator(cell, shape, path):
    from onnx.reference import ReferenceEvaluator

    q = cell.problem(*shape)
    cyrnn.export_onnx(path, q.p, dtype="float64")
    evaluator = ReferenceEvaluator(onnx.load(path))
    for m, T_x in (shape[3:], (1, 9), (6, 1)):
        r = cell.problem(*shape[:3], m, T_x, seed=1)
        r.p = q.p
        got = dict(zip(evaluator.output_names, evaluator.run(None, feed(cell, r, np.float64)), strict=True))
        want = expected(cell, r)
        assert set(got) == set(want)
        for name, value in want.items():
            close(got[name], value, 1e-14)


def onnx_runtime(path):
    """A function from the inputs of a model to its outputs, both by name."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def openvino(path):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = {output.name for output in onnx.load(path).graph.output}

    def run(inputs):
        results = model(inputs)
        return {name: np.array(results[output]) for output in model.outputs for name in output.names & wanted}

    return run


def opencv(path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    names = [output.name for output in onnx.load(path).graph.output]

    def run(inputs):
        net = cv2.dnn.readNetFromONNX(str(path))
        for name, value in inputs.items():
            net.setInput(value, name)
        return {name: np.array(net.forward(name)) for name in names}

    return run


@each_cell
@pytest.mark.parametrize("shape", [SHAPE, (6, 3, 4, 1, 2)], ids=str)
@pytest.mark.parametrize("reader", [onnx_runtime, openvino, opencv], ids=lambda reader: reader.__name__)
def test_other_readers(cell, shape, reader, path):
    if reader is opencv and cell.name == "rnn":
        pytest.skip("OpenCV has no operator RNN")
    q = cell.problem(*shape)
    cyrnn.export_onnx(path, q.p)
    run = reader(path)
    for m, T_x in (shape[3:], (1, 9), (6, 1)):
        r = cell.problem(*shape[:3], m, T_x, seed=1)
        r.p = q.p
        got, want = run(feed(cell, r, np.float32)), expected(cell, r)
        assert set(got) == set(want)
        for name, value in want.items():
            assert got[name].dtype == np.float32
            close(got[name], value, 1e-6)  # 8 units in the last place of float32


@each_cell
def test_every_output_of_the_operator_has_a_name(cell, path):
    """Of an omitted one OpenCV ends the process."""
    cyrnn.export_onnx(path, parameters(cell)[0])
    (node,) = [node for node in onnx.load(path).graph.node if node.op_type == cell.kind.upper()]
    assert list(node.output) == (["Y", "Y_h", "Y_c"] if cell.memory else ["Y", "Y_h"])


@pytest.mark.filterwarnings("ignore")  # PyTorch's
@each_of_torch
@pytest.mark.parametrize(
    ("exporter", "output", "last"),
    [("TorchScript", True, False), ("TorchScript", True, True), ("TorchScript", False, False), ("dynamo", True, True)],
)
def test_models_exported_by_torch(cell, exporter, output, last, path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="onnxscript, which this exporter needs, is not installed")
    module = torch_module(torch, cell, output, batch_first=last)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            a, _ = self.inner.layers(x)
            a = a[:, -1] if last else a
            return torch.softmax(self.inner.head(a), -1) if output else a

    x = torch.ones(4, 7, 3, dtype=torch.float64)
    torch.onnx.export(Whole().eval(), (x,), str(path), dynamo=exporter == "dynamo")
    if exporter == "dynamo" and cell.name == "rnn":  # it writes every step out
        refuse(
            ValueError, r"path: expected a model with an operator RNN, LSTM or GRU, got only \['Add', .*\]",
            cyrnn.import_onnx, path,
        )  # fmt: skip
    else:
        head = head_of_torch(module, cell.output[0]) if output else {}
        same_network(cyrnn.import_onnx(path), of_torch(cell, module) | head)


@pytest.mark.filterwarnings("ignore")  # PyTorch's
@each_of_torch
@pytest.mark.parametrize("open_sizes", [False, True])
def test_exports_of_torch_that_are_not_folded(cell, open_sizes, path):
    """The exporter stacks the gates in its graph; with open sizes it computes the shape of the initial state, too."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    module = torch_module(torch, cell, batch_first=True).float()

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            a, _ = self.inner.layers(x)
            rows = self.inner.head(a.reshape(-1, 5))
            return torch.softmax(rows.view(x.size(0), -1, 2), -1)

    q = cell.problem(*SHAPE)
    x = q.x.transpose(1, 2, 0).astype(np.float32)
    axes = {"x": {0: "m", 1: "T_x"}} if open_sizes else None
    options = {"dynamo": False, "do_constant_folding": False, "input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(Whole().eval(), (torch.from_numpy(x.copy()),), str(path), dynamic_axes=axes, **options)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert {"Slice", "Concat", "Unsqueeze"} <= set(operators) or cell.name == "rnn"
    q.p = cyrnn.import_onnx(path)
    module.double()
    same_network(q.p, of_torch(cell, module) | head_of_torch(module, cell.output[0]))
    q.a0 = np.zeros_like(q.a0)
    close(onnx_runtime(path)({"x": x})["y"], cell.forward(q).y.transpose(1, 2, 0), 1e-6)


# Models made by hand, in the layout of PyTorch's exporters, changed in one place

TEXT = """
<ir_version: 8, opset_import: ["": 14]>
net (double[7, 4, 3] x, double[1, 4, 5] h, double[1, 4, 5] c) => (double[7, 4, 2] y) {
    [layer] Y, Y_h = LSTM <hidden_size = 5> (x, W, R, B, , h, c)
    a = Squeeze (Y, one)
    [head] product = MatMul (a, V_t)
    [bias] z = Add (v, product)
    [end] y = Softmax <axis = -1> (z)
}
"""


def arrays(cell, dtype=np.float64):
    """The constants of the model, and what `import_onnx` makes of them: both biases are in use."""
    (n_x, n_a, n_y, _, _), g = SHAPE, cell.n_gates
    shapes = {"W": (1, g * n_a, n_x), "R": (1, g * n_a, n_a), "B": (1, 2 * g * n_a), "V": (n_y, n_a), "v": (n_y,)}
    rng = np.random.default_rng(3)
    values = {name: rng.standard_normal(shape).astype(dtype).astype(np.float64) for name, shape in shapes.items()}
    p = split(cell, values["W"][0], values["R"][0], values["B"][0])
    p |= {cell.output[0]: values["V"], "by": values["v"][:, None]}
    return values | {"V_t": values["V"].T, "zero": np.array([0]), "one": np.array([1])}, p


def save(cell, path, old="", new="", kind="double", dtype=np.float64, **more):
    """Save the model with a piece of its text replaced, other constants, and in another floating type."""
    assert not old or TEXT.count(old) == 1
    text = TEXT.replace(old, new) if old else TEXT
    if not cell.memory:
        text = text.replace("= LSTM", f"= {cell.kind.upper()}").replace(", c)", ")")
    if cell.name == "gru_after":
        after = "GRU <linear_before_reset = 1"
        text = text.replace("GRU (", f"{after}> (") if "GRU (" in text else text.replace("GRU <", f"{after}, ")
    model = onnx.parser.parse_model(text.replace("double", kind))
    made = {name for node in model.graph.node for name in node.output}
    read = {name for node in model.graph.node for name in node.input}
    values = {name: v.astype(dtype) if v.dtype == np.float64 else v for name, v in arrays(cell, dtype)[0].items()}
    values = {name: np.array(v) for name, v in (values | more).items() if name in read - made}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    inputs = [value for value in model.graph.input if value.name in read - made - set(values)]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


LAYER, HEAD = "Y, Y_h = LSTM <hidden_size = 5> (x, W, R, B, , h, c)", "product = MatMul (a, V_t)"
END = "[end] y = Softmax <axis = -1> (z)"
STATES = "a = Squeeze (Y, one)"


def ahead(nodes, old, new):
    """Return the change that adds nodes ahead of the recurrent operator and lets that one read something else."""
    assert LAYER.count(old) == 1
    return "[layer] " + LAYER, nodes + "\n [layer] " + LAYER.replace(old, new)


READ = {
    "as it is": ("", ""),
    "Gemm of the last state": (TEXT[TEXT.index(STATES) : TEXT.index(END)],
                               "a = Squeeze (Y_h, zero)\n z = Gemm <transB = 1> (a, V, v)\n"),
    "one step picked": (STATES, "s = Squeeze (Y, one)\n a = Gather <axis = 0> (s, zero)"),
    "steps picked": (STATES, "s = Squeeze (Y, one)\n a = Slice (s, zero, one, zero, one)"),
    "logits": (END, "y = Identity (z)"),
    "all attributes": ("<hidden_size = 5>", '<hidden_size = 5, direction = "forward", layout = 0>'),
    "no hidden_size": ("<hidden_size = 5>", "<layout = 0>"),
    "the states are the result": (END, "t = Softmax (z)\n y = Transpose <perm = [1, 0, 2]> (a)"),
    "moved dimensions": (LAYER, "X = Transpose <perm = [1, 0, 2]> (x)\n " + LAYER.replace("(x,", "(X,")),
    "the last axis by its number": (END, "y = Softmax <axis = 2> (z)"),
    "a shape that is asked for": (END, "s = Shape (a)\n y = Softmax (z)"),
    "no initial state": ("B, , h, c)", "B)"),
    "lengths that are all of T_x": ("B, , h", "B, all, h"),
    "lengths that are computed, all of T_x": ahead("s = Shape (x)\n t = Gather <axis = 0> (s, zero)\n "
                                              "l = Cast <to = 6> (t)\n n = Expand (l, four)", "B, , h", "B, n, h"),
    "rows for a Gemm": (TEXT[TEXT.index(STATES) : TEXT.index(END)],
                        "r = Reshape (Y, rows)\n g = Gemm <transB = 1> (r, V, v)\n z = Reshape (g, again)\n"),
    "rows of a computed shape": (TEXT[TEXT.index("(double[7, 4, 3]") : TEXT.index(END)],
                                 TEXT[TEXT.index("(double[7, 4, 3]") : TEXT.index(STATES)].replace("7, 4", "T, m")
                                 + "s = Shape (x)\n k = Slice (s, zero, two)\n p = Gather <axis = 0> (s, scalar)\n"
                                 "q = Unsqueeze (p, zero)\n j = Slice (s, one, two)\n tm = Mul (q, j)\n"
                                 "f = Concat <axis = 0> (tm, units)\n r = Reshape (Y, f)\n"
                                 "g = Gemm <transB = 1> (r, V, v)\n w = Concat <axis = 0> (k, outputs)\n"
                                 "z = Reshape (g, w)\n"),
    "softmax of another axis": (END, "t = Transpose <perm = [0, 2, 1]> (z)\n y = Softmax <axis = 1> (t)"),
    "sizes that are kept": (STATES, "s = Transpose <perm = [0, 2, 1, 3]> (Y)\n a = Reshape (s, keep)"),
    "a whole slice": (STATES, "s = Slice (Y, zero, far, one)\n a = Squeeze (s, one)"),
    "an input that is cast": ahead("i = Cast <to = 1> (x)\n X = Cast <to = 11> (i)", "(x", "(X"),
    "a part of an input as state": ahead("f = Slice (h, zero, one, one)\n g = Expand (f, states)", ", h", ", g"),
}  # fmt: skip


@each_cell
@pytest.mark.parametrize("change", READ)
def test_models_that_are_read(cell, change, path):
    more = {"all": np.full(4, 7, np.int32), "four": np.array([4]), "rows": np.array([-1, 5])}
    more |= {
        "again": np.array([7, 4, 2]),
        "two": np.array([2]),
        "scalar": np.array(0),
        "units": np.array([5]),
        "outputs": np.array([2]),
    }
    more |= {"far": np.array([2**63 - 1]), "states": np.array([1, 4, 5]), "keep": np.array([0, 0, -1])}
    save(cell, path, *READ[change], **more)
    same_bits(cyrnn.import_onnx(path), arrays(cell)[1])


@each_cell
def test_constants_in_nodes_and_zero_states(cell, path):
    p = arrays(cell)[1]
    save(cell, path, h=np.zeros((1, 4, 5)), c=np.zeros((1, 4, 5)))
    same_bits(cyrnn.import_onnx(path), p)
    fill = "h = ConstantOfShape (shape)\n c = Expand (nothing, shape)\n "
    save(cell, path, "[layer]", fill + "[layer]", shape=np.array([1, 4, 5]), nothing=np.zeros(1))
    same_bits(cyrnn.import_onnx(path), p)
    node = "M = Constant <value = double[5, 2] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}> ()\n product = MatMul (a, M)"
    save(cell, path, "[head] " + HEAD, node)
    same_bits(cyrnn.import_onnx(path), p | {cell.output[0]: np.arange(10.0).reshape(5, 2).T})


FOLDED = {
    "Unsqueeze": ("W = Unsqueeze (rows, zero)", lambda W: {"rows": W[0]}),
    "Identity, Transpose": ("i = Identity (t)\n W = Transpose <perm = [0, 2, 1]> (i)",
                            lambda W: {"t": W.transpose(0, 2, 1)}),
    "Slice, Concat": ("p = Slice (both, zero, one, two)\n q = Slice (both, one, far, two)\n "
                      "W = Concat <axis = 2> (q, p)", lambda W: {"both": np.roll(W, 1, 2)}),
    "Reshape": ("W = Reshape (flat, shape)", lambda W: {"flat": W.ravel(), "shape": np.array(W.shape)}),
    "Cast": ("W = Cast <to = 11> (f)", lambda W: {"f": W.astype(np.float32)}),
    "Constant, Mul": ("k = Constant <value = double {2}> ()\n W = Mul (k, half)", lambda W: {"half": W / 2}),
    "MatMul, Sum": ("m = MatMul (W_0, turn)\n W = Sum (m, nothing)",
                    lambda W: {"W_0": W[:, :, ::-1], "turn": np.eye(3)[::-1], "nothing": np.zeros(1)}),
    "Pow, ReduceSum, Sqrt, Where": ("p = Pow (pairs, powers)\n r = ReduceSum <keepdims = 0> (p, minus_one)\n "
                                    "s = Sqrt (r)\n n = Neg (s)\n W = Where (below, n, s)",
                                    lambda W: {"pairs": np.stack([W, 0 * W], -1), "powers": np.array([2.0]),
                                               "below": W < 0, "minus_one": np.array([-1])}),
    "DequantizeLinear": ("d = DequantizeLinear (q, step, middle)\n W = Cast <to = 11> (d)",
                         lambda W: {"q": np.round(W * 16 + 3).astype(np.int8), "step": np.float32(0.0625),
                                    "middle": np.int8(3)}),
    "Tile": ("t = Tile (part, repeats)\n W = Slice (t, zero, one, zero)",
             lambda W: {"part": W, "repeats": np.array([2, 1, 1])}),
    "Gather, Split": ("g = Gather <axis = 0> (two_of, one)\n W, rest = Split <axis = 0> (two_of)",
                      lambda W: {"two_of": np.concatenate([W, -W])}),
}  # fmt: skip


@each_cell
@pytest.mark.parametrize("change", FOLDED)
def test_weights_that_are_computed_from_constants(cell, change, path):
    nodes, make = FOLDED[change]
    values, p = arrays(cell)
    W = values["W"]
    more = make(W) | {"two": np.array([2]), "far": np.array([2**63 - 1])}
    save(cell, path, "[layer]", nodes + "\n [layer]", **more)
    W = W.astype(np.float32).astype(np.float64) if change == "Cast" else W
    if change == "DequantizeLinear":  # which the evaluator has from operator set 19 on
        model = onnx.load(path)
        model.opset_import[0].version, model.ir_version = 19, 9
        onnx.save(model, path)
        W = (np.round(W * 16 + 3) - 3) / 16
    if change.startswith("Pow"):
        W = np.sign(W) * np.sqrt(W**2)
    same_bits(cyrnn.import_onnx(path), p | split(cell, W[0], values["R"][0], values["B"][0]))


@each_cell
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float", "double"])
def test_weights_of_every_floating_type(cell, kind, path):
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    opset = ("14", "22") if kind == "bfloat16" else ("", "")
    save(cell, path, *opset, kind=kind, dtype=dtype)
    same_bits(cyrnn.import_onnx(path), arrays(cell, dtype)[1])


LENGTHS = TEXT[TEXT.index("double[7, 4, 3] x") : TEXT.index("B, , h")] + "B, , h"
WITH_LENGTHS = "int64[4] lengths, " + LENGTHS.replace("[layer]", "n = Cast <to = 6> (lengths)\n [layer]").replace(
    "B, , h", "B, n, h"
)


@each_cell
@pytest.mark.parametrize("result", ["every step", "last state"])
def test_lengths_are_given_at_the_call(cell, result, path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    start, states = TEXT.index("double[7, 4, 3] x"), TEXT.index(STATES)
    new = TEXT[start:states].replace(LENGTHS, WITH_LENGTHS)
    if result == "every step":
        new = new.replace("double[7, 4, 2] y", "double[a, b, 4, 5] y") + "y = Identity (Y)\n}"
    else:
        new = new.replace("double[7, 4, 2] y", "double[1, 4, 5] y") + "y = Identity (Y_h)\n}"
    save(cell, path, TEXT[start:], new, kind="float", dtype=np.float32)
    p = cyrnn.import_onnx(path)
    same_bits(p, only(cell, arrays(cell, np.float32)[1], False))
    q = cell.problem(*SHAPE)
    q.p = p | {cell.output[0]: np.zeros((1, 5)), "by": np.zeros((1, 1))}
    lengths = np.array([7, 2, 1, 5])
    inputs = {"x": q.x.transpose(2, 1, 0), "h": q.a0.T[None], "c": 0 * q.a0.T[None], "lengths": lengths}
    inputs = {name: value if name == "lengths" else value.astype(np.float32) for name, value in inputs.items()}
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {value.name: inputs[value.name] for value in session.get_inputs()})
    a = cell.forward(q, lengths=lengths).a
    want = a.transpose(2, 1, 0)[:, None] if result == "every step" else a[:, range(4), lengths - 1].T[None]
    close(y, want, 1e-6)


@each_cell
def test_the_last_of_all_steps_is_not_that_of_every_example(cell, path):
    start, end = TEXT.index("double[7, 4, 3] x"), TEXT.index("[head]")
    picked = WITH_LENGTHS + TEXT[TEXT.index("B, , h") + 6 : TEXT.index(STATES)]
    picked += "s = Squeeze (Y, one)\n [last] a = Gather <axis = 0> (s, minus)\n"
    save(cell, path, TEXT[start:end], picked, minus=np.array(-1))
    refuse(ValueError, "path: Gather 'last': .* .it picks what are no steps.", cyrnn.import_onnx, path)


@each_cell
def test_sparse_constants_and_functions_of_the_model(cell, path):
    save(cell, path)
    model = onnx.load(path)
    values = onnx.numpy_helper.from_array(np.ones(20), "h")
    places = onnx.numpy_helper.from_array(np.arange(20), "places")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [1, 4, 5]))
    del model.graph.input[1]
    onnx.save(model, path)
    refuse(ValueError, IS + "input 'initial_h': expected zeros .*, got a sparse constant", cyrnn.import_onnx, path)
    save(cell, path)
    model = onnx.load(path)
    opset = onnx.helper.make_opsetid("", 14)
    own = r"path: expected .*, got only \['Add', .*'own.(RNN|LSTM|GRU)'\]"
    for domain, message in (("own", own), ("", "path: expected .*")):
        (node,) = [node for node in model.graph.node if node.name == "layer"]
        node.domain = domain
        nodes = [onnx.helper.make_node("Add", ["x", "x"], ["Y"])]
        inputs = [name or f"unused{k}" for k, name in enumerate(node.input)]
        function = onnx.helper.make_function(domain, node.op_type, inputs, ["Y"], nodes, [opset])
        del model.functions[:], model.opset_import[:]
        model.functions.append(function)
        model.opset_import.extend([opset] if not domain else [opset, onnx.helper.make_opsetid(domain, 1)])
        onnx.save(model, path)
        refuse(ValueError, message, cyrnn.import_onnx, path)


def test_models_made_at_random(path):
    """Each is refused, or its parameters compute what the reference evaluator computes."""
    taken, used = collections.Counter(), collections.Counter()
    for seed in range(400):
        was_taken, operators = onnx_models.check([0, seed], path)
        taken[was_taken] += 1
        if was_taken:
            used.update(set(operators))
    assert taken[True] > 50
    assert taken[False] > 50
    # Every kind of node stands in some models that are taken.
    kinds = set(onnx_models.MOVES) - {"other", "expand"}
    assert {kind.capitalize() for kind in kinds} <= set(used)
    assert {"rnn", "lstm", "reset 0", "reset 1", "forward", "bidirectional", "two layers", "embedding"} <= set(used)
    assert "reverse" not in used


@each_cell
def test_without_biases_or_output_layer(cell, path):
    p = arrays(cell)[1]
    save(cell, path, "B, , h, c)", ", , h, c)")
    got = cyrnn.import_onnx(path)
    assert not any(got[name].any() for name in cell.inputs if name.startswith("b"))
    same_bits(got, p | {name: got[name] for name in cell.inputs if name.startswith("b")})
    save(cell, path, "[bias] z = Add (v, product)", "z = Identity (product)")
    same_bits(cyrnn.import_onnx(path), p | {"by": np.zeros((2, 1))})
    save(cell, path, TEXT[TEXT.index("[head]") :], "y = Identity (a)\n}")
    same_bits(cyrnn.import_onnx(path), only(cell, p, False))


IS = "path: (RNN|LSTM|GRU) 'layer': "
SIZE = "<hidden_size = 5>"
REFUSED = {
    # attributes
    "reverse": (SIZE, '<direction = "reverse">', IS + "attribute 'direction': expected forward or bidirectional, got "
                "reverse, since a layer of one direction runs from left to right"),
    "clip": (SIZE, "<clip = 3.0>", IS + "attribute 'clip': expected none, got 3.0"),
    "alpha": (SIZE, "<activation_alpha = [0.5]>", IS + r"attribute 'activation_alpha': expected none, got \[0.5\]"),
    "beta": (SIZE, "<activation_beta = [0.5]>", IS + r"attribute 'activation_beta': expected none, got \[0.5\]"),
    "size": (SIZE, "<hidden_size = 6>", IS + "attribute 'hidden_size': expected the n_a = 5 of the input 'R', got 6"),
    # inputs
    "lengths": ("B, , h", "B, lengths, h", IS + "input 'sequence_lens': expected an input of the model or T_x, got the "
                "constant 'lengths'"),
    "W computed": ("(x, W, R", "(x, x, R", IS + "input 'W': expected a constant, got the input 'x'"),
    "B computed": ("R, B, ,", "R, x, ,", IS + "input 'B': expected a constant, got the input 'x'"),
    "W of another shape": ("(x, W, R", "(x, v, R", IS + "input 'W': expected 3 dimensions .*, got .*"),
    "W of other units": ("(x, W, R", "(x, ones, R", IS + "input 'W': expected shape .*, got .*"),
    "R of other units": ("(x, W, R", "(x, W, ones", IS + r"input 'R': expected shape .*, got \(1, 4, 5\)"),
    "R without units": (SIZE + " (x, W, R", "(x, W, none", IS + r"attribute 'hidden_size': expected .* 0 .*, got 0"),
    "B of another shape": ("R, B, ,", "R, b, ,", IS + r"input 'B': expected shape \(1, 2 gates n_a\) = .*, got .*"),
    "B of one dimension": ("R, B, ,", "R, v, ,", IS + "input 'B': expected 2 dimensions .*, got .*"),
    "initial state": (", h, c)", ", ones, c)", IS + "input 'initial_h': expected zeros or .*, got the constant 'ones'"),
    "initial state computed": (*ahead("t = Tanh (h)", ", h", ", t"),
                               IS + "input 'initial_h': expected zeros or .*, got the result of Tanh .*"),
    "x computed": (*ahead("X = Tanh (x)", "(x", "(X"),
                   IS + "input 'X': expected an input of the model, got the result of Tanh .*"),
    "x constant": ("(x, W", "(ones, W", IS + "input 'X': expected an input of the model, got the constant 'ones'"),
    # what comes after
    "relu": (END, "[end] y = Relu (z)", "path: Relu 'end': expected after the (RNN|LSTM|GRU) 'layer' nothing but .*"),
    "softmax over examples": (END, "[end] y = Softmax <axis = 1> (z)", "path: Softmax 'end': .*"),
    "softmax when turned": (END, "t = Transpose (z)\n [end] y = Softmax <axis = -1> (t)", "path: Softmax 'end': .*"),
    "softmax of the states": (END, "y = Identity (z)\n [end] t = Softmax <axis = -1> (a)", "path: Softmax 'end': .*"),
    "what is added": (END, "[end] y = Add (z, x)", "path: Add 'end': .*"),
    "a second bias": (END, "[end] y = Add (z, v)", "path: Add 'end': .*"),
    "two heads": (END, "[end] y = MatMul (a, V_t)", "path: MatMul 'end': .*"),
    "a second layer": (END, "[end] y = MatMul (z, V_t)", "path: MatMul 'end': .*"),
    "head computed": (HEAD, "product = MatMul (a, x)",
                      "path: MatMul 'head': input 'B': expected a constant, got the input 'x'"),
    "head turned": (HEAD, "product = MatMul (V, a)", "path: MatMul 'head': expected after .*"),
    "head of another shape": (HEAD, "product = MatMul (a, V)", "path: MatMul 'head': input 'B': expected shape .*"),
    "alpha of the head": (HEAD, "product = Gemm <alpha = 2.0> (a, V_t)", "path: Gemm 'head': attribute 'alpha': .*"),
    "beta of the head": (HEAD, "product = Gemm <beta = 2.0> (a, V_t)", "path: Gemm 'head': attribute 'beta': .*"),
    "transA": (HEAD, "product = Gemm <transA = 1> (a, V_t)", "path: Gemm 'head': attribute 'transA': .*, got 1"),
    "bias of another shape": ("(v, p", "(zero, p", r"path: Add 'bias': expected a constant bias .*, got shape \(1,\)"),
    "bias of the examples": (TEXT[TEXT.index("(double[7") : TEXT.index("z)")],
                             TEXT[TEXT.index("(double[7") : TEXT.index("z)")].replace("4, ", "2, ")
                             .replace("[bias]", "t = Transpose <perm = [0, 2, 1]> (product)\n [bias]")
                             .replace("(v, product)", "(v, t)"),
                             "path: Add 'bias': .* .what it adds is not one number for each output."),
    "bias computed": ("(v, p", "(x, p", "path: Add 'bias': expected a constant bias .*, got the input 'x'"),
    "units picked": (STATES, "[end] a = Gather <axis = 3> (Y, order)", "path: Gather 'end': .*"),
    "states as a shape": (END, "[end] y = Reshape (z, a)", "path: Reshape 'end': .*"),
    "steps turned": (STATES, "[end] a = Slice (Y, order, order, order, minus)", "path: Slice 'end': .*"),
    # what looks like something that it is not
    "x cast to integers": (*ahead("i = Cast <to = 6> (x)\n X = Cast <to = 11> (i)", "(x", "(X"),
                           ".*input 'X': expected .*, got the result of Cast .that type does not hold every value."),
    "x mixed": (*ahead("[mix] X = Reshape (x, shape)", "(x", "(X"),
                ".*input 'X': expected .*, got the result of Reshape 'mix' .it mixes axes."),
    "x with axes merged": (*ahead("u = Unsqueeze (x, zero)\n X = Reshape (u, merge)", "(x", "(X"),
                           ".*input 'X': .*, got a part or several axes in one of .* 'x'"),
    "x in part": (*ahead("X = Slice (x, one, five, zero)", "(x", "(X"),
                  ".*input 'X': .*, got a part or several axes in one of the input 'x'"),
    "features": ("double[7, 4, 3] x", "double[7, 4, 2] x", IS + "input 'X': expected n_x = 3 as in 'W', got 2"),
    "states cast to integers": (STATES, "s = Squeeze (Y, one)\n [end] i = Cast <to = 6> (s)\n a = Cast <to = 11> (i)",
                                "path: Cast 'end': .* .that type does not hold every value."),
    "states mixed": (STATES, "[end] a = Reshape (Y, shape)", "path: Reshape 'end': .* .it mixes axes."),
    "axes that may have the size 1": (TEXT[TEXT.index("(double[7") : TEXT.index("[head]")],
                                      TEXT[TEXT.index("(double[7") : TEXT.index(STATES)].replace("7, 4, 3", "T, m, 3")
                                      + "[end] a = Squeeze (Y)\n ", "path: Squeeze 'end': .* .it may remove axes .*"),
    "sums over the steps": (STATES, "s = Squeeze (Y, one)\n a = Transpose <perm = [2, 1, 0]> (s)",
                            "path: MatMul 'head': .* .its sums are not over the units."),
    "an attribute of the Add": ("Add (v", "Add <axis = 1, broadcast = 1> (v", "(?s)path: .*"),
    "softmax over two axes": (END, "m = Reshape (z, merged)\n [end] y = Softmax (m)",
                              "path: Softmax 'end': .* .it is not over the outputs alone."),
    "one output picked": (END, "[end] y = Gather <axis = 2> (z, one)", "path: Gather 'end': .* .it picks what.*"),
    "one unit picked": (END, "w = Softmax (z)\n [end] y = Gather <axis = 2> (a, one)", "path: Gather 'end': .*"),
    "an example picked": (STATES, "[end] s = Slice (Y, zero, one, two)\n a = Squeeze (s, one)",
                          "path: Slice 'end': .*"),
    "several steps picked": (STATES, "s = Squeeze (Y, one)\n [end] a = Gather (s, order)", "path: Gather 'end': .*"),
    "states repeated": (STATES, "[end] a = Expand (Y, twice)", "path: Expand 'end': .* .it repeats .*"),
    "a subgraph": (END, "[end] y = If <then_branch = g () => (double[7, 4, 2] p) {p = Neg (z)}, "
                   "else_branch = h () => (double[7, 4, 2] q) {q = Identity (z)}> (true)",
                   "path: If 'end': .* of 'z' .*"),
    "the product alone": (END, "[end] y = Softmax <axis = -1> (product)",
                          "path: Softmax 'end': expected the linear layer with its bias, got it without"),
    "the product as a result": (END, "y = Identity (product)",
                                "path: output 'y': expected the linear layer with its bias, got it without"),
    "another result": (END, "t = Softmax (z)\n [end] y = Relu (x)",
                       "path: output 'y': expected a result of the (RNN|LSTM|GRU) 'layer', got the result of Relu .*"),
    "a state from x": (*ahead("f = Slice (x, zero, one, zero)", ", h", ", f"),
                       ".*input 'initial_h': expected zeros or .*"),
    "a state mixed": (*ahead("f = Transpose <perm = [0, 2, 1]> (h)\n g = Reshape (f, states)", ", h", ", g"),
                      ".*input 'initial_h': .*, got the result of Reshape .it mixes axes."),
    "a state with axes merged": (TEXT[TEXT.index("double[1, 4, 5] h") : TEXT.index(", c)\n")],
                                 TEXT[TEXT.index("double[1, 4, 5] h") : TEXT.index(", c)\n")]
                                 .replace("double[1, 4, 5] h", "double[2, 2, 5] h")
                                 .replace("[layer]", "g = Reshape (h, states)\n [layer]").replace(", h", ", g"),
                                 ".*input 'initial_h': .*, got a part or several axes in one of the input 'h'"),
    "W at random": (*ahead("[seed] M = RandomNormal <shape = [1, 5, 3]> ()", "W", "M"),
                    ".*input 'W': expected a constant, got the result of RandomNormal 'seed' .it may change values."),
    "W of what is not computed": (*ahead("[pad] M = Pad (W, pads)", "W", "M"), ".*input 'W': expected a constant, got "
                                  "the result of Pad 'pad' .constants are not computed through it."),
    "W of too many numbers": (*ahead("[tile] M = Tile (W, often)", "W", "M"), ".*input 'W': expected a constant, got "
                              "the result of Tile 'tile' .constants are not computed through it."),
    "W of integers": (*ahead("M = Cast <to = 7> (W)", "W", "M"),
                      ".*input 'W': expected floating-point numbers, got dtype int64"),
    "W that cannot be computed": (*ahead("[sum] M = Add (W, shape)", "W", "M"),
                                  ".*input 'W': .*, got the result of Add 'sum' .its evaluation failed with .*"),
}  # fmt: skip


@each_cell
@pytest.mark.parametrize("change", REFUSED)
def test_models_that_are_refused(cell, change, path):
    old, new, message = REFUSED[change]
    more = {"lengths": np.array([7, 3, 7, 7], np.int32), "ones": np.ones((1, 4, 5)), "b": np.ones((1, 3))}
    more |= {"order": np.arange(5), "minus": np.full(5, -1), "none": np.ones((1, 0, 0)), "five": np.array([5])}
    more |= {"two": np.array([2]), "pads": np.zeros(6, np.int64), "often": np.array([1 << 20, 1, 1 << 20])}
    more |= {"shape": np.array([4, 7, -1]), "merge": np.array([7, 1, 12]), "merged": np.array([7, 8])}
    more |= {"twice": np.array([7, 2, 4, 5]), "states": np.array([1, 4, 5]), "true": np.array(True)}
    save(cell, path, old, new, **more)
    refuse(ValueError, message, cyrnn.import_onnx, path)
    save(cell, path)
    cyrnn.import_onnx(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (SIZE, "<input_forget = 1>", "attribute 'input_forget': expected 0, got 1"),
        (", h, c)", ", h, c, P)", "input 'P': expected none, got 'P'"),
        (", h, c)", ", h, ones)", "input 'initial_c': expected zeros or .*, got the constant 'ones'"),
        (SIZE, '<activations = ["Sigmoid", "Relu", "Tanh"]>', r"attribute 'activations': .* got \['sigm.*'\]"),
    ],
)
def test_what_an_lstm_alone_can_have(old, new, message, path):
    save(CELLS[1], path, old, new, P=np.ones((1, 15)), ones=np.ones((1, 4, 5)))
    refuse(ValueError, IS + message, cyrnn.import_onnx, path)


def test_the_memory_is_no_input_of_the_output_layer(path):
    between = TEXT[TEXT.index("Y, Y_h") : TEXT.index("[bias]")]
    memory = between.replace("Y_h =", "Y_h, Y_c =").replace("Squeeze (Y, one)", "Squeeze (Y_c, zero)")
    save(CELLS[1], path, between, memory)
    refuse(ValueError, "path: MatMul 'head': expected after the LSTM 'layer' nothing but .*", cyrnn.import_onnx, path)


@each_cell
def test_softmax_of_old_operator_sets(cell, path):
    """Without an axis it goes over all dimensions but the first."""
    between = TEXT[TEXT.index("14]") : TEXT.index("(z)")]
    old = between.replace("14]", "11]").replace("Squeeze (Y, one)", "Squeeze <axes = [1]> (Y)")
    save(cell, path, between, old.replace("Softmax <axis = -1>", "Softmax"))
    refuse(ValueError, "path: Softmax 'end': .*", cyrnn.import_onnx, path)
    save(cell, path, between, old.replace("axis = -1", "axis = 2"))
    same_bits(cyrnn.import_onnx(path), arrays(cell)[1])


@each_cell
def test_activations_that_are_the_default(cell, path):
    names = {"rnn": '["tanh"]', "lstm": '["Sigmoid", "Tanh", "TANH"]', "gru": '["Sigmoid", "TANH"]'}[cell.kind]
    save(cell, path, SIZE, f"<activations = {names}>")
    same_bits(cyrnn.import_onnx(path), arrays(cell)[1])
    names = {"rnn": '["Relu"]', "lstm": '["Sigmoid", "Tanh", "Relu"]', "gru": '["Sigmoid", "Relu"]'}[cell.kind]
    save(cell, path, SIZE, f"<activations = {names}>")
    refuse(ValueError, IS + r"attribute 'activations': expected .*, got \[.*'relu'\]", cyrnn.import_onnx, path)


def test_operators_that_are_no_chain(path):
    save(CELLS[0], path, END, END + "\n Q = RNN (x, W, R)")
    refuse(ValueError, "path: RNN: expected no layer after the linear layer, got RNN", cyrnn.import_onnx, path)
    save(CELLS[0], path, STATES, "Q = RNN (x, W, R)\n " + STATES)
    wanted = "path: RNN: input 'X': expected the states of the RNN 'layer', got the input 'x'"
    refuse(ValueError, wanted, cyrnn.import_onnx, path)


def test_what_is_no_model(path):
    path.write_text("some text")
    refuse(ValueError, "path: expected a valid ONNX model, got .*", cyrnn.import_onnx, path)
    path.write_text("")
    refuse(ValueError, "path: expected .*", cyrnn.import_onnx, path)
    save(CELLS[0], path, END, "u = Identity (w)\n w = Identity (u)\n y = Softmax (z)")  # a circle
    refuse(ValueError, "(?s)path: expected a valid ONNX model, got .*", cyrnn.import_onnx, path)
    with pytest.raises(FileNotFoundError):
        cyrnn.import_onnx(path.with_name("nowhere.onnx"))
    number = os.open(path, os.O_RDONLY)  # of a file that is open
    try:
        for wrong, got in ((None, "NoneType"), (number, "int"), (True, "bool"), (onnx.ModelProto(), "ModelProto")):
            refuse(TypeError, f"path: expected a path, got {got}", cyrnn.import_onnx, wrong)
            refuse(TypeError, f"path: expected a path, got {got}", cyrnn.export_onnx, wrong, parameters(CELLS[0])[0])
        assert os.read(number, 9)  # where it was
    finally:
        os.close(number)


@each_cell
def test_wrong_arguments(cell, path):
    p, _ = parameters(cell)
    narrow = functools.partial(cyrnn.export_onnx, dtype="float16")
    refuse(ValueError, "dtype: expected 'float32' or 'float64', got 'float16'", narrow, path, p)
    for name in p:
        rest = {key: value for key, value in p.items() if key != name}
        if name == "bca":  # without it they are of the other form
            continue
        refuse(KeyError, f"parameters: expected an entry .*'{name}'.*", cyrnn.export_onnx, path, rest)
        refuse(TypeError, rf"parameters\['{name}'\]: .*", cyrnn.export_onnx, path, p | {name: None})
        large = p[name].copy()
        large[0, 0] = 4e38
        too_large = "parameters: expected numbers that float32 can hold, .*"
        refuse(ValueError, too_large, cyrnn.export_onnx, path, p | {name: large})
    assert not path.exists()
    large[0, 0] = np.inf  # is the same in float32
    cyrnn.export_onnx(path, p | {name: large})
    refuse(ValueError, f"path: expected finite weights, got some of {name} that are not", cyrnn.import_onnx, path)


def test_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for function in (cyrnn.export_onnx, cyrnn.import_onnx):
        with pytest.raises(ImportError, match="the package onnx is needed for this: pip install onnx"):
            function(path, {}) if function is cyrnn.export_onnx else function(path)


# Networks


def network(layers, embedding=False, output=True, seed=0):
    """A network of layers as (cell, units, directions), and an input for it: 3 features or 6 words, m = 4, T_x = 7."""
    rng, found, n_x = np.random.default_rng(seed), [], 3
    if embedding:
        found.append({"E": rng.standard_normal((3, 6))})
    for k, (cell, n_a, directions) in enumerate(layers):
        each = [cell.problem(n_x, n_a, 2, 4, 7, seed=[seed, k, i]).p for i in range(directions)]
        each = [{name: p[name] for name in cell.inputs} for p in each]
        found.append(each[0] if directions == 1 else tuple(each))
        n_x = directions * n_a
    if output:
        found.append({"Wy": rng.standard_normal((2, n_x)), "by": rng.standard_normal((2, 1))})
    return found, rng.integers(0, 6, (4, 7)) if embedding else rng.standard_normal((3, 4, 7))


def initial(layers, m, seed=1):
    """States for every layer and direction."""
    rng, states = np.random.default_rng(seed), []
    for cell, n_a, directions in layers:
        each = [tuple(rng.standard_normal((len(cell.states), n_a, m))) for _ in range(directions)]
        each = [one if cell.memory else one[0] for one in each]
        states.append(each[0] if directions == 1 else tuple(each))
    return states


def named(layers, states, prefix=""):
    """States by the names that they have in an exported model."""
    found = {}
    for k, ((_, _, directions), layer) in enumerate(zip(layers, states, strict=True)):
        for i, each in enumerate([layer] if directions == 1 else layer):
            suffix = f"_{k}" if directions == 1 else f"_{k}_{i}"
            values = each if isinstance(each, tuple) else (each,)
            found |= {f"{s}{prefix}{suffix}": v for s, v in zip("ac", values, strict=False)}
    return found


RNN, LSTM, BEFORE, AFTER = CELLS
NETWORKS = {
    "two layers": ([(LSTM, 5, 1), (LSTM, 4, 1)], False),
    "both directions": ([(LSTM, 5, 2)], False),
    "an embedding": ([(AFTER, 5, 1)], True),
    "mixed": ([(BEFORE, 5, 2), (RNN, 4, 1), (AFTER, 3, 2)], True),
    "pairs": ([(RNN, 4, 2), (LSTM, 5, 2)], False),
    "one unit": ([(AFTER, 1, 2), (LSTM, 1, 1), (RNN, 1, 2)], False),
    "chain": ([(RNN, 5, 1), (BEFORE, 4, 1), (LSTM, 3, 1)], True),
    "pairs of GRUs": ([(AFTER, 3, 2), (BEFORE, 4, 2)], False),
}
each_network = pytest.mark.parametrize("kind", NETWORKS)


def of_network(layers, x, net, output="softmax", **keywords):
    """What an exported network gives, by name, for initial states."""
    states = initial(layers, x.shape[-2])
    y, a, last, _ = cyrnn.network_forward(x, net, states=states, output=output, cache=False, **keywords)
    want = {"a": a} | ({} if y is None else {"y": y}) | named(layers, last)
    return {"x": x} | named(layers, states, "0"), want


@each_network
@pytest.mark.parametrize("output", [True, False], ids=["output", "no output"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_of_networks(kind, output, dtype, path):
    layers, embedding = NETWORKS[kind]
    net, x = network(layers, embedding, output)
    before, _ = network(layers, embedding, output)
    cyrnn.export_onnx(path, net, dtype=dtype)
    same_network(net, before)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    inputs, want = of_network(layers, x, net)
    shapes = {name: [*value.shape[:-2], "m", "T_x"] for name, value in (inputs | want).items()}
    shapes |= {name: [len(value), "m"] for name, value in (inputs | want).items() if name[1:2] in ("0", "_")}
    assert {value.name: sizes(value) for value in model.graph.input} == {name: shapes[name] for name in inputs}
    assert {value.name: sizes(value) for value in model.graph.output} == {name: shapes[name] for name in want}
    for node in model.graph.node:
        assert all(node.output)
        assert node.op_type not in OPERATORS or len(node.output) == (3 if node.op_type == "LSTM" else 2)

    def rounded(entry):
        if isinstance(entry, dict):
            return {name: value.astype(dtype).astype(np.float64) for name, value in entry.items()}
        return type(entry)(map(rounded, entry))

    same_network(cyrnn.import_onnx(path), rounded(net))


@each_network
def test_networks_in_the_reference_evaluator(kind, path):
    from onnx.reference import ReferenceEvaluator

    layers, embedding = NETWORKS[kind]
    net, x = network(layers, embedding)
    for output in ("softmax", "sigmoid", "linear", None):
        cyrnn.export_onnx(path, net, dtype="float64", output=output)
        evaluator = ReferenceEvaluator(onnx.load(path))
        for x_part in (x, x[..., :1, :], x[..., :1]):
            inputs, want = of_network(layers, x_part, net, output)
            got = dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))
            assert list(got) == list(want)
            for name, value in want.items():
                close(got[name], value, 1e-13)
        if output is not None:
            same_network(cyrnn.import_onnx(path), net)


@each_network
@pytest.mark.parametrize("dtype", ["float64", "float32"])  # by ONNX's reference evaluator, and by ONNX Runtime
def test_the_output_of_the_last_states(kind, dtype, path):
    from onnx.reference import ReferenceEvaluator

    layers, embedding = NETWORKS[kind]
    net, x = network(layers, embedding)
    for output, activation in (("softmax", cyrnn.softmax), ("sigmoid", cyrnn.sigmoid), ("linear", np.asarray)):
        cyrnn.export_onnx(path, net, dtype=dtype, output=output, last=True)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert {value.name: sizes(value) for value in model.graph.output}["y"] == [2, "m"]
        inputs, want = of_network(layers, x, net, output)
        last = [want[name] for name in want if name.startswith(f"a_{len(layers) - 1}")]
        want["y"] = activation(net[-1]["Wy"] @ np.concatenate(last) + net[-1]["by"])
        if dtype == "float64":
            evaluator = ReferenceEvaluator(model)
            got = dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))
        else:
            run = onnx_runtime(path)
            got = run({name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in inputs.items()})
        assert set(got) == set(want)
        for name, value in want.items():
            close(got[name], value, 1e-13 if dtype == "float64" else 1e-6)
    if layers[-1][2] == 2:
        message = "path: MatMul: .*last states of two directions are of different steps.*"
        refuse(ValueError, message, cyrnn.import_onnx, path)
    elif dtype == "float64":
        same_network(cyrnn.import_onnx(path), net)


def test_the_last_state_of_one_layer(path):
    for cell in CELLS:
        p, _ = parameters(cell)
        cyrnn.export_onnx(path, p, dtype="float64", last=True)
        same_bits(cyrnn.import_onnx(path), p)
    refuse(TypeError, "last: expected True or False, got int", functools.partial(cyrnn.export_onnx, last=1), path, p)


@each_network
@pytest.mark.parametrize("reader", [onnx_runtime, openvino, opencv], ids=lambda reader: reader.__name__)
def test_networks_in_other_readers(kind, reader, path):
    layers, embedding = NETWORKS[kind]
    if reader is opencv and RNN in [cell for cell, _, _ in layers]:
        pytest.skip("OpenCV has no operator RNN")
    net, x = network(layers, embedding)
    cyrnn.export_onnx(path, net)
    run = reader(path)
    for x_part in (x, x[..., :1, :], x[..., :1]):
        inputs, want = of_network(layers, x_part, net)
        got = run({name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in inputs.items()})
        assert set(got) == set(want)
        for name, value in want.items():
            close(got[name], value, 1e-6)


def test_one_layer_is_a_dict_and_anything_more_a_list(path):
    net, _ = network([(AFTER, 5, 1)])
    cyrnn.export_onnx(path, net)
    assert list(cyrnn.import_onnx(path)) == [*AFTER.inputs, "Wy", "by"]
    for layers, embedding in NETWORKS.values():
        cyrnn.export_onnx(path, network(layers, embedding)[0])
        assert isinstance(cyrnn.import_onnx(path), list)


def test_networks_that_are_not_exported(path):
    net, _ = network([(LSTM, 5, 2), (AFTER, 4, 1)], embedding=True)
    net[1][1]["Wf"] = net[1][1]["Wf"][:, :-1]
    refuse(ValueError, r"parameters\[1\]\[1\]\['Wf'\]: expected shape .*", cyrnn.export_onnx, path, net)
    refuse(ValueError, "parameters: expected one recurrent layer at least, got none", cyrnn.export_onnx, path, [])
    net, _ = network([(LSTM, 5, 2)])
    net[1]["by"][0] = 1e39
    refuse(ValueError, r"parameters: expected numbers that float32 can hold.*", cyrnn.export_onnx, path, net)
    sharp = functools.partial(cyrnn.export_onnx, output="relu")
    refuse(ValueError, "output: expected 'softmax', 'sigmoid', 'linear' or None, got 'relu'", sharp, path, net)
    assert not path.exists()


def test_weights_of_networks_that_are_not_finite(path):
    net, _ = network([(LSTM, 5, 2), (AFTER, 4, 1)])
    net[0][1]["Wi"][0, 0] = np.inf
    cyrnn.export_onnx(path, net)
    wanted = r"path: expected finite weights, got some of network\[0\]\[1\]\['Wi'\] that are not"
    refuse(ValueError, wanted, cyrnn.import_onnx, path)


# Chains made by hand, changed in one place

CHAIN = """
<ir_version: 8, opset_import: ["": 14]>
net (int64[7, 4] words, int32[4] n) => (double[7, 4, 2] y) {
    X = Gather (E, words)
    [low] Y, Y_h = GRU <hidden_size = 5, direction = "bidirectional", linear_before_reset = 1> (X, W, R, B)
    pairs = Transpose <perm = [0, 2, 1, 3]> (Y)
    A = Reshape (pairs, rows)
    [top] Z, Z_h, Z_c = LSTM <hidden_size = 3> (A, V, S, C)
    a = Squeeze (Z, one)
    [head] z = MatMul (a, U)
    [end] y = Sigmoid (z)
}
"""
LOW, TOP, LAST = "(X, W, R, B)", "(A, V, S, C)", CHAIN[CHAIN.index("    a = Squeeze") :]
PAIRS, MERGED = "pairs = Transpose <perm = [0, 2, 1, 3]> (Y)", "A = Reshape (pairs, rows)"


def chain(path, old="", new="", kind="double", **more):
    """Save the chain with a piece of its text replaced; return the network that it is."""
    text = CHAIN
    for one, other in zip([old] if isinstance(old, str) else old, [new] if isinstance(new, str) else new, strict=True):
        assert not one or text.count(one) == 1, one
        text = text.replace(one, other) if one else text
    rng = np.random.default_rng(4)
    shapes = {
        "E": (6, 3),
        "W": (2, 15, 3),
        "R": (2, 15, 5),
        "B": (2, 30),
        "V": (1, 12, 10),
        "S": (1, 12, 3),
        "C": (1, 24),
    }
    values = {name: rng.standard_normal(shape) / 2 for name, shape in (shapes | {"U": (3, 2)}).items()}
    values = {name: v.astype(np.float32).astype(np.float64) for name, v in values.items()}
    net = [{"E": values["E"].T}, tuple(split(AFTER, *(values[name][i] for name in "WRB")) for i in range(2))]
    net += [split(LSTM, *(values[name][0] for name in "VSC")), {"Wy": values["U"].T, "by": np.zeros((2, 1))}]
    dtype = {"double": np.float64, "float": np.float32}[kind]
    values = {name: v.astype(dtype) for name, v in values.items()}
    values |= {"rows": np.array([0, 0, -1]), "one": np.array([1]), "zero": np.array(0), "first": np.array([0])} | more
    model = onnx.parser.parse_model(text.replace("double", kind))
    read = {name for node in model.graph.node for name in node.input}
    values = {name: np.asarray(value) for name, value in values.items() if name in read}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    onnx.save(model, path)
    return net


CHAINS = {
    "as it is": ("", ""),
    "layout 1": (["(X, W, R, B)", "bidirectional\"", "<hidden_size = 3>", PAIRS, "Squeeze (Z, one)"],
                 ["(T, W, R, B)", "bidirectional\", layout = 1", "<hidden_size = 3, layout = 1>",
                  "pairs = Identity (Y)", "Squeeze (Z, two)"]),
    "activations of both": ("linear_before_reset = 1", 'linear_before_reset = 1, '
                            'activations = ["Sigmoid", "Tanh", "Sigmoid", "Tanh"]'),
    "turned between layers": (["<hidden_size = 3>", PAIRS, "Squeeze (Z, one)"],
                              ["<hidden_size = 3, layout = 1>", "pairs = Transpose <perm = [2, 0, 1, 3]> (Y)",
                               "Squeeze (Z, two)"]),
    "the lengths of both": (["(X, W, R, B)", TOP], ["(X, W, R, B, n)", "(A, V, S, C, n)"]),
    "the bias of a Gemm": (["z = MatMul (a, U)", "Squeeze (Z, one)"],
                           ["z = Gemm (a, U)", "Squeeze (Z_h, first)"]),
    "words that are moved": ("X = Gather (E, words)", "t = Transpose (words)\n i = Cast <to = 7> (t)\n "
                             "g = Gather <axis = 0> (E, i)\n X = Transpose <perm = [1, 0, 2]> (g)"),
    "last states joined": (LAST, "J = Concat <axis = 0> (Y_h, Y_h)\n q = Gather <axis = 0> (J, minus)\n "
                           "I = Concat <axis = 0> (Z_h, Z_c)\n b = Gather <axis = 0> (I, zero)\n z = MatMul (b, U)\n "
                           "y = Softmax <axis = -1> (z)\n}"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHAINS)
def test_chains_that_are_read(change, path):
    old, new = CHAINS[change]
    if change == "layout 1":
        old, new = (
            [*old, "X = Gather (E, words)"],
            [*new, "X = Gather (E, words)\n T = Transpose <perm = [1, 0, 2]> (X)"],
        )
    net = chain(path, old, new, minus=np.array(-1), two=np.array([2]))
    same_network(cyrnn.import_onnx(path), net)


def test_lengths_of_both_directions(path):
    """ONNX Runtime turns each example within its length, as the functions here do."""
    states = CHAIN[CHAIN.index("double[7, 4, 2] y") : CHAIN.index("{")]
    old = [states, "(X, W, R, B)", TOP, LAST]
    new = [states.replace("double[7, 4, 2] y", "double[7, 1, 4, 3] Z, double[1, 4, 3] Z_h, double[2, 4, 5] Y_h"),
           "(X, W, R, B, n)", "(A, V, S, C, n)", "}"]  # fmt: skip
    net = chain(path, old, new, kind="float")[:-1]
    got = cyrnn.import_onnx(path)
    same_network(got, net)
    words, n = np.random.default_rng(5).integers(0, 6, (7, 4)), np.array([7, 2, 1, 5], np.int32)
    _, a, (low, top), _ = cyrnn.network_forward(words.T, got, lengths=n)
    found = onnx_runtime(path)({"words": words, "n": n})
    close(found["Z"], a.transpose(2, 1, 0)[:, None], 1e-6)
    close(found["Z_h"], top[0].T[None], 1e-6)
    close(found["Y_h"], np.stack([low[0].T, low[1].T]), 1e-6)


NOT_THE_STATES = (
    "path: LSTM 'top': input 'X': expected the states of the GRU 'low' of all steps in the order .T_x, m, .*"
)
BROKEN = {
    # between the layers
    "directions not merged": (PAIRS, "p = Slice (Y, first, one, one)\n pairs = Transpose (p)", "path: Slice: .*"),
    "units before directions": (PAIRS, "pairs = Transpose <perm = [0, 2, 3, 1]> (Y)", NOT_THE_STATES),
    "examples as steps": (PAIRS, "pairs = Transpose <perm = [2, 0, 1, 3]> (Y)", NOT_THE_STATES),
    "some steps": (PAIRS, "p = Slice (Y, first, two)\n pairs = Transpose <perm = [0, 2, 1, 3]> (p)", NOT_THE_STATES),
    "later steps": (PAIRS, "p = Slice (Y, one, far)\n pairs = Transpose <perm = [0, 2, 1, 3]> (p)", NOT_THE_STATES),
    "directions as steps": (MERGED, "A = Reshape (Y, mix)", "path: Reshape: .* .it mixes axes."),
    "the last states": (TOP, "(Y_h, V2, S, C)", "path: LSTM 'top': input 'X': expected the states of the GRU "
                        "'low', got 'Y_h'"),
    "the input again": (TOP, "(X, V3, S, C)", "path: LSTM 'top': input 'X': expected the states of .*, got 'X'"),
    "weights of another size": (TOP, "(A, V3, S, C)", ".* 'top': input 'X': expected n_x = 3 as in 'W', got 10"),
    "a residual": (TOP, "(D, V, S, C)", "path: Add: .*"),
    "initial states from below": (TOP, "(A, V, S, C, , L)", "path: LSTM 'top': input 'initial_h': expected zeros .*"),
    "lengths of one": (TOP, "(A, V, S, C, n)", "path: LSTM 'top': input 'sequence_lens': expected that of the layer "
                       "below, none, got 'n'"),
    "lengths of the lower": (LOW, "(X, W, R, B, n)", ".* 'top': input 'sequence_lens': .* below, 'n', got none"),
    # the layers
    "reverse above": ("<hidden_size = 3>", '<hidden_size = 3, direction = "reverse">', "path: LSTM 'top': attribute "
                      "'direction': expected forward or bidirectional, got reverse, since .*"),
    "one direction for two": (', direction = "bidirectional"', "", r".* 'low': input '[RW]': expected shape \(1, .*"),
    "two directions for one": ("<hidden_size = 3>", '<direction = "bidirectional">', ".* 'top': input '[RW]': .*"),
    "another activation": ("linear_before_reset = 1", 'activations = ["Sigmoid", "Tanh", "Sigmoid", "Relu"]',
                           "path: GRU 'low': attribute 'activations': expected .*, got .*"),
    "reset of another kind": ("linear_before_reset = 1", "linear_before_reset = 2", "path: GRU 'low': attribute "
                              "'linear_before_reset': expected 0 or 1, got 2"),
    "clip": ("linear_before_reset = 1", "clip = 2.0", "path: GRU 'low': attribute 'clip': expected none, got 2.0"),
    # the embedding
    "columns of the embedding": ("X = Gather (E, words)", "[pick] X = Gather <axis = 1> (E_t, words)",
                                 ".*input 'X': .*, got the result of Gather 'pick' .it picks no rows .*"),
    "words in a narrower type": ("X = Gather (E, words)", "i = Cast <to = 6> (words)\n [pick] X = Gather (E, i)",
                                 ".*input 'X': .*, got the result of Gather 'pick' .its indices are no input .*"),
    "some words": ("X = Gather (E, words)", "i = Slice (words, first, two)\n [pick] X = Gather (E, i)",
                   ".*input 'X': .*, got the result of Gather 'pick' .its indices are no input .*"),
    "rows scaled": ("X = Gather (E, words)", "g = Gather (E, words)\n [scale] X = Mul (g, g)",
                    ".*input 'X': .*, got the result of Mul 'scale' .*"),
    "rows in part": (["X = Gather (E, words)", LOW], ["g = Gather (E4, words)\n X = Slice (g, one, four, two)", LOW],
                     "path: GRU 'low': input 'X': expected an input of the model, got 'X'"),
    "rows turned": ("X = Gather (E, words)", "g = Gather (E3, words3)\n X = Transpose <perm = [1, 2, 0]> (g)",
                    "path: GRU 'low': input 'X': expected the embedding as its last axis, got another one"),
    # behind
    "the output of a lower layer": (LAST, "y = Identity (A)\n}", "path: output 'y': expected a result of the LSTM "
                                    "'top', got the states of a layer below it"),
    "a head of a lower layer": ("MatMul (a, U)", "MatMul (A, U10)", ".* 'head': .* not the one linear layer .*"),
    "a layer above the head": (LAST, LAST.replace("[end]", "Q = RNN (z, V2, R2)\n [end]"),
                               "path: RNN: expected no layer after the linear layer, got RNN"),
    "last states of both directions": (CHAIN[CHAIN.index("    [top]") :], "g = Gather <axis = 0> (Y_h, zero)\n"
                                       "[head] y = MatMul (g, U5)\n}", ".* 'head': .* are of different steps."),
    "joined states": (LAST, "J = Concat <axis = 0> (Z_h, Z_c)\n [head] y = MatMul (J, U)\n}",
                      "path: MatMul 'head': .*it reads the last states of several layers."),
    "joined memory": (LAST, "J = Concat <axis = 0> (Z_h, Z_c)\n j = Gather <axis = 0> (J, at_one)\n "
                      "[head] y = MatMul (j, U)\n}", "path: MatMul 'head': .*it is not the one linear layer .*"),
    "units picked of joined states": (LAST, "J = Concat <axis = 2> (Z_h, Z_c)\n "
                                      "[j] y = Gather <axis = 2> (J, at_one)\n}",
                                      "path: Gather 'j': .*it picks what are no steps."),
    "examples picked of joined states": (LAST, "J = Concat <axis = 0> (Z_h, Z_c)\n "
                                         "[j] y = Gather <axis = 1> (J, zero)\n}",
                                         "path: Gather 'j': .*it picks no one layer."),
    "states and last states joined": (LAST, "[j] y = Concat <axis = 1> (Z, Z)\n}", "path: Concat 'j': .*"),
    "sigmoid of the states": ("(z)", "(a)", "path: Sigmoid 'end': .* .it is not of the linear layer."),
}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN)
def test_chains_that_are_refused(change, path):
    old, new, message = BROKEN[change]
    if change == "a residual":
        old, new = [MERGED, TOP], [MERGED + "\n D = Add (A, A)", new]
    if change == "initial states from below":
        old, new = [MERGED, TOP], [MERGED + "\n L = Slice (Y_h, first, one)", new]
    if change == "rows turned":
        old, new = ["int64[7, 4] words", old], ["int64[3, 7] words3", new]
    more = {"two": [2], "far": [2**31], "four": [4], "mix": [7, 4, 10], "at_one": 1}
    shapes = {"V2": (1, 12, 5), "V3": (1, 12, 3), "R2": (1, 12, 12), "U10": (10, 2), "U5": (5, 2), "E_t": (3, 6)}
    shapes |= {"E4": (6, 4), "E3": (6, 4)}
    ones = {name: np.ones(shape) for name, shape in shapes.items()}
    chain(path, old, new, **ones, **{name: np.array(value) for name, value in more.items()})
    refuse(ValueError, message, cyrnn.import_onnx, path)
    chain(path)
    cyrnn.import_onnx(path)


SKIPS = """
<ir_version: 8, opset_import: ["": 14]>
net (double[7, 4, 1] x) => (double[7, 1, 4, 1] C) {
    A = RNN (x, W, W)
    a = Squeeze (A, one)
    B = RNN (a, W, W)
    b = Squeeze (B, one)
    [top] C = RNN (b, W, W)
}
"""


def test_a_layer_that_skips_one(path):
    """With one unit no size and no axis tells which layer it reads."""
    for text in (SKIPS, SKIPS.replace("(b, W", "(a, W")):
        model = onnx.parser.parse_model(text)
        for name, value in {"W": np.ones((1, 1, 1)), "one": np.array([1])}.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        onnx.save(model, path)
        if text is SKIPS:
            assert len(cyrnn.import_onnx(path)) == 3
    wanted = "path: RNN 'top': input 'X': expected the states of the RNN, got 'a'"
    refuse(ValueError, wanted, cyrnn.import_onnx, path)


# Against the node tests of the package onnx


def node_tests():
    """The cases for the recurrent operators, if this version of onnx has them as modules that can be imported."""
    try:
        cases = importlib.import_module("onnx.backend.test.case.node")
        for name in ("gru", "lstm", "rnn"):
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
        return [case for case in cases._NodeTestCases if case.model.graph.node[0].op_type in OPERATORS]
    except (ImportError, AttributeError):
        return []


def test_the_node_tests_of_onnx(path):
    """Their weights are inputs; here they are constants."""
    cases = node_tests()
    if not cases:
        pytest.skip("no node tests in this onnx")
    taken = []
    for case in cases:
        model, (arrays, results) = onnx.ModelProto.FromString(case.model.SerializeToString()), case.data_sets[0]
        values = {info.name: value for info, value in zip(model.graph.input, arrays, strict=True)}
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values[name], name) for name in ("W", "R", "B") if name in values
        )
        onnx.save(model, path)
        if "peepholes" in case.name or "reverse" in case.name:
            refuse(ValueError, "path: .*: (input 'P'|attribute 'direction'): expected .*", cyrnn.import_onnx, path)
            continue
        net = cyrnn.import_onnx(path)
        net = net if isinstance(net, list) else [net]
        batchwise = "batchwise" in case.name
        x = values["X"].transpose(2, 0, 1) if batchwise else values["X"].transpose(2, 1, 0)
        _, a, ((*states,),), _ = cyrnn.network_forward(x, net, output=None)
        if "lstm" in case.name and len(a) == len(states[0]):
            states = [tuple(states)]
        elif len(a) == values["R"].shape[2]:
            states = [np.array(states)]
        want = {"Y": a.reshape(len(values["R"]), -1, *a.shape[1:])}  # (directions, n_a, m, T_x)
        want["Y_h"] = np.stack([state[0] if isinstance(state, tuple) else state for state in states])
        want["Y_c"] = np.stack([state[1] if isinstance(state, tuple) else 0 * state for state in states])
        orders = {3: (2, 0, 1), 4: (2, 3, 0, 1)} if batchwise else {3: (0, 2, 1), 4: (3, 0, 2, 1)}
        for info, value in zip(model.graph.output, results, strict=True):
            close(value, want[info.name].transpose(orders[want[info.name].ndim]), 1e-6)
        taken.append(case.name)
    assert len(taken) >= 14
    for name in ("gru", "lstm", "rnn"):
        assert any(name in case and "bidirectional" in case for case in taken)


# Models of PyTorch


class Torch:
    """Makes modules around a stack of PyTorch, when that is known to be installed."""

    def __new__(cls, torch, stack, embedding, head, kind):
        class Whole(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding, self.layers, self.head = embedding, stack, head

            def forward(self, x):
                x = x if embedding is None else self.embedding(x)
                a, last = self.layers(x)
                if kind == "last state":
                    return self.head((last[0] if isinstance(last, tuple) else last)[-1])
                z = self.head(a[:, -1] if kind == "last step" else a)
                return {"softmax": torch.softmax(z, -1), "sigmoid": torch.sigmoid(z)}.get(kind, z)

        return Whole().eval()


STACKS = [  # options, whether an embedding is in front, what is behind
    ({"num_layers": 2}, False, "last state"),
    ({"num_layers": 3, "bidirectional": True}, True, "softmax"),
    ({"bidirectional": True}, False, "last step"),
    ({"num_layers": 2, "bidirectional": True, "bias": False}, False, "sigmoid"),
    ({}, True, "linear"),
]
# cell, exporter, whether sizes are open, which stack.  The second exporter takes seconds and writes the steps of an RNN
# out one by one; each stack meets it once with open sizes and once without.
EXPORTS = [(cell, "TorchScript", k % 2, k // 2) for cell in TORCH_CELLS for k in range(2 * len(STACKS))]
EXPORTS += [(cell, "dynamo", (i + k) % 2, k) for i, cell in enumerate(TORCH_CELLS[1:]) for k in range(len(STACKS))]


@pytest.mark.filterwarnings("ignore")  # PyTorch's
@pytest.mark.parametrize(
    ("cell", "exporter", "open_sizes", "stack"),
    EXPORTS,
    ids=[f"{cell.name}-{exporter}-{('fixed', 'open')[is_open]}-{k}" for cell, exporter, is_open, k in EXPORTS],
)
def test_stacks_of_torch(cell, exporter, open_sizes, stack, path):
    options, embedding, kind = STACKS[stack]
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="onnxscript, which this exporter needs, is not installed")
    module = torch_module(torch, cell, batch_first=True, **options).float()
    words = torch.nn.Embedding(6, 3) if embedding else None
    whole = Torch(torch, module.layers, words, module.head, kind)
    rng = np.random.default_rng(2)
    x = rng.integers(0, 6, (4, 7)) if embedding else rng.standard_normal((4, 7, 3)).astype(np.float32)
    sizes = {}
    if open_sizes and exporter == "dynamo":
        sizes["dynamic_shapes"] = {"x": {0: torch.export.Dim("m"), 1: torch.export.Dim("T")}}
    elif open_sizes:
        sizes["dynamic_axes"] = {"x": {0: "m", 1: "T"}}
    torch.onnx.export(
        whole, (torch.from_numpy(x),), str(path), dynamo=exporter == "dynamo", input_names=["x"], output_names=["y"],
        **sizes,
    )  # fmt: skip
    got = cyrnn.import_onnx(path)
    module.double()
    whole.double()
    pairs = range(2 if options.get("bidirectional") else 1)
    if options.get("bias", True):
        each = [tuple(of_torch(cell, module, k, i == 1) for i in pairs) for k in range(options.get("num_layers", 1))]
        want = [{"E": words.weight.detach().numpy().T}] if embedding else []
        want += [layer if len(layer) == 2 else layer[0] for layer in each] + [head_of_torch(module)]
        same_network(got, want)
    x_here = x if embedding else x.transpose(2, 0, 1)
    output = kind if kind in ("softmax", "sigmoid") else "linear"
    y = cyrnn.network_forward(x_here, got, output=output)[0].transpose(1, 2, 0)
    y = y[:, -1] if kind.startswith("last") else y
    close(onnx_runtime(path)({"x": x})["y"], y, 1e-6)
    with torch.no_grad():
        close(whole(torch.from_numpy(x).double() if not embedding else torch.from_numpy(x)).numpy(), y, 1e-12)
