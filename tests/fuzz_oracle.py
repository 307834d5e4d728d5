"""What random calls are compared with: the notebook's cells in plain NumPy, one after the other; and how."""

import numpy as np

from cyrnn.demo import numpy_reference

TOLERANCE = 1e-11  # relative to the largest value of the inputs and of what is expected, at least 1


ACTIVATIONS = {"softmax": numpy_reference.softmax, "sigmoid": numpy_reference.sigmoid, "linear": np.copy}


def plain_forward(kind, x, states, p):
    """a, (c,) y of all steps, and the notebook's list of caches."""
    cell, results, steps = getattr(numpy_reference, f"{kind}_cell_forward"), [], []
    for t in range(x.shape[2]):
        *found, cache = cell(x[:, :, t], *states, p)
        states = found[:-1]
        results.append(found)
        steps.append(cache)
    return *(np.stack(values, 2) for values in zip(*results, strict=True)), steps


def plain_backward(kind, reaching, steps):
    """The gradients, from da (and dc) of the first steps or all."""
    cell, into, dx, sums = getattr(numpy_reference, f"{kind}_cell_backward"), [0.0] * len(reaching), [], {}
    for t in reversed(range(reaching[0].shape[2])):
        found = cell(*(value[:, :, t] + more for value, more in zip(reaching, into, strict=True)), steps[t])
        dx.append(found.pop("dxt"))
        into = [found.pop(f"{name}_prev") for name in ("da", "dc")[: len(reaching)]]
        sums = {name: value + sums.get(name, 0.0) for name, value in found.items()}
    return {"dx": np.stack(dx[::-1], 2), **dict(zip(("da0", "dc0"), into, strict=False)), **sums}


def largest(*arrays):
    """The largest finite value of some arrays."""
    return max(float(np.abs(array).max(initial=0.0, where=np.isfinite(array))) for array in arrays)


def compare(found, want, scale=1.0, finite=True, tolerance=TOLERANCE, dtype=np.float64):
    """Every result that plain NumPy has: NaN and infinities in the same places, the rest to rounding.

    `scale` is that of the inputs: 1 - a^2 rounds to it where a is close to 1, whatever the result.  Beside an
    infinity or NaN of the inputs a BLAS may leave out a product with 0, which is NaN.
    """
    for name, expected in want.items():
        got = found[name]
        fits = got.shape == expected.shape and got.dtype == dtype
        if fits and np.abs(got - expected).max(initial=0.0) <= tolerance * scale:
            continue
        if not finite and fits:
            expected = np.where(np.isnan(got) & (name[0] == "d"), np.nan, expected)
        most = max(scale, largest(expected))
        if not fits or not np.allclose(got, expected, 0.0, tolerance * most, equal_nan=True):
            raise AssertionError(f"{name}:\n{got}\nexpected\n{expected}")


def same(what, got, want):
    """The same bits; any NaN is as good as another."""
    if got.shape == want.shape and got.tobytes() == want.tobytes():
        return
    numbers = ~np.isnan(want) if got.shape == want.shape else None
    if numbers is None or np.isnan(got[numbers]).any() or not np.isnan(got[~numbers]).all():
        raise AssertionError(f"{what}:\n{got}\nexpected\n{want}")
    if got[numbers].tobytes() != want[numbers].tobytes():
        raise AssertionError(f"{what}, not bit for bit:\n{got}\nexpected\n{want}")
