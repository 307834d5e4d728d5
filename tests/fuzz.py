"""Random calls of every function, each compared with the notebook in plain NumPy or refused as it should be.

    python tests/fuzz.py --calls 1000000 [--seconds S] [--seed N] [--case K]

Sizes (0 and 1 among them), types, strides, orders, edits of the caches, special values, wrong arguments, builds
and numbers of threads are drawn.  A case that fails is printed; `--seed N --case K` runs it alone.
"""

import argparse
import copy
import random
import sys
import time
from collections import Counter

import numpy as np
from cells import CELLS
from layouts import LAYOUTS
from reference import problem

import cyrnn
from cyrnn import _kernels, _plain
from cyrnn._kernels import threads

SIZES = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 33)
SPECIAL = (np.nan, np.inf, -np.inf, 1e150, -1e150, 5e-324, -0.0, 2.3e-308)
TOLERANCE = 1e-11  # relative to the largest value of the inputs and of what is expected, at least 1
DISGUISES = 5  # of each problem


# What is done to the caches: on our steps and on the notebook's list alike


def _reverse(pick, steps):
    steps.reverse()
    return steps


def _repeat(pick, steps):
    steps[pick.randrange(len(steps))] = steps[pick.randrange(len(steps))]
    return steps


def _delete_and_append(pick, steps):
    step = steps[pick.randrange(len(steps))]
    del steps[pick.randrange(len(steps))]
    steps.append(step)
    return steps


def _splice(pick, steps):
    cut = pick.randrange(len(steps) + 1)
    return steps[cut:] + steps[:cut]


def write(pick, steps):
    steps[pick.randrange(len(steps))][0][...] *= 0.5
    return steps


def write_before(pick, steps):
    step = steps[pick.randrange(len(steps))]
    if step[-3].size:
        step[-3][pick.randrange(len(step[-3]))] *= 0.25
    return steps


def _by_hand(pick, steps):
    return [tuple(step) for step in steps]


def _look(pick, steps):
    assert len(steps[pick.randrange(len(steps))]) == len(steps[-1])
    return steps


EDITS = (_reverse, _repeat, _delete_and_append, _splice, write, write_before, _by_hand, _look)

# What no function may take for an array of numbers of the right shape

WRONG = (
    lambda v: None,
    lambda v: "text",
    lambda v: v + 1j,
    lambda v: v.astype(object),
    lambda v: v[None],
    lambda v: v[..., None],
    lambda v: np.concatenate([v, v[:1], np.zeros((1, *v.shape[1:]))]),
    lambda v: [[1.0], [1.0, 2.0]],
    lambda v: {"a": v},
    lambda v: np.float64(1.0),
    lambda v: v.astype("M8[s]"),
    lambda v: object(),
)


def largest(*arrays):
    """The largest finite value of some arrays."""
    return max(float(np.abs(array).max(initial=0.0, where=np.isfinite(array))) for array in arrays)


def compare(found, want, scale=1.0, finite=True):
    """Every result that plain NumPy has: NaN and infinities in the same places, the rest to rounding.

    `scale` is that of the inputs: 1 - a^2 rounds to it where a is close to 1, whatever the result.  Beside an
    infinity or NaN of the inputs a BLAS may leave out a product with 0, which is NaN.
    """
    for name, expected in want.items():
        got = found[name]
        most = max(scale, largest(expected))
        fits = got.shape == expected.shape and got.dtype == np.float64
        if not finite and fits:
            expected = np.where(np.isnan(got) & (name[0] == "d"), np.nan, expected)
        if not fits or not np.allclose(got, expected, 0.0, TOLERANCE * most, equal_nan=True):
            raise AssertionError(f"{name}:\n{got}\nexpected\n{expected}")


def disguised(pick, q, whole):
    """The same numbers, some of them in another type or layout."""

    def layout(value):
        way = pick.choice(LAYOUTS)
        fits = value.size if way.__name__ == "as_list" else whole or way.__name__ != "float32"
        return way(value) if fits and pick.random() < 0.3 else value

    r = copy.copy(q)
    r.x, r.a0, r.c0, r.da, r.dc = map(layout, (q.x, q.a0, q.c0, q.da, q.dc))
    r.p = {name: layout(value) for name, value in q.p.items()}
    return r


class Fuzzer:
    """Cases 0, 1, ... of a seed; `done` counts the calls by function, and what else was done."""

    def __init__(self, seed):
        self.seed = seed
        self.done = Counter()
        self.calls = 0

    def call(self, name, *args, **kwargs):
        self.calls += 1
        self.done[name] += 1
        return getattr(cyrnn, name)(*args, **kwargs)

    def case(self, number):
        """Draw one problem; call every function of its cell with it, in several disguises, and wrongly."""
        pick = random.Random(self.seed * 1_000_003 + number)
        size = [0 if pick.random() < 0.02 else pick.choice(SIZES) for _ in range(5)]
        cell = pick.choice(CELLS)
        if pick.random() < 0.05:
            _kernels.use(pick.choice(_kernels.available()))
        q = problem(cell.name, *size, seed=pick.randrange(1 << 30))
        arrays = {"x": q.x, "a0": q.a0, "c0": q.c0, "da": q.da, "dc": q.dc}
        whole, special = pick.choice(((True, False), (False, False), (False, False), (False, True)))
        q.x *= pick.choice((1.0, 1.0, 30.0, 0.0))
        for array in (*arrays.values(), *q.p.values()) if whole else ():  # float32 can hold them
            array[...] = array.astype(np.float32)
        if special and (array := pick.choice(list(arrays.values()))).size:
            array.flat[pick.randrange(array.size)] = pick.choice(SPECIAL)
        if pick.random() < 0.05:  # one state for all examples
            q.a0, q.c0 = q.a0[:, :1].copy(), q.c0[:, :1].copy()
        q.t = pick.randrange(max(size[4], 1))
        before = copy.deepcopy(q)

        cyrnn.set_num_threads(1)
        want = self.every_function(cell, q)
        if 0 in size:  # the notebook cannot do without
            n_x, n_a, n_y, m, T_x = size
            for name, shape in {"a": (n_a, m, T_x), "y": (n_y, m, T_x), "dx": (n_x, m, T_x), "da0": (n_a, m)}.items():
                if want[name].shape != shape:
                    raise AssertionError(f"{name}: expected shape {shape}, got {want[name].shape}")
        else:
            self.notebook(pick, cell, q, want)
        for _ in range(DISGUISES):
            r = disguised(pick, q, whole)
            cyrnn.set_num_threads(pick.choice((2, 3)) if pick.random() < 0.01 else 1)
            for name, value in self.every_function(cell, r, cache=pick.random() < 0.8).items():
                if not np.array_equal(value, want[name], equal_nan=True):
                    raise AssertionError(f"disguised, {name}:\n{value}\nexpected\n{want[name]}")
            if 0 not in size:
                self.wrong(pick, cell, q)
        for name in arrays:
            if not np.array_equal(getattr(q, name), getattr(before, name), equal_nan=True):
                raise AssertionError(f"{name} was modified")
        if any(not np.array_equal(q.p[name], value) for name, value in before.p.items()):
            raise AssertionError("a parameter was modified")

    def every_function(self, cell, q, cache=True):
        """What they return for the sequence, for its step t alone, and for some of the arrays."""
        kind, lstm = cell.name, cell.name == "lstm"
        *found, caches = self.call(f"{kind}_forward", q.x, q.a0, q.p, cache=cache)
        results = dict(zip("ayc", found, strict=False))
        if cache:
            results |= self.call(f"{kind}_backward", q.da, caches)
        x, da = np.asarray(q.x), np.asarray(q.da)
        if x.shape[2]:
            *found, cell_cache = self.call(f"{kind}_cell_forward", x[:, :, q.t], *[q.a0, q.c0][: 1 + lstm], q.p)
            results |= zip(("a_next", "c_next", "yt") if lstm else ("a_next", "yt"), found, strict=True)
            back = self.call(f"{kind}_cell_backward", da[:, :, q.t], *[q.dc][:lstm], cell_cache)
            results |= {f"{name} of a cell": value for name, value in back.items()}
        results["softmax"] = self.call("softmax", q.x)
        results["sigmoid"] = self.call("sigmoid", q.p[cell.output[0]])
        return results

    def notebook(self, pick, cell, q, found):
        """Compare with plain NumPy; edit the caches of both and compare their backward passes."""
        kind, lstm, T_x = cell.name, cell.name == "lstm", q.x.shape[2]
        plain = copy.copy(q)
        plain.a0, plain.c0 = (np.array(np.broadcast_to(state, q.dc.shape)) for state in (q.a0, q.c0))
        *states, plain_caches = getattr(_plain, f"{kind}_forward")(q.x.copy(), plain.a0.copy(), q.p)
        want = dict(zip("ayc", states, strict=False))
        want |= getattr(_plain, f"{kind}_backward")(q.da, plain_caches)
        forward, backward = (getattr(_plain, f"{kind}_cell_{way}") for way in ("forward", "backward"))
        *one, cache = forward(q.x[:, :, q.t], *[plain.a0, plain.c0][: 1 + lstm], q.p)
        want |= zip(("a_next", "c_next", "yt") if lstm else ("a_next", "yt"), one, strict=True)
        back = backward(q.da[:, :, q.t], *[q.dc][:lstm], cache)
        want |= {f"{name} of a cell": value for name, value in back.items()}
        want |= {"softmax": _plain.softmax(q.x), "sigmoid": _plain.sigmoid(q.p[cell.output[0]])}
        inputs = q.x, q.a0, q.c0, q.da, q.dc
        scale, finite = max(1.0, largest(*inputs)), all(np.isfinite(value).all() for value in inputs)
        compare(found, want, scale, finite)

        steps, plain_steps = self.call(f"{kind}_forward", q.x, q.a0, q.p)[-1][0], plain_caches[0]
        for _ in range(pick.randrange(4)):
            edit, state = pick.choice(EDITS), pick.getstate()
            steps = edit(pick, steps)
            pick.setstate(state)
            plain_steps = edit(pick, plain_steps)
            self.done["edits of the caches"] += 1
        da = q.da[:, :, : pick.randrange(1, T_x + 1)]
        found = self.call(f"{kind}_backward", da, (steps, q.x))
        compare(found, getattr(_plain, f"{kind}_backward")(da, (plain_steps, q.x)), scale, finite)

    def wrong(self, pick, cell, q):
        """One argument that does not fit: refused with a message, whatever it is."""
        kind, lstm, way = cell.name, cell.name == "lstm", pick.choice(("forward", "backward"))
        states = [q.a0, q.c0][: 1 + lstm]
        one = pick.random() < 0.5
        if way == "forward":
            args = [q.x[:, :, q.t], *states, q.p] if one else [q.x, q.a0, q.p]
        elif one:
            args = [
                q.da[:, :, q.t],
                *[q.dc][:lstm],
                getattr(cyrnn, f"{kind}_cell_forward")(q.x[:, :, 0], *states, q.p)[-1],
            ]
        else:
            args = [q.da, getattr(cyrnn, f"{kind}_forward")(q.x, q.a0, q.p)[-1]]
        which = pick.randrange(len(args))
        last = args[-1]
        if which < len(args) - 1:
            args[which] = pick.choice(WRONG)(args[which])
        elif way == "backward":
            args[which] = pick.choice((None, (), last[:-1], (None, None), 7, (*last, None), [[]], {}, (q.x, *last[1:])))
        else:
            name = pick.choice([*cell.inputs, *cell.output])
            others = {key: value for key, value in q.p.items() if key != name}
            args[which] = pick.choice((None, [q.p], others, {**others, name: pick.choice(WRONG)(q.p[name])}))
        name = f"{kind}_cell_{way}" if one else f"{kind}_{way}"
        try:
            self.call(name, *args)
        except (TypeError, ValueError, KeyError) as error:
            if "expected" not in str(error):
                raise AssertionError(f"{name}: {error!r}") from error
            self.done["refused"] += 1
        else:
            raise AssertionError(f"{name} took {args[which]!r}")


def run(seed, calls, seconds=float("inf"), every=20_000, first=0):
    """Run cases until so many calls are made or the time is up; return the fuzzer."""
    fuzzer, start, number = Fuzzer(seed), time.perf_counter(), first
    before, build = threads.set_worth(1.0), _kernels.build
    try:
        with np.errstate(all="ignore"):
            while fuzzer.calls < calls and time.perf_counter() - start < seconds:
                try:
                    fuzzer.case(number)
                except Exception as error:
                    error.add_note(f"python tests/fuzz.py --seed {seed} --case {number}, build {_kernels.build}")
                    raise
                number += 1
                if number % every == 0:
                    print(f"{fuzzer.calls} calls, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    finally:
        threads.set_worth(before)
        _kernels.use(build)
        cyrnn.set_num_threads(None)
    fuzzer.done["cases"] = number - first
    return fuzzer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    options = parser.parse_args()
    start = time.perf_counter()
    if options.case is not None:
        fuzzer = run(options.seed, 1, first=options.case)
    else:
        fuzzer = run(options.seed, options.calls, options.seconds)
    builds = ", ".join(_kernels.available())
    print(f"{fuzzer.calls} calls in {time.perf_counter() - start:.0f} s, seed {options.seed}, builds {builds}:")
    for name, count in sorted(fuzzer.done.items()):
        print(f"  {name:<22}{count:>12}")


if __name__ == "__main__":
    main()
