"""Bit for bit: an example does not depend on its batch, nor a step on how the sequence was cut.

Nor does anything depend on the number of threads, on where the inputs lie in memory and in which order, on
what was computed before, or on the process.
"""

import copy
import functools
import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from cells import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from rows import each_row

import cyrnn
from cyrnn import _kernels
from cyrnn._kernels.runtime import threads

pytestmark = [pytest.mark.usefixtures("build"), each_row]

SHAPES = [(3, 5, 2, 13, 6), (33, 37, 9, 11, 40), (170, 165, 4, 9, 10), (2, 64, 3, 30, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch(cell, shape):
    q = cell.problem(*shape)
    whole = cell.forward(q)
    whole_back = cell.backward(q.da, whole.caches)
    m = shape[3]
    for chosen in ([0], [m - 1], [m // 2], [3, 1], list(range(m))[::-1], [0] * 7):
        r = cell.problem(*shape)
        r.x, r.a0 = q.x[:, chosen], q.a0[:, chosen]
        part = cell.forward(r)
        back = cell.backward(q.da[:, chosen], part.caches)
        assert_array_equal(part.a, whole.a[:, chosen])
        assert_array_equal(part.y, whole.y[:, chosen])
        if whole.c is not None:
            assert_array_equal(part.c, whole.c[:, chosen])
        assert_array_equal(back["dx"], whole_back["dx"][:, chosen])
        assert_array_equal(back["da0"], whole_back["da0"][:, chosen])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_step_at_a_time(cell, shape):
    q = cell.problem(*shape)
    whole = cell.forward(q)
    gradients = cell.backward(q.da, whole.caches)
    a, c, steps = q.a0, np.zeros_like(q.a0), []
    for t in range(shape[4]):
        out = cell.cell_forward(q.x[:, :, t], a, c, q.p)
        assert_array_equal(out.a, whole.a[:, :, t])
        assert_array_equal(out.y, whole.y[:, :, t])
        if whole.c is not None:
            assert_array_equal(out.c, whole.c[:, :, t])
        a, c = out.a, out.c
        steps.append(out.cache)
    by_steps = cell.backward(q.da, (steps, q.x))
    assert_array_equal(by_steps["dx"], gradients["dx"])
    assert_array_equal(by_steps["da0"], gradients["da0"])


# Over random shapes


def results(cell, q, number=0):
    """Everything that the four functions return: of the sequence, and of step `number` alone."""
    out = cell.forward(q)
    found = {"a": out.a, "y": out.y, "c": out.c, **cell.backward(q.da, out.caches)}
    one = cell.cell_forward(q.x[:, :, number], q.a0, q.c0, q.p)
    found |= {"a_next": one.a, "yt": one.y, "c_next": one.c}
    back = cell.cell_backward(q.da[:, :, number], q.dc, one.cache)
    found |= {f"{name} of a cell": value for name, value in back.items()}
    return {name: value for name, value in found.items() if value is not None}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name in want:
        assert_array_equal(got[name], want[name], err_msg=name)


SIZES = st.tuples(
    st.integers(0, 50), st.one_of(st.integers(1, 40), st.integers(1, 200)), st.integers(1, 40),
    st.one_of(st.integers(1, 9), st.integers(1, 60)), st.one_of(st.integers(1, 12), st.integers(1, 48)),
)  # fmt: skip
SEEDS = st.integers(0, 2**20)
random_shapes = settings(max_examples=30, deadline=None, derandomize=True)


@random_shapes
@given(size=SIZES, seed=SEEDS, data=st.data())
def test_any_batch(cell, size, seed, data):
    """Alone, in any position, with any others beside it."""
    q = cell.problem(*size, seed=seed)
    chosen = data.draw(st.lists(st.integers(0, size[3] - 1), min_size=1, max_size=20), label="chosen")
    r = copy.copy(q)
    for name in ("x", "a0", "c0", "da", "dc"):
        setattr(r, name, getattr(q, name)[:, chosen])
    weights = {f"d{name}{of}" for name in cell.inputs for of in ("", " of a cell")}
    whole, part = results(cell, q), results(cell, r)
    for name in whole.keys() - weights:
        assert_array_equal(part[name], whole[name][:, chosen], err_msg=name)


@random_shapes
@given(size=SIZES, seed=SEEDS, data=st.data())
def test_any_cut(cell, size, seed, data):
    """Run in pieces with the states carried, forward, and their gradients carried back."""
    q = cell.problem(*size, seed=seed)
    forward, backward = (cell.function(way) for way in ("forward", "backward"))
    c0, dc = ({"c0": q.c0}, {"dc": np.flip(q.da)}) if cell.memory else ({}, {})
    *whole, caches = forward(q.x, q.a0, q.p, **c0)
    want = backward(q.da, caches, **dc)
    T_x = size[4]
    cuts = sorted({0, T_x, *data.draw(st.lists(st.integers(0, T_x), max_size=5), label="cuts")})
    pieces, a0 = [], q.a0
    for start, end in itertools.pairwise(cuts):
        *out, caches = forward(q.x[:, :, start:end], a0, q.p, **c0)
        pieces.append((slice(start, end), out, caches))
        a0, c0 = out[0][:, :, -1], {"c0": out[2][:, :, -1]} if c0 else {}
    for k, array in enumerate(whole):
        assert_array_equal(np.concatenate([out[k] for _, out, _ in pieces], 2), array)
    dx, carried = [], {}
    for piece, _, caches in reversed(pieces):
        reaching = {name: array[:, :, piece].copy() for name, array in {"da": q.da, **dc}.items()}
        for name, array in reaching.items():
            array[:, :, -1] += carried.get(f"{name}0", 0.0)
        carried = backward(caches=caches, **reaching)
        dx.insert(0, carried["dx"])
    assert_array_equal(np.concatenate(dx, 2), want["dx"])
    for name in {"da0", "dc0"} & want.keys():
        assert_array_equal(carried[name], want[name])


@pytest.mark.skipif(not threads.OPENMP, reason="built without OpenMP")
@random_shapes
@given(size=SIZES, seed=SEEDS, number=st.integers(2, 8))
def test_any_number_of_threads(cell, size, seed, number):
    """However small the call; weight gradients too."""
    q = cell.problem(*size, seed=seed)
    before = threads.set_flops_per_thread(1.0)
    try:
        cyrnn.set_num_threads(1)
        want = results(cell, q)
        cyrnn.set_num_threads(number)
        assert_same(results(cell, q), want)
    finally:
        threads.set_flops_per_thread(before)
        cyrnn.set_num_threads(None)


def laid_out(value, order, offset, gap):
    """A copy with its axes in another order in memory, `offset` values past a cache line, `gap` between values."""
    order = [axis for axis in order if axis < value.ndim]
    shape = [value.shape[axis] for axis in order]
    size = value.itemsize
    raw = np.full(value.size * (gap + 1) + 32, np.nan, value.dtype)
    start = (-raw.ctypes.data // size) % (64 // size) + offset
    new = raw[start : start + value.size * (gap + 1)].reshape(*shape, gap + 1)[..., 0]
    new = new.transpose(np.argsort(order))
    new[...] = value
    assert value.size < 2 or gap or (new.ctypes.data - size * offset) % 64 == 0
    return new


LAYOUT = st.tuples(st.permutations(range(3)), st.integers(0, 7), st.sampled_from([0, 0, 1]))


@random_shapes
@given(size=SIZES, seed=SEEDS, layouts=st.lists(LAYOUT, min_size=6, max_size=6))
def test_any_layout_of_the_inputs(cell, size, seed, layouts):
    """Addresses at odd multiples of the size of a value, any order of the axes, gaps: weight gradients too."""
    q = cell.problem(*size, seed=seed)
    r = copy.copy(q)
    for name, layout in zip(("x", "a0", "c0", "da", "dc"), layouts[1:], strict=True):
        setattr(r, name, laid_out(getattr(q, name), *layout))
    r.p = {name: laid_out(value, *layouts[k % 6]) for k, (name, value) in enumerate(q.p.items())}
    assert_same(results(cell, r), results(cell, q))


@random_shapes
@given(size=SIZES, seed=SEEDS, between=SIZES)
def test_again_after_something_else(cell, size, seed, between):
    """Memory that other numbers were left in; weight gradients too."""
    q = cell.problem(*size, seed=seed)
    want = results(cell, q)
    other = cell.problem(*between)
    other.x[...] = np.nan
    results(cell, other)
    assert_same(results(cell, q), want)


def digest(cell):
    text = hashlib.sha256()
    for size in SHAPES:
        for name, value in sorted(results(cell, cell.problem(*size)).items()):
            text.update(name.encode() + value.tobytes())
    return text.hexdigest()


@functools.cache
def digests_of_another_process(build):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from cells import ROWS; from test_invariance import digest; "
        "print(*map(digest, ROWS))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        env={**os.environ, "CYRNN_BUILD": build}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip([cell.id for cell in ROWS], done.stdout.split(), strict=True))


def test_again_in_another_process(cell):
    assert digests_of_another_process(_kernels.build)[cell.id] == digest(cell)
