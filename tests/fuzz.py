"""Random calls of every function, each compared with plain NumPy or refused as it should be.

    python tests/fuzz.py [--calls N] [--seconds S] [--seed N] [--first K]

Sizes (0 and 1 among them), lengths, types, strides, orders, edits of the caches, special values, wrong arguments,
builds and numbers of threads are drawn.  A case that fails is printed with the command that runs it alone, and the
run goes on.  The cells and sequences are here, indices in fuzz_indices.py, streams in fuzz_stream.py, networks in
fuzz_network.py, losses and updates in fuzz_training.py.
"""

import argparse
import copy
import faulthandler
import random
import sys
import time
import traceback
from collections import Counter

import fuzz_indices
import fuzz_network
import fuzz_stream
import fuzz_training
import numpy as np
from cells import CELLS, FLOAT32
from fuzz_oracle import ACTIVATIONS, TOLERANCE, compare, largest, plain_backward, plain_forward, same
from layouts import WRONG, disguised, float32, narrowed

import cyrnn
from cyrnn import _kernels
from cyrnn._kernels.runtime import threads
from cyrnn.demo import numpy_reference

SIZES = (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 33)
SPECIAL = (np.nan, np.inf, -np.inf, 1e150, -1e150, 5e-324, -0.0, 2.3e-308)
RUBBISH = (np.nan, np.inf, -np.inf, 7.0)  # past the lengths
INTEGERS = (np.ndarray.tolist, lambda v: v.astype("i1"), lambda v: v.astype(">u8"), lambda v: np.repeat(v, 2)[::2])
DISGUISES = 5  # of each problem
OUTPUTS = ("softmax", "softmax", "softmax", "sigmoid", "linear", None)
NO_OUTPUTS = ("relu", "Softmax", 1, True, ["linear"], b"linear", np.ones(2))


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


def draw(pick, cell, size):
    """A problem, and how the functions of a sequence are called with it: `padded` holds their x, da and dc."""
    q = cell.problem(*size, seed=pick.randrange(1 << 30))
    _, m, T_x = q.da.shape
    q.dc = np.random.default_rng(pick.randrange(1 << 30)).standard_normal(q.da.shape)
    q.t = pick.randrange(max(T_x, 1))
    q.given_c0, q.given_dc = (cell.memory and pick.random() < 0.6 for _ in range(2))
    q.x *= pick.choice((1.0, 1.0, 30.0, 0.0))
    arrays = q.x, q.a0, q.c0, q.da, q.dc
    q.whole, q.special = pick.choice(((True, False), (False, False), (False, False), (False, True)))
    q.output, rounded = pick.choice(OUTPUTS), pick.choice((float32, narrowed))
    for array in (*arrays, *q.p.values()) if q.whole else ():  # float32 can hold them, or narrower types too
        array[...] = rounded(array)
    if q.special and (array := pick.choice(arrays)).size:
        array.flat[pick.randrange(array.size)] = pick.choice(SPECIAL)
    if pick.random() < 0.05:  # one state for all examples
        q.a0, q.c0 = q.a0[:, :1].copy(), q.c0[:, :1].copy()
    q.padded, q.lengths = [q.x, q.da, q.dc], None
    if pick.random() < 0.3:
        q.lengths = np.array([pick.randint(0, T_x) for _ in range(m)], np.int64)
        q.padded, past = [array.copy() for array in q.padded], np.arange(T_x) >= q.lengths[:, None]
        for array in q.padded:
            array[:, past] = pick.choice(RUBBISH)
        for array in (q.da, q.dc):
            array[:, past] = 0.0
    return q


def in_disguise(pick, q):
    """The same problem, some of its arrays in another type or layout."""
    r = copy.copy(q)
    r.x, r.a0, r.c0, r.da, r.dc, *r.padded = (
        disguised(pick, value, q.whole) for value in (q.x, q.a0, q.c0, q.da, q.dc, *q.padded)
    )
    r.p = {name: disguised(pick, value, q.whole) for name, value in q.p.items()}
    r.lengths = None if q.lengths is None else pick.choice(INTEGERS)(q.lengths)
    return r


def own(cell, value):
    """The argument of a function that follows its dtype: in that of the cell, else as it is."""
    other = cell.dtype is not np.float64 or getattr(value, "dtype", None) == np.float32
    return np.asarray(value, cell.dtype) if other else value


def with_output(q, results, y):
    """Results, of which the predictions are None and left out if there is no output."""
    if q.output is None and results.pop(y) is not None:
        raise AssertionError(f"{y} without an output")
    return results


def plain_output(cell, q, want, a, y):
    """Put the predictions of the problem's output in place of the notebook's, or take them out."""
    want.pop(y)
    if q.output is not None:
        W, b = (q.p[name] for name in cell.output)
        z = np.tensordot(W, want[a], 1)
        want[y] = ACTIVATIONS[q.output](z + b.reshape(-1, *[1] * (z.ndim - 1)))


class Fuzzer:
    """Cases 0, 1, ... of a seed; `done` counts the calls by function, and what else was done."""

    def __init__(self, seed):
        self.seed = seed
        self.done = Counter()
        self.calls = self.failed = 0

    def call(self, function, *args, **how):
        """Call a function of the package by its name, or a method."""
        function = getattr(cyrnn, function) if isinstance(function, str) else function
        self.calls += 1
        self.done[function.__qualname__] += 1
        for option in how:
            self.done[f"  with {option}="] += 1
        return function(*args, **how)

    def refused(self, function, *args, **how):
        """Call what must be refused with a message."""
        try:
            self.call(function, *args, **how)
        except (TypeError, ValueError, KeyError) as error:
            if "expected" not in str(error):
                raise AssertionError(f"{function}: {error!r}") from error
            self.done["refused"] += 1
        else:
            raise AssertionError(f"{function} took {args!r}, {how!r}")

    def case(self, number):
        """Draw one problem; call every function with it, in several disguises, and wrongly."""
        pick = random.Random(self.seed * 1_000_003 + number)
        size = [0 if pick.random() < 0.02 else pick.choice(SIZES) for _ in range(5)]
        cell = pick.choice(CELLS)
        if pick.random() < 0.05:
            _kernels.use(pick.choice(_kernels.available()))
        q = draw(pick, cell, size)
        before = copy.deepcopy(q)
        cyrnn.set_num_threads(1)
        want = self.every_function(cell, q)
        if 0 in size:  # the notebook cannot do without
            n_x, n_a, n_y, m, T_x = size
            for name, shape in {"a": (n_a, m, T_x), "y": (n_y, m, T_x), "dx": (n_x, m, T_x), "da0": (n_a, m)}.items():
                if name in want and want[name].shape != shape:
                    raise AssertionError(f"{name}: expected shape {shape}, got {want[name].shape}")
        else:
            self.notebook(pick, cell, q, want)
        if q.lengths is not None:
            self.each_alone(pick, cell, q, want)
        for _ in range(DISGUISES):
            cyrnn.set_num_threads(pick.choice((2, 3)) if pick.random() < 0.01 else 1)
            for name, value in self.every_function(cell, in_disguise(pick, q), cache=pick.random() < 0.8).items():
                same(f"disguised, {name}", value, want[name])
            if 0 not in size:
                self.wrong(pick, cell, q)
        self.single(pick, cell, q)
        fuzz_indices.check(self, pick, cell, q)
        fuzz_stream.check(self, pick, cell, q)
        fuzz_training.check(self, pick, cell, q, want)
        if pick.random() < 0.2:  # which takes as long as all of the others
            fuzz_network.check(self, pick)
        for name in ("x", "a0", "c0", "da", "dc"):
            same(f"{name} after the calls", getattr(q, name), getattr(before, name))
        for array, value in zip((*q.padded, *q.p.values()), (*before.padded, *before.p.values()), strict=True):
            same("an argument after the calls", array, value)

    def sequence(self, cell, q, cache=True):
        """What the functions of a sequence return."""
        x, da, dc = q.padded
        how = {"c0": q.c0} if q.given_c0 else {}
        if q.lengths is not None:
            how["lengths"] = q.lengths
        if not cache:
            how["cache"] = False
        p, more = self.output(cell, q)
        *found, caches = self.call(f"{cell.kind}_forward", x, q.a0, p, **how, **more)
        results = with_output(q, dict(zip("ayc", found, strict=False)), "y")
        if cache:
            results |= self.call(f"{cell.kind}_backward", da, caches, **({"dc": dc} if q.given_dc else {}))
        return results

    def output(self, cell, q):
        """The parameters and the keywords that a forward pass gets; without an output its entries are not read."""
        p = q.p if q.output is not None else q.p | dict.fromkeys(cell.output, "not read")
        return p, cell.keywords() | ({} if q.output == "softmax" else {"output": q.output})

    def every_function(self, cell, q, cache=True):
        """What they return for the sequence, for its step t alone, and for some of the arrays."""
        kind, lstm = cell.kind, cell.memory
        results = self.sequence(cell, q, cache)
        x, da, dc = map(np.asarray, (q.x, q.da, q.dc))
        if x.shape[2]:
            p, how = self.output(cell, q)
            *found, cell_cache = self.call(f"{kind}_cell_forward", x[:, :, q.t], *[q.a0, q.c0][: 1 + lstm], p, **how)
            names = ("a_next", "c_next", "yt") if lstm else ("a_next", "yt")
            results |= with_output(q, dict(zip(names, found, strict=True)), "yt")
            back = self.call(f"{kind}_cell_backward", da[:, :, q.t], *[dc[:, :, q.t]][:lstm], cell_cache)
            results |= {f"{name} of a cell": value for name, value in back.items()}
        results["softmax"] = self.call("softmax", own(cell, q.x))
        results["sigmoid"] = self.call("sigmoid", own(cell, q.p[cell.output[0]]))
        return results

    def notebook(self, pick, cell, q, found):
        """Compare with plain NumPy; edit the caches of both and compare their backward passes."""
        kind, lstm = cell.kind, cell.memory
        n_a, m, T_x = q.da.shape
        a0, c0 = (np.array(np.broadcast_to(state, (n_a, m))) for state in (q.a0, q.c0))
        forward, backward = (getattr(numpy_reference, f"{kind}_cell_{way}") for way in ("forward", "backward"))
        *one, cache = forward(q.x[:, :, q.t], *[a0, c0][: 1 + lstm], q.p)
        want = dict(zip(("a_next", "c_next", "yt") if lstm else ("a_next", "yt"), one, strict=True))
        plain_output(cell, q, want, "a_next", "yt")
        back = backward(q.da[:, :, q.t], *[q.dc[:, :, q.t]][:lstm], cache)
        want |= {f"{name} of a cell": value for name, value in back.items()}
        want |= {"softmax": numpy_reference.softmax(q.x), "sigmoid": numpy_reference.sigmoid(q.p[cell.output[0]])}
        inputs = q.x, q.a0, q.c0, q.da, q.dc
        scale, finite = max(1.0, largest(*inputs)), all(np.isfinite(value).all() for value in inputs)
        compare(found, want, scale, finite)
        if q.special and q.lengths is not None:  # NaN may come and go past the lengths: see `each_alone`
            return

        states = [a0.copy(), c0.copy() if q.given_c0 else np.zeros((n_a, m))][: 1 + lstm]
        *results, plain_steps = plain_forward(kind, q.x, states, q.p)
        want = dict(zip("acy" if lstm else "ay", results, strict=True))
        plain_output(cell, q, want, "a", "y")
        if q.lengths is not None:
            for value in want.values():
                value[:, np.arange(T_x) >= q.lengths[:, None]] = 0.0
        reaching = [q.da, q.dc if q.given_dc else np.zeros(q.dc.shape)][: 1 + lstm]
        want |= plain_backward(kind, reaching, plain_steps)
        compare(found, want, scale, finite)

        x, _, _ = q.padded
        how = ({"c0": q.c0} if q.given_c0 else {}) | ({} if q.lengths is None else {"lengths": q.lengths})
        steps = self.call(f"{kind}_forward", x, q.a0, q.p, **how)[-1][0]
        if q.lengths is not None:  # nobody can write into them
            steps = pick.choice((list, tuple, copy.copy, copy.deepcopy))(steps)
            length = T_x
        else:
            length = pick.randrange(1, T_x + 1)
            for _ in range(pick.randrange(4)):
                edit, state = pick.choice(EDITS), pick.getstate()
                steps = edit(pick, steps)
                pick.setstate(state)
                plain_steps = edit(pick, plain_steps)
                self.done["edits of the caches"] += 1
            reaching = [value[:, :, :length] for value in reaching]
        how = {"dc": reaching[1]} if q.given_dc else {}
        found = self.call(f"{kind}_backward", reaching[0], (steps, x), **how)
        want = plain_backward(kind, reaching, plain_steps)
        compare(found, want, scale, finite)

    def single(self, pick, cell, q):
        """In float32: near float64 of the same numbers; in disguise, in float64 too, and alone the same bits."""
        row, r = FLOAT32[CELLS.index(cell)], copy.copy(q)
        r.x, r.a0, r.c0, r.da, r.dc, *r.padded = (
            value.astype(np.float32) for value in (q.x, q.a0, q.c0, q.da, q.dc, *q.padded)
        )
        r.p = {name: value.astype(np.float32) for name, value in q.p.items()}
        found = self.every_function(row, r)
        arrays = r.x, r.a0, r.c0, r.da, r.dc
        if all(np.isfinite(value).all() and np.abs(value).max(initial=0.0) < 1e9 for value in arrays):
            want = self.every_function(*row.exact(r))
            single = TOLERANCE * float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)
            compare(found, want, max(1.0, largest(*arrays)), tolerance=single, dtype=np.float32)
        wide = row.exact(r)[1]
        wide.whole = True
        for one in (wide, in_disguise(pick, wide)):
            for name, value in self.every_function(row, one, cache=pick.random() < 0.8).items():
                same(f"float32, {name}", value, found[name])
        if r.lengths is not None:
            self.each_alone(pick, row, r, found)

    def each_alone(self, pick, cell, q, want):
        """With lengths: some of the examples as if alone and unpadded, bit for bit, and zeros past their length."""
        m = len(q.lengths)
        for j in pick.sample(range(m), min(m, 3)):
            length, r = q.lengths[j], copy.copy(q)
            r.padded, r.lengths = [value[:, j : j + 1, :length] for value in (q.x, q.da, q.dc)], None
            r.a0, r.c0 = (state[:, -1:] if state.shape[1] == 1 else state[:, j : j + 1] for state in (q.a0, q.c0))
            alone = self.sequence(cell, r)
            for name in want.keys() & {"a", "y", "c", "dx", "da0", "dc0"}:
                value = want[name][:, j : j + 1]
                same(f"{name} of example {j}", value[:, :, :length] if value.ndim == 3 else value, alone[name])
                if value.ndim == 3 and value[:, :, length:].any():
                    raise AssertionError(f"{name} of example {j}: not zero past its length {length}:\n{value}")

    def wrong(self, pick, cell, q):
        """One argument that does not fit: refused with a message, whatever it is."""
        kind, lstm, way = cell.kind, cell.memory, pick.choice(("forward", "backward"))
        states = [q.a0, q.c0][: 1 + lstm]
        one = pick.random() < 0.4
        m, T_x = q.x.shape[1:]
        how = {}
        if way == "forward":
            args = [q.x[:, :, q.t], *states, q.p] if one else [q.x, q.a0, q.p]
            how = {} if one else {"lengths": np.full(m, T_x), **({"c0": q.c0} if lstm else {})}
        elif one:
            cache = getattr(cyrnn, f"{kind}_cell_forward")(q.x[:, :, 0], *states, q.p)[-1]
            args = [q.da[:, :, q.t], *[q.dc[:, :, q.t]][:lstm], cache]
        else:
            args = [q.da, getattr(cyrnn, f"{kind}_forward")(q.x, q.a0, q.p)[-1]]
            how = {"dc": q.dc} if lstm else {}
        which = pick.randrange(len(args))
        last = args[-1]
        if way == "forward" and pick.random() < 0.1:
            name = f"{kind}_cell_forward" if one else f"{kind}_forward"
            return self.refused(name, *args, **how, output=pick.choice(NO_OUTPUTS))
        if how and pick.random() < 0.4:
            name = pick.choice(list(how))
            how[name] = pick.choice(WRONG[1:])(how[name])
            if name == "lengths" and pick.random() < 0.5:
                how[name] = pick.choice(([T_x + 1] * m, [-1] * m, [T_x] * (m + 1), [float(T_x)] * m, [True] * m))
        elif which < len(args) - 1:
            wrong = WRONG[1:] if way == "forward" and not one and which == 1 else WRONG  # a0 may be None
            args[which] = pick.choice(wrong)(args[which])
        elif way == "backward":
            args[which] = pick.choice((None, (), last[:-1], (None, None), 7, (*last, None), [[]], {}, (q.x, *last[1:])))
        else:
            name = pick.choice([*cell.inputs, *cell.output])
            others = {key: value for key, value in q.p.items() if key != name}
            wrongs = [None, [q.p], {**others, name: pick.choice(WRONG)(q.p[name])}]
            args[which] = pick.choice([*wrongs, others] if name != "bca" else wrongs)  # without it: the other form
        return self.refused(f"{kind}_cell_{way}" if one else f"{kind}_{way}", *args, **how)


def run(seed, calls, seconds=float("inf"), first=0, fuzzer=None, told=None):
    """Run cases until so many calls are made or the time is up; return the fuzzer.

    A failure is raised; or printed and counted, if somebody is `told` of the progress.
    """
    fuzzer, start, number = fuzzer or Fuzzer(seed), time.perf_counter(), first
    before, pause, build = threads.set_flops_per_thread(1.0), threads.set_pause(0.0), _kernels.build
    try:
        with np.errstate(all="ignore"):
            while fuzzer.calls < calls and time.perf_counter() - start < seconds:
                at = _kernels.build
                try:
                    fuzzer.case(number)
                except Exception as error:
                    command = f"CYRNN_BUILD={at} python tests/fuzz.py --seed {seed} --first {number} --calls 1"
                    error.add_note(f"{command}  (it ended in build {_kernels.build})")
                    if told is None:
                        raise
                    fuzzer.failed += 1
                    traceback.print_exc()
                number += 1
                fuzzer.done["cases"] += 1
                if told is not None:
                    told(fuzzer)
    finally:
        threads.set_flops_per_thread(before)
        threads.set_pause(pause)
        _kernels.use(build)
        cyrnn.set_num_threads(None)
    return fuzzer


def progress(calls):
    """Who is told: the bar of tqdm where it is installed, else a line a minute."""
    try:
        from tqdm import tqdm
    except ImportError:
        start, minutes = time.perf_counter(), 0

        def line(fuzzer):
            nonlocal minutes
            if time.perf_counter() - start > 60 * (minutes + 1):
                minutes += 1
                print(f"{minutes} min: {fuzzer.calls} calls, {fuzzer.failed} cases failed", file=sys.stderr, flush=True)

        return line
    bar = tqdm(total=calls, unit=" calls", unit_scale=True, mininterval=10.0)

    def update(fuzzer):
        bar.set_postfix_str(f"case {fuzzer.done['cases']}, {fuzzer.failed} failed", refresh=False)
        bar.update(fuzzer.calls - bar.n)

    return update


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the case to begin with")
    options = parser.parse_args()
    faulthandler.enable()
    fuzzer, start = Fuzzer(options.seed), time.perf_counter()
    try:
        run(options.seed, options.calls, options.seconds, options.first, fuzzer, progress(options.calls))
    finally:
        took, builds = time.perf_counter() - start, ", ".join(_kernels.available())
        print(f"\n{fuzzer.calls} calls in {took:.0f} s, seed {options.seed}, builds {builds}, {fuzzer.failed} failed:")
        for name, count in sorted(fuzzer.done.items()):
            print(f"  {name:<28}{count:>12}")
    sys.exit(fuzzer.failed > 0)


if __name__ == "__main__":
    main()
