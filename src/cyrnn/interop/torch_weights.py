"""Weights from and to PyTorch: names, the order of the gates, the second bias, modules of several layers.

PyTorch stacks the gates of an LSTM in the order i, f, c, o and those of a GRU in the order r, z, c.  It is needed
only to write weights, for its tensors.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.fused import Fused, cell_with_gates
from ..recurrent.spec import GRU, GRU_AFTER
from . import models
from .layers import Layers, apart, array, assembled, output_layer, second_bias, two_biases

__all__ = ["from_torch", "to_torch"]

ORDERS = {"rnn": "", "lstm": "ifco", "gru": "rzc"}
# An entry of torch.nn.RNN, LSTM or GRU, or of RNNCell, LSTMCell or GRUCell, whose entries have no suffix.
ENTRY = re.compile(r"(?P<module>.*\.)?(?P<name>(weight|bias)_(ih|hh|hr))(?P<suffix>(_l(?P<layer>\d+)(_reverse)?)?)")
ALONE = "convert their entries one by one and put the results into a list"


class _Entries:
    """The arrays of a state dict, with their names for messages."""

    def __init__(self, state_dict: Mapping[str, Any]) -> None:
        self.state_dict = state_dict

    def __contains__(self, key: str) -> bool:
        return key in self.state_dict

    def __call__(self, key: str) -> tuple[str, Array]:
        name = f"state_dict[{key!r}]"
        return name, array(name, _checks.entry(self.state_dict, key, "state_dict"))


@dataclass(slots=True)
class _Plan:
    """Where the entries of a network are; a prefix is what stands before the last part of a name."""

    modules: dict[str, dict[str, str]]  # prefix of a recurrent module: suffix of a direction: the first of its entries
    embedding: str | None = None  # the name of its entry
    linear: str | None = None  # prefix
    is_module: bool = False  # then the kinds of all layers are known


def _plan(state_dict: Any, chain: models.Chain | None) -> _Plan:
    """Find out what the entries are: by the parts of the module, or by their names and order alone."""
    plan = _Plan({}, is_module=chain is not None)
    others = []
    for key in map(str, state_dict):
        match = ENTRY.fullmatch(key)
        if match is None:
            others.append(key)
            continue
        if match["name"].endswith("hr"):
            raise ValueError(f"state_dict[{key!r}]: a projection, which has no counterpart in cyrnn")
        plan.modules.setdefault(match["module"] or "", {}).setdefault(match["suffix"], key)
    if not plan.modules:
        only = sorted(map(str, state_dict))
        raise _checks.Missing(f"state_dict: expected an entry 'weight_ih_l0' (of an RNN, LSTM or GRU), got only {only}")
    if chain is None:
        _find_others(plan, others, [*map(str, state_dict)])
        return plan
    known = []
    if chain.embedding is not None:
        plan.embedding = _named(chain.embedding.name, "weight")
        known = [plan.embedding]
    if chain.linear is not None:
        plan.linear = _named(chain.linear.name, "")
        known += [f"{plan.linear}weight", f"{plan.linear}bias"]
    for key in others:
        if key not in known:  # of a layer that was changed
            raise _unknown(key)
    return plan


def _unknown(key: str) -> ValueError:
    kinds = "an RNN, an LSTM, a GRU, an embedding nor a linear output layer"
    return ValueError(f"state_dict[{key!r}]: an entry of neither {kinds}")


def _named(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _find_others(plan: _Plan, others: list[str], order: list[str]) -> None:
    """Find the embedding before the recurrent modules and the linear layer after them."""
    first, last = ([*plan.modules.values()][k] for k in (0, -1))
    begin, end = next(iter(first.values())), next(iter(last.values()))
    entries: dict[str, list[str]] = {}
    for key in others:
        prefix, dot, name = key.rpartition(".")
        if name not in ("weight", "bias"):
            raise _unknown(key)
        entries.setdefault(prefix + dot, []).append(key)
    for prefix, keys in entries.items():
        if keys == [f"{prefix}weight"] and plan.embedding is None and order.index(keys[0]) < order.index(begin):
            plan.embedding = keys[0]
        elif plan.linear is not None:
            got = f"got {entries[plan.linear][0]!r} and {keys[0]!r}"
            raise ValueError(f"state_dict: expected at most one linear layer beside the recurrent ones, {got}")
        else:
            plan.linear = prefix
    for key in [] if plan.linear is None else entries[plan.linear]:
        if order.index(key) < order.index(end):
            raise ValueError(
                f"state_dict[{key!r}]: expected a linear output layer after {end!r}, got one before it, which may be "
                "a layer before the network; if it is the output layer, put its entries last"
            )


def _suffixes(prefix: str, found: Mapping[str, str]) -> list[list[str]]:
    """Return the suffixes of the directions of each layer of a module."""
    if len(found) == 1:
        return [[*found]]
    numbers: list[int] = []
    for key in found.values():
        match = ENTRY.fullmatch(key)
        if match is None or match["layer"] is None:
            first, second, *_ = found.values()
            raise ValueError(f"state_dict: expected a layer or a single step, got {first!r} and {second!r}")
        numbers.append(int(match["layer"]))
    numbers = sorted(set(numbers))
    for below, above in pairwise(numbers):
        if above != below + 1:
            only = sorted(found.values())
            raise _checks.Missing(f"state_dict: expected an entry '{prefix}weight_ih_l{below + 1}', got only {only}")
    directions = ["", "_reverse"] if any(suffix.endswith("_reverse") for suffix in found) else [""]
    return [[f"_l{k}{direction}" for direction in directions] for k in numbers]


def _direction(entries: _Entries, prefix: str, suffix: str, biased: bool, n_x: int | None, twin: Fused | None) -> Fused:
    """Return one direction of a layer; n_x is None if it may be any."""
    name, W_a = entries(f"{prefix}weight_hh{suffix}")
    _checks.dimensions(name, W_a, "gates n_a, n_a")
    if twin is not None:
        _checks.shaped(name, W_a, "gates n_a, n_a", twin.W_a.shape)
    n_a = W_a.shape[1]
    spec = cell_with_gates(name, W_a.shape, "gates n_a, n_a", 0)
    spec = GRU_AFTER if spec is GRU else spec
    rows = spec.n_gates * n_a
    name, W_x = entries(f"{prefix}weight_ih{suffix}")
    _checks.dimensions(name, W_x, "gates n_a, n_x")
    _checks.shaped(name, W_x, "gates n_a, n_x", (rows, W_x.shape[1] if n_x is None else n_x))
    b_x = b_a = np.zeros(rows)
    if biased:
        names = [f"{prefix}bias_ih{suffix}", f"{prefix}bias_hh{suffix}"]
        b_x, b_a = (_checks.shaped(*entries(key), "gates n_a", (rows,)) for key in names)
    b, bca = two_biases(spec, ORDERS[spec.name], n_a, b_x, b_a)
    return Fused(spec, W_x, W_a, b, bca)


def _layers(entries: _Entries, prefix: str, found: Mapping[str, str], n_x: int | None) -> list[list[Fused]]:
    """Return the layers of one recurrent module."""
    suffixes = _suffixes(prefix, found)
    names = [f"{prefix}bias_{part}{suffix}" for row in suffixes for suffix in row for part in ("ih", "hh")]
    biased = any(name in entries for name in names)
    layers: list[list[Fused]] = []
    for row in suffixes:
        layer: list[Fused] = []
        for suffix in row:
            twin = layer[0] if layer else None
            layer.append(_direction(entries, prefix, suffix, biased, n_x if twin is None else twin.W_x.shape[1], twin))
        layers.append(layer)
        n_x = Layers(layers).n_a
    return layers


def _orders(sizes: Mapping[str, tuple[int, int]], n_x: int | None, n_a: int | None) -> Iterator[tuple[str, ...]]:
    """Yield every order of modules in which each has as many inputs as the one before has units, the last n_a."""
    if not sizes and (n_a is None or n_x == n_a):
        yield ()
    for prefix, (columns, units) in sizes.items():
        if n_x is None or n_x == columns:
            rest = {other: value for other, value in sizes.items() if other != prefix}
            for order in _orders(rest, units, n_a):
                yield (prefix, *order)


def _check_order(modules: Mapping[str, list[list[Fused]]], n_x: int | None, n_a: int | None) -> None:
    """Refuse modules of a state dict that fit each other in another order too."""
    sizes = {prefix: (layers[0][0].W_x.shape[1], Layers(layers).n_a) for prefix, layers in modules.items()}
    if len([*islice(_orders(sizes, n_x, n_a), 2)]) > 1:
        got = " and ".join(repr(prefix.removesuffix(".")) for prefix in modules)
        raise ValueError(f"state_dict: expected modules that fit in one order, got {got}; pass the module, or {ALONE}")


def from_torch(state_dict: Any, *, network: bool = False, dtype: Any = np.float64) -> Any:
    """Parameters or a network from a PyTorch module, or from its state dict.

    The model is a ``torch.nn.RNN``, ``LSTM`` or ``GRU`` of any number of layers, in one or both directions, an
    ``RNNCell``, ``LSTMCell`` or ``GRUCell``, or a module that holds one of these, or several of which each reads the
    one before; before them it may have a ``torch.nn.Embedding``, after them a ``torch.nn.Linear``, the output layer.

    Of a module the kinds of the layers, their options and the order in which they were made are checked; what its
    ``forward`` does by functions is not seen.  Of a state dict the names before the last dot do not matter, and what
    could be read in two ways is refused.  Of a larger model pass the entries of some layers or of one direction, with
    those of the output layer if you like.

    Parameters
    ----------
    state_dict : torch.nn.Module or mapping
        A module; or names to tensors, as ``state_dict()`` gives them, or to arrays.  PyTorch itself is not imported.
    network : bool
        True for a list, as `network_forward` takes it, of one layer too.
    dtype : numpy.float64 or numpy.float32
        Of the arrays returned.  Of weights in float32 and narrower types both are exact, but for a sum of two biases
        in float32, which is rounded once.

    Returns
    -------
    dict of new arrays
        Of one layer in one direction without an embedding: ``Wax Waa ba`` of an RNN, ``Wf bf Wi bi Wc bc Wo bo`` of an
        LSTM, ``Wu bu Wr br Wc bc bca`` of a GRU, whose reset is after the product; with an output layer also ``Wya`` or
        ``Wy``, and ``by``.  Without one pass ``output=None`` to the functions of cyrnn.
    list of such
        Of anything else, a network: an embedding ``{"E"}``, the layers, of both directions pairs of dicts, the output
        layer ``{"Wy", "by"}``.

    Raises
    ------
    KeyError
        If an entry is missing; the message names it.
    TypeError, ValueError
        If there is a layer that has no counterpart here (relu, a projection, a Dropout that is not in evaluation), a
        linear layer stands before a recurrent one, layers do not fit each other, a state dict has several meanings, or
        an entry has a wrong type or shape, or a number that `dtype` cannot hold.  That an RNN uses relu and not tanh
        cannot be seen in a state dict.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> state_dict = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2)),
    ...               "rnn.bias_ih_l0": np.ones(8), "rnn.bias_hh_l0": np.ones(8),
    ...               "fc.weight": np.ones((4, 2)), "fc.bias": np.zeros(4)}
    >>> {name: value.shape for name, value in cyrnn.from_torch(state_dict).items() if name in ("Wf", "bf", "Wy", "by")}
    {'Wf': (2, 5), 'bf': (2, 1), 'Wy': (4, 2), 'by': (4, 1)}
    >>> embedding, layer, output = cyrnn.from_torch({"embedding.weight": np.ones((9, 3)), **state_dict})
    >>> embedding["E"].shape, layer["Wf"].shape, output["Wy"].shape
    ((3, 9), (2, 5), (4, 2))
    """
    network, dtype = _checks.flag("network", network), _checks.kernels(dtype).dtype
    chain = None
    if models.is_torch_module(state_dict):
        chain = models.chain("state_dict", models.torch_parts("state_dict", state_dict))
        of = tuple(_named(part.name, "") for part in chain.parts())
        state_dict = {key: value for key, value in state_dict.state_dict().items() if key.startswith(of)}
    elif not isinstance(state_dict, Mapping) and not hasattr(state_dict, "keys"):
        got = type(state_dict).__name__
        raise TypeError(f"state_dict: expected a PyTorch module or a mapping from names to arrays, got {got}")
    plan, entries = _plan(state_dict, chain), _Entries(state_dict)
    found, n_x = Layers([]), None
    if plan.embedding is not None:
        name, weight = entries(plan.embedding)
        vocabulary, n_x = _checks.dimensions(name, weight, "vocabulary, n_x").shape
        if chain is None and vocabulary == n_x:
            got = f"{weight.shape}, which the weight of a linear layer could have as well; pass the module"
            raise ValueError(f"{name}: expected an embedding of shape (vocabulary, n_x), got {got}")
        prefix, suffixes = next(iter(plan.modules.items()))
        key = f"{prefix}weight_ih{next(iter(suffixes))}"
        if chain is None and key in entries and (shape := entries(key)[1].shape)[1:] != (n_x,):
            expected = f"an embedding of shape (vocabulary, n_x) with the n_x of {key!r}, whose shape is {shape}"
            raise ValueError(f"{name}: expected {expected}, got {weight.shape}")
        found.E = weight.T
    modules = {}
    columns = n_x
    for prefix, suffixes in plan.modules.items():
        modules[prefix] = _layers(entries, prefix, suffixes, columns)
        found.layers += modules[prefix]
        columns = found.n_a
    if chain is None:
        _check_order(modules, n_x, None if plan.linear is None else columns)
    if plan.linear is not None:
        bias, has_bias = f"{plan.linear}bias", chain is None or f"{plan.linear}bias" in entries
        output_layer(found, entries(f"{plan.linear}weight"), entries(bias) if has_bias else None, "n_y, n_a")
    return assembled("state_dict", found, ORDERS, network, dtype)


def to_torch(
    parameters: Any, *, layer: str | Sequence[str] | None = None, output: str = "fc", embedding: str = "embedding"
) -> dict[str, Any]:
    """State dict of the PyTorch model that computes the same.

    Parameters
    ----------
    parameters : mapping or list
        As for `rnn_forward`, `lstm_forward` or `gru_forward`, where the output layer (``Wya`` or ``Wy``, and ``by``)
        may be missing; or a network, as for `network_forward`.
    layer : str or list of str, optional
        What the module calls its ``torch.nn.RNN``, ``LSTM`` or ``GRU``; "" if it is that layer itself.  By default
        "rnn" where there is an output layer or an embedding, "" where there is neither.  Of a network a list may name
        the module of each layer; layers of one name are one module, whose layers must have one cell, one size and the
        same directions.
    output, embedding : str
        What the module calls its ``torch.nn.Linear`` and its ``torch.nn.Embedding``.

    Returns
    -------
    dict of new tensors, of float32 if all arrays are of that, else of float64
        ``weight_ih_l0 weight_hh_l0 bias_ih_l0 bias_hh_l0`` after the name of the layer and a dot, with the numbers of
        further layers and ``_reverse`` from right to left; before them ``weight`` of an embedding, behind them
        ``weight`` and ``bias`` of the output layer, for ``load_state_dict``.  The second bias is zeros but for
        ``bca`` of a GRU. The output layer's activation is not in it.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError, KeyError
        If an entry is missing or of a wrong type or shape; for a GRU with its reset before the product, which PyTorch
        has not; if layers of one module differ.  The message names it.

    Examples
    --------
    >>> import numpy as np, cyrnn
    >>> p = {"Wax": np.eye(2), "Waa": np.eye(2), "ba": np.zeros((2, 1)), "Wya": np.eye(2), "by": np.zeros((2, 1))}
    >>> list(cyrnn.to_torch(p))
    ['rnn.weight_ih_l0', 'rnn.weight_hh_l0', 'rnn.bias_ih_l0', 'rnn.bias_hh_l0', 'fc.weight', 'fc.bias']
    >>> layer = {name: p[name] for name in ("Wax", "Waa", "ba")}
    >>> [name for name in cyrnn.to_torch([layer, layer]) if name.startswith("weight")]
    ['weight_ih_l0', 'weight_hh_l0', 'weight_ih_l1', 'weight_hh_l1']
    """
    import torch

    found, where = apart(parameters, ORDERS)
    names = _module_names(found, layer)
    state_dict: dict[str, Array] = {}

    def add(key: str, value: Array) -> None:
        if key in state_dict:
            raise ValueError(f"embedding, layer, output: expected different names, got {key!r} twice")
        state_dict[key] = value

    if found.E is not None:
        add(_named(embedding, "weight"), found.E.T.copy())
    first = 0  # layer of the module
    for k, (module, directions) in enumerate(zip(names, found.layers, strict=True)):
        first = k if module not in names[:k] else first
        _check_module(found, where, k, first)
        if k > first and module != names[k - 1]:
            got = f"{names[k - 1]!r} between them"
            raise ValueError(f"layer: expected the layers of {module!r} one after the other, got {got}")
        for q, direction in zip(directions, ("", "_reverse"), strict=False):
            b_a = second_bias(q, ORDERS[q.spec.name])
            for name, value in {"weight_ih": q.W_x, "weight_hh": q.W_a, "bias_ih": q.b, "bias_hh": b_a}.items():
                add(_named(module, f"{name}_l{k - first}{direction}"), value)
    if found.Wy is not None and found.by is not None:
        add(_named(output, "weight"), found.Wy)
        add(_named(output, "bias"), found.by)
    return {name: torch.from_numpy(value) for name, value in state_dict.items()}


def _module_names(found: Layers, names: Any) -> Sequence[str]:
    """Return the name of the module of each layer."""
    count = len(found.layers)
    if names is None:
        names = "" if found.Wy is None and found.E is None else "rnn"
    if isinstance(names, str):
        return [names] * count
    if not isinstance(names, (list, tuple)) or any(not isinstance(name, str) for name in names):
        raise TypeError(f"layer: expected a name, or a list of one for each layer, got {names!r}")
    if len(names) != count:
        raise ValueError(f"layer: expected a name, or a list of one for each of {count} layers, got {len(names)}")
    return names


def _check_module(found: Layers, where: Sequence[str], k: int, first: int) -> None:
    """Refuse layer k if it is no layer of the module that begins with another one."""
    kinds = [
        f"{'both directions' if len(q) == 2 else 'one direction'} with {q[0].W_a.shape[1]} units of {q[0].spec.title}"
        for q in (found.layers[first], found.layers[k])
    ]
    if found.layers[k][0].spec is GRU:
        raise ValueError(f"{where[k]}: {GRU.title}, has no counterpart in PyTorch, whose GRU resets after it")
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{where[k]}: expected {kinds[0]}, as {where[first]} in the same module of PyTorch, got {kinds[1]}; "
            "name a module for each, layer=['rnn0', 'rnn1', ...]"
        )
