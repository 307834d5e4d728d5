"""Called from many Python threads at once: the same bits, and the GIL is let go."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import race
from cells import STAGE_IDS, STAGES
from numpy.testing import assert_array_equal


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_eight_threads(cell):
    problems = [cell.problem(3 + k, 20 + k, 5, 7, 30, seed=k) for k in range(8)]

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


@pytest.mark.usefixtures("build")
def test_races():
    """The long run, and without a GIL, is that of tests/freethreaded.sh."""
    race.run(8, 1.0)


@pytest.mark.alone
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_the_gil_is_let_go(cell):
    """Another thread goes on while one long call computes."""
    q = cell.problem(64, 256, 64, 64, 80)
    caches = cell.forward(q).caches
    for call in (lambda: cell.forward(q), lambda: cell.backward(q.da, caches)):
        done, longest = threading.Event(), 0.0

        def work(call=call, done=done):
            call()
            done.set()

        start = last = time.perf_counter()
        thread = threading.Thread(target=work)
        thread.start()
        while not done.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        thread.join()
        assert longest < 0.6 * (time.perf_counter() - start)
