"""Integers in place of one-hot columns: the same bits as the columns, which nobody makes."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import close
from rows import each_row

import cyrnn
from cyrnn._kernels.runtime import buffers, threads

SIZES = [  # n_x, n_a, n_y, m, T_x
    (3, 5, 2, 10, 4), (1, 5, 2, 3, 4), (1, 1, 1, 1, 1), (27, 17, 3, 1, 9), (27, 17, 3, 9, 1), (40, 33, 4, 70, 12),
    (7, 1, 1, 3, 40), (9, 20, 2, 30, 70), (300, 64, 5, 130, 3), (500, 9, 2, 4, 50), (6, 4, 3, 0, 5), (6, 4, 3, 5, 0),
    (6, 0, 2, 3, 4),
]  # fmt: skip
INTEGERS = {
    "intp": lambda x: x,
    "list": np.ndarray.tolist,
    "uint8": lambda x: x.astype(np.uint8),
    "int32": lambda x: x.astype(np.int32),
    "uint64": lambda x: x.astype(np.uint64),
    "big endian": lambda x: x.astype(">i8"),
    "Fortran": np.asfortranarray,
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=-1)[::2][..., ::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "not aligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.intp, offset=1).reshape(x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.intp).reshape(x.shape),
    "one column": lambda x: np.lib.stride_tricks.as_strided(x.copy(), x.shape, x.strides),
}


def drawn(cell, size, seed=0):
    """A problem, indices (m, T_x), and the one-hot columns that they stand for."""
    q = cell.problem(*size, seed=seed)
    n_x, _, _, m, T_x = size
    index = np.random.default_rng(seed).integers(n_x, size=(m, T_x))
    return q, index, np.eye(n_x)[:, index]


def with_input(q, x):
    r = copy.copy(q)
    r.x = x
    return r


def assert_same_bits(got, want):
    """The results of a forward pass, or the gradients without those of the input."""
    got, want = (dict(value) if isinstance(value, dict) else vars(value) for value in (got, want))
    names = want.keys() - {"dx", "dxt", "cache", "caches"}
    assert names == got.keys() - {"dx", "dxt", "cache", "caches"}
    for name in names:
        if want[name] is None:
            assert got[name] is None
        else:
            assert got[name].shape == want[name].shape, name
            assert got[name].tobytes() == want[name].tobytes(), name


@pytest.fixture
def many_threads():
    before = threads.set_flops_per_thread(1.0)
    cyrnn.set_num_threads(2)
    yield
    cyrnn.set_num_threads(None)
    threads.set_flops_per_thread(before)


def both_ways(cell, size, lengths):
    q, index, x = drawn(cell, size)
    dense = cell.forward(with_input(q, x), lengths=lengths)
    out = cell.forward(with_input(q, index), lengths=lengths)
    assert_same_bits(out, dense)
    found, want = cell.backward(q.da, out.caches), cell.backward(q.da, dense.caches)
    assert found["dx"] is None
    assert list(found) == list(want)
    assert_same_bits(found, want)
    if size[4] > 1 and lengths is None:  # of the first steps only
        found, want = (cell.backward(q.da[:, :, :2], o.caches) for o in (out, dense))
        assert_same_bits(found, want)
    if lengths is None:
        assert_same_bits(cell.forward_only(with_input(q, index)), dense)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("size", SIZES, ids=str)
@each_row
def test_sequences(cell, size):
    both_ways(cell, size, None)
    both_ways(cell, size, np.random.default_rng(1).integers(size[4], size=size[3], endpoint=True))


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("size", SIZES, ids=str)
@each_row
def test_sequences_on_threads(cell, size):
    both_ways(cell, size, None)
    both_ways(cell, size, np.random.default_rng(1).integers(size[4], size=size[3], endpoint=True))


def both_ways_of_a_step(cell, size):
    q, index, x = drawn(cell, size)
    states = q.a0, q.c0, q.p
    dense, out = cell.cell_forward(x[:, :, 0], *states), cell.cell_forward(index[:, 0], *states)
    assert_same_bits(out, dense)
    assert out.cache[-2].base is index
    found, want = (cell.cell_backward(q.da[:, :, 0], q.dc, o.cache) for o in (out, dense))
    assert found["dxt"] is None
    assert list(found) == list(want)
    assert_same_bits(found, want)


# The next to last ones sum a gradient in lanes, the last one more columns than a sum of float32 has.
STEPS = [*SIZES[:10], (3, 70, 2, 200, 1), (20, 65, 2, 100, 1), (9, 20, 2, 1500, 1)]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("size", STEPS, ids=str)
@each_row
def test_cells(cell, size):
    both_ways_of_a_step(cell, size)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("size", STEPS, ids=str)
@each_row
def test_cells_on_threads(cell, size):
    both_ways_of_a_step(cell, size)


@each_row
def test_columns_that_no_index_names_have_no_gradient(cell):
    q, index, _ = drawn(cell, (50, 5, 2, 3, 4))
    gradients = cell.backward(q.da, cell.forward(with_input(q, index)).caches)
    named = np.isin(np.arange(50), index)
    assert 0 < named.sum() < 50
    columns = [gradients["d" + name][:, -50:] for name in cell.inputs if name.startswith("W") and name != "Waa"]
    assert_array_equal(np.stack(columns)[..., ~named], 0.0)
    assert sum(abs(values) for values in columns)[:, named].all()  # not of each gate: the first memory is zero


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("kind", INTEGERS)
@each_row
def test_integers_of_every_kind_and_layout(cell, kind):
    q, index, _ = drawn(cell, (30, 5, 2, 6, 8))
    given, kept = INTEGERS[kind](index), index.copy()
    want, out = cell.forward(with_input(q, index)), cell.forward(with_input(q, given))
    assert_same_bits(out, want)
    gradients = cell.backward(q.da, want.caches)
    assert_same_bits(cell.backward(q.da, out.caches), gradients)
    assert out.caches[1] is given
    assert_array_equal(index, kept)
    for t in (0, 7):
        assert_array_equal(out.caches[0][t][-2], index[:, t])

    column = INTEGERS[kind](index[:, 3].copy())
    want, out = (cell.cell_forward(xt, q.a0, q.c0, q.p) for xt in (index[:, 3], column))
    assert_same_bits(out, want)
    assert_same_bits(*(cell.cell_backward(q.da[:, :, 3], q.dc, o.cache) for o in (out, want)))


@each_row
def test_objects_that_are_integers_are_indices(cell):
    """As pandas gives its nullable integers; of cells, sequences, networks and streams, their lengths too."""
    q = cell.problem(5, 4, 3, 2, 6)
    index, lengths = np.random.default_rng(0).integers(0, 5, (2, 6)), [6, 3]
    network = [{key: q.p[key] for key in cell.inputs}]
    calls = [
        lambda x, n: cell.function("forward")(x, None, q.p, lengths=n)[:2],
        lambda x, n: cell.function("cell_forward")(x[:, 0], q.a0, *([q.c0] if cell.memory else []), q.p)[0],
        lambda x, n: cyrnn.network_forward(x, network, lengths=n, **cell.keywords())[1],
        lambda x, n: cell.stream(q.p, 2).run(x),
        lambda x, n: cell.stream(q.p, 2).step(x[:, 0]),
    ]
    for call in calls:
        found, want = call(index.astype(object), np.array(lengths, object)), call(index, lengths)
        for a, b in zip(found, want, strict=True):
            assert_array_equal(a, b)
        for wrong in (index > 2, index + 0.5, index.astype(object) * 10**30):
            with pytest.raises((TypeError, ValueError), match=r"^xt?: "):
                call(wrong.astype(object), lengths)


@each_row
def test_indices_are_used_with_other_arguments_that_need_a_conversion(cell):
    q, index, x = drawn(cell, (30, 5, 2, 6, 8))
    r = with_input(q, index)
    r.p = {name: value.astype(np.float32) for name, value in q.p.items()}
    r.a0 = q.a0.tolist()
    dense = with_input(r, x)
    out, want = cell.forward(r), cell.forward(dense)
    assert_same_bits(out, want)
    da = np.asfortranarray(q.da).tolist()
    assert_same_bits(cell.backward(da, out.caches), cell.backward(da, want.caches))


@each_row
def test_integers_of_three_dimensions_are_dense_as_ever(cell):
    q, _, x = drawn(cell, (3, 5, 2, 10, 4))
    want = cell.forward(with_input(q, x))
    for kind in (np.intp, np.int8, np.uint16, bool):
        assert_same_bits(cell.forward(with_input(q, x.astype(kind))), want)
    want = cell.cell_forward(x[:, :, 0], q.a0, q.c0, q.p)
    assert_same_bits(cell.cell_forward(x[:, :, 0].astype(int), q.a0, q.c0, q.p), want)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("wrong", [-1, 27, 10**15, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
@each_row
def test_an_index_out_of_range_is_named(cell, wrong):
    q, index, _ = drawn(cell, (27, 5, 2, 4, 7))
    out, one = cell.forward(with_input(q, index)), cell.cell_forward(index[:, 5], q.a0, q.c0, q.p)
    want, first, right = cell.backward(q.da, out.caches), out.caches[0][0], index[3, 5]
    kept = [value.copy() for value in q.p.values()]
    index[3, 5] = wrong
    expected = rf"expected indices from 0 to n_x - 1 = 26, got {wrong} for example 3"
    with pytest.raises(ValueError, match=rf"^x: {expected} at step 5$"):
        cell.forward(with_input(q, index))
    with pytest.raises(ValueError, match=rf"^xt: {expected}$"):
        cell.cell_forward(index[:, 5], q.a0, q.c0, q.p)
    with pytest.raises(ValueError, match=rf"^x: {expected} at step 5$"):
        cell.backward(q.da, out.caches)
    with pytest.raises(ValueError, match=rf"^cache\[\d\] \(xt\): {expected}$"):
        cell.cell_backward(q.da[:, :, 5], q.dc, one.cache)
    with pytest.raises(ValueError, match=rf"^caches\[0\]\[5\]\[\d\] \(xt\): {expected}$"):
        cell.backward(q.da, (list(out.caches[0]), index))
    cell.backward(q.da[:, :, :5], out.caches)  # which do not come to that step
    index[3, 5] = right
    assert_same_bits(cell.backward(q.da, out.caches), want)
    assert out.caches[0][0] is first
    for value, before in zip(q.p.values(), kept, strict=True):
        assert_array_equal(value, before)


@each_row
def test_an_unsigned_index_beyond_every_signed_one(cell):
    q, index, _ = drawn(cell, (27, 5, 2, 4, 7))
    index = index.astype(np.uint64)
    index[1, 2] = 2**64 - 1
    with pytest.raises(ValueError, match=rf"x: expected indices .* 26, got {2**64 - 1} for example 1 at step 2"):
        cell.forward(with_input(q, index))
    cell.forward(with_input(q, index), lengths=[7, 2, 7, 7])


@pytest.mark.usefixtures("build")
@each_row
def test_past_the_lengths_nothing_is_read(cell):
    q, index, _ = drawn(cell, (27, 5, 2, 6, 9))
    lengths = np.array([4, 9, 0, 1, 9, 5])
    past = np.arange(9) >= lengths[:, None]
    want = cell.forward(with_input(q, index), lengths=lengths)
    gradients = cell.backward(q.da, want.caches)
    for rubbish in (-1, 27, np.iinfo(np.int64).max):
        given = np.where(past, rubbish, index)
        for x in (given, given.astype(object).tolist()):
            out = cell.forward(with_input(q, x), lengths=lengths)
            assert_same_bits(out, want)
            assert_same_bits(cell.backward(q.da, out.caches), gradients)
        steps = list(cell.forward(with_input(q, given), lengths=lengths).caches[0])
        assert_array_equal(np.stack([step[-2] for step in steps], 1), np.where(past, 0, index))
        by_steps = cell.backward(q.da, (steps, given))
        assert by_steps["dx"] is None
        for name, value in gradients.items():
            if name != "dx":
                close(by_steps[name], value, 1e-13)
        given[0, 3] = rubbish
        with pytest.raises(ValueError, match=f"^x: .* got {rubbish} for example 0 at step 3"):
            cell.forward(with_input(q, given), lengths=lengths)


@each_row
def test_what_is_no_index(cell):
    q, index, _ = drawn(cell, (27, 5, 2, 4, 7))
    for wrong, said in (
        (index.astype(float), "float64"),
        (index > 3, "bool"),
        ([*index.tolist(), [2.5] * 7], "float64"),
    ):
        hint = rf"\(m, T_x\) is for indices, which are integers and not {said}"
        with pytest.raises(ValueError, match=rf"^x: expected 3 dimensions \(n_x, m, T_x\), got shape .*; {hint}"):
            cell.forward(with_input(q, wrong))
        hint = rf"\(m\) is for indices, which are integers and not {said}"
        with pytest.raises(ValueError, match=rf"^xt: expected 2 dimensions \(n_x, m\), got shape .*; {hint}"):
            cell.cell_forward(np.asarray(wrong)[:, 0], q.a0, q.c0, q.p)
    masked = np.ma.masked_equal(index, index[2, 2])
    with pytest.raises(ValueError, match=r"^x: .* masked"):
        cell.forward(with_input(q, masked))
    with pytest.raises(TypeError, match=r"^x: expected real numbers, got dtype <U"):
        cell.forward(with_input(q, index.astype(str)))
    with pytest.raises(ValueError, match=r"^x: expected 3 dimensions \(n_x, m, T_x\), got shape \(4,\)$"):
        cell.forward(with_input(q, index[:, 0]))
    with pytest.raises(ValueError, match=r"^a0: expected shape \(n_a, m\) = \(5, 7\)"):
        cell.forward(with_input(q, index.T))
    with pytest.raises(ValueError, match=r"^lengths: expected shape \(m,\) = \(4,\), got \(7,\)"):
        cell.forward(with_input(q, index), lengths=[7] * 7)


@each_row
def test_edited_caches(cell):
    q, index, x = drawn(cell, (27, 5, 2, 4, 7))
    out, dense = (cell.forward(with_input(q, value)) for value in (index, x))
    order = [0, 1, 1, 2, 5, 4, 6]
    found, want = (cell.backward(q.da, ([o.caches[0][t] for t in order], None)) for o in (out, dense))
    assert found["dx"] is None
    assert_same_bits(found, want)
    nothing = cell.backward(q.da[:, :, :0], (list(out.caches[0]), None))
    assert nothing["dx"] is None
    assert not any(value.any() for value in nothing.values() if value is not None)
    mixed = [*out.caches[0][:3], *dense.caches[0][3:]]
    with pytest.raises(ValueError, match=r"caches\[0\]\[2\]: expected a dense input as in the step after, got indices"):
        cell.backward(q.da, (mixed, None))
    mixed = [*dense.caches[0][:3], *out.caches[0][3:]]
    with pytest.raises(ValueError, match=r"caches\[0\]\[2\]: expected indices as in the step after, got a dense input"):
        cell.backward(q.da, (mixed, None))
    wider = cell.forward(with_input(cell.problem(28, 5, 2, 4, 7), index))
    with pytest.raises(ValueError, match=r"caches\[0\]\[2\]: expected weights of the shape .* as in the step after"):
        cell.backward(q.da, ([*wider.caches[0][:3], *out.caches[0][3:]], None))
    again = pickle.loads(pickle.dumps(out.caches))
    assert_same_bits(cell.backward(q.da, again), cell.backward(q.da, out.caches))
    out.caches[0][2][-2][...] = 0  # a view, as of a dense input
    assert_array_equal(index[:, 2], 0)


@each_row
def test_signs_of_zeros(cell):
    """Where a bias and a weight are -0.0, the dense sum is -0.0 only if all other weights of the unit are below 0."""
    q, index, x = drawn(cell, (4, 60, 2, 8, 5))
    rng, negative = np.random.default_rng(2), 0
    q.a0, q.c0 = -np.zeros_like(q.a0), -np.zeros_like(q.c0)
    for name in cell.inputs:  # the last two have a sum that underflows
        q.p[name] = rng.choice([-0.0, -0.0, 0.0, -1.0, -5e-324, -2.4e-308, 2.3e-308], size=q.p[name].shape)
        if name.startswith("W") and name != "Wax":
            q.p[name][:, :60] = 1.0  # times -0.0: the sign stays
    found, want = (cell.forward(with_input(q, value)) for value in (index, x))
    assert_same_bits(found, want)
    for t in range(5):
        found, want = (cell.cell_forward(xt, q.a0, q.c0, q.p) for xt in (index[:, t], x[:, :, t]))
        assert_same_bits(found, want)
        for ours, theirs in zip(found.cache[:-2], want.cache[:-2], strict=True):
            assert ours.tobytes() == theirs.tobytes()
            negative += np.count_nonzero(np.signbit(theirs) & (theirs == 0))
    assert negative > 100 + 5 * len(cell.states) * 60 * 8  # as many are the states before the steps


@each_row
def test_no_one_hot_array_is_made(cell):
    """With a large vocabulary a pass takes what it returns and some kilobytes; each of x and dx would be 82 MB."""
    q, index, _ = drawn(cell, (3, 8, 2, 16, 32))
    n_x = 20_000
    large = cell.problem(n_x, 8, 2, 1, 1).p
    index = np.random.default_rng(0).integers(n_x, size=index.shape)
    r = with_input(q, index)
    r.p = large
    weights = sum(large[name].nbytes for name in cell.inputs)
    caches = cell.forward(r).caches
    one = cell.cell_forward(index[:, 0], q.a0, q.c0, large).cache
    for call, returned in [
        (lambda: cell.forward(r), 0),
        (lambda: cell.forward(r, lengths=[32, 7] * 8), 0),
        (lambda: cell.backward(q.da, caches), weights),
        (lambda: cell.cell_forward(index[:, 0], q.a0, q.c0, large), 0),
        (lambda: cell.cell_backward(q.da[:, :, 0], q.dc, one), weights),
    ]:
        buffers.release_pool()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.3 * returned + 500_000


def test_training_on_characters():
    """The whole chain of a language model: loss, clipping, Adam; the same numbers as with one-hot columns."""
    rng = np.random.default_rng(0)
    labels = rng.integers(9, size=(4, 12))
    index, found = np.pad(labels, ((0, 0), (1, 0)))[:, :-1], []
    for x in (index, np.eye(9)[:, index]):
        p = cyrnn.initialize_parameters("lstm", n_x=9, n_a=6, n_y=9, rng=0)
        v, s = cyrnn.initialize_adam(p)
        for t in range(1, 4):
            a, y, _, caches = cyrnn.lstm_forward(x, None, p)
            loss, dz = cyrnn.cross_entropy(y, labels)
            gradients = cyrnn.output_backward(dz, a, p)
            gradients |= cyrnn.lstm_backward(gradients["da"], caches)
            gradients, _ = cyrnn.clip_gradients(gradients, norm=0.1)
            cyrnn.update_parameters_with_adam(p, gradients, v, s, t)
        found.append((loss, p))
    assert found[0][0] == found[1][0]
    assert_same_bits(found[0][1], found[1][1])
