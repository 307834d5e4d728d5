"""Networks to begin with, and those of a trained model."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import _checks
from .._checks import Array
from ..recurrent.layout import converted, layout, shapes, walk
from .parameters import WrongFile, glorot, initialize_parameters, outline, reading, size, stored_array

__all__ = ["initialize_network", "load_network", "save_network"]

KEY = re.compile(r"(\d+)(?:\.([01]))?\.(\w+)")  # the layer, the direction, the entry


def initialize_network(
    cell: str,
    n_x: int,
    n_a: int | Sequence[int],
    n_y: int | None,
    rng: np.random.Generator | int,
    *,
    bidirectional: bool = False,
    vocabulary: int | None = None,
    reset: str | None = None,
    recurrent: str = "orthogonal",
    forget_bias: float | None = None,
    dtype: Any = np.float64,
) -> list[Any]:
    """Random parameters of a network to begin a training with.

    Each layer as `initialize_parameters` draws it; the columns of an embedding are standard normal, as PyTorch's.

    Parameters
    ----------
    cell : {"rnn", "lstm", "gru"}
        Of every layer.
    n_x : int
        Inputs; with `vocabulary` the size of an embedded index.
    n_a : int or sequence of int
        Hidden units of each layer, in one direction.
    n_y : int or None
        Outputs; None for a network without an output layer.
    rng : numpy.random.Generator or int
        For the draws: ``numpy.random.default_rng(seed)``, or the seed of one.
    bidirectional : bool
        Whether every layer has both directions.
    vocabulary : int, optional
        The number of indices of an embedding; None for a network without one.
    reset, recurrent : str, optional
        As for `initialize_parameters`.
    forget_bias : float, optional
        As for `initialize_parameters`.
    dtype : numpy.float64 or numpy.float32
        As for `initialize_parameters`.

    Returns
    -------
    list
        A network of new arrays, for `network_forward`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range; the message names it.

    Examples
    --------
    >>> import cyrnn
    >>> network = cyrnn.initialize_network("lstm", n_x=8, n_a=[16, 16], n_y=4, rng=0, vocabulary=30)
    >>> [sorted(entry)[0] for entry in network], network[0]["E"].shape, network[3]["Wy"].shape
    (['E', 'Wc', 'Wc', 'Wy'], (8, 30), (4, 16))
    """
    dtype = _checks.kernels(dtype).dtype
    rng, both = _checks.generator("rng", rng), _checks.flag("bidirectional", bidirectional)
    n_x = size("n_x", n_x)
    units = [n_a] if np.ndim(n_a) == 0 else list(n_a)  # type: ignore[arg-type]
    if not units:
        raise ValueError("n_a: expected the units of one layer at least, got none")
    network: list[Any] = []
    if vocabulary is not None:
        network.append({"E": rng.standard_normal((n_x, size("vocabulary", vocabulary))).astype(dtype, copy=False)})
    width = n_x
    for k, count in enumerate(units):
        count = size("n_a" if np.ndim(n_a) == 0 else f"n_a[{k}]", count)
        directions = []
        for _ in range(2 if both else 1):
            p = initialize_parameters(
                cell, width, count, 1, rng, reset=reset, recurrent=recurrent, forget_bias=forget_bias, dtype=dtype
            )
            directions.append({key: value for key, value in p.items() if key not in ("Wya", "Wy", "by")})
        network.append(tuple(directions) if both else directions[0])
        width = count * len(directions)
    if n_y is not None:
        n_y = size("n_y", n_y)
        network.append({"Wy": glorot(rng, n_y, width).astype(dtype, copy=False), "by": np.zeros((n_y, 1), dtype)})
    return network


def save_network(path: str | os.PathLike[str], network: Sequence[Any]) -> None:
    """Write a network to a file, which `load_network` reads.

    The file is one that `numpy.savez` makes, without pickled objects: the entry ``network[2][1]["Wf"]`` is its array
    ``"2.1.Wf"``.

    Parameters
    ----------
    path : str or path-like
        The file, which is replaced if it exists.
    network : list
        As for `network_forward`; it is checked.  Entries that no function reads are left out.  It is written in float32
        if all of it is arrays of that, else in float64.

    Returns
    -------
    None

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError, KeyError
        If it is no network, or its layers do not fit each other; then nothing is written.  The message names the entry.

    Examples
    --------
    >>> import os, tempfile, cyrnn
    >>> network = cyrnn.initialize_network("gru", n_x=3, n_a=[5, 4], n_y=2, rng=0, bidirectional=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     cyrnn.save_network(path, network)
    ...     again = cyrnn.load_network(path)
    >>> bool((again[1][1]["Wu"] == network[1][1]["Wu"]).all())
    True
    """
    path, arrays = _checks.path(path), stored(network)
    with open(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # whose stubs know only the flag


def load_network(path: str | os.PathLike[str], *, dtype: Any = np.float64) -> list[Any]:
    """Read a network that `save_network` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    dtype : numpy.float64 or numpy.float32
        Of the arrays returned; those of the file are converted.

    Returns
    -------
    list
        The network, of new C-contiguous arrays.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no such file, holds pickled objects (they are never read), or its arrays are not those of a network, or
        not finite.  The message names the path and the entry.
    TypeError
        If `path` is no path.

    Examples
    --------
    See `save_network`.
    """
    dtype, path = _checks.kernels(dtype).dtype, _checks.path(path)
    with open(path, "rb") as file, reading(path):
        archive = np.load(file, allow_pickle=False)
        return restored(path, archive, archive.files, dtype)


def stored(network: Any) -> dict[str, Array]:
    """Return the arrays of a network by their names in a file; refuse what is no network, or not finite."""
    parts = layout(network)
    dtype = _checks.kernels_for(*[value for _, entry in walk(parts.network()) for value in entry.values()]).dtype
    parts = converted(parts, "network", None, "linear", dtype)
    arrays: dict[str, Array] = {}
    for name, entry in walk(parts.network()):
        where = re.sub(r"network|\]", "", name).replace("[", ".")[1:]
        arrays |= {f"{where}.{key}": value for key, value in entry.items()}
    for key, value in arrays.items():
        if not np.isfinite(value).all():
            raise ValueError(f"network: expected finite numbers, got others in {key}")
    return arrays


def restored(path: str, archive: Any, keys: Iterable[str], dtype: _checks.DType) -> list[Any]:
    """Return the network that has these arrays of a file; only headers are read until all of them fit."""
    nested: dict[int, Any] = {}
    for key in keys:
        match = KEY.fullmatch(key)
        if match is None:
            raise WrongFile(f"{path}: expected arrays named as '2.1.Wf', got {key!r}")
        layer = nested.setdefault(int(match[1]), {})
        where = layer if match[2] is None else layer.setdefault(int(match[2]), {})
        where[match[3]] = key
    network = [_layer(path, nested, k) for k in range(len(nested))]
    try:
        for name, (letters, shape), key in _wanted(path, network, lambda key: outline(archive, key)):
            _checks.shaped(f"{name} ({key})", outline(archive, key), letters, shape)
        return [_each(entry, lambda key: _finite(path, key, stored_array(archive, key), dtype)) for entry in network]
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, WrongFile):
            raise
        raise WrongFile(f"{path}: {error.args[0]}") from error


def _layer(path: str, nested: dict[int, Any], k: int) -> Any:
    """Return an entry of the network, with the names of the file's arrays in place of the arrays."""
    if k not in nested:
        raise WrongFile(f"{path}: expected the layers 0 to {len(nested) - 1}, got {sorted(nested)}")
    layer = nested[k]
    if not any(isinstance(name, int) for name in layer):
        return layer
    if set(layer) != {0, 1}:
        raise WrongFile(f"{path}: expected one direction or two in layer {k}, got {sorted(map(str, layer))}")
    return layer[0], layer[1]


def _each(entry: Any, make: Any) -> Any:
    """Return an entry of a network with `make` of each value."""
    if isinstance(entry, tuple):
        return tuple(_each(one, make) for one in entry)
    return {key: make(value) for key, value in entry.items()}


def _wanted(path: str, network: list[Any], make: Any) -> list[tuple[str, tuple[str, tuple[int, int]], str]]:
    """Return the name, the shape and the array's name in the file of every entry, with only the headers read."""
    outlines = [_each(entry, make) for entry in network]
    found = shapes(layout(outlines), "network", None, "linear")
    keys = {f"{name}[{key!r}]": stored for name, entry in walk(network) for key, stored in entry.items()}
    for names, others, what in ((found, keys, "missing"), (keys, found, "unknown")):
        odd = [name for name in names if name not in others]
        if odd:
            raise WrongFile(f"{path}: expected the entries of the layers' parameters alone, {what}: {odd[0]}")
    return [(name, wanted, keys[name]) for name, wanted in found.items()]


def _finite(path: str, key: str, array: Any, dtype: _checks.DType) -> Array:
    value: Array = np.array(_checks.real(key, array, dtype=dtype), order="C")
    if not np.isfinite(value).all():
        raise WrongFile(f"{path}: {key}: expected finite numbers")
    return value
