"""Called from many Python threads at once: the same bits, and the GIL is let go."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cells import CELLS, IDS
from numpy.testing import assert_array_equal
from reference import problem


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_eight_threads(cell):
    problems = [problem(cell.name, 3 + k, 20 + k, 5, 7, 30, seed=k) for k in range(8)]

    def work(q):
        out = cell.forward(q)
        return out.a, cell.backward(q.da, out.caches)

    want = [work(q) for q in problems]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for (a, gradients), (a_want, gradients_want) in zip(pool.map(work, problems), want, strict=True):
                assert_array_equal(a, a_want)
                for name, value in gradients.items():
                    assert_array_equal(value, gradients_want[name])
