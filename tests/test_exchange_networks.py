"""Networks of several layers and both directions from and to PyTorch and Keras, against the frameworks themselves."""

import importlib
import re

import numpy as np
import pytest
from cells import CELLS, IDS, TORCH_CELLS, TORCH_IDS
from numpy.testing import assert_array_equal
from reference import close

import cyrnn

N_X, N_A, N_Y, VOCABULARY, M, T_X = 3, 5, 2, 9, 4, 7
LENGTHS = np.array([7, 2, 5, 1])
TOLERANCE = 1e-14

each_cell = pytest.mark.parametrize("cell", CELLS, ids=IDS)
each_torch_cell = pytest.mark.parametrize("cell", TORCH_CELLS, ids=TORCH_IDS)
quiet = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras on PyTorch


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


def layer(cell, n_x, n_a=N_A, seed=0):
    p = cell.problem(n_x, n_a, 1, 1, 1, seed=seed).p
    p = {name: p[name] for name in cell.inputs}
    for name in p:
        if name.startswith("b"):
            p[name][1] = -0.0
    return p


def stack(cells, both, n_a=(), embedding=True, output=True):
    """A network of these cells, in both directions where `both` says so."""
    rng = np.random.default_rng(1)
    made, n_x = [{"E": rng.standard_normal((N_X, VOCABULARY))}] if embedding else [], N_X
    for k, (cell, two) in enumerate(zip(cells, both, strict=True)):
        units = n_a[k] if n_a else N_A
        pair = tuple(layer(cell, n_x, units, 2 * k + i) for i in range(1 + two))
        made.append(pair if two else pair[0])
        n_x = units * (1 + two)
    if output:
        made.append({"Wy": rng.standard_normal((N_Y, n_x)), "by": rng.standard_normal((N_Y, 1))})
    return made


def dicts(network):
    """All dicts of a network, and its form."""
    if isinstance(network, dict):
        return [network], "dict"
    parts = [dicts(entry) for entry in network]
    return [one for found, _ in parts for one in found], (type(network).__name__, [form for _, form in parts])


def same_bits(got, expected):
    (got, form), (expected, form_expected) = dicts(got), dicts(expected)
    assert form == form_expected
    for one, other in zip(got, expected, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            assert value.dtype == np.float64
            assert value.flags.carray
            assert value.shape == other[name].shape
            assert value.tobytes() == np.ascontiguousarray(other[name]).tobytes()


def refuse(error, message, function, *args, **keywords):
    with pytest.raises(error) as caught:
        function(*args, **keywords)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]


def inputs(embedding=True):
    rng = np.random.default_rng(2)
    return rng.integers(0, VOCABULARY, (M, T_X)) if embedding else rng.standard_normal((N_X, M, T_X))


# PyTorch


def twin(torch, cell, n_layers, both, embedding=True, output=True, **options):
    """A module with random float64 weights."""
    torch.manual_seed(5)
    module = torch.nn.Module()
    if embedding:
        module.embedding = torch.nn.Embedding(VOCABULARY, N_X, padding_idx=0)
    options |= {"num_layers": n_layers, "bidirectional": both}
    module.rnn = cell.torch_layer(torch.nn, N_X, N_A, **options)
    if output:
        module.fc = torch.nn.Linear(N_A * (1 + both), N_Y)
    return module.double()


def torch_results(torch, module, x, lengths=None):
    """The top layer's hidden states and the output of a module, of packed sequences with lengths."""
    real = next(module.parameters()).dtype
    with torch.no_grad():
        x = module.embedding(torch.from_numpy(x.T.copy())) if x.dtype.kind == "i" else torch.from_numpy(
            x.transpose(2, 1, 0).copy()
        ).to(real)  # fmt: skip
        if lengths is None:
            a, _ = module.rnn(x)
        else:
            utils = torch.nn.utils.rnn
            packed = utils.pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
            a, _ = utils.pad_packed_sequence(module.rnn(packed)[0])
        y = torch.softmax(module.fc(a), -1)
    return [value.double().numpy().transpose(2, 1, 0) for value in (a, y)]


@each_torch_cell
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both directions"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_torch_round_trip(torch, cell, both, n_layers):
    for embedding in (False, True):
        for output in (False, True):
            network = stack([cell] * n_layers, [both] * n_layers, embedding=embedding, output=output)
            state_dict = cyrnn.to_torch(network)
            same_bits(cyrnn.from_torch(state_dict, network=True), network)
            module = twin(torch, cell, n_layers, both, embedding, output)
            target = module if embedding or output else module.rnn
            target.load_state_dict(state_dict)
            back = cyrnn.from_torch(target, network=True)
            same_bits(back, network)
            plain = n_layers == 1 and not both and not embedding
            assert isinstance(cyrnn.from_torch(target), dict if plain else list)
            before = stack([cell] * n_layers, [both] * n_layers, embedding=embedding, output=output)
            for value in (*state_dict.values(), *(v for one in dicts(back)[0] for v in one.values())):
                value += 1  # nothing is shared
            same_bits(network, before)


@each_torch_cell
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both directions"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_torch_computes_the_same(torch, cell, both, n_layers):
    for embedding in (False, True):
        x = inputs(embedding)
        module = twin(torch, cell, n_layers, both, embedding)
        network = cyrnn.from_torch(module, network=True)
        same_bits(cyrnn.from_torch(module.state_dict(), network=True), network)
        for lengths in (None, LENGTHS):
            y, a, *_ = cyrnn.network_forward(x, network, lengths=lengths)
            a_torch, y_torch = torch_results(torch, module, x, lengths)
            close(a, a_torch, TOLERANCE)
            outside = np.zeros((M, T_X), bool) if lengths is None else np.arange(T_X) >= lengths[:, None]
            close(y, np.where(outside, 0, y_torch), TOLERANCE)
        network = stack([cell] * n_layers, [both] * n_layers, embedding=embedding)
        module.load_state_dict(cyrnn.to_torch(network))
        close(
            cyrnn.network_forward(x, network, lengths=LENGTHS)[1],
            torch_results(torch, module, x, LENGTHS)[0],
            TOLERANCE,
        )
        module.float()
        network = cyrnn.from_torch(module, network=True)
        x = x if embedding else x.astype(np.float32)
        a, (a_torch, _) = cyrnn.network_forward(x, network)[1], torch_results(torch, module, x)
        close(a, a_torch, 1e-6)


@each_torch_cell
def test_gradients_of_torch(torch, cell):
    """The gradients of a converted network are those of the module, converted."""
    module, x = twin(torch, cell, 2, True), inputs()
    network = cyrnn.from_torch(module)
    y, _, _, caches = cyrnn.network_forward(x, network, lengths=LENGTHS, output="linear")
    gradients, _, _ = cyrnn.network_backward(caches, dz=y)
    utils = torch.nn.utils.rnn
    packed = utils.pack_padded_sequence(module.embedding(torch.from_numpy(x.T.copy())), torch.from_numpy(LENGTHS),
                                        enforce_sorted=False)  # fmt: skip
    out, _ = utils.pad_packed_sequence(module.rnn(packed)[0])
    inside = torch.from_numpy(np.arange(T_X)[:, None, None] < LENGTHS[None, :, None])
    ((module.fc(out) * inside) ** 2).sum().div(2).backward()
    dE = gradients[0]["dE"].copy()
    dE[:, 0] = 0  # PyTorch keeps the vector of padding_idx as it is
    close(dE, module.embedding.weight.grad.numpy().T, 1e-13)
    close(gradients[-1]["dWy"], module.fc.weight.grad.numpy(), 1e-13)
    g, top = module.rnn.weight_hh_l1_reverse.grad.numpy(), gradients[2][1]
    if cell.name == "rnn":
        close(top["dWaa"], g, 1e-13)
    for k, gate in enumerate(cell.torch_gates):
        close(top["dW" + gate][:, :N_A], (-1 if gate == "u" else 1) * g[k * N_A : (k + 1) * N_A], 1e-13)


def test_several_modules_of_torch(torch):
    """Other cells and sizes are other modules, whose names the caller gives."""
    rnn, lstm, gru = TORCH_CELLS
    network = stack([gru, lstm, lstm, rnn], [True, False, False, True], (4, 5, 5, 6))
    names = ["first", "second", "second", "third"]
    state_dict = cyrnn.to_torch(network, layer=names, embedding="e", output="")
    assert [name for name in state_dict if "weight_ih" in name or name in ("e.weight", "weight")] == [
        "e.weight", "first.weight_ih_l0", "first.weight_ih_l0_reverse", "second.weight_ih_l0", "second.weight_ih_l1",
        "third.weight_ih_l0", "third.weight_ih_l0_reverse", "weight",
    ]  # fmt: skip
    same_bits(cyrnn.from_torch(state_dict), network)
    module = torch.nn.Module()
    module.e = torch.nn.Embedding(VOCABULARY, N_X)
    module.first = torch.nn.GRU(N_X, 4, bidirectional=True)
    module.second = torch.nn.LSTM(8, 5, num_layers=2)
    module.third = torch.nn.RNN(5, 6, bidirectional=True)
    module.head = torch.nn.Linear(12, N_Y)
    module.double().load_state_dict(cyrnn.to_torch(network, layer=names, embedding="e", output="head"))
    same_bits(cyrnn.from_torch(module), network)
    alone = [*cyrnn.from_torch(module.first), *cyrnn.from_torch(module.second), *cyrnn.from_torch(module.third)]
    same_bits(alone, network[1:-1])
    message = (
        r"parameters\[4\]: expected one direction with 5 units of an LSTM, as parameters\[2\] in the same module of .*"
    )
    refuse(ValueError, message, cyrnn.to_torch, network, layer=["a", "b", "b", "b"])
    refuse(ValueError, r"parameters\[2\]: expected both directions with 4 units of a GRU, .*", cyrnn.to_torch, network)
    refuse(ValueError, r"parameters\[2\]: .* with 4 units of .*, got .* with 5 units .*", cyrnn.to_torch,
           stack([gru, gru], [False, False], (4, 5)))  # fmt: skip
    refuse(ValueError, r"parameters\[2\]: expected one direction .*, got both directions .*; .*", cyrnn.to_torch,
           stack([gru, gru], [False, True]))  # fmt: skip
    refuse(ValueError, "layer: expected the layers of 'a' one after the other, got 'b' between them", cyrnn.to_torch,
           stack([gru] * 3, [False] * 3), layer=["a", "b", "a"])  # fmt: skip
    refuse(ValueError, "layer: expected a name, or a list of one for each of 4 layers, got 2", cyrnn.to_torch, network,
           layer=["a", "b"])  # fmt: skip
    refuse(
        TypeError, "layer: expected a name, or a list of one for each layer, got .*", cyrnn.to_torch, network, layer=[1]
    )
    refuse(ValueError, "embedding, layer, output: expected different names, got 'same.weight' twice", cyrnn.to_torch,
           stack([gru], [False]), embedding="same", output="same")  # fmt: skip


def test_reset_before_the_product_is_not_in_torch(torch):
    before, after = CELLS[2], CELLS[3]
    network = stack([after, before], [False, True])
    message = (
        r"parameters\[2\]: a GRU, reset before the product, has no counterpart in PyTorch, whose GRU resets after it"
    )
    refuse(ValueError, message, cyrnn.to_torch, network, layer=["a", "b"])


@each_torch_cell
def test_state_dicts_of_one_meaning(torch, cell):
    state = twin(torch, cell, 3, True).state_dict()
    whole = cyrnn.from_torch(state)
    second = {name: value for name, value in state.items() if "_l1" in name}
    same_bits(cyrnn.from_torch(second), [whole[2]])
    upper = {name: value for name, value in state.items() if "_l1" in name or "_l2" in name}
    same_bits(cyrnn.from_torch(upper), whole[2:4])
    shuffled = dict(sorted(upper.items(), reverse=True))
    same_bits(cyrnn.from_torch(shuffled), whole[2:4])
    gap = {name: value for name, value in state.items() if "_l1" not in name}
    refuse(KeyError, "state_dict: expected an entry 'rnn.weight_ih_l1', got only .*", cyrnn.from_torch, gap)
    for name in state:
        if name not in ("embedding.weight", "fc.weight", "fc.bias"):
            rest = {key: value for key, value in state.items() if key != name}
            refuse(KeyError, f"state_dict: expected an entry '{name}', got only .*", cyrnn.from_torch, rest)
            wrong = state | {name: state[name][..., :-1]}
            refuse(ValueError, r"state_dict\['.*'\]: expected .*, got .*", cyrnn.from_torch, wrong)
    refuse(ValueError, r"state_dict\['fc.weight'\]: expected shape \(n_y, n_a\) = \(2, 10\), got \(2, 5\)",
           cyrnn.from_torch, state | {"fc.weight": state["fc.weight"][:, :5]})  # fmt: skip
    square = state | {"embedding.weight": state["embedding.weight"][:3]}
    either = (
        r"state_dict\['embedding.weight'\]: expected an embedding .*, got \(3, 3\), which the weight of a linear .*"
    )
    refuse(ValueError, either, cyrnn.from_torch, square)
    last = {name: state[name] for name in sorted(state, key=lambda name: name == "embedding.weight")}
    refuse(ValueError, ".* at most one linear layer .*", cyrnn.from_torch, last)
    two = {"first.weight": state["embedding.weight"], **state}
    refuse(ValueError, ".* at most one linear layer .*", cyrnn.from_torch, two)
    step = twin(torch, cell, 1, False).rnn.state_dict() | cell.torch_layer(torch.nn, N_X, N_A, step="Cell").state_dict()
    refuse(
        ValueError, "state_dict: expected a layer or a single step, got 'weight_ih_l0' and .*", cyrnn.from_torch, step
    )


@each_torch_cell
def test_the_order_of_modules_in_a_state_dict(torch, cell):
    """It is that of the entries, if the modules fit each other in no other order."""

    def module(n_x, n_a):
        return cell.torch_layer(torch.nn, n_x, n_a).double()

    first, second, third = module(3, 5), module(5, 5), module(5, 5)
    net = torch.nn.Sequential(first, second)
    whole = [cyrnn.from_torch(first), cyrnn.from_torch(second)]
    same_bits(cyrnn.from_torch(net.state_dict()), whole)
    same_bits(cyrnn.from_torch(net), whole)
    net = torch.nn.Sequential(first, second, third)
    message = (
        "state_dict: expected modules that fit in one order, got '0' and '1' and '2'; pass the module, or convert .*"
    )
    refuse(ValueError, message, cyrnn.from_torch, net.state_dict())
    same_bits(cyrnn.from_torch(net), [*whole, cyrnn.from_torch(third)])
    turned = {**{f"1.{name}": value for name, value in second.state_dict().items()},
              **{f"0.{name}": value for name, value in first.state_dict().items()}}  # fmt: skip
    refuse(ValueError, r"state_dict\['0.weight_ih_l0'\]: expected shape .*", cyrnn.from_torch, turned)
    either = torch.nn.Sequential(module(4, 4), module(4, 4))
    refuse(ValueError, "state_dict: expected modules that fit in one order, .*", cyrnn.from_torch, either.state_dict())
    refuse(TypeError, "network: expected True or False, got int", cyrnn.from_torch, net, network=1)


# Keras


def keras_twin(keras, network_cells, both, embedding=True, output=True, n_a=N_A, **options):
    """A Sequential model with random float64 weights."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    parts = [layers.Embedding(VOCABULARY, N_X, dtype="float64")] if embedding else []
    options |= {"return_sequences": True, "dtype": "float64", "bias_initializer": "random_normal"}
    for cell, two in zip(network_cells, both, strict=True):
        one = cell.keras_layer(layers, n_a, **options)
        parts.append(layers.Bidirectional(one, dtype="float64") if two else one)
    if output:
        parts.append(layers.Dense(N_Y, "softmax", dtype="float64", bias_initializer="random_normal"))
    shape = (T_X,) if embedding else (T_X, N_X)
    return keras.Sequential([keras.Input(shape, dtype="int64" if embedding else "float64"), *parts])


KERAS_NETWORKS = [([cell] * 3, [False, True, True]) for cell in CELLS] + [(CELLS, [True, False, True, False])]


@quiet
@pytest.mark.parametrize(("cells", "both"), KERAS_NETWORKS, ids=[*IDS, "mixed"])
def test_keras_computes_the_same(keras, cells, both):
    for embedding in (True, False):
        x = inputs(embedding)
        net = keras_twin(keras, cells, both, embedding)

        def y_keras(net=net, x=x):
            return net(x if x.ndim == 2 else x.transpose(1, 2, 0)).detach().numpy().transpose(2, 0, 1)

        network = cyrnn.from_keras(net)
        close(cyrnn.network_forward(x, network)[0], y_keras(), TOLERANCE)
        same_bits(cyrnn.from_keras(net.get_weights()), network)
        network = stack(cells, both, embedding=embedding)
        net.set_weights(cyrnn.to_keras(network))
        close(cyrnn.network_forward(x, network)[0], y_keras(), TOLERANCE)
        same_bits(cyrnn.from_keras(net), network)


@pytest.mark.parametrize(("cells", "both"), KERAS_NETWORKS, ids=[*IDS, "mixed"])
def test_keras_round_trip(cells, both):
    for embedding in (True, False):
        for output in (True, False):
            network = stack(cells, both, (4, 5, 6, 7)[: len(cells)], embedding, output)
            before = stack(cells, both, (4, 5, 6, 7)[: len(cells)], embedding, output)
            weights = cyrnn.to_keras(network)
            back = cyrnn.from_keras(weights)
            same_bits(back, network)
            for value in (*weights, *(v for one in dicts(back)[0] for v in one.values())):
                value += 1  # nothing is shared
            same_bits(network, before)


@each_cell
def test_network_of_one_layer(cell):
    p, network = layer(cell, N_X), stack([cell], [False], embedding=False)
    weights = cyrnn.to_keras(network)
    same_bits(cyrnn.from_keras(weights, network=True), network)
    same_bits(cyrnn.from_keras(cyrnn.to_keras(p), network=True), [p])
    one = cyrnn.from_keras(weights)
    assert set(one) == {*cell.inputs, *cell.output}
    assert_array_equal(one[cell.output[0]], network[1]["Wy"])
    assert [value.tobytes() for value in cyrnn.to_keras(one)] == [value.tobytes() for value in weights]
    refuse(TypeError, "network: expected True or False, got str", cyrnn.from_keras, weights, network="yes")


@each_cell
def test_lists_of_keras_that_can_be_read_in_two_ways(cell):
    n, name = 5, cell_class(cell)
    square = cyrnn.to_keras(stack([cell], [False], embedding=False, output=False))
    square[0] = np.ones((n, square[0].shape[1]))
    kernel, dense = [np.ones((n, N_Y)), np.ones(N_Y)], [np.ones((2 * n, N_Y)), np.ones(N_Y)]
    two = rf"weights: expected arrays of one meaning, .*: {name}, {name}; or Bidirectional\(.*\); .*"
    refuse(ValueError, two, cyrnn.from_keras, square * 2)  # two layers, or both directions of one
    assert isinstance(cyrnn.from_keras(square * 2 + kernel)[1], dict)  # the Dense tells
    assert isinstance(cyrnn.from_keras(square * 2 + dense)[0], tuple)
    embedding = [np.ones((VOCABULARY, n))]
    if cell.name == "rnn":  # a Dense of as many classes as units has the shape of a recurrent kernel
        two = r".*: SimpleRNN without bias, Dense; or Embedding, SimpleRNN; pass .*"
        refuse(ValueError, two, cyrnn.from_keras, embedding + square)
    else:
        assert len(cyrnn.from_keras(embedding + square)) == 2
    assert [len(entry) for entry in cyrnn.from_keras(square * 3 + dense)][1:] == [2, 2]
    for weights in (
        square + dense,
        embedding * 2 + square,
        square + embedding,
        [*square, *kernel, kernel[1]],
    ):
        refuse(ValueError, r"weights(\[\d+\])?: expected .*, got .*", cyrnn.from_keras, weights)


def cell_class(cell):
    return {"rnn": "SimpleRNN", "lstm": "LSTM", "gru_before": r"GRU\(reset_after=False\)", "gru_after": "GRU"}[
        cell.name
    ]


def test_many_arrays_are_read_in_short_time():
    """A number of readings that grows with every layer is not counted to its end."""
    square = [np.ones((4, 4))] * 60
    refuse(ValueError, "weights: expected arrays of one meaning, .*", cyrnn.from_keras, square)
    refuse(ValueError, r"weights\[\d+\]: expected .*", cyrnn.from_keras, [*square, np.ones((3, 3))])
