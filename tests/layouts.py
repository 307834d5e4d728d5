"""Ways to hold the same numbers: other types and orders in memory, each a function of a float64 array."""

import numpy as np


def as_list(v):
    return v.tolist()


def float32(v):
    return v.astype(np.float32)


def swapped(v):
    return v.astype(v.dtype.newbyteorder())


def fortran(v):
    return np.asfortranarray(v)


def time_major(v):
    return np.ascontiguousarray(v.T).T


def strided(v):
    return np.repeat(v, 2, axis=0)[::2]


def strided_last(v):
    return np.repeat(v, 3, axis=-1)[..., ::3]


def backwards(v):
    return v[::-1].copy()[::-1]


def middle_first(v):
    return np.ascontiguousarray(np.moveaxis(v, 0, -1)).transpose(-1, *range(v.ndim - 1)) if v.ndim > 1 else v


def unaligned(v):
    raw = np.empty(v.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(v.shape)
    raw[...] = v
    return raw


def field(v):
    record = np.zeros(v.shape, [("tag", "i1"), ("value", "f8")])
    record["value"] = v
    return record["value"]


def subclass(v):
    return v.view(type("Sub", (np.ndarray,), {}))


def matrix(v):
    return np.ma.array(v)


def longer(v):
    return v.astype(np.longdouble)


LAYOUTS = [
    as_list, float32, swapped, fortran, time_major, strided, strided_last, backwards, middle_first,
    unaligned, field, subclass, matrix, longer,
]  # fmt: skip
