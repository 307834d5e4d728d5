"""What the notebook does beside arithmetic: caches, layouts, types, sizes, special values."""

import copy
import pickle
import re
import sys
import threading
from collections import ChainMap

import numpy as np
import pytest
from layouts import LAYOUTS, field
from numpy.testing import assert_array_equal
from reference import close
from rows import each_row

import cyrnn
from cyrnn.demo import numpy_reference

pytestmark = [pytest.mark.usefixtures("build"), each_row]

SHAPE = 3, 5, 2, 4, 6


def same(got, want, tolerance=1e-13):
    assert got.keys() - {"dc0"} == want.keys() - {"dc0"}  # which the notebook does not return (test_states.py)
    for name in got.keys() & want.keys():
        close(got[name], want[name], tolerance)


def memory(value):
    """All arrays in what a function returned."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        return [array for entry in value.values() for array in memory(entry)]
    if isinstance(value, tuple):
        return [array for entry in value for array in memory(entry)]
    return []


# Outputs


def test_outputs_are_new_contiguous_arrays(cell):
    q = cell.problem(*SHAPE)
    passed = [q.x, q.a0, q.da, *q.p.values()]
    out = cell.forward(q)
    gradients = cell.backward(q.da, out.caches)
    returned = [out.a, out.y, *([out.c] if out.c is not None else []), *gradients.values()]
    for array in returned:
        assert type(array) is np.ndarray
        assert array.dtype == cell.dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable
        for other in passed:
            assert not np.shares_memory(array, other)
    for k, array in enumerate(returned):
        assert not any(np.shares_memory(array, other) for other in returned[:k])
        for step in out.caches[0]:
            assert not any(np.shares_memory(array, other) for other in step if isinstance(other, np.ndarray))


def test_writing_into_outputs_does_not_spoil_the_backward(cell):
    q = cell.problem(*SHAPE)
    out = cell.forward(q)
    want = cell.backward(q.da, out.caches)
    out.a[:] = out.y[:] = np.nan
    if out.c is not None:
        out.c[:] = np.nan
    same(cell.backward(q.da, out.caches), want, 0)


def test_nothing_passed_is_modified(cell):
    q = cell.problem(*SHAPE)
    before = copy.deepcopy(q)
    out = cell.forward(q)
    cell.backward(q.da, out.caches)
    one = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    cell.cell_backward(q.da[:, :, 0], q.dc, one.cache)
    for name in ("x", "a0", "c0", "da", "dc"):
        assert_array_equal(getattr(q, name), getattr(before, name))
    assert q.p.keys() == before.p.keys()
    for name in q.p:
        assert_array_equal(q.p[name], before.p[name])


def test_read_only_inputs(cell):
    q = cell.problem(*SHAPE)
    want = cell.forward(q)
    for array in (q.x, q.a0, q.da, *q.p.values()):
        array.flags.writeable = False
    got = cell.forward(q)
    assert_array_equal(got.a, want.a)
    same(cell.backward(q.da, got.caches), cell.backward(q.da, want.caches), 0)


# Caches


def test_cell_cache(cell):
    q = cell.problem(*SHAPE)
    xt = q.x[:, :, 0].copy()
    out = cell.cell_forward(xt, q.a0, q.c0, q.p)
    assert type(out.cache) is tuple
    assert len(out.cache) == cell.entries
    assert out.cache[0] is out.a
    assert out.cache[-2] is xt
    assert out.cache[-1] is q.p
    for array in out.cache[:-1]:
        assert array.flags.c_contiguous
        assert array.flags.writeable
    after, before = cell.carried(out.a, out.c), cell.carried(q.a0, q.c0)
    for got, array in zip(out.cache, (*after, *before), strict=False):
        assert got is array


def test_sequence_caches_look_like_the_notebook(cell):
    q = cell.problem(*SHAPE)
    out = cell.forward(q)
    notebook = cell.function("forward", numpy_reference)(q.x, q.a0, q.p)[-1]
    steps, x = out.caches
    assert type(out.caches) is tuple
    assert len(out.caches) == 2
    assert x is q.x
    assert len(steps) == len(notebook[0]) == 6
    for step, want in zip(steps, notebook[0], strict=True):
        assert type(step) is tuple
        assert len(step) == cell.entries
        assert step[-1] is q.p
        for array, other in zip(step[:-1], want[:-1], strict=True):
            close(array, other, 1e-14)
            assert array.flags.writeable
    assert_array_equal(steps[-1][0], steps[5][0])
    assert_array_equal(out.caches[1][1][3], q.x[1][3])
    assert type(steps[1:3]) is list
    assert len(steps[::-2]) == 3
    assert len(steps + steps) == len([*steps, *steps]) == len(notebook[0] + steps) == len(steps * 2) == 12
    assert len(list(reversed(steps))) == 6
    with pytest.raises(IndexError):
        steps[6]
    assert re.fullmatch(f"<the caches of 6 steps of {cell.title}>", repr(steps))


def test_steps_share_memory_as_in_the_notebook(cell):
    steps = cell.forward(cell.problem(*SHAPE)).caches[0]
    for k in range(len(cell.states)):
        assert np.shares_memory(steps[2][k], steps[3][len(cell.states) + k])


def edits():
    """Ways to touch the caches, each on the notebook's list and on ours alike."""

    def by_hand(steps):
        return [tuple(step) for step in steps]

    def reorder(steps):
        return [steps[k] for k in (3, 1, 0, 2, 5, 4)]

    def splice(steps):
        return steps[:2] + steps[4:] + steps[2:4]

    def assign(steps):
        steps[1] = steps[4]
        return steps

    def remove(steps):
        del steps[1]
        steps.append(steps[0])
        return steps

    def swap(steps):
        steps.reverse()
        return steps

    def write(steps):
        steps[2][0][...] *= 0.5
        return steps

    def write_gate(steps):
        steps[3][-3][1, 2] = 0.25
        return steps

    def last_state(steps):
        steps[0] = (*steps[0][:1], steps[0][1] * 0.5, *steps[0][2:])
        return steps

    def other_parameters(steps):
        scaled = {name: value * 1.5 for name, value in steps[0][-1].items()}
        return [(*step[:-1], scaled if t % 2 else step[-1]) for t, step in enumerate(steps)]

    def as_tuple(steps):
        return tuple(steps)

    def as_lists(steps):
        return [list(step) for step in steps]

    return [
        by_hand, reorder, splice, assign, remove, swap, write, write_gate, last_state, other_parameters,
        as_tuple, as_lists,
    ]  # fmt: skip


@pytest.mark.parametrize("edit", edits(), ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("T_x", [6, 4])
def test_backward_uses_the_steps_it_finds(cell, edit, T_x):
    q = cell.problem(*SHAPE)
    da = q.da[:, :, :T_x]
    steps, x = cell.forward(q).caches
    plain = cell.function("forward", numpy_reference)(q.x.copy(), q.a0.copy(), q.p)[-1]
    want = cell.function("backward", numpy_reference)(da, (edit(plain[0]), x))
    same(cell.backward(da, (edit(steps), x)), want)


def test_backward_of_caches_made_elsewhere(cell):
    q = cell.problem(*SHAPE)
    want = cell.backward(q.da, cell.forward(q).caches)
    plain = cell.function("forward", numpy_reference)(q.x, q.a0, q.p)[-1]
    same(want, cell.backward(q.da, plain))
    a, c, steps = q.a0, np.zeros_like(q.a0), []
    for t in range(6):
        out = cell.cell_forward(q.x[:, :, t], a, c, q.p)
        a, c = out.a, out.c
        steps.append(out.cache)
    same(cell.backward(q.da, (steps, q.x)), want)


def test_numpy_backward_takes_our_caches(cell):
    q = cell.problem(*SHAPE)
    out = cell.forward(q)
    same(cell.backward(q.da, out.caches), cell.function("backward", numpy_reference)(q.da, out.caches))


def test_backward_reads_x_and_parameters_as_they_are(cell):
    q = cell.problem(*SHAPE)
    ours = cell.forward(q).caches
    plain = cell.function("forward", numpy_reference)(q.x, q.a0, q.p)[-1]
    q.x *= 0.5
    weight = cell.inputs[0]
    q.p[weight] = q.p[weight] * 2
    same(cell.backward(q.da, ours), cell.function("backward", numpy_reference)(q.da, plain))


@pytest.mark.parametrize(
    "change", [lambda x: np.multiply(x, 2, out=x), lambda x: x.fill(1)], ids=["scaled", "filled"]
)
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i8"])
def test_backward_reads_a_converted_x_as_it_is(cell, change, dtype):
    q = cell.problem(*SHAPE)
    q.x = (q.x * 10).astype(dtype)
    caches = cell.forward(q).caches
    change(q.x)
    r = copy.copy(q)
    plain = cell.function("forward", numpy_reference)(q.x.astype(float), q.a0, q.p)[-1]
    states = [(*ours[:-2], theirs[-2], theirs[-1]) for ours, theirs in zip(caches[0], plain[0], strict=True)]
    same(cell.backward(r.da, caches), cell.function("backward", numpy_reference)(q.da, (states, None)))


def test_steps_do_what_a_list_does(cell):
    """The same operations on our steps and on a list of them, the same objects afterwards."""
    operations = [
        lambda s: s.append(s[0]),
        lambda s: s.insert(2, s[5]),
        lambda s: s.insert(-1, s[0]),
        lambda s: s.pop(),
        lambda s: s.pop(1),
        lambda s: s.remove(s[0]),
        lambda s: s.extend(s[:2]),
        lambda s: s.reverse(),
        lambda s: s.clear(),
        lambda s: s.sort(key=lambda step: float(step[0][0, 0])),
        lambda s: s.__setitem__(slice(1, 3), [s[0]]),
        lambda s: s.__delitem__(slice(None, None, 2)),
        lambda s: s.__imul__(2),
        lambda s: s.__iadd__([s[3]]),
    ]
    for operation in operations:
        steps = cell.forward(cell.problem(*SHAPE)).caches[0]
        ordinary = list(steps)
        assert operation(steps) is None or len(steps)
        operation(ordinary)
        assert len(steps) == len(ordinary)
        assert all(ours is theirs for ours, theirs in zip(steps, ordinary, strict=True))
        assert all(ours is theirs for ours, theirs in zip(steps.copy(), ordinary, strict=True))
    steps = cell.forward(cell.problem(*SHAPE)).caches[0]
    assert steps[0] in steps
    assert steps.index(steps[0]) == 0
    steps.append(steps[0])
    twin = copy.copy(steps)
    twin.append(steps[1])
    assert (len(steps), len(twin)) == (7, 8)
    seen = []
    for step in steps:
        seen.append(step)
        if len(seen) == 1:
            del steps[3:]
    assert len(seen) == 3


def test_caches_copy_and_pickle(cell):
    q = cell.problem(*SHAPE)
    caches = cell.forward(q).caches
    want = cell.backward(q.da, caches)
    same(cell.backward(q.da, copy.deepcopy(caches)), want, 0)
    same(cell.backward(q.da, pickle.loads(pickle.dumps(caches))), want, 0)


def test_fewer_gradients_than_steps(cell):
    q = cell.problem(*SHAPE)
    want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da[:, :, :2]).gradients
    same(cell.backward(q.da[:, :, :2], cell.forward(q).caches), want)


# Layouts and types


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(cell, layout):
    q = cell.problem(*SHAPE)
    if layout.__name__ == "float32":  # exactly what both can hold
        for array in (q.x, q.a0, q.c0, q.da, q.dc, *q.p.values()):
            array[...] = array.astype(np.float32)
    want = cell.forward(q)
    gradients = cell.backward(q.da, want.caches)
    one = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    one_back = cell.cell_backward(q.da[:, :, 0], q.dc, one.cache)

    r = copy.copy(q)
    r.x, r.a0, r.c0, r.da, r.dc = map(layout, (q.x, q.a0, q.c0, q.da, q.dc))
    r.p = {name: layout(value) for name, value in q.p.items()}
    got = cell.forward(r)
    assert_array_equal(got.a, want.a)
    assert_array_equal(got.y, want.y)
    assert got.caches[1] is r.x
    same(cell.backward(r.da, got.caches), gradients, 0)
    same(cell.backward(r.da, (list(got.caches[0]), r.x)), gradients, 1e-13)
    xt, da = layout(np.ascontiguousarray(q.x[:, :, 0])), layout(np.ascontiguousarray(q.da[:, :, 0]))
    again = cell.cell_forward(xt, r.a0, r.c0, r.p)
    assert_array_equal(again.a, one.a)
    same(cell.cell_backward(da, r.dc, again.cache), one_back, 0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_one_argument_of_another_layout(cell, layout):
    """The others fit, so that the kernel itself has to refuse this one."""
    q = cell.problem(*SHAPE)
    if layout.__name__ == "float32":
        for array in (q.x, q.a0, q.da, *q.p.values()):
            array[...] = array.astype(np.float32)
    want = cell.forward(q)
    gradients = cell.backward(q.da, want.caches)
    for name in ("x", "a0", "da", *q.p):
        r = copy.copy(q)
        if name in q.p:
            r.p = {**q.p, name: layout(q.p[name])}
        else:
            setattr(r, name, layout(getattr(q, name)))
        got = cell.forward(r)
        assert_array_equal(got.a, want.a)
        assert_array_equal(got.y, want.y)
        same(cell.backward(r.da, got.caches), gradients, 0)


def test_aligned_only_by_name(cell):
    """NumPy calls an array aligned whose dimension of one has a stride of 33 bytes."""
    odd = np.zeros(1, np.dtype([("v", "f8", (8,)), ("pad", "i1")]))["v"][:, ::2]
    assert odd.flags.aligned
    assert odd.strides[0] % 8
    p = cell.problem(3, 1, 2, 4, 6)
    p.a0 = odd
    assert_array_equal(cell.forward(p).a, cell.forward(copy.copy(p)).a)
    assert_array_equal(cyrnn.softmax(odd), np.ones((1, 4)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (3, 5, 2, 0, 4), (0, 5, 2, 4, 3)], ids=str)
def test_fields_of_one_record_or_none(cell, shape):
    """Of an empty array NumPy says that it is aligned, wherever it lies."""
    q = cell.problem(*shape)
    want = cell.forward(q)
    gradients = cell.backward(q.da, want.caches)
    r = copy.copy(q)
    r.x, r.a0, r.c0, r.da, r.dc = (field(getattr(q, name)) for name in ("x", "a0", "c0", "da", "dc"))
    r.p = {name: field(value) for name, value in q.p.items()}
    got = cell.forward(r)
    assert_array_equal(got.y, want.y)
    same(cell.backward(r.da, got.caches), gradients, 0)
    step = cell.cell_forward(r.x[:, :, 0], r.a0, r.c0, r.p)
    assert_array_equal(step.y, cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p).y)
    assert_array_equal(cyrnn.softmax(r.da), cyrnn.softmax(q.da))


def test_integers_booleans_and_memory_maps(cell, tmp_path):
    q = cell.problem(*SHAPE)
    q.x[...] = q.x > 0
    want = cell.forward(q)
    r = copy.copy(q)
    for dtype in (bool, np.int8, np.uint64):
        r.x = q.x.astype(dtype)
        assert_array_equal(cell.forward(r).a, want.a)
    r.x = np.memmap(tmp_path / "x", dtype=cell.dtype, mode="w+", shape=q.x.shape)
    r.x[...] = q.x
    got = cell.forward(r)
    assert_array_equal(got.a, want.a)
    same(cell.backward(q.da, got.caches), cell.backward(q.da, want.caches), 0)


def test_any_mapping_and_extra_keys(cell):
    q = cell.problem(*SHAPE)
    want = cell.forward(q)
    r = copy.copy(q)
    r.p = ChainMap({"extra": "ignored", 7: None}, q.p)
    got = cell.forward(r)
    assert_array_equal(got.a, want.a)
    assert got.caches[0][0][-1] is r.p
    same(cell.backward(q.da, got.caches), cell.backward(q.da, want.caches), 0)


def test_states_broadcast_over_the_batch(cell):
    q = cell.problem(*SHAPE)
    q.a0, q.c0 = q.a0[:, :1].copy(), q.c0[:, :1].copy()
    got = cell.forward(q)
    want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da)
    close(got.a, want.a, 1e-14)
    same(cell.backward(q.da, got.caches), want.gradients)
    out = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    want = cell.reference(q.x[:, :, :1], q.a0, q.c0, q.p, q.da[:, :, :1], q.dc)
    close(out.a, want.a[:, :, 0], 1e-14)
    for convert in (lambda v: v, lambda v: v.tolist()):  # the first try, and after the conversions
        gradients = cell.cell_backward(convert(q.da[:, :, 0].copy()), q.dc, out.cache)
        close(gradients["da_prev"], want.gradients["da0"], 1e-13)
        for name in cell.inputs:
            close(gradients["d" + name], want.gradients["d" + name], 1e-13)


# Sizes and special values


@pytest.mark.parametrize(
    "shape",
    [(3, 5, 2, 0, 4), (3, 5, 2, 4, 0), (0, 5, 2, 4, 3), (3, 5, 0, 4, 3), (3, 0, 2, 4, 3), (0, 0, 0, 0, 0)],
    ids=str,
)
def test_empty_sizes(cell, shape):
    n_x, n_a, n_y, m, T_x = shape
    q = cell.problem(*shape)
    out = cell.forward(q)
    assert out.a.shape == (n_a, m, T_x)
    assert out.y.shape == (n_y, m, T_x)
    assert len(out.caches[0]) == T_x
    gradients = cell.backward(q.da, out.caches)
    assert gradients["dx"].shape == (n_x, m, T_x)
    assert gradients["da0"].shape == (n_a, m)
    for name in cell.inputs:
        assert gradients["d" + name].shape == q.p[name].shape
    if m and T_x and n_y:
        want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da)
        close(out.y, want.y, 1e-14)
        same(gradients, want.gradients)
    elif not (m and T_x):
        assert not any(value.any() for value in gradients.values())
    if T_x:
        step = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
        assert step.a.shape == (n_a, m)
        assert cell.cell_backward(q.da[:, :, 0], q.dc, step.cache)["dxt"].shape == (n_x, m)
        none = cell.backward(q.da[:, :, :0], (list(out.caches[0]), q.x))
        assert {name: value.shape for name, value in none.items() if name != "dx"} == {
            name: value.shape for name, value in gradients.items() if name != "dx"
        }
        assert not any(value.any() for value in none.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_example_does_not_touch_the_others(cell, bad):
    q = cell.problem(3, 5, 4, 9, 6)
    want = cell.forward(q)
    want_back = cell.backward(q.da, want.caches)
    q.x[1, 4, 2] = bad
    got = cell.forward(q)
    gradients = cell.backward(q.da, got.caches)
    others = np.arange(9) != 4
    assert_array_equal(got.a[:, others], want.a[:, others])
    assert_array_equal(got.y[:, others], want.y[:, others])
    assert_array_equal(gradients["dx"][:, others], want_back["dx"][:, others])
    assert_array_equal(gradients["da0"][:, others], want_back["da0"][:, others])
    assert_array_equal(got.a[:, 4, :2], want.a[:, 4, :2])
    with np.errstate(all="ignore"):
        plain = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p)
    assert_array_equal(np.isnan(got.a), np.isnan(plain.a))
    assert_array_equal(np.isnan(got.y), np.isnan(plain.y))


def test_functions_are_deterministic(cell):
    q = cell.problem(7, 33, 5, 9, 40)
    q.x *= 400  # saturates everything
    first = cell.forward(q)
    gradients = cell.backward(q.da, first.caches)
    for _ in range(3):
        again = cell.forward(q)
        assert_array_equal(again.a, first.a)
        same(cell.backward(q.da, again.caches), gradients, 0)


def test_star_import_has_all(cell):
    names = {}
    exec("from cyrnn import *", names)
    for kind in ("forward", "backward", "cell_forward", "cell_backward"):
        assert names[f"{cell.kind}_{kind}"] is getattr(cyrnn, f"{cell.kind}_{kind}")
    assert names["softmax"] is cyrnn.softmax
    assert names["sigmoid"] is cyrnn.sigmoid


def test_a_cell_without_outputs_reads_nothing(cell):
    """Large enough that reading one row that is not there would leave the process's memory."""
    m = 1 << 22
    q = cell.problem(0, 0, 0, 0, 1)
    out = cell.cell_forward(np.zeros((0, m)), np.zeros((0, m)), np.zeros((0, m)), q.p)
    assert out.y.shape == (0, m)


def test_threads_that_edit_caches_at_once_lose_nothing(cell):
    q = cell.problem(2, 3, 2, 1, 3000)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(8):
            steps = cell.forward(q).caches[0]
            extra, go = steps[0], threading.Barrier(4)

            def add(steps=steps, extra=extra, go=go):
                go.wait()
                steps.append(extra)

            threads = [threading.Thread(target=add) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(steps) == 3004
    finally:
        sys.setswitchinterval(interval)


def test_caches_older_than_an_update_are_refused(cell):
    """An update in place between the two passes would give the gradients of neither network."""
    q = cell.problem(*SHAPE)
    out, fresh = cell.forward(q), cell.forward(q)
    want = cell.backward(q.da, out.caches)
    rates = {"d" + key: np.ones_like(value) for key, value in q.p.items()}
    other = {key: value.copy() for key, value in q.p.items()}
    cyrnn.update_parameters_with_gd(other, rates, 0.1)
    same(cell.backward(q.da, out.caches), want)  # other arrays: nothing to refuse
    v, s = cyrnn.initialize_adam(q.p)
    key = cell.inputs[0]
    for update in (
        lambda: cyrnn.update_parameters_with_gd(q.p, rates, 0.1),
        lambda: cyrnn.update_parameters_with_adam(q.p, rates, v, s, 1),
        lambda: cyrnn.update_parameters_with_gd({key: q.p[key]}, {"d" + key: rates["d" + key].tolist()}, 0.1),
    ):
        fresh = cell.forward(q)
        update()
        for caches in (fresh.caches, copy.copy(fresh.caches)):
            with pytest.raises(RuntimeError, match=r"^caches: parameters\['\w+'\] was updated in place after"):
                cell.backward(q.da, caches)
        cell.backward(q.da, cell.forward(q).caches)
