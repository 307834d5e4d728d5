"""What a call leaves as it was (floating-point control and flags), and what must not slow or stop it: subnormal
numbers, signals."""

import gc
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cells import STAGE_IDS, STAGES
from numpy.testing import assert_array_equal
from reference import problem

import cyrnn
from cyrnn import _kernels
from cyrnn._kernels.runtime import buffers, cpu, threads

TINY = np.finfo(np.float64).tiny


def every_call(q, cell):
    """Calls of every kernel, by name."""
    p = q.p
    out, one = cell.forward(q), cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, p)
    labels = np.zeros(q.x.shape[1:], np.int64)
    _, dz = cyrnn.cross_entropy(out.y, labels)
    gradients = {**cell.backward(q.da, out.caches), **cyrnn.output_backward(dz, out.a, p)}
    calls = {}
    stream = cyrnn.Stream(p, m=q.x.shape[1])
    calls["stream"] = lambda: (stream.step(q.x[:, :, 0]), stream.run(q.x))
    trained = {name: value.copy() for name, value in p.items()}
    v, s = cyrnn.initialize_adam(trained)
    return calls | {
        "forward": lambda: cell.forward(q),
        "forward_only": lambda: cell.forward_only(q),
        "backward": lambda: cell.backward(q.da, out.caches),
        "cell_forward": lambda: cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, p),
        "cell_backward": lambda: cell.cell_backward(q.da[:, :, 0], q.da[:, :, 1], one.cache),
        "softmax": lambda: cyrnn.softmax(out.y * 1e3),
        "sigmoid": lambda: cyrnn.sigmoid(q.da * 1e3),
        "loss": lambda: cyrnn.cross_entropy(out.y, labels),
        "binary_loss": lambda: cyrnn.binary_cross_entropy(out.a * 1e3, np.full(out.a.shape, 0.5), from_logits=True),
        "output": lambda: (cyrnn.output_forward(out.a, p), cyrnn.output_backward(dz, out.a, p)),
        "clip": lambda: cyrnn.clip_gradients(gradients, norm=1e-3),
        "adam": lambda: cyrnn.update_parameters_with_adam(trained, gradients, v, s, 1),
    }


@pytest.fixture
def several_threads(count):
    """So many for every call."""
    before = threads.set_flops_per_thread(1.0 if count > 1 else 4e6)
    cyrnn.set_num_threads(count)
    yield
    threads.set_flops_per_thread(before)
    cyrnn.set_num_threads(None)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
@pytest.mark.parametrize("count", [1, 3])
def test_floating_point_control_and_flags_stay_as_they_were(cell, count, several_threads):
    """Inexact results, overflows to infinity and underflows are in all of these; every thread is looked at."""
    q = cell.problem(5, 70, 4, 17, 9)
    q.x[0], q.da[0, 0] = 1e3, 1e-320
    for name, call in every_call(q, cell).items():
        found = cpu.floating_point(count)
        call()
        assert cpu.floating_point(count) == found, name


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_below_the_normal_numbers_counts_as_zero_in_a_pass(count, several_threads):
    """A forget gate above one half would keep the smallest number of all for ever; however the steps are made."""
    n_x, n_a, m, T_x = 2, 9, 16, 2600
    p = {f"W{g}": np.zeros((n_a, n_a + n_x)) for g in "fico"} | {f"b{g}": np.zeros((n_a, 1)) for g in "fico"}
    p["bf"] += 1.0
    p["Wc"][:, n_a:] = 0.5
    p |= {"Wy": np.ones((2, n_a)), "by": np.zeros((2, 1))}
    x = np.zeros((n_x, m, T_x))
    x[:, :, 0] = 1.0
    a, _, c, caches = cyrnn.lstm_forward(x, np.zeros((n_a, m)), p)
    assert c[0, 0, 0] > 0.1
    assert not ((c != 0) & (np.abs(c) < TINY)).any()
    assert_array_equal(c[:, :, -1], 0.0)
    stream = cyrnn.Stream(p, m)
    a_stream = stream.run(x)[0]
    assert_array_equal(a_stream, a)
    state = np.zeros((n_a, m)), np.zeros((n_a, m))
    for t in range(T_x):
        state = cyrnn.lstm_cell_forward(x[:, :, t], *state, p)[:2]
        assert_array_equal(state[1], c[:, :, t])
    da = np.zeros((n_a, m, T_x))
    da[:, :, -1] = 1.0
    dx = cyrnn.lstm_backward(da, caches)["dx"]
    assert not ((dx != 0) & (np.abs(dx) < TINY)).any()


@pytest.mark.parametrize("count", [1])
@pytest.mark.parametrize("forget", [0.0, 1.0], ids=["half", "more"])
def test_silence_costs_no_more(forget, count, several_threads):
    """In processor time, so that a busy machine does not matter."""
    n_x, n_a, m, T_x = 8, 64, 16, 5000
    rng = np.random.default_rng(0)
    p = {f"W{g}": np.zeros((n_a, n_a + n_x)) for g in "fico"} | {f"b{g}": np.zeros((n_a, 1)) for g in "fico"}
    p["bf"] += forget
    p["Wc"][:, n_a:] = rng.normal(size=(n_a, n_x))
    p |= {"Wy": np.ones((2, n_a)), "by": np.zeros((2, 1))}
    loud = rng.normal(size=(n_x, m, T_x))
    silent = np.where(np.arange(T_x) == 0, loud, 0.0)
    da = {"loud": rng.normal(size=(n_a, m, T_x)), "silent": np.zeros((n_a, m, T_x))}
    da["silent"][:, :, -1] = 1.0

    def seconds(x, da):
        start = time.process_time()
        caches = cyrnn.lstm_forward(x, np.zeros((n_a, m)), p)[-1]
        middle = time.process_time()
        cyrnn.lstm_backward(da, caches)
        return middle - start, time.process_time() - middle

    rounds = [(seconds(silent, da["silent"]), seconds(loud, da["loud"])) for _ in range(3)]
    for part in range(2):
        assert statistics.median(quiet[part] / ordinary[part] for quiet, ordinary in rounds) < 1.5


class StoppedError(Exception):
    """What the handler raises."""


def raise_stopped(*_):
    raise StoppedError


@pytest.fixture
def alarm():
    """Let a signal come in so many seconds, whose handler raises."""
    before = signal.signal(signal.SIGALRM, raise_stopped)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


LONG_SIZES = [(20, 30, 5, 4, 10_000), (8, 4, 2, 1, 100_000), (200, 900, 50, 32, 20)]
WAYS = ["examples", "rows", "alone"]


@pytest.mark.alone
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
@pytest.mark.parametrize("size", LONG_SIZES, ids=str)
def test_a_signal_ends_a_long_call(cell, size, alarm, request):
    """Within 0.2 s of the signal, whichever way threads share the work; and the next call is right.

    Every cell and every size meets every way once.
    """
    way = WAYS[(STAGES.index(cell) + LONG_SIZES.index(size)) % 3]
    cyrnn.set_num_threads(1 if way == "alone" else 2)
    request.addfinalizer(lambda: cyrnn.set_num_threads(None))
    n_x, n_a, n_y, m, T_x = size
    if way == "examples":
        m = max(m, 16)
        T_x = T_x // 8
    q = cell.problem(n_x, n_a, n_y, m, T_x)
    small = cell.problem(3, 5, 2, 4, 6)
    want = cell.forward(small).a
    caches = cell.forward(q).caches
    start = time.process_time()  # not on the wall: the machine may be busy
    cell.forward(q)  # not the first, which waits for memory
    shared = m >= 8 or n_a > 500  # else one thread does it all
    whole = (time.process_time() - start) / (cyrnn.get_num_threads() if shared else 1)
    if whole < 0.36:  # a call that is over before long shows nothing
        q = cell.problem(n_x, n_a, n_y, m, int(T_x * min(0.36 / whole, 100.0)))
        caches = cell.forward(q).caches
    for call in (lambda: cell.forward(q), lambda: cell.backward(q.da, caches)):
        ends_in_time(call, alarm, is_long=True)  # the backward pass takes no less than the forward pass
        assert_array_equal(cell.forward(small).a, want)


def ends_in_time(call, alarm, is_long=False):
    """Within 0.2 s of a signal, if it takes long enough to show it."""
    start = time.perf_counter()
    if not is_long:
        call()
        if time.perf_counter() - start < 0.3:
            return
    took = []
    while min(took, default=1.0) >= 0.03 + 0.2 and len(took) < 4:  # a busy machine may need more than one try
        alarm(0.03)
        start = time.perf_counter()
        with pytest.raises(StoppedError):
            call()
        took.append(time.perf_counter() - start)
    assert min(took) < 0.03 + 0.2
    assert threads.busy_threads() == 0


@pytest.mark.alone
@pytest.mark.parametrize(("cell", "count"), list(zip(STAGES, (2, 1, 2), strict=True)), ids=STAGE_IDS)
def test_a_signal_ends_a_long_call_with_lengths(cell, count, alarm, request):
    cyrnn.set_num_threads(count)
    request.addfinalizer(lambda: cyrnn.set_num_threads(None))
    m, T_x = 16, 3000
    q = cell.problem(20, {1: 600, 3: 350, 4: 300}[cell.n_gates], 5, m, T_x)
    lengths = np.random.default_rng(0).integers(0, T_x, m, endpoint=True)
    forward, backward = cell.function("forward"), cell.function("backward")
    a, *_, caches = forward(q.x, q.a0, q.p, lengths=lengths)
    ends_in_time(lambda: forward(q.x, q.a0, q.p, lengths=lengths), alarm)
    ends_in_time(lambda: backward(q.da, caches), alarm)
    assert_array_equal(forward(q.x, q.a0, q.p, lengths=lengths)[0], a)


@pytest.mark.alone
def test_a_stopped_call_leaks_nothing(alarm):
    q = problem("lstm", 40, 120, 5, 16, 3000)
    caches = cyrnn.lstm_forward(q.x, q.a0, q.p)[-1]
    held = []
    for _ in range(6):
        for call in (lambda: cyrnn.lstm_forward(q.x, q.a0, q.p), lambda: cyrnn.lstm_backward(q.da, caches)):
            alarm(0.06)
            with pytest.raises(StoppedError):
                call()
        gc.collect()  # what pytest keeps of the exceptions
        buffers.release_pool()
        held.append(int(Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0)
    assert max(held[3:]) - held[2] < 1000  # pages


@pytest.mark.alone
def test_keyboard_interrupt():
    """The real thing, in a process of its own."""
    code = """
import numpy as np, cyrnn, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run behind a shell's &
p = {"Wax": np.ones((50, 20)) / 70, "Waa": np.eye(50), "ba": np.zeros((50, 1))}
p |= {"Wya": np.ones((3, 50)), "by": np.ones((3, 1))}
x = np.random.default_rng(0).normal(size=(20, 8, 1000))
try:
    print("ready", flush=True)
    while True:
        stream = cyrnn.Stream(p, 8)
        stream.run(np.broadcast_to(x[:, :, :1], (20, 8, 1_000_000)))
except KeyboardInterrupt:
    print("stopped", time.monotonic(), flush=True)
"""
    took = []
    while min(took, default=1.0) >= 0.2 and len(took) < 4:  # as above
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(1.0)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            word, when = process.stdout.readline().split()
        assert process.returncode == 0
        assert word == "stopped"
        took.append(float(when) - sent)
    assert min(took) < 0.2


@pytest.mark.alone
def test_only_the_main_thread_is_stopped(alarm):
    """A signal during a call of another thread waits for the main thread, and the call ends as it should."""
    q = problem("rnn", 40, 200, 5, 16, 1500)
    want = cyrnn.rnn_forward(q.x, q.a0, q.p)[0]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(cyrnn.rnn_forward, q.x, q.a0, q.p)
        alarm(0.02)
        with pytest.raises(StoppedError):
            threading.Event().wait(5.0)
        assert_array_equal(future.result()[0], want)


LONG = """
import signal, sys, time
import numpy as np, cyrnn
rng = np.random.default_rng(0)
n_a, n_y, m, T_x = 256, 3000, 64, 50
W = {"Wy": rng.standard_normal((n_y, n_a)), "by": np.zeros((n_y, 1))}
a, z = rng.standard_normal((n_a, m, T_x)), rng.standard_normal((n_y, m, T_x))
cell = {k + g: rng.standard_normal((n_a, 2 * n_a) if k == "W" else (n_a, 1)) for k in "Wb" for g in "fico"} | W
xt, zero = rng.standard_normal((n_a, 2000)), np.zeros((n_a, 2000))
_, _, _, cache = cyrnn.lstm_cell_forward(xt, zero, zero, cell)
y = cyrnn.softmax(z)
calls = {
    "output_forward": lambda: cyrnn.output_forward(a, W), "output_backward": lambda: cyrnn.output_backward(z, a, W),
    "softmax": lambda: cyrnn.softmax(np.broadcast_to(z[:, :, :1], (n_y, m, 6 * T_x))),
    "lstm_cell_forward": lambda: cyrnn.lstm_cell_forward(xt, zero, zero, cell),
    "lstm_cell_backward": lambda: cyrnn.lstm_cell_backward(zero, zero, cache),
    "cross_entropy": lambda: cyrnn.cross_entropy(y, y), "mean_squared_error": lambda: cyrnn.mean_squared_error(z, y),
    "binary_cross_entropy": lambda: cyrnn.binary_cross_entropy(y, y),
    "of_logits": lambda: cyrnn.binary_cross_entropy(z, y, from_logits=True),
    "of_outputs": lambda: cyrnn.binary_cross_entropy(z, y, weights=y, from_logits=True),
}
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
for threads in (1, 2):
    cyrnn.set_num_threads(threads)
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        full = time.perf_counter() - start
        wait = full / 5
        signal.setitimer(signal.ITIMER_REAL, wait)
        start = time.perf_counter()
        try:
            call()
            print(name, threads, "was not interrupted")
        except Stop:
            late = time.perf_counter() - start - wait
            if late > max(0.2, full / 2): print(name, threads, f"{late:.2f} s late of {full:.2f}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        call()
"""


@pytest.mark.alone
def test_everything_that_takes_long_answers_a_signal():
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.alone
@pytest.mark.parametrize("what", ["logits", "softmax"])
def test_a_signal_ends_what_goes_value_by_value(what, alarm, request):
    """Early, in processor time: a call that looks for no signals would make all of its values first."""
    request.addfinalizer(partial(_kernels.use, _kernels.build))
    _kernels.use("baseline")  # the slowest, for the least memory

    def seconds(steps, signal_after=0.0):
        z = np.full((64, 64, steps), 0.5)
        if what == "logits":
            call = partial(cyrnn.binary_cross_entropy, z, z, from_logits=True)
        else:
            call = partial(cyrnn.softmax, z)
        start = time.process_time()
        if signal_after:
            alarm(signal_after)
            with pytest.raises(StoppedError):
                call()
        else:
            call()
        return time.process_time() - start

    seconds(300)
    steps = int(300 * 0.25 / seconds(300))
    whole = min(seconds(steps) for _ in range(2))
    assert min(seconds(steps, 0.02) for _ in range(4)) < 0.6 * whole


def test_no_work_returns_at_once():
    """No unit, 2^40 steps that take no memory."""
    p = {"Wax": np.empty((0, 1)), "Waa": np.empty((0, 0)), "ba": np.empty((0, 1)), "Wya": np.empty((0, 0))}
    p["by"] = np.empty((0, 1))
    x = np.broadcast_to(0.0, (1, 1, 2**40))
    a, y, _ = cyrnn.rnn_forward(x, np.empty((0, 1)), p)
    assert a.shape == y.shape == (0, 1, 2**40)
