"""Checks and conversions of what the caller passed: the only ones in the package.

Every function takes the argument's name as the caller spells it, for the message.  Nothing that is
passed is modified.  An array that already is float64, aligned and of the right shape comes back as
it is; everything else that holds real numbers is converted.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = Mapping[str, Any]

FLOAT64 = np.dtype(np.float64)
MOST_ELEMENTS = sys.maxsize // FLOAT64.itemsize // 64  # leaves room for every buffer of a call


def real(name: str, value: Any) -> Array:
    """Return `value` as an aligned float64 array of any layout.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If it is a ragged nested sequence.
    """
    if type(value) is np.ndarray and value.dtype is FLOAT64 and value.flags.aligned:
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of numbers, got a ragged nested sequence") from error
    if array.dtype.kind not in "fiub":
        got = f"dtype {array.dtype}" if array.dtype.kind != "O" else f"{type(value).__name__} of objects"
        raise TypeError(f"{name}: expected real numbers, got {'None' if value is None else got}")
    return np.require(array, FLOAT64, ["ALIGNED"])


def dimensions(name: str, value: Any, letters: str) -> Array:
    """Return `value` as `real` does, with as many dimensions as there are letters."""
    array = real(name, value)
    count = letters.count(",") + 1
    if array.ndim != count:
        raise ValueError(f"{name}: expected {count} dimensions ({letters}), got shape {array.shape}")
    return array


def shaped(name: str, value: Any, letters: str, shape: tuple[int, ...]) -> Array:
    """Return `value` as `real` does, with exactly this shape."""
    array = real(name, value)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape ({letters}) = {shape}, got {array.shape}")
    return array


def state(name: str, value: Any, n_a: int, m: int) -> Array:
    """Return a state of shape (n_a, m), or (n_a, 1) for all examples, as (m, n_a) to be copied from."""
    array = real(name, value)
    if array.shape != (n_a, m) and array.shape != (n_a, 1):
        raise ValueError(f"{name}: expected shape (n_a, m) = {(n_a, m)}, got {array.shape}")
    return array.T


def time_major(name: str, value: Any, n_a: int, m: int) -> Array:
    """Return a state as a C-contiguous (1, m, n_a), one step in the order of the kernels."""
    rows = state(name, value, n_a, m)
    return np.ascontiguousarray(np.broadcast_to(rows, (m, n_a)))[None]


def entry(parameters: Parameters, key: str) -> Any:
    """Return one entry of the caller's parameters."""
    if type(parameters) is not dict and not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise TypeError(f"parameters: expected a mapping from names to arrays, got {kind}")
    try:
        return parameters[key]
    except KeyError:
        raise KeyError(f"parameters: expected an entry {key!r}, got only {sorted(map(str, parameters))}") from None


def weight(parameters: Parameters, key: str, letters: str, shape: tuple[int, int]) -> Array:
    """Return a weight matrix or bias column, C-contiguous and of exactly this shape."""
    value = entry(parameters, key)
    if type(value) is np.ndarray and value.dtype is FLOAT64 and value.flags.carray and value.shape == shape:
        return value
    return np.ascontiguousarray(shaped(f"parameters[{key!r}]", value, letters, shape))


def output_sizes(parameters: Parameters, key: str) -> tuple[int, int]:
    """Return n_y and n_a, the shape of the output layer's weights."""
    n_y, n_a = dimensions(f"parameters[{key!r}]", entry(parameters, key), "n_y, n_a").shape
    return n_y, n_a


def fits(**sizes: int) -> None:
    """Refuse sizes whose product is more than an array can hold."""
    product = 1
    for size in sizes.values():
        product *= max(size, 1)
    if product > MOST_ELEMENTS:
        named = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        raise ValueError(f"x: sizes {named} are more than an array can hold")


def unpacked(name: str, value: Any, letters: str) -> Any:
    """Return a tuple (or list) with as many entries as there are letters."""
    count = letters.count(",") + 1
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected a tuple ({letters}), got {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{name}: expected a tuple ({letters}), got {len(value)} entries")
    return value
