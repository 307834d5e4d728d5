"""One call on several threads: the same bits for every number, limits obeyed, forks survived."""

import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cells import CELLS, STAGE_IDS, STAGES
from numpy.testing import assert_array_equal
from reference import problem

import cyrnn
from cyrnn import _kernels, _threads
from cyrnn._kernels.runtime import threads

needs_openmp = pytest.mark.skipif(not threads.OPENMP, reason="built without OpenMP")

# Shared by examples (m >= 8), by units (few examples or large weights), by columns; odd sizes; blocks of steps; large
# weights of x, or of y, beside small ones of a.
SIZES = [(3, 5, 2, 13, 6), (33, 37, 9, 19, 40), (70, 165, 40, 9, 20), (40, 270, 3, 2, 5), (9, 721, 70, 1, 30),
         (33, 333, 9, 9, 35), (2600, 39, 3, 13, 30), (3, 39, 2600, 13, 30)]  # fmt: skip


@pytest.fixture(autouse=True)
def _restored():
    yield
    cyrnn.set_num_threads(None)


@pytest.fixture
def _every_call_is_worth_it():
    before = threads.set_flops_per_thread(1.0)
    yield
    threads.set_flops_per_thread(before)


@needs_openmp
@pytest.mark.usefixtures("build", "_every_call_is_worth_it")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_same_bits_for_every_number(cell, size):
    """Every number on one build: the others share the work in the same way."""
    q = cell.problem(*size)
    cyrnn.set_num_threads(1)
    want = cell.forward(q)
    gradients = cell.backward(q.da, want.caches)
    for n in (2, 3, 4, 7) if _kernels.build == _kernels.available()[0] else (3,):
        cyrnn.set_num_threads(n)
        out = cell.forward(q)
        assert_array_equal(out.a, want.a)
        assert_array_equal(out.y, want.y)
        assert_array_equal(cell.forward_only(q).y, want.y)
        if out.c is not None:
            assert_array_equal(out.c, want.c)
        for name, value in cell.backward(q.da, out.caches).items():
            assert_array_equal(value, gradients[name], err_msg=f"{name}, {n} threads")
    in_place = np.zeros((q.x.shape[2], q.x.shape[1], len(q.x) + 3))  # the kernel's order, and rows with gaps
    in_place[:, :, : len(q.x)] = q.x.T
    q.x = in_place.transpose(2, 1, 0)[: len(q.x)]
    out = cell.forward(q)
    assert_array_equal(out.y, want.y)
    assert_array_equal(cell.backward(q.da, out.caches)["dx"], gradients["dx"])


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_a_large_call_takes_threads_and_a_small_one_does_not(cell):
    """In a process of its own, where nothing else has started threads."""
    code = (
        "import os, numpy as np; sys = __import__('sys'); sys.path.insert(0, 'tests'); "
        "from reference import problem; from cells import CELLS; "
        f"cell = CELLS[{CELLS.index(cell)}]; "
        "count = lambda: len(os.listdir('/proc/self/task')); cyrnn.set_num_threads(3); start = count(); "
        "cell.forward(cell.problem(3, 5, 2, 10, 4)); small = count() - start; "
        "q = cell.problem(64, 256, 64, 64, 8); cell.backward(q.da, cell.forward(q).caches); "
        "print(small, count() - start)"
    )
    assert shown(code, OPENBLAS_NUM_THREADS="1") == "0 2"


def test_setting_and_default():
    cyrnn.set_num_threads(3)
    assert cyrnn.get_num_threads() == (3 if threads.OPENMP else 1)
    cyrnn.set_num_threads(None)
    assert 1 <= cyrnn.get_num_threads() <= _threads.processors()
    wrongs = (0, ValueError), (-1, ValueError), (1.5, TypeError), (float("inf"), TypeError), ("3", TypeError)
    for wrong, error in (*wrongs, (True, TypeError), ([2], TypeError)):
        with pytest.raises(error, match="n: expected"):
            cyrnn.set_num_threads(wrong)


def shown(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", "import cyrnn; " + code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@needs_openmp
def test_the_environment():
    ask = "print(cyrnn.get_num_threads())"
    assert shown(ask, CYRNN_NUM_THREADS="5") == "5"
    assert shown(ask, CYRNN_NUM_THREADS="", OMP_NUM_THREADS="1") == "1"
    assert shown("cyrnn.set_num_threads(2); " + ask, CYRNN_NUM_THREADS="5") == "2"
    done = subprocess.run(
        [sys.executable, "-c", "import cyrnn; " + ask], env={**os.environ, "CYRNN_NUM_THREADS": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == shown(ask, CYRNN_NUM_THREADS="") + "\n"
    assert "RuntimeWarning: CYRNN_NUM_THREADS: expected 1 to 1024 threads, got '0', which is ignored" in done.stderr
    for wrong in ("many", "-1", "1.5"):
        message = f"ImportError: CYRNN_NUM_THREADS: expected 1 to 1024 threads, got '{wrong}'"
        assert shown(ask, CYRNN_NUM_THREADS=wrong) == message
    if hasattr(os, "sched_setaffinity"):
        code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import cyrnn; "
        done = subprocess.run([sys.executable, "-c", code + ask], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"


MOUNTS = {
    1: "32 31 0:29 {} {} rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 / /nowhere rw - cgroup cgroup rw,memory\n",
    2: "30 23 0:26 {} {} rw,nosuid - cgroup2 cgroup rw\n",
}
GROUPS = {1: "9:memory:/m\n1:cpu,cpuacct:{}\n0::/\n", 2: "0::{}\n"}
SEEN = {  # what is mounted of the hierarchy, the group as the process sees it, where that is below the mount point
    "from outside": ("/", "/batch/job7", "batch/job7"),
    "as the root": ("/", "/", ""),
    "in part": ("/docker/f00", "/docker/f00/job7", "job7"),
    "elsewhere": ("/docker/f00", "/", ""),
}


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_batch_system_or_container(tmp_path, version, seen):
    """Of the process's own control group and of those above it, whatever the mounted hierarchy begins with."""
    mount = tmp_path / "sys fs"
    root, path, below = SEEN[seen]
    group = mount / below
    group.mkdir(parents=True)
    mounts = MOUNTS[version].format(root, str(mount).replace(" ", "\\040"))
    (tmp_path / "mountinfo").write_text("23 1 0:1 / / rw - tmpfs tmpfs rw\n" + mounts)
    assert _threads.quota(tmp_path) == float("inf")  # no file that tells the group
    (tmp_path / "cgroup").write_text(GROUPS[version].format(path))

    def limit(folder, text, period):
        if version == 2:
            (folder / "cpu.max").write_text(f"{text} {period}\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{text}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{period}\n")

    assert _threads.quota(tmp_path) == float("inf")  # nor that of a limit
    limit(group, "max" if version == 2 else "-1", 100000)
    assert _threads.quota(tmp_path) == float("inf")
    limit(group, "nonsense", 0)
    assert _threads.quota(tmp_path) == float("inf")
    limit(group, 150000, 100000)
    assert _threads.quota(tmp_path) == 1.5
    for parent, processors in (group.parent, 1.25), (mount, 0.5):
        if parent in (mount, *mount.rglob("*")):
            limit(parent, int(processors * 50000), 50000)
            assert _threads.quota(tmp_path) == processors
    limit(tmp_path, 100, 100000)  # outside of the hierarchy
    assert _threads.quota(tmp_path) == 0.5
    (tmp_path / "mountinfo").write_text("nonsense\n")
    assert _threads.quota(tmp_path) == float("inf")


@needs_openmp
def test_threadpoolctl_sees_and_limits():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    assert any(library["user_api"] == "openmp" for library in threadpoolctl.threadpool_info())
    # On one processor OpenMP's own setting is 1 already, and a limit of 1 changes nothing that could be seen.
    for setting in (None, 4) if _threads.processors() > 1 else (None,):
        cyrnn.set_num_threads(setting)
        with threadpoolctl.threadpool_limits(1, user_api="openmp"):
            assert cyrnn.get_num_threads() == 1
        assert cyrnn.get_num_threads() == (setting or _threads.processors())


def _in_a_child(cell_index, queue):
    cell = CELLS[cell_index]
    q = cell.problem(64, 256, 64, 64, 10)
    out = cell.forward(q)
    queue.put((cyrnn.get_num_threads(), out.a, cell.backward(q.da, out.caches)["dx"]))


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:os.fork:RuntimeWarning")  # what is tested
def test_a_forked_child_works():
    cell = CELLS[1]
    q = cell.problem(64, 256, 64, 64, 10)
    cyrnn.set_num_threads(2)
    want = cell.forward(q)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(1, queue))
    child.start()
    count, a, dx = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert count == 1
    assert_array_equal(a, want.a)
    assert_array_equal(dx, cell.backward(q.da, want.caches)["dx"])


@needs_openmp
def test_python_threads_share_the_processors():
    """Eight callers at once hire no more than the setting, and one each when nothing is left."""
    cell = CELLS[1]
    q = cell.problem(64, 256, 64, 64, 30)
    cyrnn.set_num_threads(2)
    most = 0
    stop = threading.Event()

    def call():
        while not stop.is_set():
            cell.forward(q)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end:
        most = max(most, threads.busy_threads())
        time.sleep(0.001)
    stop.set()
    for caller in callers:
        caller.join()
    assert 2 <= most <= 8 + 1
    assert threads.busy_threads() == 0


@pytest.mark.alone
@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task") or _threads.processors() < 2, reason="needs two, and /proc")
def test_threads_that_have_slept_are_no_hindrance():
    """They may wake on the caller's processor, and must leave it; a busy machine may need more than one try."""
    q = problem("rnn", 32, 64, 32, 16, 60)

    def seconds(n):
        cyrnn.set_num_threads(n)
        cyrnn.rnn_forward(q.x, q.a0, q.p)
        time.sleep(0.06)
        start = time.perf_counter()
        cyrnn.rnn_forward(q.x, q.a0, q.p)
        return time.perf_counter() - start

    def allowed():
        return {thread: os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")}

    seconds(2)
    before = allowed()
    assert any(statistics.median(seconds(2) / seconds(1) for _ in range(9)) < 1.4 for _ in range(5))
    assert allowed() == before


ON_ONE_PROCESSOR = """
import os, sys, time; sys.path.insert(0, 'tests'); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from reference import problem; from cyrnn._kernels.runtime import threads
def call():
    cyrnn.lstm_backward(q.da, cyrnn.lstm_forward(q.x, q.a0, q.p)[-1])
    return threads.paused()
q = problem('lstm', 64, 64, 16, 32, 100); cyrnn.set_num_threads(2)
"""


@pytest.mark.alone
@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_one_thread_for_a_while_where_several_wait_for_each_other():
    """Two threads on one processor lose half of the time of a call, whatever else the machine does."""
    code = ON_ONE_PROCESSOR + (
        "threads.set_pause(100.0); found = [threads.paused(), any(call() for _ in range(5)), call()]\n"
        "start = time.perf_counter(); calls = 0\n"
        "while call() and time.perf_counter() < start + 60.0: calls += 1\n"
        "print(*found, calls > 40, threads.paused())"
    )
    assert shown(code) == "False True True True False"
    assert shown(ON_ONE_PROCESSOR + "threads.set_pause(0.0); print(any(call() for _ in range(5)))") == "False"


@pytest.mark.alone
@needs_openmp
@pytest.mark.skipif(sys.platform != "linux", reason="a barrier sleeps on Linux only")
def test_a_thread_that_waits_long_is_asleep():
    """It leaves the processor of its own accord, once a barrier; a thread that yields is counted as one that must."""
    code = ON_ONE_PROCESSOR + (
        "import resource; threads.set_pause(0.0); q = problem('lstm', 64, 512, 16, 1, 50)\n"
        "switches = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw\n"
        "cyrnn.lstm_forward(q.x, q.a0, q.p); before = switches()\n"
        "cyrnn.lstm_forward(q.x, q.a0, q.p); print(switches() - before)"
    )
    assert int(shown(code)) > 50


@pytest.mark.alone
@needs_openmp
@pytest.mark.skipif(_threads.processors() < 2, reason="needs two processors")
@pytest.mark.parametrize("busy", ["1", "2", "4"])
def test_a_busy_machine(busy):
    """The median of 30 calls on the default number of threads, beside so many processes that compute without end; 1.3
    times one thread's time is the aim, and several tries are for what else the machine does."""
    command = [sys.executable, Path(__file__).parents[1] / "benchmarks" / "busy.py", "--calls", "30", "--nice", "0"]
    command += ["--busy", busy, "--sizes", "64,64,16,32,100"]

    def ratio():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    assert any(ratio() < 1.3 for _ in range(4))
