"""Weights from and to PyTorch and Keras: names, transposes, the order of the gates, the second bias.

Both libraries stack the gates of an LSTM in the order i, f, c, o.  Neither is needed to read weights,
and only PyTorch, for its tensors, to write them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array, Parameters
from ..recurrent.fused import Fused, added, cell_with_gates, fuse, split
from . import models

__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]

ORDERS = {"lstm": "ifco"}
# An entry of torch.nn.RNN or LSTM, or of RNNCell or LSTMCell, whose entries have no suffix.
ENTRY = re.compile(r"(?P<layer>.*\.)?(?P<name>(weight|bias)_(ih|hh|hr))(?P<suffix>(_l\d+(_reverse)?)?)")


def _array(name: str, value: Any) -> Array:
    """Return what `real` does, of a tensor on any device too."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
    return _checks.real(name, value)


def _linear(entries: Sequence[str], layer: str, order: Sequence[str]) -> str | None:
    """Return the prefix of the one linear layer that has these entries, which stand after that of the layer."""
    for key in entries:
        if key.rpartition(".")[2] not in ("weight", "bias"):
            raise ValueError(f"state_dict[{key!r}]: an entry of neither an RNN, an LSTM nor a linear output layer")
    prefixes = {key: key.rpartition(".")[0] for key in entries}
    for key, prefix in prefixes.items():
        if prefix != prefixes[entries[0]]:
            raise ValueError(
                f"state_dict: expected one RNN or LSTM and at most one linear layer, got {entries[0]!r} and {key!r}"
            )
        if order.index(key) < order.index(layer):
            raise ValueError(
                f"state_dict[{key!r}]: expected a linear output layer after {layer!r}, got one before it, which may be "
                "a layer before the network; if it is the output layer, put its entries last"
            )
    return prefixes[entries[0]] if entries else None


class _Entries:
    """The arrays of a state dict, with their names for messages."""

    def __init__(self, state_dict: Mapping[str, Any]) -> None:
        self.state_dict = state_dict

    def __contains__(self, key: str) -> bool:
        return key in self.state_dict

    def __call__(self, key: str) -> tuple[str, Array]:
        name = f"state_dict[{key!r}]"
        return name, _array(name, _checks.entry(self.state_dict, key, "state_dict"))


def _torch_layer(entries: _Entries, layer: str, suffix: str) -> Fused:
    """Return one layer and direction, without an output layer."""
    name, W_a = entries(f"{layer}weight_hh{suffix}")
    _checks.dimensions(name, W_a, "gates n_a, n_a")
    n_a = W_a.shape[1]
    spec = cell_with_gates(name, W_a.shape, "gates n_a, n_a", 0)
    rows = spec.n_gates * n_a
    name, W_x = entries(f"{layer}weight_ih{suffix}")
    _checks.dimensions(name, W_x, "gates n_a, n_x")
    _checks.shaped(name, W_x, "gates n_a, n_x", (rows, W_x.shape[1]))
    b = np.zeros(rows)
    names = [f"{layer}bias_ih{suffix}", f"{layer}bias_hh{suffix}"]
    if any(name in entries for name in names):
        b = added(*(_checks.shaped(*entries(key), "gates n_a", (rows,)) for key in names))
    return Fused(spec, W_x, W_a, b)


def from_torch(state_dict: Any) -> dict[str, Array]:
    """Parameters from a PyTorch module, or from its state dict.

    The model is a ``torch.nn.RNN`` or ``LSTM`` of one layer and one direction, an ``RNNCell`` or an
    ``LSTMCell``, or a module that holds one of these and after it at most one ``torch.nn.Linear``, which is taken as
    the output layer.  The two biases of a layer are added; without biases they are zeros.

    Of a module the kinds of the layers, their options and the order in which they were made are checked; what its
    ``forward`` does by functions is not seen.  Of a state dict the names before the last dot do not matter.  Of a
    larger model pass the entries of one layer and direction, with those of the output layer if you like.

    Parameters
    ----------
    state_dict : torch.nn.Module or mapping
        A module; or names to tensors, as ``state_dict()`` gives them, or to arrays.  Numbers are converted to
        float64, which is exact.  PyTorch itself is not imported.

    Returns
    -------
    dict of new float64 arrays
        ``Wax Waa ba`` of an RNN, ``Wf bf Wi bi Wc bc Wo bo`` of an LSTM, with an output layer also ``Wya``
        or ``Wy``, and ``by``.  Without one add these before you call a function of cyrnn.

    Raises
    ------
    KeyError
        If an entry is missing; the message names it.
    TypeError, ValueError
        If there is a layer that has no counterpart here (relu, a projection, a GRU, a Dropout that is not in
        evaluation), there are several layers or directions, a linear layer stands before the recurrent one, or an
        entry has a wrong type or shape.  That an RNN uses relu and not tanh cannot be seen in a state dict.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> state_dict = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2)),
    ...               "rnn.bias_ih_l0": np.ones(8), "rnn.bias_hh_l0": np.ones(8),
    ...               "fc.weight": np.ones((4, 2)), "fc.bias": np.zeros(4)}
    >>> {name: value.shape for name, value in cyrnn.from_torch(state_dict).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    """
    known = models.is_torch_module(state_dict)
    if known:
        recurrent, output = models.recurrent_and_linear("state_dict", models.torch_parts("state_dict", state_dict))
        of = tuple(f"{part.name}." if part.name else "" for part in (recurrent, output) if part is not None)
        state_dict = {key: value for key, value in state_dict.state_dict().items() if key.startswith(of)}
    elif not isinstance(state_dict, Mapping) and not hasattr(state_dict, "keys"):
        got = type(state_dict).__name__
        raise TypeError(f"state_dict: expected a PyTorch module or a mapping from names to arrays, got {got}")
    found = {key: ENTRY.fullmatch(str(key)) for key in state_dict}
    layers: dict[tuple[str, str], str] = {}  # the prefix and the suffix, an entry
    for key, match in found.items():
        if match is None:
            continue
        layers.setdefault((match["layer"] or "", match["suffix"]), key)
        if match["name"].endswith("hr"):
            raise ValueError(f"state_dict[{key!r}]: a projection, which has no counterpart in cyrnn")
    if not layers:
        only = sorted(map(str, state_dict))
        raise _checks.Missing(f"state_dict: expected an entry 'weight_ih_l0' (of one RNN or LSTM), got only {only}")
    if len(layers) > 1:
        first, second, *_ = layers.values()
        raise ValueError(
            f"state_dict: expected one layer and direction, got {first!r} and {second!r}; pass the entries of one alone"
        )
    (((layer, suffix), first),) = layers.items()
    linear = _linear([str(key) for key, match in found.items() if match is None], first, [*map(str, state_dict)])
    entries = _Entries(state_dict)
    fused = _torch_layer(entries, layer, suffix)
    if linear is not None:
        prefix, n_a = f"{linear}." if linear else "", fused.W_a.shape[1]
        name, fused.Wy = entries(f"{prefix}weight")
        n_y = len(_checks.dimensions(name, fused.Wy, "n_y, n_a"))
        _checks.shaped(name, fused.Wy, "n_y, n_a", (n_y, n_a))
        fused.by = np.zeros(n_y)
        if not known or f"{prefix}bias" in entries:
            fused.by = _checks.shaped(*entries(f"{prefix}bias"), "n_y", (n_y,))
    return split(fused, ORDERS)


def to_torch(parameters: Parameters, *, layer: str | None = None, output: str = "fc") -> dict[str, Any]:
    """State dict of the PyTorch model that computes the same.

    Parameters
    ----------
    parameters : mapping
        As for `rnn_forward` or `lstm_forward`; the output layer (``Wya`` or ``Wy``, and ``by``) may be
        missing.
    layer : str, optional
        What the module calls its ``torch.nn.RNN`` or ``LSTM``; "" if it is that layer itself.  By default
        "rnn" where there is an output layer, "" where there is none.
    output : str
        What the module calls its ``torch.nn.Linear``.

    Returns
    -------
    dict of new float64 tensors
        ``weight_ih_l0 weight_hh_l0 bias_ih_l0 bias_hh_l0`` after the name of the layer and a dot, then
        ``weight`` and ``bias`` after that of the output layer, for ``load_state_dict``.  The second
        bias is zeros.  The softmax is not in it.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError, KeyError
        If an entry is missing or of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> list(cyrnn.to_torch(p))
    ['rnn.weight_ih_l0', 'rnn.weight_hh_l0', 'rnn.bias_ih_l0', 'rnn.bias_hh_l0', 'fc.weight', 'fc.bias']
    """
    import torch

    q = fuse(parameters, ORDERS)
    if layer is None:
        layer = "" if q.Wy is None else "rnn"
    values = {"weight_ih_l0": q.W_x, "weight_hh_l0": q.W_a, "bias_ih_l0": q.b, "bias_hh_l0": np.zeros_like(q.b)}
    state_dict = {f"{layer}.{name}" if layer else name: value for name, value in values.items()}
    if q.Wy is not None and q.by is not None:
        prefix = f"{output}." if output else ""
        state_dict |= {f"{prefix}weight": q.Wy, f"{prefix}bias": q.by}
    return {name: torch.from_numpy(value) for name, value in state_dict.items()}


def _keras_layer(arrays: dict[str, Array]) -> tuple[Fused, list[tuple[str, Array]]]:
    """Return the layer that the first two or three arrays are, and the other arrays."""
    (name_x, W_x), (name_a, W_a), *rest = arrays.items()
    _checks.dimensions(name_a, W_a, "n_a, gates n_a")
    n_a = len(W_a)
    spec = cell_with_gates(name_a, W_a.shape, "n_a, gates n_a", 1)
    units = spec.n_gates * n_a
    _checks.dimensions(name_x, W_x, "n_x, gates n_a")
    _checks.shaped(name_x, W_x, "n_x, gates n_a", (len(W_x), units))
    b = np.zeros(units)
    if rest and rest[0][1].ndim == 1:
        b = _checks.shaped(*rest.pop(0), "gates n_a", (units,))
    return Fused(spec, W_x.T, W_a.T, b), rest


def _first_is_before_a_layer(arrays: dict[str, Array]) -> bool:
    """Tell whether the arrays after the first one are a layer too, one that can read what the first one gives."""
    (_, first), *others = arrays.items()
    if len(others) < 2 or first.ndim != 2:
        return False
    try:
        layer, _ = _keras_layer(dict(others))
    except ValueError:
        return False
    return bool(first.shape[1] == layer.W_x.shape[1])


def from_keras(weights: Any) -> dict[str, Array]:
    """Parameters from a Keras model or layer, or from its weights.

    The model is a ``SimpleRNN`` or ``LSTM``, or has one of these and at most one ``Dense`` after it, which
    is taken as the output layer.  Without biases they are zeros.  Of a model or a layer the kinds of the layers, their
    activations and their order are checked.

    Parameters
    ----------
    weights : keras.Model, keras.layers.Layer or list of array_like
        A model or a layer; or what ``get_weights()`` gives: kernel (n_x, n_a), recurrent kernel (n_a, n_a) and bias
        (n_a,), with 4 n_a for an LSTM, then kernel (n_a, n_y) and bias (n_y,).  Numbers are converted to float64,
        which is exact.  Keras itself is not imported.

    Returns
    -------
    dict of new float64 arrays
        As `from_torch` returns it.

    Raises
    ------
    TypeError, ValueError
        If there are layers without a counterpart here (relu, hard_sigmoid, a GRU, an Embedding or a Dense before the
        network), several recurrent layers or two directions; if a list of weights can be read in two ways; if an
        array has a wrong type or shape.  The message names the layer or the array.  Which activations a layer uses
        cannot be seen in a list of weights: they must be Keras's defaults.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> weights = [np.ones((3, 8)), np.ones((2, 8)), np.zeros(8), np.ones((2, 4)), np.zeros(4)]
    >>> {name: value.shape for name, value in cyrnn.from_keras(weights).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    """
    known = models.is_keras_layer(weights)
    if known:
        recurrent, output = models.recurrent_and_linear("weights", models.keras_parts("weights", weights))
        weights = [
            array
            for part in (recurrent, output)
            if part is not None
            for array in models.keras_weights("weights", part)
        ]
    if not isinstance(weights, (list, tuple)):
        got = type(weights).__name__
        raise TypeError(
            f"weights: expected a Keras model, a layer or a list of arrays, as get_weights() gives it, got {got}"
        )
    if len(weights) < 2:
        raise ValueError(f"weights: expected a kernel and a recurrent kernel at least, got {len(weights)} arrays")
    arrays = {f"weights[{k}]": _array(f"weights[{k}]", value) for k, value in enumerate(weights)}
    shapes = [array.shape for array in arrays.values()]
    later = not known and _first_is_before_a_layer(arrays)
    try:
        fused, rest = _keras_layer(arrays)
    except ValueError as error:
        if not later:
            raise
        raise ValueError(
            f"weights[0]: expected the kernel of a SimpleRNN or LSTM, got shape {shapes[0]}, as of an Embedding or a "
            "Dense before the layer: pass the arrays of the layer alone"
        ) from error
    if later:
        raise ValueError(
            f"weights: expected arrays of one meaning, got shapes {shapes}: those of a SimpleRNN without bias and "
            "another layer, or of an Embedding or a Dense and a SimpleRNN; pass the model, or a bias of zeros"
        )
    if len(rest) > 2:
        raise ValueError(
            f"weights: expected those of one SimpleRNN or LSTM and at most one Dense, got arrays of shapes {shapes}"
        )
    if rest:
        name, W_y = rest[0]
        n_a = fused.W_a.shape[1]
        n_y = _checks.dimensions(name, W_y, "n_a, n_y").shape[1]
        fused.Wy = _checks.shaped(name, W_y, "n_a, n_y", (n_a, n_y)).T
        fused.by = _checks.shaped(*rest[1], "n_y", (n_y,)) if len(rest) == 2 else np.zeros(n_y)
    return split(fused, ORDERS)


def to_keras(parameters: Parameters) -> list[Array]:
    """Weights of the Keras model that computes the same.

    Parameters
    ----------
    parameters : mapping
        As for `rnn_forward` or `lstm_forward`; the output layer (``Wya`` or ``Wy``, and ``by``) may be
        missing.

    Returns
    -------
    list of new float64 arrays
        For ``set_weights``: kernel, recurrent kernel and bias of a ``SimpleRNN`` or ``LSTM``, then kernel and
        bias of a ``Dense`` where there is an output layer.

    Raises
    ------
    TypeError, ValueError, KeyError
        If an entry is missing or of a wrong type or shape; the message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.ones((2, 3)), "Waa": np.eye(2), "ba": np.zeros((2, 1))}
    >>> [array.shape for array in cyrnn.to_keras(p)]
    [(3, 2), (2, 2), (2,)]
    """
    q = fuse(parameters, ORDERS)
    weights = [q.W_x.T.copy(), q.W_a.T.copy(), q.b]
    if q.Wy is not None and q.by is not None:
        weights += [q.Wy.T.copy(), q.by]
    return weights
