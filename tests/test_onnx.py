"""ONNX files: against the reference evaluator in float64, ONNX Runtime in float32, and PyTorch's exporters."""

import functools
import sys

import numpy as np
import pytest
from cells import CELLS, IDS
from reference import close, problem
from test_exchange import network, only, parameters, refuse, same_bits

import cyrnn

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

SHAPE = 3, 5, 2, 4, 7  # n_x, n_a, n_y, m, T_x

each_cell = pytest.mark.parametrize("cell", CELLS[:2], ids=IDS[:2])
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
    assert [node.op_type for node in model.graph.node if node.op_type in ("RNN", "LSTM")] == [cell.name.upper()]
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

    q = problem(cell.name, *shape)
    cyrnn.export_onnx(path, q.p, dtype="float64")
    evaluator = ReferenceEvaluator(onnx.load(path))
    for m, T_x in (shape[3:], (1, 9), (6, 1)):
        r = problem(cell.name, *shape[:3], m, T_x, seed=1)
        r.p = q.p
        got = dict(zip(evaluator.output_names, evaluator.run(None, feed(cell, r, np.float64)), strict=True))
        want = expected(cell, r)
        assert set(got) == set(want)
        for name, value in want.items():
            close(got[name], value, 1e-14)


@each_cell
@pytest.mark.parametrize("shape", [SHAPE, (6, 3, 4, 1, 2)], ids=str)
def test_onnx_runtime(cell, shape, path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    q = problem(cell.name, *shape)
    cyrnn.export_onnx(path, q.p)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for m, T_x in (shape[3:], (1, 9), (6, 1)):
        r = problem(cell.name, *shape[:3], m, T_x, seed=1)
        r.p = q.p
        got = dict(zip(names, session.run(None, feed(cell, r, np.float32)), strict=True))
        want = expected(cell, r)
        assert set(got) == set(want)
        for name, value in want.items():
            assert got[name].dtype == np.float32
            close(got[name], value, 1e-6)  # 8 units in the last place of float32


@pytest.mark.filterwarnings("ignore")  # PyTorch's
@each_cell
@pytest.mark.parametrize(
    ("exporter", "output", "last"),
    [("TorchScript", True, False), ("TorchScript", True, True), ("TorchScript", False, False), ("dynamo", True, True)],
)
def test_models_exported_by_torch(cell, exporter, output, last, path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="onnxscript, which this exporter needs, is not installed")
    module = network(torch, cell, output, batch_first=last)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            a, _ = self.inner.lstm_or_rnn(x)
            a = a[:, -1] if last else a
            return torch.softmax(self.inner.head(a), -1) if output else a

    x = torch.ones(4, 7, 3, dtype=torch.float64)
    torch.onnx.export(Whole().eval(), (x,), str(path), dynamo=exporter == "dynamo")
    if exporter == "dynamo" and cell.name == "rnn":  # it writes every step out
        refuse(
            ValueError, r"path: expected a model with one operator RNN or LSTM, got only \['Add', .*\]",
            cyrnn.import_onnx, path,
        )  # fmt: skip
    else:
        same_bits(cyrnn.import_onnx(path), cyrnn.from_torch(module.state_dict()))


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


def arrays(cell):
    """The constants of the model, and what `import_onnx` makes of them: both biases are in use."""
    (n_x, n_a, n_y, _, _), g = SHAPE, 1 if cell.name == "rnn" else 4
    shapes = {"W": (1, g * n_a, n_x), "R": (1, g * n_a, n_a), "B": (1, 2 * g * n_a), "V": (n_y, n_a), "v": (n_y,)}
    rng = np.random.default_rng(3)
    values = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    W, R = values["W"].reshape(g, n_a, n_x), values["R"].reshape(g, n_a, n_a)
    b = values["B"].reshape(2, g, n_a, 1).sum(0)
    if cell.name == "rnn":
        p = {"Wax": W[0], "Waa": R[0], "ba": b[0]}
    else:
        k = dict(zip("iofc", range(4), strict=True))
        p = {f"W{gate}": np.hstack([R[k[gate]], W[k[gate]]]) for gate in "fico"} | {f"b{q}": b[k[q]] for q in "fico"}
    p = {name: p[name] for name in cell.inputs} | {cell.output[0]: values["V"], "by": values["v"][:, None]}
    return values | {"V_t": values["V"].T, "zero": np.array([0]), "one": np.array([1])}, p


def save(cell, path, old="", new="", **more):
    """Save the model with a piece of its text replaced and other constants."""
    assert not old or TEXT.count(old) == 1
    text = TEXT.replace(old, new) if old else TEXT
    if cell.name == "rnn":
        text = text.replace("= LSTM", "= RNN").replace(", c)", ")")
    model = onnx.parser.parse_model(text)
    made = {name for node in model.graph.node for name in node.output}
    read = {name for node in model.graph.node for name in node.input}
    values = {name: np.array(v) for name, v in (arrays(cell)[0] | more).items() if name in read - made}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    inputs = [value for value in model.graph.input if value.name in read - made - set(values)]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


LAYER, HEAD = "Y, Y_h = LSTM <hidden_size = 5> (x, W, R, B, , h, c)", "product = MatMul (a, V_t)"
END = "[end] y = Softmax <axis = -1> (z)"
STATES = "a = Squeeze (Y, one)"
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
}  # fmt: skip


@each_cell
@pytest.mark.parametrize("change", READ)
def test_models_that_are_read(cell, change, path):
    save(cell, path, *READ[change])
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


@each_cell
def test_without_biases_or_output_layer(cell, path):
    p = arrays(cell)[1]
    save(cell, path, "B, , h, c)", ", , h, c)")
    zeros = {name: np.zeros((5, 1)) for name in cell.inputs if name.startswith("b")}
    same_bits(cyrnn.import_onnx(path), p | zeros)
    save(cell, path, "[bias] z = Add (v, product)", "z = Identity (product)")
    same_bits(cyrnn.import_onnx(path), p | {"by": np.zeros((2, 1))})
    save(cell, path, TEXT[TEXT.index("[head]") :], "y = Identity (a)\n}")
    same_bits(cyrnn.import_onnx(path), only(cell, p, False))


IS = "path: (RNN|LSTM) 'layer': "
SIZE = "<hidden_size = 5>"
REFUSED = {
    # attributes
    "reverse": (SIZE, '<direction = "reverse">', IS + "attribute 'direction': expected forward, got reverse"),
    "clip": (SIZE, "<clip = 3.0>", IS + "attribute 'clip': expected none, got 3.0"),
    "alpha": (SIZE, "<activation_alpha = [0.5]>", IS + r"attribute 'activation_alpha': expected none, got \[0.5\]"),
    "beta": (SIZE, "<activation_beta = [0.5]>", IS + r"attribute 'activation_beta': expected none, got \[0.5\]"),
    "size": (SIZE, "<hidden_size = 6>", IS + "attribute 'hidden_size': expected the n_a = 5 of the input 'R', got 6"),
    # inputs
    "lengths": ("B, , h", "B, lengths, h", IS + "input 'sequence_lens': expected none, got 'lengths'"),
    "W computed": ("(x, W, R", "(x, x, R", IS + "input 'W': expected a constant, got 'x'"),
    "B computed": ("R, B, ,", "R, x, ,", IS + "input 'B': expected a constant, got 'x'"),
    "W of another shape": ("(x, W, R", "(x, one, R", IS + "input 'W': expected 3 dimensions .*, got .*"),
    "W of other units": ("(x, W, R", "(x, ones, R", IS + "input 'W': expected shape .*, got .*"),
    "R of other units": ("(x, W, R", "(x, W, ones", IS + r"input 'R': expected shape .*, got \(1, 4, 5\)"),
    "R without units": (SIZE + " (x, W, R", "(x, W, none", IS + r"attribute 'hidden_size': expected .* 0 .*, got 0"),
    "B of another shape": ("R, B, ,", "R, b, ,", IS + r"input 'B': expected shape \(1, 2 gates n_a\) = .*, got .*"),
    "B of one dimension": ("R, B, ,", "R, v, ,", IS + "input 'B': expected 2 dimensions .*, got .*"),
    "initial state": (", h, c)", ", ones, c)", IS + "input 'initial_h': expected zeros or .*, got 'ones'"),
    "initial state computed": ("[layer] " + LAYER, "t = Tanh (h)\n [layer] " + LAYER.replace(", h", ", t"),
                               IS + "input 'initial_h': expected zeros or an input of the model, got 't'"),
    "x computed": ("[layer] " + LAYER, "X = Tanh (x)\n [layer] " + LAYER.replace("(x", "(X"),
                   IS + "input 'X': expected an input of the model, got the result of Tanh"),
    "x constant": ("(x, W", "(ones, W", IS + "input 'X': expected an input of the model, got the constant 'ones'"),
    # what comes after
    "relu": (END, "[end] y = Relu (z)", "path: Relu 'end': expected after the (RNN|LSTM) 'layer' nothing but .*"),
    "softmax over examples": (END, "[end] y = Softmax <axis = 1> (z)", "path: Softmax 'end': .*"),
    "softmax when turned": (END, "t = Transpose (z)\n [end] y = Softmax <axis = -1> (t)", "path: Softmax 'end': .*"),
    "softmax of the states": (END, "y = Identity (z)\n [end] t = Softmax <axis = -1> (a)", "path: Softmax 'end': .*"),
    "what is added": (END, "[end] y = Add (z, x)", "path: Add 'end': .*"),
    "a second bias": (END, "[end] y = Add (z, v)", "path: Add 'end': .*"),
    "two heads": (END, "[end] y = MatMul (a, V_t)", "path: MatMul 'end': .*"),
    "a second layer": (END, "[end] y = MatMul (z, V_t)", "path: MatMul 'end': .*"),
    "head computed": (HEAD, "product = MatMul (a, x)", "path: MatMul 'head': input 'B': expected a constant, got 'x'"),
    "head turned": (HEAD, "product = MatMul (V, a)", "path: MatMul 'head': expected after .*"),
    "head of another shape": (HEAD, "product = MatMul (a, V)", "path: MatMul 'head': input 'B': expected shape .*"),
    "alpha of the head": (HEAD, "product = Gemm <alpha = 2.0> (a, V_t)", "path: Gemm 'head': attribute 'alpha': .*"),
    "beta of the head": (HEAD, "product = Gemm <beta = 2.0> (a, V_t)", "path: Gemm 'head': attribute 'beta': .*"),
    "transA": (HEAD, "product = Gemm <transA = 1> (a, V_t)", "path: Gemm 'head': attribute 'transA': .*, got 1"),
    "bias of another shape": ("(v, p", "(zero, p", r"path: Add 'bias': expected a constant bias .*, got shape \(1,\)"),
    "bias computed": ("(v, p", "(x, p", "path: Add 'bias': expected a constant bias .*, got 'x'"),
    "units picked": (STATES, "[end] a = Gather <axis = 3> (Y, order)", "path: Gather 'end': .*"),
    "states as a shape": (END, "[end] y = Reshape (z, a)", "path: Reshape 'end': .*"),
    "steps turned": (STATES, "[end] a = Slice (Y, order, order, order, minus)", "path: Slice 'end': .*"),
}  # fmt: skip


@each_cell
@pytest.mark.parametrize("change", REFUSED)
def test_models_that_are_refused(cell, change, path):
    old, new, message = REFUSED[change]
    more = {"lengths": np.full(4, 7, np.int32), "ones": np.ones((1, 4, 5)), "b": np.ones((1, 3))}
    more |= {"order": np.arange(5), "minus": np.full(5, -1), "none": np.ones((1, 0, 0))}
    save(cell, path, old, new, **more)
    refuse(ValueError, message, cyrnn.import_onnx, path)
    save(cell, path)
    cyrnn.import_onnx(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (SIZE, "<input_forget = 1>", "attribute 'input_forget': expected 0, got 1"),
        (", h, c)", ", h, c, P)", "input 'P': expected none, got 'P'"),
        (", h, c)", ", h, ones)", "input 'initial_c': expected zeros or an input of the model, got 'ones'"),
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
    names = '["tanh"]' if cell.name == "rnn" else '["Sigmoid", "Tanh", "TANH"]'
    save(cell, path, SIZE, f"<activations = {names}>")
    same_bits(cyrnn.import_onnx(path), arrays(cell)[1])
    names = '["Relu"]' if cell.name == "rnn" else '["Sigmoid", "Tanh", "Relu"]'
    save(cell, path, SIZE, f"<activations = {names}>")
    refuse(ValueError, IS + r"attribute 'activations': expected .*, got \[.*'relu'\]", cyrnn.import_onnx, path)


def test_other_operators(path):
    save(CELLS[0], path, "Y, Y_h = LSTM", "Y, Y_h = GRU")
    refuse(ValueError, "path: expected one operator RNN or LSTM, got GRU 'layer'", cyrnn.import_onnx, path)
    save(CELLS[0], path, END, END + "\n Q = RNN (x, W, R)")
    refuse(ValueError, "path: .*, got RNN 'layer', RNN", cyrnn.import_onnx, path)


def test_what_is_no_model(path):
    path.write_text("some text")
    refuse(ValueError, "path: expected a valid ONNX model, got .*", cyrnn.import_onnx, path)
    path.write_text("")
    refuse(ValueError, "path: expected .*", cyrnn.import_onnx, path)
    save(CELLS[0], path, END, "u = Identity (w)\n w = Identity (u)\n y = Softmax (z)")  # a circle
    refuse(ValueError, "(?s)path: expected a valid ONNX model, got .*", cyrnn.import_onnx, path)
    with pytest.raises(FileNotFoundError):
        cyrnn.import_onnx(path.with_name("nowhere.onnx"))


@each_cell
def test_wrong_arguments(cell, path):
    p, _ = parameters(cell)
    narrow = functools.partial(cyrnn.export_onnx, dtype="float16")
    refuse(ValueError, "dtype: expected 'float32' or 'float64', got 'float16'", narrow, path, p)
    for name in p:
        rest = {key: value for key, value in p.items() if key != name}
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
