"""Memory: many calls do not grow it, no reference is lost, one call takes little beside what it returns.

`CYRNN_TEST_CALLS=1000000 pytest tests/test_memory.py -k small_calls` makes a million of them.
"""

import gc
import os
import subprocess
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest
from cells import CELLS, FLOAT32, IDS, STAGE_IDS, STAGES
from layouts import WRONG
from numpy.testing import assert_array_equal
from reference import problem
from rows import each_row

import cyrnn
from cyrnn._kernels.runtime import buffers
from cyrnn.recurrent.network import NetworkCache

SMALL = 3, 5, 2, 10, 4
STAGES_OF_BOTH = [*STAGES, *(FLOAT32[CELLS.index(cell)] for cell in STAGES)]


@each_row
def test_calls_leave_nothing_behind(cell):
    q = cell.problem(3, 5, 2, 10, 4)

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


def functions(cell, q):
    """Every function with its arguments."""
    out, one = cell.forward(q), cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    return {
        f"{cell.kind}_forward": [q.x, q.a0, q.p],
        f"{cell.kind}_backward": [q.da, out.caches],
        f"{cell.kind}_cell_forward": [q.x[:, :, 0].copy(), *cell.carried(q.a0, q.c0), q.p],
        f"{cell.kind}_cell_backward": [*cell.carried(q.da[:, :, 0].copy(), q.dc), one.cache],
        "softmax": [q.x],
        "sigmoid": [q.x],
    }


def with_options(cell, q):
    """The functions of a sequence with every optional argument: the function, its arguments, the optional ones."""
    forward, backward = cell.function("forward"), cell.function("backward")
    options = {"lengths": np.array([2, 0, 3, 1])} | ({"c0": q.c0} if cell.memory else {})
    caches = forward(q.x, q.a0, q.p, **options)[-1]
    return [
        (forward, [q.x, q.a0, q.p], options),
        (backward, [q.da, caches], {"dc": np.ones_like(q.da)} if cell.memory else {}),
    ]


def referred(args):
    """The arguments, and what they hold; but nothing that other code may hold too, as None."""
    return [thing for value in args for thing in _held(value)]


def _held(value):
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    whole = [value] if isinstance(value, (np.ndarray, dict, cyrnn.recurrent.caches.CacheList)) or inner else []
    return whole + referred(inner)


def arrays_of(result):
    """The arrays that a function returns."""
    values = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else [result]
    return [value for value in values if isinstance(value, np.ndarray)]


def misfits(args):
    """The arguments with one of them, or of what one holds, replaced by what does not fit."""
    for k, value in enumerate(args):
        for wrong in WRONG:
            if isinstance(value, np.ndarray):
                yield [*args[:k], wrong(value), *args[k + 1 :]]
        if isinstance(value, dict):
            for name in value:
                yield [*args[:k], {key: v for key, v in value.items() if key != name}, *args[k + 1 :]]
                yield from ([*args[:k], {**value, name: wrong(value[name])}, *args[k + 1 :]] for wrong in WRONG)
        if isinstance(value, tuple):
            yield from ([*args[:k], (*value[:i], None, *value[i + 1 :]), *args[k + 1 :]] for i in range(len(value) - 1))
            yield from ([*args[:k], wrong, *args[k + 1 :]] for wrong in (None, (), [], value[:-1], {}))


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_references_are_balanced_on_every_path(cell):
    """Of every argument and what it holds: after a call, after a conversion, after every kind of error."""
    q = cell.problem(3, 5, 2, 4, 3)
    refused = 0
    for name, args in functions(cell, q).items():
        converted = [value.astype(np.float32) if isinstance(value, np.ndarray) else value for value in args]
        for given in (args, converted, *misfits(args)):
            things = referred(given)
            getattr(cyrnn, name)(*args)  # what is made once is made
            before = [sys.getrefcount(thing) for thing in things]
            for _ in range(3):
                try:
                    getattr(cyrnn, name)(*given)
                except (TypeError, ValueError, KeyError):
                    refused += 1
            assert [sys.getrefcount(thing) for thing in things] == before, name
    assert refused > 500


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_references_of_optional_arguments_are_balanced(cell):
    refused = 0
    for function, args, options in with_options(cell, cell.problem(3, 5, 2, 4, 3)):
        things = referred([*args, *options.values()])
        function(*args, **options)
        before = [sys.getrefcount(thing) for thing in things]
        for name in options:
            for given in (options, *({**options, name: wrong(options[name])} for wrong in WRONG)):
                try:
                    function(*args, **given)
                except (TypeError, ValueError):
                    refused += 1
                del given
        assert [sys.getrefcount(thing) for thing in things] == before
    assert refused >= 10


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_small_calls_do_not_grow_the_process():
    calls = [
        (getattr(cyrnn, name), args)
        for cell in CELLS
        for name, args in functions(cell, cell.problem(*SMALL)).items()
    ]
    calls += [(cyrnn.softmax, ["text"]), (cyrnn.rnn_forward, [*calls[0][1][:2], {}]), (cyrnn.sigmoid, [3])]

    def resident(count):
        for k in range(count):
            function, args = calls[k % len(calls)]
            try:
                function(*args)
            except (TypeError, KeyError):
                assert k % len(calls) >= len(calls) - 3
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    resident(3000)
    before = resident(3000)
    assert resident(int(os.environ.get("CYRNN_TEST_CALLS", "20000"))) - before < 500_000


EXHAUSTED = """
import gc, resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import cyrnn
from cells import STAGES
from cyrnn._kernels.runtime import buffers, threads
from reference import problem
from test_memory import arrays_of, functions, referred

def size():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()

cyrnn.set_num_threads(1)
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
refused = {}
for cell in STAGES:
    q = cell.problem(90, 250, 120, 90, 9)
    small = cell.problem(3, 5, 2, 4, 3)
    for name, args in functions(cell, q).items():
        function = getattr(cyrnn, name)
        for given in (args, [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in args]):
            want = arrays_of(function(*given))
            counts = [sys.getrefcount(thing) for thing in referred(given)]
            buffers.release_pool()
            gc.collect()
            start, room, met, step = size(), 0, 0, 1 << 15
            while True:
                resource.setrlimit(resource.RLIMIT_AS, (start + room, hard))
                try:
                    result = function(*given)
                except MemoryError:
                    result = None
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
                cell.forward(small)
                if result is not None:
                    break
                assert [sys.getrefcount(thing) for thing in referred(given)] == counts, name
                assert threads.busy_threads() == 0, name
                met += 1
                buffers.release_pool()
                assert size() - start < 4 << 20, (name, size() - start)
                room += step
                step += step // 16
            assert all(np.array_equal(g, w) for g, w in zip(arrays_of(result), want, strict=True)), name
            refused[name] = refused.get(name, 0) + met
            del result
            assert all(np.array_equal(g, w) for g, w in zip(arrays_of(function(*given)), want, strict=True)), name
            buffers.release_pool()
            gc.collect()
            assert size() - start < 4 << 20, (name, size() - start)
print(*(f"{name}={count}" for name, count in refused.items()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the address space")
def test_no_memory_left_at_any_point():
    """From no room at all to enough: MemoryError each time, nothing kept, and the next call is right."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TOP_PAD_": "0", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXHAUSTED, os.path.dirname(__file__)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {name: int(count) for name, count in (pair.split("=") for pair in done.stdout.split())}
    assert len(counts) == 14
    assert all(counts.values()), counts
    assert sum(counts.values()) > 200, counts


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
def test_no_memory_for_any_one_object(cell):
    """The n-th allocation of the interpreter fails, for every n: MemoryError, and the next call is right.

    References are not counted: CPython 3.11 itself loses those of a call for whose frame it has no memory.

    CPython 3.12 and 3.13 crash where they have no memory for a function that is made as the code runs: a lambda, a
    function within a function, a generator expression.  The calls made here must not make one.
    """
    hooks = pytest.importorskip("_testcapi")
    failed = 0
    q = cell.problem(3, 5, 2, 4, 3)
    calls = [(getattr(cyrnn, name), args) for name, args in functions(cell, q).items()]
    calls += [(partial(function, **options), args) for function, args, options in with_options(cell, q)]
    for function, args in calls:
        want = arrays_of(function(*args))
        converted = [value.astype(np.float32) if isinstance(value, np.ndarray) else value for value in args]
        for given in (args, converted):
            function(*given)
            # CPython may fail to say that it had no memory for the traceback of what a kernel refused
            expected = MemoryError if given is args else (MemoryError, SystemError)
            for n in range(300):
                hooks.set_nomemory(n, n + 1)
                try:
                    function(*given)
                except expected:
                    failed += 1
                finally:
                    hooks.remove_mem_hooks()
            assert all(map(np.array_equal, arrays_of(function(*args)), want))
    assert failed > 200


@pytest.fixture(autouse=True)
def _one_thread_and_no_buffer_of_another_test():
    cyrnn.set_num_threads(1)
    buffers.release_pool()
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
    if isinstance(value, cyrnn.recurrent.caches.CacheList):
        return kept(value.sequence.buffer, seen)
    if isinstance(value, NetworkCache):
        value = (value.x, value.embedded, value.a, value.layers)
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return sum(kept(v, seen) for v in values)


def peak_and_kept(call, *inputs):
    call()
    gc.collect()
    buffers.release_pool()  # a buffer that is used again may be larger than what is asked for
    tracemalloc.start()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, kept(result, {id(value) for value in inputs})


def calls_of(cell, q, lengths=None):
    """Every call on a sequence, by name."""
    forward, backward = (cell.function(name) for name in ("forward", "backward"))
    caches = forward(q.x, q.a0, q.p, lengths=lengths)[-1]
    return {
        "forward": lambda: forward(q.x, q.a0, q.p, lengths=lengths),
        "forward_only": lambda: forward(q.x, q.a0, q.p, lengths=lengths, cache=False),
        "backward": lambda: backward(q.da, caches),
    }


@pytest.mark.parametrize("cell", STAGES_OF_BOTH, ids=lambda cell: cell.id)
@pytest.mark.parametrize(
    "size", [(32, 64, 32, 16, 50), (64, 128, 64, 32, 60), (40, 200, 30, 20, 100), (128, 256, 64, 64, 20)], ids=str
)
@pytest.mark.parametrize("short", [None, "none", "one", "all"])
def test_a_call_needs_little_beside_what_it_returns(cell, size, short):
    n_x, n_a, n_y, m, T_x = size
    q = cell.problem(*size)
    steps = {"none": np.full(m, T_x), "one": T_x - (np.arange(m) == m // 2), "all": np.arange(m) * T_x // m}
    lengths = steps.get(short)
    of_value = np.dtype(cell.dtype).itemsize
    packed = of_value * (cell.n_gates * (n_a + 40) * (n_a + n_x) + (n_y + 40) * n_a)
    columns, started = (m * T_x, m) if lengths is None else (lengths.sum(), np.count_nonzero(lengths))
    n_states = len(cell.states)
    plain, wide = cell.exact(q)
    rounded_off = of_value * cell.n_gates * n_a * (n_a + n_x)  # by sums over many columns
    for way, call in calls_of(cell, q, lengths).items():
        peak, returned = peak_and_kept(call, q.x, q.da)
        if plain is cell:
            assert peak < 1.3 * returned + packed, way
        else:  # blocks have about as many bytes as in float64
            beside, kept = peak_and_kept(calls_of(plain, wide, lengths)[way], wide.x, wide.da)
            assert peak - returned <= beside - kept + (1 << 20) + rounded_off * (way == "backward"), way
            assert returned < 0.51 * kept + 1000, way
        if way == "forward":  # what is kept for the backward pass: the notebook's arrays, each once
            states = of_value * n_a * (n_states * (columns + started) + len(cell.slots) * columns)
            outputs = of_value * m * T_x * (n_y + n_states * n_a)
            assert returned == states + outputs


@pytest.mark.alone
@pytest.mark.parametrize("cell", STAGES, ids=STAGE_IDS)
@pytest.mark.parametrize("way", ["forward_only", "backward"])
def test_what_is_not_returned_does_not_grow_with_the_sequence(cell, way):
    extra = []
    for T_x in (2400, 4800):
        q = cell.problem(20, 40, 10, 8, T_x)
        peak, returned = peak_and_kept(calls_of(cell, q)[way], q.x, q.da)
        extra.append(peak - returned)
    assert extra[1] < 1.05 * extra[0]


def test_what_waits_for_its_next_use_is_bounded():
    q = problem("lstm", 64, 200, 10, 32, 240)
    results = [cyrnn.lstm_forward(q.x, q.a0, q.p) for _ in range(5)]  # 100 MB each, in four buffers; 16 may wait
    held = buffers.pooled_bytes()
    del results
    gc.collect()
    assert held < buffers.pooled_bytes() <= 1 << 28


@each_row
def test_without_caches(cell):
    for size in ((3, 5, 2, 10, 4), (5, 40, 7, 1, 300), (20, 33, 30, 50, 30), (4, 6, 3, 0, 5), (4, 6, 3, 5, 0)):
        q = cell.problem(*size)
        want, out = cell.forward(q), cell.forward_only(q)
        assert out.caches is None
        assert_array_equal(out.a, want.a)
        assert_array_equal(out.y, want.y)
        if want.c is not None:
            assert_array_equal(out.c, want.c)
        q.x = q.x.astype(np.float16)  # what has to be converted
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
