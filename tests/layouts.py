"""Ways to hold the same numbers: other types and orders in memory, each a function of a float64 array; and what holds
no numbers or other ones."""

import numpy as np

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None


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
    raw = np.empty(v.nbytes + 1, np.uint8)[1:].view(v.dtype).reshape(v.shape)
    raw[...] = v
    return raw


def field(v):
    record = np.zeros(v.shape, [("tag", "i1"), ("value", v.dtype)])
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


NARROW = [np.float16] if ml_dtypes is None else [np.float16, ml_dtypes.bfloat16]


def narrowed(v):
    """The nearest numbers that float16 and bfloat16 hold both, to 8 bits."""
    bits = v.astype(np.float16).astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF)) & np.uint32(0xFFFF0000)).view(np.float32).astype(v.dtype)


def disguised(pick, value, whole):
    """The same numbers, now and then in another type or layout.

    In float32 only if they are `whole` in it, in a narrower type if they are whole in that.
    """
    way = pick.choice(LAYOUTS)
    if way is float32 and pick.random() < 0.7:
        narrow = value.astype(pick.choice(NARROW))
        return narrow if np.array_equal(narrow.astype(value.dtype), value, equal_nan=True) else value
    fits = value.size if way is as_list else whole or way is not float32
    return way(value) if fits and pick.random() < 0.3 else value


# What no function may take for an array of numbers, and what has not the right shape

NO_NUMBERS = (
    lambda v: None,
    lambda v: "text",
    lambda v: v + 1j,
    lambda v: v.astype(str).astype(object),
    lambda v: [[1.0], [1.0, 2.0]],
    lambda v: {"a": v},
    lambda v: v.astype("M8[s]"),
    lambda v: object(),
)
WRONG = (
    *NO_NUMBERS,
    lambda v: v[None],
    lambda v: v[..., None],
    lambda v: np.concatenate([v, v[:1], np.zeros((1, *v.shape[1:]))]),
    lambda v: np.float64(1.0),
)
