"""Worker processes of every kind, pools of threads, and a setting that changes all the time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cells import STAGE_IDS, STAGES
from numpy.testing import assert_array_equal
from reference import problem

import cyrnn
from cyrnn._kernels.runtime import threads

# A program: workers of one kind compute while the parent has, or has not, used threads before.
PROGRAM = """
import multiprocessing, os, sys
import numpy as np
import cyrnn

def network():
    rng = np.random.default_rng(0)
    n_x, n_a, m, T_x = 64, 256, 64, 10
    p = {f"W{g}": rng.normal(size=(n_a, n_a + n_x)) / 20 for g in "fico"}
    p |= {f"b{g}": np.zeros((n_a, 1)) for g in "fico"}
    return rng.normal(size=(n_x, m, T_x)), np.zeros((n_a, m)), p | {"Wy": np.ones((2, n_a)), "by": np.zeros((2, 1))}

def work(_):
    a, _, _, caches = cyrnn.lstm_forward(*network())
    return float(a.sum()), float(cyrnn.lstm_backward(a, caches)["dx"].sum())

if __name__ == "__main__":
    kind, when = sys.argv[1:]
    cyrnn.set_num_threads(2)
    before = work(0) if when == "after" else None
    if kind == "os.fork":
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, repr([work(0)]).encode())
            os._exit(0)
        os.close(writing)
        found = eval(os.read(reading, 1000))
        assert os.waitpid(child, 0)[1] == 0
    else:
        with multiprocessing.get_context(kind).Pool(2) as pool:
            found = pool.map(work, range(4))
    assert set(found) == {before or work(0)}, found
    assert work(0) == found[0]
    print("right")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [*multiprocessing.get_all_start_methods(), *["os.fork"] * hasattr(os, "fork")])
def test_workers(kind, when, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program, kind, when], capture_output=True, text=True, timeout=120)
    assert done.stdout == "right\n", done.stderr


@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_the_same_inputs_in_eight_threads(cell):
    """Also while the setting changes all the time, from 1 to 8."""
    q = cell.problem(30, 200, 20, 40, 12)
    before = threads.set_flops_per_thread(1e5)
    want = cell.forward(q)
    gradients = cell.backward(q.da, want.caches)
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            cyrnn.set_num_threads(1 + n % 8)
            time.sleep(0.0005)

    def work(_):
        out = cell.forward(q)
        return out.a, out.y, cell.backward(q.da, out.caches), cell.backward(q.da, want.caches)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(24)))
    finally:
        stop.set()
        changer.join()
        cyrnn.set_num_threads(None)
        threads.set_flops_per_thread(before)
    for a, y, *found in results:
        assert_array_equal(a, want.a)
        assert_array_equal(y, want.y)
        for one in found:
            for name, value in gradients.items():
                assert_array_equal(one[name], value)
    assert threads.busy_threads() == 0


def test_pools_inside_pools():
    """A pool of threads whose tasks have pools of their own, and joblib's threads where it is installed."""
    q = problem("lstm", 64, 128, 10, 32, 20)
    want = cyrnn.lstm_forward(q.x, q.a0, q.p)[0]

    def inner(_):
        return cyrnn.lstm_forward(q.x, q.a0, q.p)[0]

    def outer(_):
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(inner, range(3)))

    with ThreadPoolExecutor(3) as pool:
        for results in pool.map(outer, range(3)):
            for a in results:
                assert_array_equal(a, want)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib")
    q = problem("rnn", 64, 256, 10, 64, 10)
    want = cyrnn.rnn_forward(q.x, q.a0, q.p)[0]
    call = joblib.delayed(cyrnn.rnn_forward)
    found = joblib.Parallel(n_jobs=2, backend=backend)(call(q.x, q.a0, q.p) for _ in range(4))
    for a, _, caches in found:
        assert_array_equal(a, want)
        assert_array_equal(cyrnn.rnn_backward(q.da, caches)["dx"], cyrnn.rnn_backward(q.da, found[0][2])["dx"])


@pytest.mark.alone
def test_two_python_threads_compute_at_once(request):
    """Both are within the kernel while a third one, which is Python's, looks on: none holds what another waits for."""
    cyrnn.set_num_threads(1)
    request.addfinalizer(lambda: cyrnn.set_num_threads(None))
    q = problem("lstm", 64, 200, 10, 32, 150)
    most = 0
    for _ in range(10):  # a busy machine may run one after the other
        callers = [threading.Thread(target=cyrnn.lstm_forward, args=(q.x, q.a0, q.p)) for _ in range(2)]
        for caller in callers:
            caller.start()
        while any(caller.is_alive() for caller in callers):
            most = max(most, threads.busy_threads())
            time.sleep(0.001)
        if most == 2:
            break
    assert most == 2


# A program: while a call computes on two threads, the handler of a signal forks.
FORK_IN_A_HANDLER = """
import os, signal, sys
import numpy as np
import cyrnn
from cyrnn._kernels.runtime import threads

def network(n_a, m, T_x):
    rng = np.random.default_rng(0)
    p = {"Wax": rng.normal(size=(n_a, 30)), "Waa": rng.normal(size=(n_a, n_a)) / n_a, "ba": np.zeros((n_a, 1))}
    return rng.normal(size=(30, m, T_x)), np.zeros((n_a, m)), p | {"Wya": np.ones((2, n_a)), "by": np.zeros((2, 1))}

cyrnn.set_num_threads(int(sys.argv[2]))
threads.set_pause(0.0)                  # on a busy machine too
m = int(sys.argv[3])                    # one example is split by units, if they are many
long, short = network(800, 1, 8000) if m == 1 else network(300, m, 1500), network(20, 5, 3)
before = cyrnn.rnn_forward(*short)[0]
children = []

def handle(number, frame):
    children.append(os.fork())
    if children[-1] == 0 and sys.argv[1] == "raises":
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    a = cyrnn.rnn_forward(*long, cache=False)[0]
    result = "right" if np.isfinite(a).all() else "wrong"
except (RuntimeError, KeyboardInterrupt) as error:
    result = repr(error)
assert len(children) == 1, "no signal during the call"
assert threads.busy_threads() == 0
assert (cyrnn.rnn_forward(*short)[0] == before).all()
if children[0] == 0:
    assert threads.get() == 1
    cyrnn.rnn_forward(*long, cache=False)   # on one thread
    print("child:", result, flush=True)
else:
    assert os.waitpid(children[0], 0)[1] == 0
    print("parent:", result)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize(
    ("handler", "count", "m"),
    [("returns", 2, 1), ("returns", 2, 60), ("returns", 1, 1), ("raises", 2, 1), ("raises", 1, 60)],
)
def test_a_signal_handler_that_forks(handler, count, m, tmp_path):
    """The child has one thread: it cannot finish a call on two, and says so instead of waiting for the other."""
    program = tmp_path / "program.py"
    program.write_text(FORK_IN_A_HANDLER)
    command = [sys.executable, program, handler, str(count), str(m)]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as running:
        try:
            out, err = running.communicate(timeout=60)
        finally:
            if running.poll() is None:      # the child too
                os.killpg(running.pid, signal.SIGKILL)
    message = "a signal's handler forked during a call on several threads; the child cannot finish it"
    child = "right" if count == 1 else repr(RuntimeError(message))
    if handler == "raises":
        child = "KeyboardInterrupt()"
    assert out == f"child: {child}\nparent: right\n", err
