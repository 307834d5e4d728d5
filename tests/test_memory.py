"""Memory: many calls do not grow it, no reference is lost, one call takes little beside what it returns."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest
from cells import CELLS, IDS
from numpy.testing import assert_array_equal
from reference import problem

import cyrnn
from cyrnn._kernels import memory


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_calls_leave_nothing_behind(cell):
    q = problem(cell.name, 3, 5, 2, 10, 4)

    def calls():
        for _ in range(50):
            out = cell.forward(q)
            cell.backward(q.da, out.caches)
            one = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
            cell.cell_backward(q.da[:, :, 0], q.dc, one.cache)
            cyrnn.softmax(q.x)
            for wrong in (None, q.x[0]):
                with pytest.raises((TypeError, ValueError)):
                    cell.backward(wrong, out.caches)

    calls()
    gc.collect()
    counts = [sys.getrefcount(value) for value in (q.x, q.a0, q.da, q.p, *q.p.values())]
    tracemalloc.start()
    calls()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(5):
        calls()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000
    assert counts == [sys.getrefcount(value) for value in (q.x, q.a0, q.da, q.p, *q.p.values())]


@pytest.fixture(autouse=True)
def _one_thread_and_no_buffer_of_another_test():
    cyrnn.set_num_threads(1)
    memory.free_kept()
    yield
    cyrnn.set_num_threads(None)


def kept(value, seen):
    """Bytes of the arrays in a result, those of its caches with them, each buffer once."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        new = id(value) not in seen
        seen.add(id(value))
        return value.nbytes * new
    if isinstance(value, cyrnn.lstm.Steps):
        return kept(getattr(value.tape, "cache", None) if hasattr(value.tape, "cache") else value.tape.a, seen)
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return sum(kept(v, seen) for v in values)


def peak_and_kept(call, *inputs):
    call()
    gc.collect()
    memory.free_kept()  # a buffer that is used again may be larger than what is asked for
    tracemalloc.start()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, kept(result, {id(value) for value in inputs})


def calls_of(cell, q):
    """Every call on a sequence, by name."""
    forward, backward = (getattr(cyrnn, f"{cell.name}_{name}") for name in ("forward", "backward"))
    caches = forward(q.x, q.a0, q.p)[-1]
    return {
        "forward": lambda: forward(q.x, q.a0, q.p),
        "forward_only": lambda: forward(q.x, q.a0, q.p, cache=False),
        "backward": lambda: backward(q.da, caches),
    }


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
@pytest.mark.parametrize("way", ["forward", "forward_only", "backward"])
@pytest.mark.parametrize("size", [(64, 128, 64, 32, 60), (40, 200, 30, 20, 100), (128, 256, 64, 64, 20)], ids=str)
def test_a_call_needs_little_beside_what_it_returns(cell, way, size):
    n_x, n_a, n_y, m, T_x = size
    q = problem(cell.name, *size)
    peak, returned = peak_and_kept(calls_of(cell, q)[way], q.x, q.da)
    gates = 4 if cell.name == "lstm" else 1
    packed = 8 * (gates * (n_a + 40) * (n_a + n_x) + (n_y + 40) * n_a)
    assert peak < 1.3 * returned + packed
    if way == "forward":  # what is kept for the backward pass: the notebook's arrays, each once
        states = 8 * n_a * m * ((6 * T_x + 2) if cell.name == "lstm" else T_x + 1)
        outputs = 8 * m * T_x * (n_y + (2 if cell.name == "lstm" else 1) * n_a)
        assert returned == states + outputs


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
@pytest.mark.parametrize("way", ["forward_only", "backward"])
def test_what_is_not_returned_does_not_grow_with_the_sequence(cell, way):
    extra = []
    for T_x in (1200, 2400):
        q = problem(cell.name, 20, 40, 10, 8, T_x)
        peak, returned = peak_and_kept(calls_of(cell, q)[way], q.x, q.da)
        extra.append(peak - returned)
    assert extra[1] < 1.05 * extra[0]


def test_what_waits_for_its_next_use_is_bounded():
    q = problem("lstm", 64, 200, 10, 32, 120)
    results = [cyrnn.lstm_forward(q.x, q.a0, q.p) for _ in range(9)]  # 50 MB each, in four buffers
    held = memory.bytes_kept()
    del results
    gc.collect()
    assert held < memory.bytes_kept() <= 1 << 28


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_without_caches(cell):
    for size in ((3, 5, 2, 10, 4), (5, 40, 7, 1, 300), (20, 33, 30, 50, 30), (4, 6, 3, 0, 5), (4, 6, 3, 5, 0)):
        q = problem(cell.name, *size)
        want, out = cell.forward(q), cell.forward_only(q)
        assert out.caches is None
        assert_array_equal(out.a, want.a)
        assert_array_equal(out.y, want.y)
        if want.c is not None:
            assert_array_equal(out.c, want.c)
        q.x = q.x.astype(np.float32)  # what has to be converted
        assert_array_equal(cell.forward_only(q).y, cell.forward(q).y)


def test_an_array_keeps_its_memory_and_gives_it_back():
    q = problem("rnn", 3, 100, 2, 20, 50)
    a, _, caches = cyrnn.rnn_forward(q.x, q.a0, q.p)
    part, copy = a[3, 2:4], a.copy()
    del a, caches
    for _ in range(3):
        cyrnn.rnn_forward(q.x + 1, q.a0, q.p)
    assert_array_equal(part, copy[3, 2:4])
    assert part.base.flags.writeable
