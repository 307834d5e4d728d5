"""Weights from and to PyTorch and Keras, against the frameworks themselves where they are installed."""

import importlib
import re
import subprocess
import sys

import numpy as np
import pytest
from cells import CELLS, IDS, TORCH_CELLS, TORCH_IDS
from numpy.testing import assert_array_equal
from reference import close

import cyrnn

SHAPE = 3, 5, 2, 4, 7  # n_x, n_a, n_y, m, T_x
TOLERANCE = 1e-14

each_cell = pytest.mark.parametrize("cell", CELLS, ids=IDS)
each_torch_cell = pytest.mark.parametrize("cell", TORCH_CELLS, ids=TORCH_IDS)
each_output = pytest.mark.parametrize("output", [True, False], ids=["output", "no output"])


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def keras(monkeypatch):
    pytest.importorskip("torch", reason="PyTorch, the backend of Keras here, is not installed")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    # Everywhere but on TensorFlow Keras multiplies float64 matrices in float32; here it does not.
    table = importlib.import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
    monkeypatch.setitem(table, "float64", "float64")
    return keras


def only(cell, p, output):
    return {name: value for name, value in p.items() if output or name not in cell.output}


def same_bits(got, expected):
    assert list(got) == list(expected)
    for name, value in got.items():
        assert value.dtype == np.float64
        assert value.flags.carray
        assert value.shape == expected[name].shape
        assert value.tobytes() == np.ascontiguousarray(expected[name]).tobytes()


def parameters(cell, output=True):
    """Parameters in the order of the conversions, a negative zero in every bias, and a copy of them."""
    q = cell.problem(*SHAPE)
    for name in q.p:
        if name.startswith("b"):
            q.p[name][1] = -0.0
    p = {name: q.p[name] for name in [*cell.inputs, *cell.output]}
    p = only(cell, p, output)
    return p, {name: value.copy() for name, value in p.items()}


def refuse(error, message, function, *args):
    with pytest.raises(error) as caught:
        function(*args)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]


# PyTorch


def network(torch, cell, output=True, **options):
    """A module with random float64 weights."""
    torch.manual_seed(5)
    n_x, n_a, n_y, _, _ = SHAPE
    module = torch.nn.Module()
    module.recurrent = cell.torch_layer(torch.nn, n_x, n_a, **options)
    if output:
        module.head = torch.nn.Linear(n_a, n_y)
    return module.double()


def torch_states(torch, cell, layer, q):
    """What the layer gives for x and a0, and for c0 = 0 as in `lstm_forward`."""
    a0 = torch.from_numpy(q.a0.T.copy())[None]
    with torch.no_grad():
        a, _ = layer(torch.from_numpy(q.x.transpose(2, 1, 0).copy()), (a0, 0 * a0) if cell.memory else a0)
    return a


def of_torch(tensor):
    return tensor.numpy().transpose(2, 1, 0)


@each_torch_cell
@each_output
def test_torch_round_trip(torch, cell, output):
    p, before = parameters(cell, output)
    state_dict = cyrnn.to_torch(p)
    assert all(value.dtype == torch.float64 for value in state_dict.values())
    second = state_dict["rnn.bias_hh_l0" if output else "bias_hh_l0"]
    if cell.name == "gru_after":
        assert_array_equal(second.numpy()[10:], p["bca"][:, 0])
        second = second[:10]
    assert not second.any()
    back = cyrnn.from_torch(state_dict)
    same_bits(back, p)
    for value in [*state_dict.values(), *back.values()]:
        value += 1  # nothing is shared
    same_bits(p, before)
    for name, value in cyrnn.from_torch(cyrnn.to_torch(p)).items():
        assert not np.shares_memory(value, p[name])


@each_torch_cell
def test_from_torch_computes_the_same(torch, cell):
    q = cell.problem(*SHAPE)
    module = network(torch, cell)
    q.p = cyrnn.from_torch(module.state_dict())
    out = cell.forward(q)
    a = torch_states(torch, cell, module.recurrent, q)
    with torch.no_grad():
        y = torch.softmax(module.head(a), -1)
    close(out.a, of_torch(a), TOLERANCE)
    close(out.y, of_torch(y), TOLERANCE)


@each_torch_cell
def test_to_torch_computes_the_same(torch, cell):
    q = cell.problem(*SHAPE)
    module = network(torch, cell)
    module.load_state_dict(cyrnn.to_torch(q.p, layer="recurrent", output="head"))
    out = cell.forward(q)
    a = torch_states(torch, cell, module.recurrent, q)
    with torch.no_grad():
        y = torch.softmax(module.head(a), -1)
    close(out.a, of_torch(a), TOLERANCE)
    close(out.y, of_torch(y), TOLERANCE)
    bare = network(torch, cell, output=False).recurrent
    bare.load_state_dict(cyrnn.to_torch(only(cell, q.p, False)))
    assert_array_equal(torch_states(torch, cell, bare, q), a)
    bare.float().load_state_dict(cyrnn.to_torch(only(cell, q.p, False)))  # torch rounds by itself


@each_torch_cell
def test_a_torch_cell(torch, cell):
    q = cell.problem(*SHAPE)
    n_x, n_a, *_ = SHAPE
    twin = cell.torch_layer(torch.nn, n_x, n_a, step="Cell").double()
    p = cyrnn.from_torch(twin.state_dict()) | {name: q.p[name] for name in cell.output}
    xt, a0, c0 = (torch.from_numpy(value.T.copy()) for value in (q.x[:, :, 0], q.a0, q.c0))
    with torch.no_grad():
        want = twin(xt, (a0, c0)) if cell.memory else (twin(xt, a0),)
    got = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, p)
    close(got.a, want[0].numpy().T, TOLERANCE)
    if cell.memory:
        close(got.c, want[1].numpy().T, TOLERANCE)
    twin.load_state_dict({name.removesuffix("_l0"): value for name, value in cyrnn.to_torch(p, layer="").items()
                          if name not in ("fc.weight", "fc.bias")})  # fmt: skip
    same_bits(cyrnn.from_torch(twin.state_dict()), only(cell, p, False))


@each_torch_cell
def test_kinds_of_tensors(torch, cell):
    for module in (network(torch, cell), torch.nn.DataParallel(network(torch, cell))):
        exact = cyrnn.from_torch(module.state_dict())
        same_bits(cyrnn.from_torch(dict(module.named_parameters())), exact)
        same_bits(cyrnn.from_torch({name: value.numpy() for name, value in module.state_dict().items()}), exact)
        for dtype in (torch.float32, torch.bfloat16):
            narrow = module.to(dtype)
            wide = {name: value.double() for name, value in narrow.state_dict().items()}
            same_bits(cyrnn.from_torch(narrow.state_dict()), cyrnn.from_torch(wide))
        module.double()
    for change in (lambda tensor: tensor.to("meta"), torch.Tensor.to_sparse):  # which are no arrays
        state = network(torch, cell).state_dict()
        key = next(iter(state))
        state[key] = change(state[key])
        message = rf"state_dict\['{key}'\]: expected a dense tensor, got one that is no array \(\w+: .*\)"
        refuse(ValueError, message, cyrnn.from_torch, state)


@each_torch_cell
@each_output
def test_without_biases(torch, cell, output):
    module = network(torch, cell, output, bias=False)
    p = cyrnn.from_torch(module.state_dict())
    biases = [name for name in cell.inputs if name.startswith("b")]
    assert all(not p[name].any() and p[name].shape == (5, 1) for name in biases)
    q = cell.problem(*SHAPE)
    q.p |= p
    close(cell.forward(q).a, of_torch(torch_states(torch, cell, module.recurrent, q)), TOLERANCE)


def entries(cell, output=True, prefix="rnn."):
    """A state dict of arrays."""
    g, (n_x, n_a, n_y, _, _) = cell.n_gates, SHAPE
    shapes = {"weight_ih_l0": (g * n_a, n_x), "weight_hh_l0": (g * n_a, n_a)}
    shapes |= {"bias_ih_l0": (g * n_a,), "bias_hh_l0": (g * n_a,)}
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    shapes |= {"fc.weight": (n_y, n_a), "fc.bias": (n_y,)} if output else {}
    return {name: np.ones(shape) for name, shape in shapes.items()}


@each_torch_cell
@each_output
@pytest.mark.parametrize("prefix", ["rnn.", ""])
def test_every_missing_entry_is_named(cell, output, prefix):
    for name in entries(cell, output, prefix):
        rest = entries(cell, output, prefix)
        del rest[name]
        refuse(KeyError, rf"state_dict: expected an entry '{re.escape(name)}', got only \[.*\]", cyrnn.from_torch, rest)


@each_torch_cell
def test_every_wrong_shape_is_named(cell):
    for name, value in entries(cell).items():
        for wrong in (value[:-1], value[..., None], value[0], np.ones(value.shape[::-1])):
            if wrong.shape == value.shape or (name.endswith("weight_ih_l0") and wrong.ndim == 1):
                continue
            if name == "fc.weight" and wrong.shape[1:] == (5,):
                continue  # another n_y: then the bias does not fit
            refuse(
                ValueError, rf"state_dict\['{re.escape(name)}'\]: expected .*, got .*",
                cyrnn.from_torch, entries(cell) | {name: wrong},
            )  # fmt: skip
    refuse(
        ValueError, r"state_dict\['fc.bias'\]: expected shape \(n_y\) = \(1,\), got \(2,\)",
        cyrnn.from_torch, entries(cell) | {"fc.weight": np.ones((1, 5))},
    )  # fmt: skip
    for bad in (["a"] * 5, None, np.ones(5) * 1j):
        refuse(
            TypeError, r"state_dict\['rnn.bias_hh_l0'\]: expected real numbers, got .*",
            cyrnn.from_torch, entries(cell) | {"rnn.bias_hh_l0": bad},
        )  # fmt: skip


@each_torch_cell
def test_torch_layers_without_a_counterpart(torch, cell):
    if cell.name == "lstm":
        what = r"state_dict\['.*weight_hr_l0'\]: a projection, which has no .*"
        refuse(ValueError, what, cyrnn.from_torch, network(torch, cell, proj_size=2).state_dict())
    refuse(
        ValueError, r"state_dict\['weight_hh_l0'\]: .* with 1 gate \(RNN\), 3 \(GRU\) or 4 \(LSTM\), got \(10, 5\)",
        cyrnn.from_torch, {"weight_ih_l0": np.ones((10, 3)), "weight_hh_l0": np.ones((10, 5))},
    )  # fmt: skip
    for value in (None, [1], 3.0):
        message = f"state_dict: expected a PyTorch module or a mapping from names .*, got {type(value).__name__}"
        refuse(TypeError, message, cyrnn.from_torch, value)
    module = network(torch, cell)
    module.norm = torch.nn.BatchNorm1d(5)
    refuse(ValueError, r"state_dict\['norm.running_mean'\]: .*", cyrnn.from_torch, module.state_dict())
    module.norm = torch.nn.Embedding(9, 3)
    refuse(
        ValueError, "state_dict: .* at most one linear layer beside .*, got 'head.weight' and 'norm.weight'",
        cyrnn.from_torch, module.state_dict(),
    )  # fmt: skip
    module = network(torch, cell, output=False)
    module.embedding = torch.nn.Embedding(9, 5)  # an entry as of a linear layer without a bias
    refuse(KeyError, "state_dict: expected an entry 'embedding.bias', .*", cyrnn.from_torch, module.state_dict())
    module.embedding = network(torch, cell, output=False)
    refuse(
        ValueError, r"state_dict\['embedding.recurrent.weight_ih_l0'\]: expected shape .*, 5\), got .*, 3\)",
        cyrnn.from_torch, module.state_dict(),
    )  # fmt: skip
    refuse(
        KeyError, "state_dict: expected an entry 'weight_ih_l0' .*, got only .*",
        cyrnn.from_torch, torch.nn.Linear(2, 2).state_dict(),
    )  # fmt: skip


@each_torch_cell
@pytest.mark.parametrize("prefix", ["", "net.encoder."])
def test_layers_and_directions_of_a_larger_torch_model(torch, cell, prefix):
    """The entries of one alone, with their own names, and with those of the output layer."""
    module = network(torch, cell, num_layers=2, bidirectional=True)
    q = cell.problem(*SHAPE)
    q.a0[:] = 0
    state = module.recurrent.state_dict()
    with torch.no_grad():
        a = of_torch(module.recurrent(torch.from_numpy(q.x.transpose(2, 1, 0).copy()))[0])
    x = q.x
    for number in ("_l0", "_l1"):
        both = []
        for suffix, turn in ((number, slice(None)), (f"{number}_reverse", slice(None, None, -1))):
            alone = {prefix + name: value for name, value in state.items() if name[name.index("_l") :] == suffix}
            assert len(alone) == 4
            p = cyrnn.from_torch(alone)
            assert not set(p) & set(cell.output)
            q.x, q.p = x[:, :, turn], q.p | p
            both.append(cell.forward(q).a[:, :, turn])
            head = {"fc.weight": np.ones((2, 5)), "fc.bias": np.ones(2)}
            same_bits({name: value for name, value in cyrnn.from_torch(alone | head).items() if name in p}, p)
        x = np.concatenate(both)
    close(x, a, TOLERANCE)


@each_torch_cell
def test_a_linear_layer_before_the_recurrent_one(cell):
    """It may be a layer before the network; as the output layer it stands last."""
    state = entries(cell)
    first = {name: state[name] for name in sorted(state)}
    assert next(iter(first)) == "fc.bias"
    refuse(
        ValueError, r"state_dict\['fc.bias'\]: expected a linear output layer after 'rnn.bias_hh_l0', got one .*",
        cyrnn.from_torch, first,
    )  # fmt: skip
    between = {"fc.weight": state["fc.weight"], **{name: state[name] for name in state if name != "fc.weight"}}
    refuse(ValueError, r"state_dict\['fc.weight'\]: expected .*", cyrnn.from_torch, between)
    before = {"in.weight": np.ones((3, 7)), **state}  # of a linear layer without bias, with 3 outputs
    layer = rf"'rnn.weight_ih_l0', whose shape is \({cell.n_gates * 5}, 3\)"
    message = r"state_dict\['in.weight'\]: expected an embedding of shape \(vocabulary, n_x\) with the n_x of "
    refuse(ValueError, message + layer + r", got \(3, 7\)", cyrnn.from_torch, before)
    last = {name: first[name] for name in sorted(first, key=lambda name: name.startswith("fc."))}
    same_bits(cyrnn.from_torch(last), cyrnn.from_torch(state))


@each_cell
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_weights(cell, name, request):
    dtype = np.float16 if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    p, _ = parameters(cell)
    narrow = {key: value.astype(dtype) for key, value in p.items()}
    wide = {key: value.astype(np.float64) for key, value in narrow.items()}
    weights = cyrnn.to_keras(narrow)
    for one, other in zip(weights, cyrnn.to_keras(wide), strict=True):
        assert one.dtype == np.float64
        assert one.tobytes() == other.tobytes()
    same_bits(cyrnn.from_keras([value.astype(dtype) for value in weights]), wide)
    if cell.torch:
        request.getfixturevalue("torch")
        state = {key: value.numpy().astype(dtype) for key, value in cyrnn.to_torch(wide).items()}
        same_bits(cyrnn.from_torch(state), wide)


# Keras


def model(keras, cell, output=True, **options):
    keras.utils.set_random_seed(5)
    n_x, n_a, n_y, _, _ = SHAPE
    options |= {"return_sequences": True, "dtype": "float64", "bias_initializer": "random_normal"}
    layers = [cell.keras_layer(keras.layers, n_a, **options)]
    if output:
        layers += [keras.layers.Dense(n_y, "softmax", dtype="float64", bias_initializer="random_normal")]
    return keras.Sequential([keras.Input((None, n_x), dtype="float64"), *layers])


def keras_results(net, q):
    """What every layer gives for x, from a state of zeros."""
    results, x = [], q.x.transpose(1, 2, 0).copy()
    for layer in net.layers:
        x = layer(x)
        results.append(x.detach().numpy().transpose(2, 0, 1))
    return results


quiet = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras on PyTorch


@each_cell
@each_output
def test_keras_round_trip(cell, output):
    p, before = parameters(cell, output)
    weights = cyrnn.to_keras(p)
    back = cyrnn.from_keras(weights)
    same_bits(back, p)
    for value in [*weights, *back.values()]:
        value += 1  # nothing is shared
    same_bits(p, before)


@quiet
@each_cell
def test_from_keras_computes_the_same(keras, cell):
    q = cell.problem(*SHAPE)
    q.a0[:] = 0
    net = model(keras, cell)
    q.p = cyrnn.from_keras(net.get_weights())
    out = cell.forward(q)
    a, y = keras_results(net, q)
    close(out.a, a, TOLERANCE)
    close(out.y, y, TOLERANCE)
    p = cyrnn.from_keras(net.layers[0].get_weights())
    same_bits(p, only(cell, q.p, False))
    weights = [value.astype(np.float32) for value in net.get_weights()]
    same_bits(cyrnn.from_keras(weights), cyrnn.from_keras([value.astype(np.float64) for value in weights]))


@quiet
@each_cell
def test_to_keras_computes_the_same(keras, cell):
    q = cell.problem(*SHAPE)
    q.a0[:] = 0
    net = model(keras, cell)
    net.set_weights(cyrnn.to_keras(q.p))
    same_bits(cyrnn.from_keras(net.get_weights()), {name: q.p[name] for name in [*cell.inputs, *cell.output]})
    out = cell.forward(q)
    a, y = keras_results(net, q)
    close(out.a, a, TOLERANCE)
    close(out.y, y, TOLERANCE)


@quiet
@each_cell
def test_keras_without_biases(keras, cell):
    q = cell.problem(*SHAPE)
    q.a0[:] = 0
    net = model(keras, cell, use_bias=False)
    q.p = cyrnn.from_keras(net)
    a, y = keras_results(net, q)
    close(cell.forward(q).a, a, TOLERANCE)
    close(cell.forward(q).y, y, TOLERANCE)
    if cell.kind == "gru":
        two = r".*: GRU\(reset_after=False\) without bias, Dense; or GRU without bias, Dense; pass the model, .*"
        refuse(ValueError, two, cyrnn.from_keras, net.get_weights())
        return
    same_bits(cyrnn.from_keras(net.get_weights()), q.p)
    p = cyrnn.from_keras(net.get_weights()[:3])  # nor in the output layer
    assert not p["by"].any()


@each_cell
def test_wrong_keras_weights(cell):
    p, _ = parameters(cell)
    weights = cyrnn.to_keras(p)
    for k, value in enumerate(weights):
        for wrong in (value[..., :-1], value[..., None], value[:1, :1, None] if value.ndim == 2 else value[:1]):
            if k == 3 and wrong.ndim == 2 and len(wrong) == 5:
                continue  # another n_y: then the bias does not fit
            where = r"weights(\[.\])?" if k == 2 else rf"weights\[{k}\]"
            changed = [*weights[:k], wrong, *weights[k + 1 :]]
            refuse(ValueError, f"{where}: expected .*, got .*", cyrnn.from_keras, changed)
    refuse(
        ValueError, r"weights\[4\]: expected shape \(n_y\) = \(1,\), got \(2,\)",
        cyrnn.from_keras, [*weights[:3], weights[3][:, :1], weights[4]],
    )  # fmt: skip
    for bad in (None, "text", [[1], [1, 2]]):
        refuse((TypeError, ValueError), r"weights\[2\]: expected .*", cyrnn.from_keras, [*weights[:2], bad])
    refuse(ValueError, ".* at least, got 1 arrays", cyrnn.from_keras, weights[:1])
    message = "weights: expected a Keras model, a layer or a list of arrays, .* got dict"
    refuse(TypeError, message, cyrnn.from_keras, {"kernel": weights[0]})


def test_keras_weights_that_can_be_read_in_two_ways():
    """A SimpleRNN without bias and a Dense, or an Embedding and a SimpleRNN."""
    n = 5
    one_way, square, bias = np.ones((9, n)), np.ones((n, n)), np.ones(n)
    message = r"weights: expected arrays of one meaning, got shapes \[\(9, 5\), .*\]: .*; or .*; pass the model, .*"
    for rest in ([bias], []):
        refuse(ValueError, message, cyrnn.from_keras, [one_way, square, square, *rest])
    for rest in ([], [bias], [bias, square, bias], *([np.ones((n, k)), np.ones(k)] for k in (4, n + 1))):
        assert len(cyrnn.from_keras([one_way, square, *rest])["ba"]) == n
    # With the bias, the kernel and the Dense are what they are.
    p = cyrnn.from_keras([one_way, square, np.zeros(n), 2 * square, bias])
    assert_array_equal(p["Wya"], 2 * square)
    lstm = [np.ones((3, 20)), np.ones((5, 20)), np.ones((5, 20)), np.ones(20)]  # without bias, and 20 classes
    assert cyrnn.from_keras(lstm)["Wy"].shape == (20, 5)


@quiet
@each_cell
def test_keras_layers_without_a_counterpart(keras, cell):
    n_x, n_a, *_ = SHAPE
    for layers in (
        [cell.keras_layer(keras.layers, n_a), keras.layers.Dense(4), keras.layers.Dense(2)],
        [keras.layers.Dense(n_a), cell.keras_layer(keras.layers, n_a)],
    ):
        net = keras.Sequential([keras.Input((7, n_x)), *layers])
        with pytest.raises(ValueError, match=r"weights(\[\d\])?: expected "):
            cyrnn.from_keras(net.get_weights())


# Both


@each_cell
@pytest.mark.parametrize("convert", ["to_torch", "to_keras"])
def test_wrong_parameters(cell, convert, request):
    p, _ = parameters(cell)
    if convert == "to_torch":
        request.getfixturevalue("torch")
        if not cell.torch:
            has_not = "parameters: a GRU, reset before the product, has no counterpart in PyTorch, whose GRU .*"
            refuse(ValueError, has_not, cyrnn.to_torch, p)
    function = getattr(cyrnn, convert)
    for name in p:
        if name == "bca":
            continue  # without it they are of the other form
        rest = {key: value for key, value in p.items() if key != name}
        refuse(KeyError, f"parameters: expected an entry .*'{name}'.*, got only .*", function, rest)
        for wrong in (p[name][:-1], p[name][..., 0], np.ones((5, 5, 5))):
            if name == cell.output[0] and wrong.ndim == 2:
                continue  # another n_y: then the bias does not fit
            refuse(ValueError, r"parameters\['.*'\]: expected .*, got .*", function, p | {name: wrong})
        refuse(TypeError, rf"parameters\['{name}'\]: expected real numbers, .*", function, p | {name: "text"})
    refuse(TypeError, r"parameters\[0\]: expected the parameters of a layer, or a pair .*, got int", function, [1])
    refuse(TypeError, "parameters: expected a mapping from names to arrays, got int", function, 1)
    refuse(ValueError, r"parameters: expected the entries of .* got both", function, {"Wax": 1, "Wf": 1})
    empty = {name: value[:0, : 1 if name.startswith("b") else 0] for name, value in p.items()}
    refuse(ValueError, "parameters: expected one unit at least, got n_a = 0", function, empty)
    if cell.name == "lstm":
        too_few = r"parameters\['Wf'\]: expected shape \(n_a, n_a \+ n_x\), got \(5, 4\)"
        refuse(ValueError, too_few, function, p | {"Wf": p["Wf"][:, :4]})


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, numpy, cyrnn\n"
        "p = {'Wax': numpy.eye(2), 'Waa': numpy.eye(2), 'ba': numpy.zeros((2, 1))}\n"
        "cyrnn.from_keras(cyrnn.to_keras(p))\n"
        "cyrnn.from_torch({'weight_ih_l0': numpy.eye(2), 'weight_hh_l0': numpy.eye(2)})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'keras', 'onnx', 'google')])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
