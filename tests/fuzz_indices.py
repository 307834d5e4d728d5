"""Random indices in place of one-hot columns: the same bits; and what is no index is refused."""

import numpy as np
from fuzz_oracle import same

PAST = (-1, 1 << 40, np.iinfo(np.int64).min)  # past the lengths
KINDS = (
    lambda v: v, np.ndarray.tolist, np.asfortranarray, lambda v: v.astype(">i8"),
    lambda v: np.repeat(np.repeat(v, 2, axis=0), 2, axis=-1)[::2][..., ::2],
)  # fmt: skip
NARROW = (*KINDS, lambda v: v.astype("u1"), lambda v: v.astype("i4"), lambda v: v.astype("u8"))


def results(fuzzer, kind, q, x, xt, how, back):
    """Everything that the functions of a sequence and of a step return, but for the gradient of the input."""
    *found, caches = fuzzer.call(f"{kind}_forward", x, q.a0, q.p, **how)
    values = dict(zip("ayc", found, strict=False))
    values |= fuzzer.call(f"{kind}_backward", q.da, caches, **back)
    if xt is not None:
        lstm = kind == "lstm"
        *found, cache = fuzzer.call(f"{kind}_cell_forward", xt, *[q.a0, q.c0][: 1 + lstm], q.p)
        values |= {f"{k} of a cell": value for k, value in enumerate(found)}
        gradients = fuzzer.call(f"{kind}_cell_backward", q.da[:, :, q.t], *[q.dc[:, :, q.t]][:lstm], cache)
        values |= {f"{name} of a cell": value for name, value in gradients.items()}
    return values


def check(fuzzer, pick, cell, q):
    """Indices as a problem's input."""
    kind, (n_x, m, T_x) = cell.name.partition("_")[0], q.x.shape
    if not n_x:
        return
    index = np.random.default_rng(pick.randrange(1 << 30)).integers(n_x, size=(m, T_x))
    x, given, kinds = np.eye(n_x)[:, index], index.copy(), NARROW
    how, back = ({"c0": q.c0} if q.given_c0 else {}), ({"dc": q.dc} if q.given_dc else {})
    if q.lengths is not None:
        how["lengths"], kinds = q.lengths, KINDS
        given[np.arange(T_x) >= q.lengths[:, None]] = pick.choice(PAST)
    steps = [index[:, q.t], x[:, :, q.t]] if T_x else [None, None]
    want = results(fuzzer, kind, q, x, steps[1], how, back)
    step = None if steps[0] is None or not m else pick.choice(NARROW)(steps[0])
    given = pick.choice(kinds)(given) if given.size else given
    found = results(fuzzer, kind, q, given, steps[0] if step is None else step, how, back)
    for name, value in want.items():
        if name.startswith("dx"):
            if found[name] is not None:
                raise AssertionError(f"{name}: expected None for indices, got {found[name]!r}")
        elif not (q.special and name.startswith("d")):  # 0 times NaN, which indices do not multiply
            same(f"{name} of indices", found[name], value)
    if q.lengths is None and index.size:
        wrong = index.copy()
        wrong.flat[pick.randrange(index.size)] = pick.choice((-1, n_x, *PAST))
        fuzzer.refused(f"{kind}_forward", pick.choice(KINDS)(wrong), q.a0, q.p)
        fuzzer.refused(f"{kind}_forward", index.astype(pick.choice((float, bool, complex))), q.a0, q.p)
    fuzzer.done["indices"] += 1
