"""Modules of PyTorch and models of Keras as objects: what their layers are is checked, not only their weights."""

import importlib

import numpy as np
import pytest
from cells import CELLS, IDS, TORCH_CELLS, TORCH_IDS

import cyrnn

N_X, N_A, N_Y = 3, 5, 2

each_cell = pytest.mark.parametrize("cell", CELLS, ids=IDS)
each_torch_cell = pytest.mark.parametrize("cell", TORCH_CELLS, ids=TORCH_IDS)


@pytest.fixture
def nn():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    return importlib.import_module("torch.nn")


@pytest.fixture
def layers():
    pytest.importorskip("torch", reason="PyTorch, the backend of Keras here, is not installed")
    pytest.importorskip("keras", reason="Keras is not installed")
    return importlib.import_module("keras.layers")


def same(got, expected):
    assert list(got) == list(expected)
    for name, value in got.items():
        assert value.dtype == np.float64
        assert value.tobytes() == expected[name].tobytes()


def refuse(message, function, value):
    with pytest.raises(ValueError, match="^" + message) as caught:
        function(value)
    assert "\n" not in str(caught.value)


# PyTorch


def torch_layer(nn, cell, n_x=N_X, **options):
    return cell.torch_layer(nn, n_x, N_A, **options)


def module(nn, *children, **named):
    """Children in their order, in a module whose `forward` is its own."""
    made = nn.Module()
    for name, child in (*((f"part{k}", child) for k, child in enumerate(children)), *named.items()):
        made.add_module(name, child)
    return made


@each_torch_cell
def test_modules_of_torch(nn, cell):
    rnn, fc = torch_layer(nn, cell), nn.Linear(N_A, N_Y)
    alone = cyrnn.from_torch(rnn.state_dict())
    full = cyrnn.from_torch(module(nn, rnn=rnn, fc=fc).state_dict())
    assert set(full) == {*cell.inputs, *cell.output}
    same(cyrnn.from_torch(rnn), alone)
    same(cyrnn.from_torch(module(nn, rnn)), alone)
    for net in (
        module(nn, rnn, fc),
        module(nn, module(nn, rnn), module(nn, fc)),
        nn.Sequential(rnn, nn.Identity(), fc, nn.Softmax(dim=-1)),
        nn.Sequential(rnn, fc, nn.Sigmoid()),
        nn.DataParallel(module(nn, rnn, fc)),
        module(nn, rnn, nn.Dropout(0.5), fc).eval(),
        module(nn, rnn, nn.Dropout(0.0), fc),
        module(nn, rnn, fc, nn.CrossEntropyLoss(weight=importlib.import_module("torch").ones(N_Y))),
    ):
        same(cyrnn.from_torch(net), full)
    with pytest.warns(UserWarning, match="dropout"):
        dropout = torch_layer(nn, cell, dropout=0.5)  # which one layer does not have
    for other in (torch_layer(nn, cell, batch_first=True), dropout, torch_layer(nn, cell, bias=False)):
        same(cyrnn.from_torch(other), cyrnn.from_torch(other.state_dict()))
    step = torch_layer(nn, cell, step="Cell")
    same(cyrnn.from_torch(module(nn, step)), cyrnn.from_torch(step.state_dict()))
    bare = nn.Linear(N_A, N_Y, bias=False)  # known to be one, so that its bias may be missing
    p = cyrnn.from_torch(module(nn, rnn, bare))
    same({name: p[name] for name in alone}, alone)
    np.testing.assert_array_equal(p[cell.output[0]], bare.weight.detach().double().numpy())
    assert p["by"].shape == (N_Y, 1)
    assert not p["by"].any()


@each_torch_cell
def test_modules_of_torch_without_a_counterpart(nn, cell):
    torch, name = importlib.import_module("torch"), cell.torch
    rnn, fc = torch_layer(nn, cell), nn.Linear(N_A, N_Y)

    class Own(type(rnn)):
        """May compute anything."""

    namesake = type(name, (Own,), {})

    class Scale(nn.Module):
        def forward(self, x):
            return 2 * x

    initial, scaled = module(nn, rnn, fc), module(nn, rnn, fc)
    initial.a0 = nn.Parameter(torch.zeros(N_A))
    scaled.register_buffer("mean", torch.zeros(N_X))
    cases = [
        (
            module(nn, rnn=torch_layer(nn, cell, num_layers=2, dropout=0.5)),
            rf"'rnn' \({name}\) has no counterpart in cyrnn with dropout while it trains: call eval\(\) on the module",
        ),
        (nn.MultiheadAttention(8, 2), ".* has no counterpart in cyrnn"),
        (module(nn, rnn, rnn2=torch_layer(nn, cell)), r"'rnn2.weight_ih_l0'\]: expected shape .*, 5\), got .*, 3\)"),
        (module(nn, nn.Linear(N_A, N_X), rnn), rf"expected a linear .* 'part0' \(Linear\) before 'part1' \({name}\)"),
        (module(nn, fc, rnn), r"expected a linear layer after the recurrent ones alone, got 'part0' \(Linear\) before"),
        (module(nn, rnn, fc, nn.Linear(N_Y, N_Y)), "expected one linear layer at most, got 'part1' .* and 'part2' "),
        (module(nn, rnn, nn.Sigmoid(), fc), r"expected an activation after the output layer alone, got 'part1' \(Sig"),
        (module(nn, rnn, fc, nn.Sigmoid(), nn.Softmax(-1)), "expected an activation after .* got 'part3'"),
        (module(nn, rnn, nn.Softmax(-1)), "expected an activation after the output layer alone"),
        (module(nn, rnn, nn.ReLU(), fc), r"'part1' \(ReLU\) has no counterpart in cyrnn; the weights of layers "),
        (module(nn, rnn, fc, nn.Softmax(dim=0)), r"'part2' \(Softmax\) has no counterpart in cyrnn over dimension 0"),
        (
            module(nn, rnn, nn.Embedding(9, N_X)),
            r"expected an embedding before all other layers .* got 'part0' .* before",
        ),
        (module(nn, *2 * [nn.Embedding(9, N_X), nn.Embedding(9, N_X)], rnn), "expected an embedding before all other"),
        (module(nn, fc, nn.Embedding(9, N_X), rnn), r"expected an embedding .*, got 'part0' \(Linear\) before 'part1'"),
        (
            module(nn, nn.Embedding(9, N_X, max_norm=1.0), rnn),
            r"'part0' \(Embedding\): expected max_norm None, got 1.0",
        ),
        (module(nn, nn.Embedding(9, N_A), rnn), r"'part1.weight_ih_l0'\]: expected shape .*, 5\), got .*, 3\)"),
        (module(nn, nn.EmbeddingBag(9, N_X), rnn), r"'part0' \(EmbeddingBag\) has no counterpart"),
        (module(nn, rnn, nn.BatchNorm1d(N_A)), r"'part1' \(BatchNorm1d\) has no counterpart"),
        (module(nn, rnn, Scale(), fc), r"'part1' \(Scale\) has no counterpart"),
        (Own(N_X, N_A), "the Own has no counterpart"),
        (namesake(N_X, N_A), f"the {name} has no counterpart"),
        (module(nn, rnn, nn.Dropout(0.5), fc), r"'part1' \(Dropout\) .* while it trains: call eval\(\) on the module"),
        (initial, "the Module has no counterpart in cyrnn with an entry 'a0' of its own"),
        (scaled, "the Module has no counterpart in cyrnn with an entry 'mean' of its own"),
        (fc, "expected a recurrent layer, got the Linear"),
        (nn.Identity(), "expected a recurrent layer, got none"),
        (nn.utils.parametrizations.weight_norm(torch_layer(nn, cell), "weight_hh_l0"), ".* has no counterpart"),
        (nn.utils.spectral_norm(torch_layer(nn, cell), "weight_hh_l0"), ".*"),
    ]
    if cell.name == "rnn":
        cases += [
            (module(nn, rnn=nn.RNN(N_X, N_A, nonlinearity="relu")), r"'rnn' \(RNN\): expected nonlinearity 'tanh', "),
            (nn.RNNCell(N_X, N_A, nonlinearity="relu"), "the RNNCell: expected nonlinearity 'tanh', got 'relu'"),
        ]  # fmt: skip
    elif cell.name == "lstm":
        cases += [(torch_layer(nn, cell, proj_size=2), "the LSTM: expected proj_size 0, got 2")]
    for net, message in cases:
        refuse("state_dict(: |\\[)" + message, cyrnn.from_torch, net)
    message = r"state_dict\['part1.weight'\]: expected shape \(n_y, n_a\) = \(2, 5\), got \(2, 6\)"
    refuse(message, cyrnn.from_torch, module(nn, rnn, nn.Linear(N_A + 1, N_Y)))


# Keras


def keras_layer(layers, cell, **options):
    return cell.keras_layer(layers, N_A, **options)


def sequential(layers, *parts):
    return importlib.import_module("keras").Sequential([layers.Input((7, N_X)), *parts])


def functional(layers, make):
    inputs = layers.Input((7, N_X))
    return importlib.import_module("keras").Model(inputs, make(inputs))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras on PyTorch
@each_cell
def test_models_of_keras(layers, cell):
    keras = importlib.import_module("keras")
    rnn = keras_layer(layers, cell, return_sequences=True)
    dense = layers.Dense(N_Y, "softmax")
    first = sequential(layers, rnn, dense)
    alone = cyrnn.from_keras(rnn.get_weights())
    full = cyrnn.from_keras(first.get_weights())
    linear = layers.Dense(N_Y)
    linear.build((None, N_A))
    linear.set_weights(dense.get_weights())

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.rnn, self.dense = rnn, dense

        def call(self, x):
            return self.dense(self.rnn(x))

    own = Own()
    own.build((None, 7, N_X))
    same(cyrnn.from_keras(rnn), alone)
    for net in (
        first,
        own,
        sequential(layers, rnn, layers.TimeDistributed(dense)),
        sequential(layers, rnn, layers.Dropout(0.5), linear),
        sequential(layers, rnn, linear, layers.Activation("softmax")),
        sequential(layers, rnn, linear, layers.Softmax()),
        sequential(layers, rnn, linear, layers.Activation("linear"), layers.Activation("sigmoid")),
        sequential(layers, sequential(layers, rnn), dense),
        functional(layers, lambda x: layers.Dense(N_Y, "softmax")(keras_layer(layers, cell)(x))),
        functional(layers, lambda x: layers.Dense(N_Y)(layers.GaussianNoise(0.1)(keras_layer(layers, cell)(x)))),
    ):
        net.set_weights(first.get_weights())
        same(cyrnn.from_keras(net), full)
    for options in (
        {"dropout": 0.5, "recurrent_dropout": 0.5}, {"stateful": False, "unroll": True}, {"use_bias": False},
        {"return_state": True},
    ):  # fmt: skip
        layer = keras_layer(layers, cell, **options)
        layer.build((1, 7, N_X))
        weights = layer.get_weights()
        if len(weights) == 2:
            weights += [0 * alone_bias for alone_bias in rnn.get_weights()[2:]]
        same(cyrnn.from_keras(layer), cyrnn.from_keras(weights))
    wrapped = layers.RNN(rnn.cell)
    same(cyrnn.from_keras(rnn.cell), alone)
    wrapped.build((1, 7, N_X))
    same(cyrnn.from_keras(wrapped), alone)
    both = layers.Bidirectional(keras_layer(layers, cell))
    both.build((1, 7, N_X))
    same(cyrnn.from_keras(both.forward_layer), cyrnn.from_keras(both.get_weights()[:3]))
    # What is ambiguous in a list is known in a model.
    bare, square = keras_layer(layers, cell, use_bias=False), layers.Dense(N_A, bias_initializer="ones")
    p = cyrnn.from_keras(sequential(layers, bare, square))
    np.testing.assert_array_equal(p[cell.output[0]], square.get_weights()[0].T)
    assert p["by"].all()
    assert not any(p[name].any() for name in cell.inputs if name.startswith("b"))
    if cell.name == "rnn":
        weights = [*bare.get_weights(), *square.get_weights()]
        refuse("weights: expected arrays of one meaning", cyrnn.from_keras, weights)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")
@each_cell
def test_models_of_keras_without_a_counterpart(layers, cell):
    kind = type(keras_layer(layers, cell)).__name__
    keras = importlib.import_module("keras")

    def rnn(**options):
        return keras_layer(layers, cell, **{"return_sequences": True, "name": "rnn"} | options)

    def dense(n=N_Y, activation="softmax", name="dense"):
        return layers.Dense(n, activation, name=name)

    class Own(type(rnn())):
        """May compute anything."""

    namesake = type(kind, (Own,), {})

    def tanh(x):
        return keras.ops.tanh(x)

    backward = layers.Bidirectional(rnn())
    backward.build((1, 7, N_X))
    unbuilt = keras.Sequential([rnn()])
    where = rf"'rnn' \({kind}\)"
    cases = [
        ([rnn(activation="relu")], f"{where}: expected activation 'tanh', got 'relu'"),
        ([rnn(activation=tanh)], f"{where}: expected activation 'tanh', got '<function .*"),
        ([layers.RNN(rnn(activation="relu").cell, name="rnn")], r"'rnn' \(RNN\): expected activation 'tanh', got "),
        ([rnn(go_backwards=True)], f"{where}: expected go_backwards False, got True; its get_weights"),
        (backward.backward_layer, ".*expected go_backwards False, got True; its get_weights"),
        ([Own(N_A)], r".* \(Own\) has no counterpart"),
        ([namesake(N_A, name="rnn")], f"{where} has no counterpart"),
        (layers.ConvLSTM1D(2, 3), r".* \(ConvLSTM1D\) has no counterpart"),
        (layers.TimeDistributed(rnn(), name="time"), rf"'time' \(TimeDistributed\) has no counterpart .* of {where}"),
        ([dense(N_X, "linear"), rnn()], rf"expected a linear layer after .*, got 'dense' \(Dense\) before {where}"),
        ([rnn(), dense(), dense(name="other")], "expected one linear layer at most, got 'dense' .* and 'other'"),
        ([rnn(), dense(activation="relu")], r"'dense' \(Dense\) has no counterpart .* with the activation 'relu'"),
        ([rnn(), dense(activation=tanh)], r"'dense' \(Dense\) .* with the activation '<function"),
        ([rnn(), dense(), layers.Activation("softmax")], "expected an activation after the output layer alone, got "),
        ([rnn(), layers.Activation("sigmoid"), dense()], "expected an activation after the output layer alone, got "),
        ([rnn(), layers.Activation("relu"), dense()], r".* \(Activation\) has no counterpart"),
        ([rnn(), layers.Softmax(axis=1), dense()], r".* \(Softmax\) has no counterpart"),
        ([layers.Masking(), rnn()], r".* \(Masking\) has no counterpart"),
        ([rnn(), layers.LayerNormalization(), dense()], r".* \(LayerNormalization\) has no counterpart"),
        ([layers.RNN([rnn().cell, keras_layer(layers, cell).cell])], r".* \(RNN\) has no counterpart"),
        (unbuilt, f"expected 3 weights of {where}, got 0; a layer has them once it was called or built"),
        (dense(), r"expected a recurrent layer, got 'dense' \(Dense\)"),
    ]  # fmt: skip

    def side_by_side(x):
        return [rnn()(x), dense()(x)]

    def twice(x):
        layer = rnn()
        layer(x)
        return dense()(layer(x))

    def memory(x):
        return dense()(rnn(return_state=True)(x)[-1 if cell.name == "lstm" else 1])

    chain = "expected layers of which each reads the one before alone, got "
    for make in (side_by_side, memory, twice):
        cases += [(functional(layers, make), chain + r"'dense' \(Dense\) after 'rnn' .*, .*called several times")]
    if cell.name != "rnn":
        hard = "expected recurrent_activation 'sigmoid', got 'hard_sigmoid'"
        cases += [([rnn(recurrent_activation="hard_sigmoid")], f"{where}: {hard}")]
    for net, message in cases:
        net = sequential(layers, *net) if isinstance(net, list) else net
        refuse("weights: " + message, cyrnn.from_keras, net)
    other = layers.LSTM if cell.name != "lstm" else layers.SimpleRNN

    def both(layer=None, backward_layer=None, **options):
        return layers.Bidirectional(layer or rnn(), backward_layer=backward_layer, name="both", **options)

    def go_back(layer=None, units=N_A, **options):
        options |= {"return_sequences": True, "go_backwards": True}
        return layer(units, **options) if layer else cell.keras_layer(layers, units, **options)

    last = both(rnn(return_sequences=False))
    is_both = r"'both' \(Bidirectional\)"
    cases = [
        ([both(merge_mode=mode)], f"{is_both}: expected merge_mode 'concat', got '{mode}'")
        for mode in ("sum", "mul", "ave")
    ]
    cases += [
        ([both(rnn(activation="relu"))], r"'forward_rnn' .*: expected activation 'tanh', got 'relu'"),
        ([both(rnn(), go_back(activation="relu", name="back"))], r"'back' .*: expected activation 'tanh', got 'relu'"),
        ([both(rnn(go_backwards=True), rnn(name="back"))], "'forward_rnn' .*: expected go_backwards False, got True"),
        (
            [both(rnn(), go_back(other))],
            f"expected two directions of one kind in {is_both}, got 5 units of {cell.title} and 5 units of an? ",
        ),
        (
            [both(rnn(), go_back(units=4))],
            f"expected two directions of one kind .*, got 5 units of {cell.title} and 4 units of {cell.title}",
        ),
        ([both(rnn(), go_back(Own, name="own"))], rf"{is_both} has no counterpart in cyrnn of 'own' \(Own\)"),
        ([last, dense()], f"expected return_sequences True of {is_both} before 'dense' .*, got False: no step of the "),
    ]
    for net, message in cases:
        refuse("weights: " + message, cyrnn.from_keras, sequential(layers, *net))
    assert len(cyrnn.from_keras(sequential(layers, last))) == 1
    for options, message in (
        ({"mask_zero": True}, "'e' .*: expected mask_zero False, got True; the model's get_weights"),
    ):
        net = keras.Sequential([layers.Input((7,)), layers.Embedding(9, N_X, name="e", **options), rnn(), dense()])
        refuse("weights: " + message, cyrnn.from_keras, net)
        assert len(cyrnn.from_keras(net.get_weights())) == 3
