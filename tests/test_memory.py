"""Many calls do not grow memory, and no reference is lost."""

import gc
import sys
import tracemalloc

import pytest
from cells import CELLS, IDS
from reference import problem

import cyrnn


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
