"""What a module of PyTorch or a model of Keras tells beside its weights: the kinds of its layers, their options, order.

A layer is known by its class, which must be the library's own: a subclass may compute something else.  Of a module
with a `forward` of its own, and of a Keras model with a `call`, the order is that in which the layers were made.
Neither library is imported here.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ..recurrent.spec import GRU, GRU_AFTER, LSTM, RNN, CellSpec

# The classes of recurrent layers that the converters read, of single steps with "Cell" after it.
TORCH_CELLS = ("RNN", "LSTM", "GRU")
KERAS_CELLS = ("SimpleRNN", "LSTM", "GRU")
# Options that a layer may have, what they must be, and the way out where there is one.
Options = dict[str, tuple[Any, str]]
TORCH_OPTIONS: Options = {"proj_size": (0, ""), "nonlinearity": ("tanh", "")}
TORCH_EMBEDDING_OPTIONS: Options = {"max_norm": (None, "")}
KERAS_OPTIONS: Options = {"activation": ("tanh", ""), "recurrent_activation": ("sigmoid", "")}
FORWARD: Options = {
    "go_backwards": (False, "; its get_weights() can be passed, for sequences that are reversed before")
}
KERAS_EMBEDDING_OPTIONS: Options = {
    "mask_zero": (False, "; the model's get_weights() can be passed, for sequences that end with their zeros, if the "
                  "numbers of steps before are then passed as `lengths`"),
}  # fmt: skip
MERGED: Options = {"merge_mode": ("concat", "")}
OUTPUTS = ("softmax", "sigmoid", "linear")  # what an output layer can end with
TORCH_DROPOUTS = ("Dropout", "Dropout1d", "AlphaDropout", "FeatureAlphaDropout")
KERAS_WITHOUT_EFFECT = (  # in inference
    "InputLayer", "Identity", "Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization",
)  # fmt: skip
TRAINS = "while it trains: call eval() on the module first"
ALONE = "; the weights of layers that have a counterpart can be passed alone"


@dataclass(frozen=True, slots=True)
class Part:
    """A layer that does something."""

    role: str  # "embedding", "recurrent", "linear" or "activation"
    name: str  # in the model
    layer: Any
    activation: str = "linear"  # of a linear layer
    directions: tuple[Any, ...] = ()  # of a recurrent layer of Keras: left to right, right to left

    def __str__(self) -> str:
        return spelled(self.name, self.layer)


@dataclass(slots=True)
class Chain:
    """The layers of a network that have weights, in their order."""

    embedding: Part | None
    recurrent: list[Part]
    linear: Part | None

    def parts(self) -> list[Part]:
        """Return them in one list."""
        return [part for part in (self.embedding, *self.recurrent, self.linear) if part is not None]


def spelled(name: str, layer: Any) -> str:
    """Return the name, if there is one, and the class of a layer."""
    return f"{name!r} ({type(layer).__name__})" if name else f"the {type(layer).__name__}"


def _is_instance(value: Any, library: str, *path: str) -> bool:
    """Tell whether `value` is of a class of a library, which is then imported already."""
    of: Any = sys.modules.get(library)
    for name in path:
        of = getattr(of, name, None)
    return isinstance(of, type) and isinstance(value, of)


def is_torch_module(value: Any) -> bool:
    """Tell whether `value` is a `torch.nn.Module`."""
    return _is_instance(value, "torch", "nn", "Module")


def is_keras_layer(value: Any) -> bool:
    """Tell whether `value` is a layer or a model of Keras."""
    return any(_is_instance(value, library, "layers", "Layer") for library in ("keras", "tf_keras"))


def chain(argument: str, parts: Iterable[Part]) -> Chain:
    """Return the layers in their roles, or refuse those that are no such chain."""
    found = Chain(None, [], None)
    activated = False
    for part in parts:
        linear = found.linear
        if part.role == "embedding" and (found.embedding or found.recurrent or linear):
            before = (linear or (found.recurrent and found.recurrent[0])) or found.embedding
            _refuse(argument, f"an embedding before all other layers alone, got {before} before {part}{ALONE}")
        elif part.role == "embedding":
            found.embedding = part
        elif part.role == "recurrent" and linear is not None:
            _refuse(argument, f"a linear layer after the recurrent ones alone, got {linear} before {part}{ALONE}")
        elif part.role == "recurrent":
            found.recurrent.append(part)
        elif part.role == "linear" and linear is not None:
            _refuse(argument, f"one linear layer at most, got {linear} and {part}{ALONE}")
        elif part.role == "linear":
            found.linear, activated = part, part.activation != "linear"
        elif linear is None or not found.recurrent or activated:
            _refuse(argument, f"an activation after the output layer alone, got {part}{ALONE}")
        else:
            activated = True
    if not found.recurrent:
        _refuse(argument, f"a recurrent layer, got {found.linear or found.embedding or 'none'}")
    return found


def _refuse(argument: str, expected: str) -> NoReturn:
    raise ValueError(f"{argument}: expected {expected}")


def _unknown(argument: str, name: str, layer: Any, why: str = "") -> NoReturn:
    raise ValueError(f"{argument}: {spelled(name, layer)} has no counterpart in cyrnn{why}{ALONE}")


def _check_options(argument: str, name: str, layer: Any, options: Options) -> None:
    """Refuse a layer that computes something else than that of cyrnn."""
    where = f"{argument}: {spelled(name, layer)}"
    for of in (layer, getattr(layer, "cell", layer)):
        for option, (expected, way_out) in options.items():
            got = getattr(of, option, expected)
            got = _activation(got) if callable(got) else got
            if got != expected:
                raise ValueError(f"{where}: expected {option} {expected!r}, got {got!r}{way_out}")


def torch_parts(argument: str, module: Any) -> Iterator[Part]:
    """Yield the layers of a module, or raise the error that names what has no counterpart."""
    for name, layer in module.named_modules():
        own = type(layer).__module__.startswith("torch.nn.modules.")
        kind = type(layer).__name__ if own else ""
        if kind.removesuffix("Cell") in TORCH_CELLS:
            _check_options(argument, name, layer, TORCH_OPTIONS)
            if layer.training and getattr(layer, "dropout", 0) and layer.num_layers > 1:
                _unknown(argument, name, layer, f" with dropout {TRAINS}")
            yield Part("recurrent", name, layer)
        elif kind == "Embedding":
            _check_options(argument, name, layer, TORCH_EMBEDDING_OPTIONS)
            yield Part("embedding", name, layer)
        elif kind == "Linear":
            yield Part("linear", name, layer)
        elif kind == "Sigmoid" or (kind == "Softmax" and layer.dim in (-1, 2)):
            yield Part("activation", name, layer)
        elif kind in TORCH_DROPOUTS:
            if layer.training and layer.p:
                _unknown(argument, name, layer, f" {TRAINS}")
        elif kind != "Identity" and type(layer).__module__ != "torch.nn.modules.loss":
            if not any(layer.children()):
                _unknown(argument, name, layer, f" over dimension {layer.dim}" if kind == "Softmax" else "")
            for entry, _ in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
                _unknown(argument, name, layer, f" with an entry {entry!r} of its own")


def _kind(layer: Any) -> str:
    """Return the class of a layer of Keras; "" if it is another class."""
    return type(layer).__name__ if type(layer).__module__.split(".")[0] in ("keras", "tf_keras") else ""


def _activation(function: Any) -> str:
    """Return the name of an activation of Keras, or what another function shows of itself."""
    name = str(getattr(function, "__name__", ""))
    own = str(getattr(function, "__module__", "")).split(".")[0] in ("keras", "tf_keras")
    return name if own and name else repr(function)


def keras_parts(argument: str, layer: Any) -> Iterator[Part]:
    """Yield the layers of a model, or raise the error that names what has no counterpart."""
    kind, name = _kind(layer), layer.name
    if kind == "TimeDistributed":
        for part in keras_parts(argument, layer.layer):
            if part.role not in ("linear", "activation"):
                _unknown(argument, name, layer, f" of {part}")
            yield part
    elif _keras_cell(layer):
        _check_options(argument, name, layer, KERAS_OPTIONS | FORWARD)
        yield Part("recurrent", name, layer, directions=(layer,))
    elif kind == "Bidirectional":
        yield _both_directions(argument, layer)
    elif kind == "Embedding":
        _check_options(argument, name, layer, KERAS_EMBEDDING_OPTIONS)
        yield Part("embedding", name, layer)
    elif kind == "Dense":
        activation = _activation(layer.activation)
        if activation not in OUTPUTS:
            _unknown(argument, name, layer, f" with the activation {activation!r}")
        yield Part("linear", name, layer, activation)
    elif kind == "Activation" and _activation(layer.activation) in OUTPUTS:
        if _activation(layer.activation) != "linear":
            yield Part("activation", name, layer)
    elif kind == "Softmax" and layer.axis == -1:
        yield Part("activation", name, layer)
    elif hasattr(layer, "layers"):
        if any(base.__name__ == "Functional" for base in type(layer).__mro__):
            _check_chain(argument, layer)
        if len(layer.weights) != sum(len(inner.weights) for inner in layer.layers):
            _unknown(argument, name, layer, " with weights of its own")
        for inner in layer.layers:
            yield from keras_parts(argument, inner)
    elif kind not in KERAS_WITHOUT_EFFECT:
        _unknown(argument, name, layer)


def _keras_cell(layer: Any) -> str:
    """Return the class of the cell of a layer of Keras that runs one; "" if it is another layer."""
    kind = _kind(layer)
    kind = (_kind(layer.cell) if kind == "RNN" else kind).removesuffix("Cell")
    return kind if kind in KERAS_CELLS else ""


def keras_spec(layer: Any) -> CellSpec:
    """Return the cell that a layer of Keras runs."""
    kind = _keras_cell(layer)
    if kind == "GRU":
        return GRU_AFTER if getattr(layer, "cell", layer).reset_after else GRU
    return RNN if kind == "SimpleRNN" else LSTM


def _both_directions(argument: str, layer: Any) -> Part:
    """Return a Bidirectional whose layers are two of one cell and size, the second from right to left."""
    directions = layer.forward_layer, layer.backward_layer
    _check_options(argument, layer.name, layer, MERGED)
    for inner, backwards in zip(directions, (False, True), strict=True):
        if not _keras_cell(inner):
            _unknown(argument, layer.name, layer, f" of {spelled(inner.name, inner)}")
        _check_options(argument, inner.name, inner, KERAS_OPTIONS | {"go_backwards": (backwards, "")})
    first, second = (f"{inner.units} units of {keras_spec(inner).title}" for inner in directions)
    if first != second:
        _refuse(argument, f"two directions of one kind in {spelled(layer.name, layer)}, got {first} and {second}")
    return Part("recurrent", layer.name, layer, directions=directions)


def _check_chain(argument: str, model: Any) -> None:
    """Refuse a functional model whose layers do not read the layer before and nothing else.

    Of a layer that is called several times Keras shows the first call alone, be it in another model.
    """
    before, given = None, None
    for layer in model.layers:
        if before is not None and layer.input is not given:
            got = f"{spelled(layer.name, layer)} after {spelled(before.name, before)}"
            chain = "layers of which each reads the one before alone"
            _refuse(argument, f"{chain}, got {got}, or one that is called several times{ALONE}")
        before, given = layer, layer.output
        if isinstance(given, (list, tuple)):  # the states too
            given = given[0]


def check_last_step(argument: str, found: Chain) -> None:
    """Refuse an output layer that reads the last state of both directions: no step of the network has both."""
    last = found.recurrent[-1]
    if found.linear is not None and len(last.directions) == 2 and not last.layer.return_sequences:
        got = f"return_sequences True of {last} before {found.linear}, got False"
        how = "convert the layers before the output layer, which then reads numpy.concatenate(states[-1])"
        _refuse(argument, f"{got}: no step of the network has the last states of both directions; {how}")


def keras_weights(argument: str, part: Part, layer: Any) -> list[Any]:
    """Return the arrays of a layer of Keras or of one direction of it, if they are those that its class has."""
    weights: list[Any] = layer.get_weights()
    options = getattr(layer, "cell", layer)
    expected = 1 if part.role == "embedding" else (2 if part.role == "recurrent" else 1) + bool(options.use_bias)
    if len(weights) != expected:
        how = "; a layer has them once it was called or built" if not weights else ""
        _refuse(argument, f"{expected} weights of {part}, got {len(weights)}{how}")
    return weights
