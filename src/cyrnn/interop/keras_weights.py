"""Weights from and to Keras: transposes, the order of the gates, the biases of a GRU, lists of arrays without names.

Keras stacks the gates of an LSTM in the order i, f, c, o and those of a GRU in the order z, r, c.  It is not needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.fused import Fused, cell_with_gates
from ..recurrent.spec import CELLS, GRU, GRU_AFTER, CellSpec
from . import models
from .layers import Layers, apart, array, assembled, output_layer, second_bias, two_biases

__all__ = ["from_keras", "to_keras"]

ORDERS = {"rnn": "", "lstm": "ifco", "gru": "zrc"}
CLASSES = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru_before": "GRU(reset_after=False)", "gru_after": "GRU"}
Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Direction:
    """Where the arrays of one direction of a layer are: kernel, recurrent kernel and, if biased, bias."""

    spec: CellSpec
    begin: int
    biased: bool

    @property
    def end(self) -> int:
        return self.begin + 2 + self.biased


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the arrays of a list are."""

    layers: tuple[tuple[_Direction, ...], ...] = ()
    dense: range | None = None  # kernel and perhaps bias
    embedding: bool = False  # the first array

    def __str__(self) -> str:
        names = ["Embedding"] if self.embedding else []
        for layer in self.layers:
            name = CLASSES[layer[0].spec.form] + ("" if layer[0].biased else " without bias")
            names.append(f"Bidirectional({name})" if len(layer) == 2 else name)
        if self.dense is not None:
            names.append("Dense" if len(self.dense) == 2 else "Dense without bias")
        return ", ".join(names)


def _directions(shapes: Shapes, k: int, n_x: int | None) -> Iterator[tuple[_Direction, int]]:
    """Yield what arrays from the k-th on can be one direction of a layer with n_x inputs, and its units."""
    if k + 2 > len(shapes) or len(shapes[k]) != 2 or len(shapes[k + 1]) != 2:
        return
    (columns, width), (n_a, same) = shapes[k : k + 2]
    if n_a == 0 or width != same or n_x not in (None, columns):
        return
    for spec in CELLS.values():
        if width == spec.n_gates * n_a:
            yield _Direction(spec, k, False), n_a
            if k + 2 < len(shapes) and shapes[k + 2] == ((2, width) if spec is GRU_AFTER else (width,)):
                yield _Direction(spec, k, True), n_a


class _Readings:
    """All that a list of arrays of such shapes can mean."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.known: dict[tuple[int, int], list[_Reading]] = {}

    def all(self) -> list[_Reading]:
        """Return at least two of them if there are several."""
        found = self._layers(0, None)
        if self.shapes and len(self.shapes[0]) == 2:
            n_x = self.shapes[0][1]
            found += [_Reading(rest.layers, rest.dense, True) for rest in self._layers(1, n_x)]
        return found

    def _layers(self, k: int, n_x: int | None) -> list[_Reading]:
        """Return readings that begin with a layer."""
        found = []
        for direction, n_a in _directions(self.shapes, k, n_x):
            for rest in self._rest(direction.end, n_a):
                found.append(_Reading(((direction,), *rest.layers), rest.dense))
            columns = self.shapes[k][0]
            for second, units in _directions(self.shapes, direction.end, columns):
                if (second.spec, second.biased, units) == (direction.spec, direction.biased, n_a):
                    for rest in self._rest(second.end, 2 * n_a):
                        found.append(_Reading(((direction, second), *rest.layers), rest.dense))
        return found[:2]

    def _rest(self, k: int, n_a: int) -> list[_Reading]:
        """Return readings of what follows a layer of n_a units."""
        if (k, n_a) not in self.known:
            rest = self.shapes[k:]
            found = [] if rest else [_Reading()]
            if len(rest) in (1, 2) and len(rest[0]) == 2 and rest[0][0] == n_a and rest[1:] in ([], [rest[0][1:]]):
                found.append(_Reading(dense=range(k, k + len(rest))))
            self.known[k, n_a] = found + self._layers(k, n_a)
        return self.known[k, n_a]


def _direction(arrays: list[tuple[str, Array]], spec: CellSpec | None, n_x: int | None) -> Fused:
    """Return one direction of a layer: kernel, recurrent kernel and, if given, bias."""
    (name_x, W_x), (name_a, W_a), *bias = arrays
    _checks.dimensions(name_a, W_a, "n_a, gates n_a")
    n_a = len(W_a)
    found = cell_with_gates(name_a, W_a.shape, "n_a, gates n_a", 1)
    if spec is None:
        spec = GRU_AFTER if found is GRU and bias and bias[0][1].ndim == 2 else found
    units = spec.n_gates * n_a
    _checks.shaped(name_a, W_a, "n_a, gates n_a", (n_a, units))
    _checks.dimensions(name_x, W_x, "n_x, gates n_a")
    _checks.shaped(name_x, W_x, "n_x, gates n_a", (len(W_x) if n_x is None else n_x, units))
    b_x = b_a = np.zeros(units)
    if bias and spec is GRU_AFTER:
        b_x, b_a = _checks.shaped(*bias[0], "2, gates n_a", (2, units))
    elif bias:
        b_x = _checks.shaped(*bias[0], "gates n_a", (units,))
    b, bca = two_biases(spec, ORDERS[spec.name], n_a, b_x, b_a)
    return Fused(spec, W_x.T, W_a.T, b, bca)


def _misfit(arrays: list[tuple[str, Array]]) -> NoReturn:
    """Raise the error that names what does not fit, if the arrays are read from the first to the last."""
    shapes = [value.shape for _, value in arrays]
    n_x, rest, layers = None, arrays, 0
    embedding = len(shapes[0]) == 2 and [*_directions(shapes, 1, shapes[0][1])] and not [*_directions(shapes, 0, None)]
    if embedding:
        n_x, rest = shapes[0][1], arrays[1:]
    while len(rest) > 2 or (rest and not layers):
        unit = rest[1][1].shape[-1] if len(rest) > 1 else 0
        biased = len(rest) > 2 and (rest[2][1].ndim == 1 or rest[2][1].shape == (2, unit))
        fused = _direction(rest[: 2 + biased], None, n_x)
        rest, layers, n_x = rest[2 + biased :], layers + 1, fused.W_a.shape[1]
    if rest:
        output_layer(Layers([[fused]]), rest[0], rest[1] if len(rest) == 2 else None, "n_a, n_y")
    expected = "those of an Embedding, layers SimpleRNN, LSTM or GRU, and a Dense"
    raise ValueError(f"weights: expected {expected}, got arrays of shapes {shapes}")


def _read(weights: Any) -> Layers:
    """Return the layers of a list of arrays that has one meaning."""
    if not isinstance(weights, (list, tuple)):
        got = type(weights).__name__
        raise TypeError(
            f"weights: expected a Keras model, a layer or a list of arrays, as get_weights() gives it, got {got}"
        )
    if len(weights) < 2:
        raise ValueError(f"weights: expected a kernel and a recurrent kernel at least, got {len(weights)} arrays")
    arrays = [(f"weights[{k}]", array(f"weights[{k}]", value)) for k, value in enumerate(weights)]
    shapes = [value.shape for _, value in arrays]
    readings = _Readings(shapes).all()
    if not readings:
        _misfit(arrays)
    if len(readings) > 1:
        raise ValueError(
            f"weights: expected arrays of one meaning, got shapes {shapes}: {readings[0]}; or {readings[1]}; pass the "
            "model, biases of zeros, or the arrays of one layer alone"
        )
    (reading,) = readings
    found = Layers([])
    if reading.embedding:
        found.E = arrays[0][1].T
    for layer in reading.layers:
        found.layers.append([_direction(arrays[one.begin : one.end], one.spec, None) for one in layer])
    if reading.dense is not None:
        kernel, *bias = (arrays[k] for k in reading.dense)
        output_layer(found, kernel, bias[0] if bias else None, "n_a, n_y")
    return found


def _read_model(model: Any) -> Layers:
    """Return the layers of a model or of a layer."""
    chain = models.chain("weights", models.keras_parts("weights", model))
    models.check_last_step("weights", chain)
    count = 0  # of the arrays so far

    def arrays(part: models.Part, layer: Any) -> list[tuple[str, Array]]:
        nonlocal count
        values = models.keras_weights("weights", part, layer)
        named = [(f"weights[{count + k}]", array(f"weights[{count + k}]", value)) for k, value in enumerate(values)]
        count += len(named)
        return named

    found, n_x = Layers([]), None
    if chain.embedding is not None:
        ((_, E),) = arrays(chain.embedding, chain.embedding.layer)
        found.E, n_x = E.T, E.shape[1]
    for part in chain.recurrent:
        found.layers.append([_direction(arrays(part, one), models.keras_spec(one), n_x) for one in part.directions])
        n_x = found.n_a
    if chain.linear is not None:
        kernel, *bias = arrays(chain.linear, chain.linear.layer)
        output_layer(found, kernel, bias[0] if bias else None, "n_a, n_y")
    return found


def from_keras(weights: Any, *, network: bool = False, dtype: Any = np.float64) -> Any:
    """Parameters or a network from a Keras model or layer, or from its weights.

    The model is a ``SimpleRNN``, ``LSTM`` or ``GRU``, a ``Bidirectional`` of one that concatenates, or several of
    these one after the other; before them it may have an ``Embedding``, after them a ``Dense``, which is the output
    layer.  Without biases they are zeros.  Of a model or a layer the kinds of the layers, their activations and their
    order are checked.

    Parameters
    ----------
    weights : keras.Model, keras.layers.Layer or list of array_like
        A model or a layer; or what ``get_weights()`` gives: kernel (n_x, n_a), recurrent kernel (n_a, n_a) and bias
        (n_a,) of each layer and direction, with 4 n_a for an LSTM and 3 n_a for a GRU, whose bias is (2, 3 n_a) where
        its reset is after the product; before them the vectors of an ``Embedding`` (vocabulary, n_x), behind them
        kernel (n_a, n_y) and bias (n_y,).  Keras itself is not imported.
    network : bool
        True for a list, as `network_forward` takes it, of one layer too.
    dtype : numpy.float64 or numpy.float32
        Of the arrays returned.  Of weights in float32 and narrower types both are exact, but for a sum of two biases
        in float32, which is rounded once.

    Returns
    -------
    dict or list of new arrays
        As `from_torch` returns it; a GRU with ``reset_after=False`` has no ``bca``.

    Raises
    ------
    TypeError, ValueError
        If there are layers without a counterpart here (relu, hard_sigmoid, a Dense before a recurrent layer), or with
        options that have none (``merge_mode="sum"``, ``go_backwards``, ``mask_zero``); if a list of weights can be read
        in two ways; if an array has a wrong type or shape or a number that `dtype` cannot hold.  The message names the
        layer or the array.  Which activations a layer uses cannot be seen in a list of weights: they must be Keras's
        defaults.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> weights = [np.ones((3, 8)), np.ones((2, 8)), np.zeros(8), np.ones((2, 4)), np.zeros(4)]
    >>> {name: value.shape for name, value in cyrnn.from_keras(weights).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    >>> embedding, layer, output = cyrnn.from_keras([np.ones((9, 3)), *weights])
    >>> embedding["E"].shape, layer["Wf"].shape, output["Wy"].shape
    ((3, 9), (2, 5), (4, 2))
    """
    network, dtype = _checks.flag("network", network), _checks.kernels(dtype).dtype
    found = _read_model(weights) if models.is_keras_layer(weights) else _read(weights)
    return assembled("weights", found, ORDERS, network, dtype)


def to_keras(parameters: Any) -> list[Array]:
    """Weights of the Keras model that computes the same.

    Parameters
    ----------
    parameters : mapping or list
        As for `rnn_forward`, `lstm_forward` or `gru_forward`, where the output layer (``Wya`` or ``Wy``, and ``by``)
        may be missing; or a network, as for `network_forward`.

    Returns
    -------
    list of new arrays, of float32 if all arrays are of that, else of float64
        For ``set_weights``: the vectors of an ``Embedding``; kernel, recurrent kernel and bias of each layer, of a
        ``Bidirectional`` those of both directions; kernel and bias of a ``Dense`` where there is an output layer.
        The bias of a GRU is (2, 3 n_a) where its reset is after the product (``reset_after=True``, Keras's default),
        else (3 n_a,).

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
    found, _ = apart(parameters, ORDERS)
    weights = [] if found.E is None else [found.E.T.copy()]
    for q in (q for layer in found.layers for q in layer):
        bias = q.b if q.bca is None else np.stack([q.b, second_bias(q, ORDERS[q.spec.name])])
        weights += [q.W_x.T.copy(), q.W_a.T.copy(), bias]
    if found.Wy is not None and found.by is not None:
        weights += [found.Wy.T.copy(), found.by]
    return weights
