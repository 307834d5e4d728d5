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

__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]

ORDERS = {"lstm": "ifco"}
# An entry of torch.nn.RNN or LSTM, or of RNNCell or LSTMCell, whose entries have no _l0.
ENTRY = re.compile(r"(?P<layer>.*\.)?(?P<name>(weight|bias)_(ih|hh|hr))(?P<number>_l\d+)?(?P<reverse>_reverse)?")


def _array(name: str, value: Any) -> Array:
    """Return what `real` does, of a tensor on any device too."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
    return _checks.real(name, value)


def _linear(entries: Sequence[str]) -> str | None:
    """Return the prefix of the one linear layer that has these entries of a state dict."""
    for key in entries:
        if key.rpartition(".")[2] not in ("weight", "bias"):
            raise ValueError(f"state_dict[{key!r}]: an entry of neither an RNN, an LSTM nor a linear output layer")
    prefixes = {key: key.rpartition(".")[0] for key in entries}
    for key, prefix in prefixes.items():
        if prefix != prefixes[entries[0]]:
            raise ValueError(
                f"state_dict: expected one RNN or LSTM and at most one linear layer, got {entries[0]!r} and {key!r}"
            )
    return prefixes[entries[0]] if entries else None


def from_torch(state_dict: Mapping[str, Any]) -> dict[str, Array]:
    """Parameters from the state dict of a PyTorch model.

    The model is a ``torch.nn.RNN`` or ``LSTM`` of one layer and one direction, an ``RNNCell`` or an
    ``LSTMCell``, or a module that holds one of these and at most one ``torch.nn.Linear``, which is taken as
    the output layer.  The names before the last dot do not matter.  Of a larger model pass the entries of
    these two layers.  The two biases of a layer are added; without biases they are zeros.

    Parameters
    ----------
    state_dict : mapping
        Names to tensors, as ``state_dict()`` gives them, or to arrays.  Its numbers are converted to
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
        If the entries are those of a layer that has no counterpart here (a projection, several layers, two
        directions, a GRU) or of layers that are not known, or have a wrong type or shape.  That an RNN
        uses relu and not tanh cannot be seen in a state dict.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> state_dict = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2)),
    ...               "rnn.bias_ih_l0": np.ones(8), "rnn.bias_hh_l0": np.ones(8),
    ...               "fc.weight": np.ones((4, 2)), "fc.bias": np.zeros(4)}
    >>> {name: value.shape for name, value in cyrnn.from_torch(state_dict).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    """
    _checks.mapping(state_dict, "state_dict")
    found = {key: ENTRY.fullmatch(str(key)) for key in state_dict}
    layers: dict[tuple[str, str], str] = {}  # the prefix and the number, an entry
    for key, match in found.items():
        if match is None:
            continue
        layers.setdefault((match["layer"] or "", match["number"] or ""), key)
        for has, what in (
            (match["name"].endswith("hr"), "a projection"),
            (match["reverse"], "a bidirectional layer"),
            (match["number"] not in (None, "_l0"), "a second layer"),
        ):
            if has:
                raise ValueError(f"state_dict[{key!r}]: {what}, which has no counterpart in cyrnn")
    if not layers:
        got = sorted(map(str, state_dict))
        raise _checks.Missing(f"state_dict: expected an entry 'weight_ih_l0' (of one RNN or LSTM), got only {got}")
    if len(layers) > 1:
        first, second, *_ = layers.values()
        raise ValueError(f"state_dict: expected one RNN or LSTM layer, got {first!r} and {second!r}")
    ((layer, number),) = layers
    linear = _linear([str(key) for key, match in found.items() if match is None])

    def get(key: str) -> tuple[str, Array]:
        name = f"state_dict[{key!r}]"
        return name, _array(name, _checks.entry(state_dict, key, "state_dict"))

    name, W_a = get(f"{layer}weight_hh{number}")
    _checks.dimensions(name, W_a, "gates n_a, n_a")
    n_a = W_a.shape[1]
    spec = cell_with_gates(name, W_a.shape, "gates n_a, n_a", 0)
    rows = spec.n_gates * n_a
    name, W_x = get(f"{layer}weight_ih{number}")
    _checks.dimensions(name, W_x, "gates n_a, n_x")
    _checks.shaped(name, W_x, "gates n_a, n_x", (rows, W_x.shape[1]))
    b = np.zeros(rows)
    names = [f"{layer}bias_ih{number}", f"{layer}bias_hh{number}"]
    if any(name in state_dict for name in names):
        b = added(*(_checks.shaped(*get(key), "gates n_a", (rows,)) for key in names))
    fused = Fused(spec, W_x, W_a, b)
    if linear is not None:
        prefix = f"{linear}." if linear else ""
        name, fused.Wy = get(f"{prefix}weight")
        n_y = len(_checks.dimensions(name, fused.Wy, "n_y, n_a"))
        _checks.shaped(name, fused.Wy, "n_y, n_a", (n_y, n_a))
        fused.by = _checks.shaped(*get(f"{prefix}bias"), "n_y", (n_y,))
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


def from_keras(weights: Sequence[Any]) -> dict[str, Array]:
    """Parameters from the weights of a Keras model.

    The model is a ``SimpleRNN`` or ``LSTM``, or has one of these and at most one ``Dense`` after it, which
    is taken as the output layer.  Without biases they are zeros.

    Parameters
    ----------
    weights : list of array_like
        As ``get_weights()`` gives it: kernel (n_x, n_a), recurrent kernel (n_a, n_a) and bias (n_a,), with
        4 n_a for an LSTM, then kernel (n_a, n_y) and bias (n_y,).  Its numbers are converted to float64,
        which is exact.  Keras itself is not imported.

    Returns
    -------
    dict of new float64 arrays
        As `from_torch` returns it.

    Raises
    ------
    TypeError, ValueError
        If there are other weights than those of such a model (several layers, two directions, a GRU), or an
        array has a wrong type or shape; the message names it.  Which activations a layer uses cannot be
        seen in its weights: they must be Keras's defaults.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> weights = [np.ones((3, 8)), np.ones((2, 8)), np.zeros(8), np.ones((2, 4)), np.zeros(4)]
    >>> {name: value.shape for name, value in cyrnn.from_keras(weights).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    """
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"weights: expected a list of arrays, as get_weights() gives it, got {type(weights).__name__}")
    if len(weights) < 2:
        raise ValueError(f"weights: expected a kernel and a recurrent kernel at least, got {len(weights)} arrays")
    arrays = {f"weights[{k}]": _array(f"weights[{k}]", value) for k, value in enumerate(weights)}
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
    fused = Fused(spec, W_x.T, W_a.T, b)
    if len(rest) > 2:
        shapes = [array.shape for array in arrays.values()]
        raise ValueError(
            f"weights: expected those of one SimpleRNN or LSTM and at most one Dense, got arrays of shapes {shapes}"
        )
    if rest:
        name, W_y = rest[0]
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
