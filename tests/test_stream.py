"""Stream: the bits of the sequence functions, step by step, with fixed memory and nothing half done."""

import contextlib
import copy
import gc
import itertools
import os
import pickle
import re
import signal
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cells
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from race import FREE_THREADED
from reference import close, problem
from rows import each_row

import cyrnn
from cyrnn._kernels.runtime import buffers

both = each_row
every_build = pytest.mark.usefixtures("build")
SIZES = [  # n_x, n_a, n_y, m, T_x; the first of the large ones lets go of the GIL
    (3, 5, 2, 1, 12), (1, 1, 1, 1, 11), (0, 4, 3, 2, 11), (8, 8, 8, 1, 20), (33, 37, 17, 6, 13), (5, 70, 1, 1, 12),
    (170, 165, 4, 40, 11), (7, 9, 20, 41, 12), (200, 130, 30, 1, 11), (4, 6, 0, 3, 11),
]  # fmt: skip


def of_state(cell, a, c):
    return (a, c) if cell.memory else a


def assert_state(cell, stream, a, c):
    got = stream.state
    assert_array_equal(got[0] if cell.memory else got, a)
    if cell.memory:
        assert_array_equal(got[1], c)


def started(cell, q):
    """A stream in the state a0, c0 of the problem."""
    stream = cell.stream(q.p, q.x.shape[1])
    stream.state = of_state(cell, q.a0, q.c0)
    return stream


def by_cells(cell, q, a, c, x):
    """A y and c of every step from a state, by the cell function."""
    steps = []
    for t in range(x.shape[2]):
        out = cell.cell_forward(x[:, :, t], a, c, q.p)
        a, c = out.a, out.c
        steps.append(out)
    return steps


def new_out(q):
    n_y, n_a = q.p["Wya" if "Wya" in q.p else "Wy"].shape
    m, dtype = q.x.shape[1], q.da.dtype
    return np.full((n_a, m), 7.0, dtype), np.full((n_y, m), 8.0, dtype)


# ---- the same bits


@every_build
@both
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_and_blocks_give_the_bits_of_the_sequence(cell, size):
    q = cell.problem(*size)
    q.a0 = np.zeros_like(q.a0)
    T_x = size[4]
    want = cell.forward(q)
    stream, out = cell.stream(q.p, size[3], output="softmax"), new_out(q)
    for pieces in ([1] * T_x, [T_x], [1, 1, 3, 0, 1, T_x - 6], [T_x - 2, 1, 1]):
        stream.reset()
        t = 0
        for count in pieces:
            if count == 1:
                a, y = stream.step(q.x[:, :, t], out if t % 2 else None)
                a, y = a[:, :, None], y[:, :, None]
            else:
                a, y = stream.run(q.x[:, :, t : t + count])
            assert_array_equal(a, want.a[:, :, t : t + count])
            assert_array_equal(y, want.y[:, :, t : t + count])
            t += count
        assert t == T_x
        assert_state(cell, stream, want.a[:, :, -1], want.c[:, :, -1] if want.c is not None else None)


@every_build
@both
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_state_set_on_the_way_gives_the_bits_of_the_cell(cell, size):
    q = cell.problem(*size)
    stream = cell.stream(q.p, size[3], output="softmax")
    stream.run(q.x[:, :, :3])
    stream.state = of_state(cell, q.a0, q.c0)
    assert_state(cell, stream, q.a0, q.c0)
    steps = by_cells(cell, q, q.a0, q.c0, q.x)
    for t in range(size[4]):
        a, y = stream.step(q.x[:, :, t])
        assert_array_equal(a, steps[t].a)
        assert_array_equal(y, steps[t].y)
        assert_state(cell, stream, steps[t].a, steps[t].c)
    stream.state = of_state(cell, q.a0[:, :1], q.c0[:, :1])  # one for all examples
    want = cell.cell_forward(q.x[:, :, 0], q.a0[:, :1], np.repeat(q.c0[:, :1], size[3], 1), q.p)
    assert_array_equal(stream.step(q.x[:, :, 0])[1], want.y)


@every_build
@both
def test_inputs_of_every_kind(cell):
    q = cell.problem(7, 10, 3, 6, 9)
    q.x = q.x.astype(np.float32).astype(np.float64)
    time_major = np.ascontiguousarray(q.x.transpose(2, 1, 0)).T
    frozen, subclass = q.x.copy(), q.x.copy().view(type("Mine", (np.ndarray,), {}))
    frozen.flags.writeable = False
    padded = np.zeros((14, 12, 18))
    padded[::2, ::-2, ::2] = q.x
    kinds = {
        "Fortran": np.asfortranarray(q.x), "time-major": time_major, "strided": padded[::2, ::-2, ::2],
        "float32": q.x.astype(np.float32), "swapped": q.x.astype(">f8"), "frozen": frozen, "subclass": subclass,
        "list": q.x.tolist(),
    }  # fmt: skip
    steps = by_cells(cell, q, q.a0, q.c0, q.x)
    for name, x in kinds.items():
        stream = started(cell, q)
        for t in range(9):
            xt = [[example[t] for example in row] for row in x] if name == "list" else x[:, :, t]
            a, y = stream.step(xt)
            assert type(a) is type(y) is np.ndarray
            assert_array_equal(a, steps[t].a, err_msg=name)
            assert_array_equal(y, steps[t].y, err_msg=name)
        stream.state = of_state(cell, q.a0.tolist(), np.asfortranarray(q.c0))
        a, y = stream.run(x)
        assert_array_equal(a, np.stack([step.a for step in steps], 2), err_msg=name)
        assert_array_equal(y, np.stack([step.y for step in steps], 2), err_msg=name)
    numbers = np.arange(42).reshape(7, 6)
    assert_array_equal(started(cell, q).step(numbers)[1], started(cell, q).step(numbers.astype(float))[1])


@every_build
@both
def test_nan_and_infinity_stay_in_their_example(cell):
    q = cell.problem(4, 9, 3, 5, 8)
    q.a0 = np.zeros_like(q.a0)
    healthy = cell.forward(q)
    q.x[1, 2, 3], q.x[0, 4, 2], q.x[2, 1, :] = np.nan, np.inf, np.finfo(cell.dtype).min
    want = cell.forward(q)
    stream = cell.stream(q.p, 5)
    for t in range(8):
        a, y = stream.step(q.x[:, :, t])
        assert_array_equal(a, want.a[:, :, t])
        assert_array_equal(y, want.y[:, :, t])
        assert_array_equal(y[:, [0, 3]], healthy.y[:, [0, 3], t])
    assert np.isnan(y[:, 2]).all()


# ---- out=


@every_build
@both
@pytest.mark.parametrize("size", [(5, 5, 2, 1, 6), (40, 40, 3, 6, 6), (150, 150, 7, 1, 6)], ids=str)
def test_out_is_written_and_returned(cell, size):
    q = cell.problem(*size)
    steps = by_cells(cell, q, q.a0, q.c0, q.x)
    stream, out = started(cell, q), new_out(q)
    addresses = [array.ctypes.data for array in out]
    for t in range(6):
        result = stream.step(q.x[:, :, t], out)
        assert result is out
        assert addresses == [array.ctypes.data for array in result]
        assert_array_equal(out[0], steps[t].a)
        assert_array_equal(out[1], steps[t].y)
    stream = started(cell, q)
    a, y = stream.step(q.x[:, :, 0].tolist(), list(new_out(q)))  # what has to be converted first
    assert_array_equal(a, steps[0].a)
    assert_array_equal(y, steps[0].y)
    stored = pickle.loads(pickle.dumps(new_out(q)))  # its dtype is another object
    assert started(cell, q).step(q.x[:, :, 0].tolist(), stored)[0] is stored[0]
    assert_array_equal(stored[0], steps[0].a)
    # What comes out may go in at the same place.
    stream, fed = started(cell, q), (q.x[:, :, 0].copy(), np.empty((size[2], size[3]), cell.dtype))
    stream.step(fed[0], fed)
    assert_array_equal(fed[0], steps[0].a)
    want = cell.cell_forward(steps[0].a, steps[0].a, steps[0].c, q.p)
    stream.step(fed[0], fed)
    assert_array_equal(fed[0], want.a)
    assert_array_equal(fed[1], want.y)


@every_build
@both
def test_a_prediction_of_nothing_overlaps_nothing(cell):
    q = cell.problem(3, 5, 0, 4, 2)
    a = np.empty((5, 4), cell.dtype)
    y = a[2:][:0]  # no outputs, in the middle of a
    assert started(cell, q).step(q.x[:, :, 0], (a, y))[1] is y
    assert_array_equal(a, by_cells(cell, q, q.a0, q.c0, q.x)[0].a)


@both
def test_new_results_are_new(cell):
    q = cell.problem(3, 5, 2, 4, 2)
    stream = started(cell, q)
    first = stream.step(q.x[:, :, 0])
    kept = copy.deepcopy(first)
    first[0][:] += 0.0
    stream.step(q.x[:, :, 1])
    assert_array_equal(first[0], kept[0])
    assert_array_equal(first[1], kept[1])
    state = copy.deepcopy(stream.state)
    first[0][:] = 9.0
    assert_array_equal(np.stack(stream.state), np.stack(state))


@pytest.mark.alone
@every_build
@both
@pytest.mark.parametrize("size", [(30, 40, 20, 1, 2), (30, 40, 20, 6, 2), (150, 140, 20, 1, 2)], ids=str)
def test_a_step_with_out_allocates_nothing(cell, size):
    q = cell.problem(*size)
    xt, strided = np.ascontiguousarray(q.x[:, :, 0]), q.x[:, :, 1]

    def steps(count, stream, out):
        for _ in itertools.repeat(None, count):
            stream.step(xt, out)
            stream.step(strided, out)

    for output in (*OUTPUTS, None):
        stream, out = cell.stream(q.p, size[3], output=output), new_out(q)
        out = out if output is not None else (out[0], None)
        steps(10, stream, out)
        gc.collect()
        tracemalloc.start()
        try:
            steps(10, stream, out)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            steps(100, stream, out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 400  # the numbers above, the memoryview of xt; one result of a step is 480 at least


# ---- copies


@every_build
@both
def test_the_parameters_are_copied(cell):
    q = cell.problem(6, 11, 4, 3, 5)
    q.a0 = np.zeros_like(q.a0)
    want = cell.forward(q)
    before = copy.deepcopy(q.p)
    stream = cell.stream(q.p, 3)
    for name, value in q.p.items():
        assert_array_equal(value, before[name])
        value[:] = np.nan
    q.p.clear()
    assert_array_equal(stream.run(q.x)[1], want.y)


@both
def test_the_state_is_copied_both_ways(cell):
    q = cell.problem(3, 5, 2, 4, 6)
    stream = cell.stream(q.p, 4)
    assert_state(cell, stream, np.zeros((5, 4)), np.zeros((5, 4)))
    given = q.a0.copy(), q.c0.copy()
    stream.state = of_state(cell, *given)
    given[0][:], given[1][:] = 5.0, 6.0
    assert_state(cell, stream, q.a0, q.c0)
    read = stream.state
    for array in read if cell.memory else [read]:
        assert type(array) is np.ndarray
        assert array.shape == (5, 4)
        array[:] = 3.0
    assert_state(cell, stream, q.a0, q.c0)
    saved = stream.state
    kept = copy.deepcopy(saved)
    ahead = stream.run(q.x)
    assert_array_equal(np.stack(saved), np.stack(kept))
    stream.state = saved
    assert_array_equal(stream.run(q.x)[0], ahead[0])
    stream.reset()
    assert_state(cell, stream, np.zeros((5, 4)), np.zeros((5, 4)))
    other = cell.stream(q.p, 4)
    other.state = saved
    assert_array_equal(other.run(q.x)[1], ahead[1])


# ---- what is refused, and that it changes nothing

A_OUT, Y_OUT = r"out\[0\]: expected ", r"out\[1\]: expected "
SHAPE_A, SHAPE_Y = r"shape \(n_a, m\) = \(5, 4\), got ", r"shape \(n_y, m\) = \(2, 4\), got "
WRITE = r"a writeable C-contiguous DTYPE array, got "
RAGGED = [[1.0, 2.0], [3.0]]
XT = np.ones((3, 4))


def read_only(array):
    array.flags.writeable = False
    return array


# xt, what takes the place of out = (a, y), error, message
WRONG_STEPS = [
    (np.ones((2, 4)), None, ValueError, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(2, 4\)"),
    (np.ones((3, 1)), None, ValueError, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(3, 1\)"),
    (np.ones(3), None, ValueError, r"xt: expected .* \(3, 4\), got \(3,\); \(m\) is for indices, .* float64"),
    (np.ones((3, 4, 1)), None, ValueError, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(3, 4, 1\)"),
    (None, None, TypeError, "xt: expected real numbers, got None"),
    (np.ones((3, 4), complex), None, TypeError, "xt: expected real numbers, got dtype complex128"),
    ([["a"] * 4] * 3, None, TypeError, "xt: expected real numbers, got dtype <U1"),
    (RAGGED, None, ValueError, "xt: expected an array of numbers, got a ragged nested sequence"),
    ({}, None, TypeError, "xt: expected real numbers, got dict of objects"),
    (np.ones((2, 4)), lambda a, y: (a, y), ValueError, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(2, 4\)"),
    (XT, lambda a, y: a, TypeError, r"out: expected a tuple \(a, y\), got ndarray"),
    (XT, lambda a, y: {"a": a, "y": y}, TypeError, r"out: expected a tuple \(a, y\), got dict"),
    (XT, lambda a, y: (a,), ValueError, r"out: expected a tuple \(a, y\), got 1 entries"),
    (XT, lambda a, y: (a, y, y), ValueError, r"out: expected a tuple \(a, y\), got 3 entries"),
    (XT, lambda a, y: (a, None), TypeError, Y_OUT + "a numpy.ndarray to write into, got NoneType"),
    (XT, lambda a, y: (a.tolist(), y), TypeError, A_OUT + "a numpy.ndarray to write into, got list"),
    (XT, lambda a, y: (a, y.view(np.matrix)), TypeError, Y_OUT + "a numpy.ndarray to write into, got matrix"),
    (XT, lambda a, y: (y, a), ValueError, A_OUT + SHAPE_A + r"\(2, 4\)"),
    (XT, lambda a, y: (a, y[:1]), ValueError, Y_OUT + SHAPE_Y + r"\(1, 4\)"),
    (XT, lambda a, y: (a[:, :, None], y), ValueError, A_OUT + SHAPE_A + r"\(5, 4, 1\)"),
    (XT, lambda a, y: (a.astype("f2"), y), ValueError, A_OUT + WRITE + "float16, C-contiguous True, writeable True"),
    (XT, lambda a, y: (a, y.astype(">i8")), ValueError, Y_OUT + WRITE + ">i8, C-contiguous True, writeable True"),
    (XT, lambda a, y: (np.asfortranarray(a), y), ValueError, A_OUT + WRITE + "DTYPE, C-contiguous False, .*"),
    (XT, lambda a, y: (a, np.repeat(y, 2, 1)[:, ::2]), ValueError, Y_OUT + WRITE + "DTYPE, C-contiguous False, .*"),
    (XT, lambda a, y: (read_only(a), y), ValueError, A_OUT + WRITE + "DTYPE, C-contiguous True, writeable False"),
    (XT, lambda a, y: (a, read_only(y)), ValueError, Y_OUT + WRITE + "DTYPE, C-contiguous True, writeable False"),
    (XT, lambda a, y: (a, a[3:]), ValueError, "out: expected two arrays that share no memory, got two that overlap"),
    (XT, lambda a, y: (a, a[:2]), ValueError, "out: expected two arrays that share no memory, got two that overlap"),
]  # fmt: skip

WRONG_BLOCKS = [
    (np.ones((3, 4)), ValueError, r"x: expected 3 .*, got shape \(3, 4\); \(m, T_x\) is for indices, .* not float64"),
    (np.ones((2, 4, 6)), ValueError, r"x: expected shape \(n_x, m, T_x\) = \(3, 4, 6\), got \(2, 4, 6\)"),
    (np.ones((3, 5, 6)), ValueError, r"x: expected shape \(n_x, m, T_x\) = \(3, 4, 6\), got \(3, 5, 6\)"),
    (None, TypeError, "x: expected real numbers, got None"),
    (RAGGED, ValueError, "x: expected an array of numbers, got 2 sequences of 1 to 2 steps: pad them, x, .*"),
    (np.ones((3, 4, 2), complex), TypeError, "x: expected real numbers, got dtype complex128"),
    (np.broadcast_to(1.0, (3, 4, 1 << 45)), ValueError, r"x: sizes m = 4, T_x = \d+ are more than an array can hold"),
]


def refuse(error, message, call, *args):
    with pytest.raises(error) as caught:
        call(*args)
    assert isinstance(caught.value, error)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]


@pytest.fixture
def stream(cell):
    """A stream that a failed call must leave as it was."""
    q = cell.problem(3, 5, 2, 4, 6)
    stream = started(cell, q)
    yield stream
    assert_state(cell, stream, q.a0, q.c0)
    steps = by_cells(cell, q, q.a0, q.c0, q.x)
    assert_array_equal(stream.run(q.x)[1][:, :, -1], steps[-1].y)  # and it goes on


@every_build
@both
@pytest.mark.parametrize("wrong", WRONG_STEPS, ids=lambda wrong: wrong[3][:40])
def test_a_wrong_step_changes_nothing(cell, stream, wrong):
    xt, replace, error, message = wrong
    a, y = np.full((5, 4), 7.0, cell.dtype), np.full((2, 4), 8.0, cell.dtype)
    out = replace(a, y) if replace else None
    refuse(error, message.replace("DTYPE", np.dtype(cell.dtype).name), stream.step, xt, out)
    for array in [a, y, *(out if isinstance(out, tuple) else ())]:
        if array is not None:
            assert np.isin(array, [7.0, 8.0, 0.0]).all()


@both
@pytest.mark.parametrize("wrong", WRONG_BLOCKS, ids=lambda wrong: wrong[2][:40])
def test_a_wrong_block_changes_nothing(cell, stream, wrong):
    x, error, message = wrong
    if isinstance(x, np.ndarray) and x.size > 1 << 40:  # of the dtype, since it cannot be converted
        x = np.broadcast_to(cell.dtype(1.0), x.shape)
    refuse(error, message, stream.run, x)


@pytest.mark.parametrize("as_network", [False, True])
@both
def test_an_input_in_another_layout_is_told_the_transpose(cell, as_network):
    p = problem(cell.name, 3, 5, 2, 4, 6).p
    stream = cyrnn.Stream([{key: p[key] for key in cell.inputs}] if as_network else p, 4)
    before, x = stream.state, np.ones((3, 4, 7))
    where = ("network[0]" if as_network else "parameters") + f"[{cell.inputs[0]!r}]"
    expected = re.escape(f"with n_x = 3 as in {where}, got ") + ".*"
    for axes, hint in (((1, 2, 0), "x.transpose(2, 0, 1) of (m, T_x, n_x)"), ((1, 0, 2), "x.transpose(1, 0, 2) of")):
        refuse(ValueError, "x: .*" + expected + re.escape(hint) + ".*", stream.run, x.transpose(axes))
    refuse(ValueError, "xt: .*" + expected + r"xt\.T has it", stream.step, x[:, :, 0].T)
    assert_array_equal(np.ravel(stream.state), np.ravel(before))


@both
def test_a_wrong_state_changes_nothing(cell, stream):
    def put(value):
        stream.state = value

    one, a = r"state\[0\]" if cell.memory else "state", np.ones((5, 4))
    shape = r": expected shape \(n_a, m\) = \(5, 4\) or \(n_a, 1\), got "
    refuse(ValueError, one + shape + r"\(4, 5\)", put, of_state(cell, a.T, a))
    refuse(ValueError, one + shape + r"\(5,\)", put, of_state(cell, a[:, 0], a))
    refuse(TypeError, one + ": expected real numbers, got None", put, of_state(cell, None, a))
    refuse(TypeError, one + ": expected real numbers, got dtype complex128", put, of_state(cell, a + 0j, a))
    if cell.memory:
        refuse(ValueError, r"state\[1\]" + shape + r"\(5, 2\)", put, (a, a[:, :2]))
        refuse(TypeError, r"state: expected a tuple \(a, c\), got ndarray", put, a)
        refuse(ValueError, r"state: expected a tuple \(a, c\), got 3 entries", put, (a, a, a))
    else:
        refuse(ValueError, "state" + shape + r"\(2, 5, 4\)", put, (a, a))
    with pytest.raises(AttributeError):
        del stream.state
    with pytest.raises(AttributeError):
        stream.sate = a


@both
def test_what_no_stream_is_made_of(cell):
    p = cell.problem(3, 5, 2, 4, 6).p
    whole = r"m: expected a whole number of examples, got "
    refuse(TypeError, whole + "2.0", cyrnn.Stream, p, 2.0)
    refuse(TypeError, whole + "True", cyrnn.Stream, p, True)
    refuse(TypeError, whole + "None", cyrnn.Stream, p, None)
    refuse(ValueError, "m: expected one example at least, got 0", cyrnn.Stream, p, 0)
    refuse(ValueError, "m: expected one example at least, got -1", cyrnn.Stream, p, -1)
    for m in (1 << 39, 1 << 62, 10**30):
        refuse(ValueError, rf"m: expected as many examples as memory can hold, got {m}", cyrnn.Stream, p, m)
    refuse(TypeError, "parameters: expected a mapping from names to arrays, got set", cyrnn.Stream, set())
    refuse(ValueError, "network: expected one recurrent layer at least, got none", cyrnn.Stream, [])
    neither = (
        r"parameters: expected an entry 'Wax' \(of an RNN\) or 'Wf' \(of an LSTM\) or 'Wu' \(of a GRU\), got only \[\]"
    )
    refuse(KeyError, neither, cyrnn.Stream, {})
    for name in (*cell.inputs, *cell.output):
        if name in ("Wax", "Wf", "Wu", "bca"):
            continue  # by which the cell is known
        rest = {key: value for key, value in p.items() if key != name}
        refuse(KeyError, rf"parameters: expected an entry '{name}', got only \[.*\].*", cyrnn.Stream, rest)
        message = rf"parameters\['{name}'\]: expected .*, got .*"
        refuse(ValueError, message, cyrnn.Stream, p | {name: np.ones((9, 9, 9))})
        refuse(TypeError, message, cyrnn.Stream, p | {name: p[name] + 0j})
    rest = {key: value for key, value in p.items() if key not in cell.output}
    hint = "without an output layer pass output=None"
    expected = rf"parameters: expected an entry '{cell.output[0]}', got only \[.*\]; {hint}"
    refuse(KeyError, expected, cyrnn.Stream, rest)
    for name in ("softmax ", "tanh", ""):
        expected = f"output: expected 'softmax', 'sigmoid', 'linear' or None, got {name!r}"
        refuse(ValueError, expected, lambda name=name: cell.stream(p, output=name))
    for value, got in ((0, "int"), (False, "bool"), (np.tanh, "ufunc")):
        expected = f"output: expected 'softmax', 'sigmoid', 'linear' or None, got {got}"
        refuse(TypeError, expected, lambda value=value: cell.stream(p, output=value))
    title = {"rnn": "an RNN", "lstm": "an LSTM"}.get(cell.name, f"a GRU, reset {cell.name[4:]} the product")
    of, end = f"<Stream of {title}: n_x=3, n_a=5", ", dtype=float32>" if cell.keywords() else ">"
    assert repr(cell.stream(p, np.int32(3))) == f"{of}, n_y=2, m=3{end}"
    assert repr(cell.stream(p, output="linear")) == f"{of}, n_y=2, m=1, output='linear'{end}"
    assert repr(cell.stream(p, output=None)) == f"{of}, n_y=0, m=1, output=None{end}"


@both
def test_one_output_is_linear_unless_it_is_said(cell):
    """The softmax of one output is always 1: with no `output` given, y is the logit, and a warning says so."""
    q = cell.problem(3, 5, 1, 2, 4)
    Wy, by = (q.p[key] for key in cell.output)
    want = Wy @ cell.forward(q).a[:, :, -1] + by
    for parameters in (q.p, [{key: q.p[key] for key in cell.inputs}, {"Wy": Wy, "by": by}]):
        with pytest.warns(UserWarning, match=r"output: the softmax of one output is 1 .*; say 'linear', .*") as told:
            stream = cell.stream(parameters, 2)
        assert told[0].filename == cells.__file__  # which calls
        assert "output='linear'" in repr(stream)
        y = []
        for one in (stream, pickle.loads(pickle.dumps(stream)), cell.stream(parameters, 2, output="linear")):
            state = of_state(cell, q.a0, np.zeros_like(q.c0))
            one.state = state if parameters is q.p else [state]
            y.append(one.run(q.x)[1][:, :, -1])
        assert_array_equal(y[0], y[1])
        assert_array_equal(y[0], y[2])
        np.testing.assert_allclose(y[0], want, rtol=0, atol=1e-5 if cell.keywords() else 1e-14)
        assert_array_equal(cell.stream(parameters, 2, output="softmax").run(q.x)[1], np.ones((1, 2, 4)))
    assert "output" not in repr(cell.stream(cell.problem(3, 5, 2, 2, 4).p, 2, output="auto"))


@both
def test_a_gate_more_or_less_makes_another_cell(cell):
    """What tells the two forms of a GRU apart is one entry; it counts even where it is zero."""
    if cell.name != "gru_after":
        pytest.skip("of a GRU")
    q = problem("gru_after", 3, 5, 2, 4, 6)
    q.p["bca"][:] = 0.0
    after, before = cell.stream(q.p, 4), cell.stream({key: value for key, value in q.p.items() if key != "bca"}, 4)
    assert "after" in repr(after)
    assert "before" in repr(before)
    assert not np.array_equal(after.run(q.x)[0], before.run(q.x)[0])


# ---- the output layer

OUTPUTS = {
    "softmax": lambda z: np.exp(z - z.max(0)) / np.exp(z - z.max(0)).sum(0), "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "linear": lambda z: z,
}  # fmt: skip


@every_build
@both
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("size", [(1, 8, 1, 1, 40), (3, 5, 2, 4, 9), (9, 33, 20, 7, 30), (0, 3, 2, 1, 5)], ids=str)
def test_an_output_is_that_of_the_sequence(cell, output, size):
    q = cell.problem(*size)
    q.a0 = np.zeros_like(q.a0)
    want = cell.forward(q, output=output)
    plain = cell.reference(q.x, q.a0, np.zeros_like(q.c0), q.p)
    W, b = (q.p[key] for key in cell.output)
    by_hand = OUTPUTS[output](np.einsum("yu,umt->ymt", W, plain.a) + b[:, :, None])
    stream, out = cell.stream(q.p, size[3], output=output), new_out(q)
    a, y = stream.run(q.x)
    assert_array_equal(a, want.a)
    assert_array_equal(y, want.y)
    close(y, by_hand, 1e-13)
    stream.reset()
    for t in range(size[4]):
        a, y = stream.step(q.x[:, :, t], out if t % 2 else None)
        assert_array_equal(a, want.a[:, :, t])
        assert_array_equal(y, want.y[:, :, t])


@every_build
@both
@pytest.mark.parametrize("m", [1, 4])
def test_no_output_at_all(cell, m):
    q = cell.problem(3, 5, 2, m, 9)
    q.a0 = np.zeros_like(q.a0)
    want = cell.forward(q)
    p = {key: value for key, value in q.p.items() if key not in cell.output}
    for parameters in (p, p | {cell.output[0]: "never read"}, p | {"by": None}):
        stream = cell.stream(parameters, m, output=None)
        a, y = stream.run(q.x[:, :, :5])
        assert y is None
        assert_array_equal(a, want.a[:, :, :5])
        a, y = stream.step(q.x[:, :, 5])
        assert y is None
        assert_array_equal(a, want.a[:, :, 5])
        out = np.full((5, m), 7.0, cell.dtype), None
        for t in (6, 7):
            assert stream.step(q.x[:, :, t], out) is out
            assert_array_equal(out[0], want.a[:, :, t])
        assert list(stream.parameters) == list(p)
        kept = stream.state
        message = r"out\[1\]: expected None, as output is None, got ndarray"
        refuse(TypeError, message, stream.step, q.x[:, :, 8], (out[0], np.empty((2, m))))
        refuse(TypeError, message, stream.step, q.x[:, :, 8], (out[0], np.empty((0, m))))
        refuse(ValueError, r"out: expected a tuple \(a, y\), got 1 entries", stream.step, q.x[:, :, 8], (out[0],))
        refuse(
            TypeError, r"out\[0\]: expected a numpy.ndarray .*, got NoneType", stream.step, q.x[:, :, 8], (None, None)
        )
        assert_array_equal(stream.state, kept)
        assert_array_equal(stream.step(q.x[:, :, 8])[0], want.a[:, :, 8])
    empty = cell.stream(p | {cell.output[0]: np.empty((0, 5)), "by": np.empty((0, 1))}, m)
    refuse(TypeError, Y_OUT + ".*, got NoneType", empty.step, q.x[:, :, 0], (np.empty((5, m), cell.dtype), None))


# ---- indices


@every_build
@both
@pytest.mark.parametrize("size", [(7, 5, 2, 4, 30), (40, 37, 3, 1, 60), (9, 140, 2, 3, 9), (1, 3, 0, 2, 8)], ids=str)
def test_indices_stand_for_one_hot_columns(cell, size):
    n_x, _, _, m, T_x = size
    q, rng = cell.problem(*size), np.random.default_rng(1)
    index = rng.integers(0, n_x, (m, T_x))
    index.flat[:2] = 0, n_x - 1
    q.x = (index == np.arange(n_x)[:, None, None]).astype(float)
    steps = by_cells(cell, q, q.a0, q.c0, q.x)
    a, y = np.stack([step.a for step in steps], 2), np.stack([step.y for step in steps], 2)
    turned, wide = np.asfortranarray(index), np.zeros((2 * m, 3 * T_x), np.int64)
    wide[::-2, ::3] = index
    kinds = [index, turned, wide[::-2, ::3], index.tolist(), *(index.astype(kind) for kind in "bBhHiIlLqQ"),
             index.astype(">i4"), index.view(type("Mine", (np.ndarray,), {}))]  # fmt: skip
    stream = started(cell, q)
    for given in kinds:
        stream.state = of_state(cell, q.a0, q.c0)
        for found, want in zip(stream.run(given), (a, y), strict=True):
            assert_array_equal(found, want)
        stream.state = of_state(cell, q.a0, q.c0)
        out = new_out(q)
        for t in range(T_x):  # numbers and indices in turn
            xt = q.x[:, :, t] if t % 3 == 2 else given[:, t] if not isinstance(given, list) else index[:, t].tolist()
            found = stream.step(xt, out if t % 2 else None)
            assert_array_equal(found[0], a[:, :, t])
            assert_array_equal(found[1], y[:, :, t])
    for value in (given, index[:, :0]):
        assert stream.run(value)[0].shape[2] == value.shape[1]


@every_build
@both
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_indices_keep_the_sign_of_zero(cell, sign):
    q = cell.problem(4, 3, 2, 2, 1)
    q.p = {key: value * 0.0 * sign for key, value in q.p.items()}
    stream = cell.stream(q.p, 2)
    dense = stream.run(np.eye(4)[:, [0, 2]][:, :, None])
    stream.reset()
    for found, want in zip(stream.run(np.array([[0], [2]])), dense, strict=True):
        assert found.tobytes() == want.tobytes()


@pytest.mark.alone
@both
def test_steps_by_index_allocate_nothing_with_out(cell):
    q = cell.problem(5000, 16, 20, 1, 1)
    stream, out, xt = cell.stream(q.p), new_out(q), np.array([4999])
    stream.step(xt, out)
    tracemalloc.start()
    try:
        stream.step(xt, out)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in itertools.repeat(None, 100):
            stream.step(xt, out)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 400
        tracemalloc.reset_peak()
        stream.run(np.zeros((1, 300), int))
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 150_000  # a dense input would take 12 MB
    finally:
        tracemalloc.stop()


WRONG_INDICES = [
    ([0, 1, 2], r"xt: expected indices of shape \(m\) = \(4,\), got \(3,\)"),
    ([0, 1, 2, 3], r"xt: expected indices from 0 to n_x - 1 = 2, got 3 for example 3"),
    ([0, -1, 2, 2], r"xt: expected indices from 0 to n_x - 1 = 2, got -1 for example 1"),
    (np.array([0, 2**63, 2, 2], np.uint64), r"xt: expected indices from 0 to n_x - 1 = 2, got \d{19} for example 1"),
    ([True, False, True, True], r"xt: expected .* = \(3, 4\), got \(4,\); \(m\) is for indices, .* not bool"),
    ([0.0, 1.0, 2.0, 2.0], r"xt: expected .* = \(3, 4\), got \(4,\); \(m\) is for indices, .* not float64"),
    (2, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(\)"),
    (np.ones((4, 1), int), r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(4, 1\)"),
    (np.ones((4, 1, 1), int), r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(4, 1, 1\)"),
]  # fmt: skip
WRONG_INDEX_BLOCKS = [
    (np.zeros((3, 6), int), r"x: expected indices of shape \(m, T_x\) = \(4, T_x\), got \(3, 6\)"),
    ([[0, 0], [0, 3], [0, 0], [-1, 0]], r"x: expected indices from 0 to n_x - 1 = 2, got 3 for example 1 at step 1"),
    (np.zeros((4, 6), bool), r"x: expected 3 .*, got shape \(4, 6\); \(m, T_x\) is for indices, .* not bool"),
    (np.zeros(4, int), r"x: expected 3 dimensions \(n_x, m, T_x\), got shape \(4,\)"),
    (np.broadcast_to(0, (4, 1 << 45)), r"x: sizes m = 4, T_x = \d+ are more than an array can hold"),
]


@both
@pytest.mark.parametrize("before", [False, True], ids=["", "after indices"])
def test_wrong_indices_change_nothing(cell, stream, before):
    if before:
        kept = stream.state
        stream.step([0, 1, 2, 0])
        stream.run([[0], [1], [2], [0]])
        stream.state = kept
    out = np.full((5, 4), 7.0, cell.dtype), np.full((2, 4), 8.0, cell.dtype)
    for xt, message in WRONG_INDICES:
        refuse(ValueError, message, stream.step, xt, out)
        refuse(ValueError, message, stream.step, xt)
    assert (out[0] == 7.0).all()
    assert (out[1] == 8.0).all()
    for x, message in WRONG_INDEX_BLOCKS:
        refuse(ValueError, message, stream.run, x)


# ---- reset of some examples


@every_build
@both
def test_some_examples_are_reset(cell):
    q = cell.problem(3, 5, 2, 6, 4)
    ways = {
        (2,): [2, np.int8(2), [2], np.array([2]), np.array([2], object), np.array(2), (2, 2),
               [False, False, True, False, False, False]],
        (0, 5): [[0, 5], np.array([5, 0], np.uint8), np.array([True, False, False, False, False, True])],
        (): [[], (), np.zeros(6, bool), np.array([], int), range(0)],
        tuple(range(6)): [range(6), np.ones(6, bool), None],
    }  # fmt: skip
    for chosen, given in ways.items():
        for examples in given:
            stream = started(cell, q)
            stream.reset(examples)
            a, c = q.a0.copy(), q.c0.copy()
            a[:, list(chosen)] = c[:, list(chosen)] = 0.0
            assert_state(cell, stream, a, c)
            want = cell.cell_forward(q.x[:, :, 0], a, c, q.p)
            assert_array_equal(stream.step(q.x[:, :, 0])[1], want.y)


WRONG_EXAMPLES = [
    (4, ValueError, "examples: expected numbers from 0 to m - 1 = 3, got 4"),
    (-1, ValueError, "examples: expected numbers from 0 to m - 1 = 3, got -1"),
    ([0, 1, 7], ValueError, "examples: expected numbers from 0 to m - 1 = 3, got 7"),
    (np.uint64(2**63), ValueError, "examples: expected numbers from 0 to m - 1 = 3, got 9223372036854775808"),
    ([True, False], ValueError, r"examples: expected a mask of shape \(m,\) = \(4,\), got \(2,\)"),
    (True, ValueError, r"examples: expected a mask of shape \(m,\) = \(4,\), got \(\)"),
    (np.ones((4, 1), bool), ValueError, r"examples: expected a mask of shape \(m,\) = \(4,\), got \(4, 1\)"),
    ([[0], [1]], ValueError, r"examples: expected one dimension at most, got shape \(2, 1\)"),
    (1.0, TypeError, "examples: expected integers or a mask of booleans, got dtype float64"),
    ([1, True], TypeError, "examples: expected integers or a mask of booleans, got list of objects"),
    (np.array([1, True], object), TypeError, "examples: .*, got ndarray of objects"),
    (2**70, TypeError, "examples: .*, got int of objects"),
    ("1", TypeError, "examples: expected integers or a mask of booleans, got dtype <U1"),
    ({}, TypeError, "examples: expected integers or a mask of booleans, got dict of objects"),
    ([[0], [1, 2]], ValueError, "examples: expected an array of numbers, got a ragged nested sequence"),
]


@both
@pytest.mark.parametrize("wrong", WRONG_EXAMPLES, ids=lambda wrong: repr(wrong[0])[:20])
def test_wrong_examples_are_not_reset(cell, stream, wrong):
    examples, error, message = wrong
    refuse(error, message, stream.reset, examples)


# ---- parameters, copies, pickles


@every_build
@both
@pytest.mark.parametrize("output", [*OUTPUTS, None])
@pytest.mark.parametrize("size", [(3, 5, 2, 1, 5), (0, 40, 9, 3, 5), (21, 70, 1, 1, 5)], ids=str)
def test_the_parameters_come_back(cell, output, size):
    q = cell.problem(*size)
    q.p[cell.inputs[0]].flat[:1] = -0.0
    before = copy.deepcopy(q.p)
    stream = cell.stream(q.p, size[3], output=output)
    p = stream.parameters
    assert set(p) == set(q.p) - (set() if output else set(cell.output))
    for name, value in p.items():
        assert type(value) is np.ndarray
        assert value.flags.c_contiguous
        assert value.shape == before[name].shape
        assert value.tobytes() == before[name].tobytes()
        value[:] = np.nan  # a copy
    want = cell.stream(before, size[3], output=output).run(q.x)
    assert_array_equal(stream.run(q.x)[0], want[0])


class Named(cyrnn.Stream):
    """A subclass with something of its own."""

    def __init__(self, p, name):
        super().__init__(p, 3, output="sigmoid")
        self.name = name


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy} | {
    f"pickle {protocol}": lambda stream, protocol=protocol: pickle.loads(pickle.dumps(stream, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}


@both
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("output", [*OUTPUTS, None])
def test_a_copy_goes_on_by_itself(cell, way, output):
    q = cell.problem(3, 5, 2, 4, 8)
    stream = cell.stream(q.p, 4, output=output)
    stream.run(q.x[:, :, :3])
    other = COPIES[way](stream)
    assert repr(other) == repr(stream)
    kept = stream.state
    a, y = stream.run(q.x[:, :, 3:])
    assert_array_equal(np.stack(other.state), np.stack(kept))  # not that of the first one
    found = other.run(q.x[:, :, 3:])
    assert_array_equal(found[0], a)
    assert found[1] is y is None or np.array_equal(found[1], y)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_subclass(way):
    q = problem("gru_after", 3, 5, 2, 3, 8)
    stream = Named(q.p, "first")
    stream.run(q.x[:, :, :3])
    other = COPIES[way](stream)
    assert type(other) is Named
    assert other.name == "first"
    assert_array_equal(other.run(q.x[:, :, 3:])[1], stream.run(q.x[:, :, 3:])[1])


# ---- threads


@every_build
@both
def test_one_stream_for_each_thread(cell):
    problems = [cell.problem(60 + k, 80 + 9 * k, 5, 1 + k, 60, seed=k) for k in range(8)]

    def work(q):
        stream, out = started(cell, q), new_out(q)
        for t in range(q.x.shape[2]):
            stream.step(q.x[:, :, t], out)
        return copy.deepcopy(out)

    want = [work(q) for q in problems]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for got, expected in zip(pool.map(work, problems), want, strict=True):
                assert_array_equal(got[0], expected[0])
                assert_array_equal(got[1], expected[1])


@both
@pytest.mark.parametrize("size", [(3, 6, 2, 1, 1), (100, 150, 5, 4, 1)], ids=["with the GIL", "without"])
def test_one_stream_in_many_threads_is_right_or_refuses(cell, size):
    """Every step with the same input: the state must be that after as many steps as were made."""
    q = cell.problem(*size)
    stream, xt, count = started(cell, q), np.ascontiguousarray(q.x[:, :, 0]), 300
    steps = by_cells(cell, q, q.a0, q.c0, np.repeat(q.x, 4 * count, 2))
    known = {out.a.tobytes() + (out.c.tobytes() if cell.memory else b"") for out in steps}
    known.add(q.a0.tobytes() + (q.c0.tobytes() if cell.memory else b""))

    def work():
        made = 0
        for _ in range(count):
            try:
                stream.step(xt)
                made += 1
                state = stream.state
            except RuntimeError:
                continue
            assert b"".join(array.tobytes() for array in (state if cell.memory else [state])) in known
        return made

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            made = sum(job.result() for job in [pool.submit(work) for _ in range(4)])
    finally:
        sys.setswitchinterval(interval)
    # how many are refused hangs on how long a step takes; none is while the GIL is kept
    assert made > 0 if size[1] > 10 or FREE_THREADED else made == 4 * count
    assert_state(cell, stream, steps[made - 1].a, steps[made - 1].c)


@pytest.mark.alone
@both
def test_a_call_during_another_is_refused(cell):
    q = cell.problem(300, 300, 5, 4, 1)
    q.a0 = np.zeros_like(q.a0)
    stream, x = cell.stream(q.p, 4), np.repeat(q.x, 1500 if cell.name == "rnn" else 600, 2)
    calls = [
        lambda: stream.state, stream.reset, lambda: stream.reset([1]), lambda: copy.copy(stream),
        lambda: stream.step(x[:, :, 0]), lambda: stream.run(x[:, :, :1]), lambda: stream.run(np.zeros((4, 1), int)),
        lambda: setattr(stream, "state", of_state(cell, q.a0, q.a0)),
    ]  # fmt: skip

    def during():
        """How many of the calls are refused while a long block runs in another thread; its result."""
        stream.reset()
        result, refused = [], 0

        def work():
            while not result:  # without a GIL the look at the state below may be what is in the stream
                with contextlib.suppress(RuntimeError):
                    result.extend(stream.run(x))

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            try:
                _ = stream.state
            except RuntimeError:  # it has begun
                for call in calls:
                    try:
                        call()
                    except RuntimeError as error:
                        refused += str(error) == "this stream is making a step in another thread"
                break
        thread.join()
        return refused, result

    for _ in range(10):  # on a busy machine the block may be done before this thread runs again
        refused, result = during()
        if refused == len(calls):
            break
    assert refused == len(calls)
    q.x = x
    assert_array_equal(result[0], cell.forward_only(q).a)
    stream.step(x[:, :, 0])  # and afterwards it serves again


@pytest.mark.alone
@both
def test_a_long_step_lets_go_of_the_gil(cell):
    q = cell.problem(200, 210, 5, 400, 1)
    stream, refused = cell.stream(q.p, 400), False

    def work():
        made = 0
        while made < 20:
            with contextlib.suppress(RuntimeError):
                stream.step(q.x[:, :, 0])
                made += 1

    for _ in range(10):  # likewise
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive() and not refused:
            try:
                stream.reset()
            except RuntimeError:  # so we got the GIL during a step
                refused = True
        thread.join()
        if refused:
            break
    assert refused


# ---- memory


def resident():
    """Bytes of this process in memory, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


@both
def test_a_hundred_thousand_steps_take_no_memory(cell):
    q = cell.problem(4, 6, 3, 1, 5)
    stream, out, xt = started(cell, q), new_out(q), np.ascontiguousarray(q.x[:, :, 0])

    def steps(count):
        for _ in range(count):
            stream.step(xt, out)
        for _ in range(count // 50):
            stream.step(xt)
            stream.run(q.x)
            stream.state = stream.state
            stream.reset()
            for wrong in (None, q.x):
                with pytest.raises((TypeError, ValueError)):
                    stream.step(wrong, out)

    steps(1000)
    gc.collect()
    counts = [sys.getrefcount(value) for value in (xt, q.x, *out)]
    tracemalloc.start()
    try:
        steps(1000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        steps(10_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5_000
    before = resident()
    steps(100_000)
    assert resident() - before < 1_000_000  # 10 bytes a step
    assert counts == [sys.getrefcount(value) for value in (xt, q.x, *out)]


@both
def test_a_stream_gives_its_memory_back(cell):
    q = cell.problem(60, 120, 30, 1, 1)
    packed = sum(value.nbytes for value in q.p.values())
    cell.stream(q.p)
    gc.collect()
    buffers.release_pool()
    counts = [sys.getrefcount(value) for value in q.p.values()]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        streams = [cell.stream(q.p) for _ in range(5)]
        held, _ = tracemalloc.get_traced_memory()
        assert 5 * packed <= held - before < 5 * (1.3 * packed + 30_000)
        del streams
        for _ in range(20):
            with pytest.raises(ValueError, match="by"):
                cell.stream(q.p | {"by": np.zeros(3)})
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5_000
    assert counts == [sys.getrefcount(value) for value in q.p.values()]
    assert buffers.pooled_bytes() <= 5 * (1.3 * packed + 30_000)
    buffers.release_pool()
    assert buffers.pooled_bytes() == 0


def test_an_interrupted_run_leaves_the_state():
    q = problem("lstm", 64, 128, 4, 8, 3)
    stream = cyrnn.Stream(q.p, m=8)
    stream.run(q.x)
    before = stream.state

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Stop):
            stream.run(np.broadcast_to(q.x[:, :, :1], (64, 8, 100_000)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    for got, want in zip(stream.state, before, strict=True):
        assert_array_equal(got, want)
    stream.run(q.x)
