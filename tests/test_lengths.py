"""Sequences of different lengths: each example as if alone, bit for bit, whatever stands in the padding."""

import copy
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
from cells import STAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from reference import close
from rows import each_row
from test_gradients import check
from test_openmp import _every_call_is_worth_it, needs_openmp  # noqa: F401

import cyrnn
from cyrnn import _kernels
from cyrnn._kernels.runtime import buffers
from cyrnn._kernels.runtime import lengths as kernel_lengths

pytestmark = each_row
every_build = pytest.mark.usefixtures("build")

# One block and several, shared by examples and by units (tests/test_openmp.py); blocks of more columns than a product
# sums at once (the fourth).  Then few steps, which are turned round as a whole where they are one block: one step,
# one block, several; more units, and more columns, than are turned round together.  Then 32 steps and 33, before which
# and from which on what lies past an example becomes zero with its last step, and one block of too many places.
SHAPES = [
    (3, 5, 2, 13, 6), (33, 37, 9, 19, 70), (70, 165, 40, 9, 20), (64, 40, 3, 33, 300), (40, 270, 3, 2, 5),
    (9, 150, 3, 1, 30), (11, 21, 10, 77, 1), (11, 21, 10, 37, 2), (3, 21, 2, 43, 7), (90, 9, 2, 150, 7),
    (11, 150, 10, 20, 5), (129, 130, 2, 140, 2), (60, 10, 30, 40, 32), (60, 10, 30, 40, 33), (5, 9, 2, 300, 60),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _what_is_not_written_shows():
    """New arrays and workspace begin as NaN."""
    buffers.fill_with_nan(True)
    yield
    buffers.fill_with_nan(False)


def forward(cell, q, lengths, **how):
    """A forward pass with every argument that the cell has."""
    how |= {"c0": q.c0} if cell.memory else {}
    *found, caches = cell.function("forward")(q.x, q.a0, q.p, lengths=lengths, **how)
    return SimpleNamespace(out=dict(zip(cell.results, found, strict=True)), caches=caches)


def backward(cell, q, caches):
    return cell.function("backward")(q.da, caches, **({"dc": q.dc} if cell.memory else {}))


def draw(cell, *shape, seed=0):
    q = cell.problem(*shape, seed=seed)
    q.dc = np.random.default_rng([seed, *shape]).standard_normal(q.da.shape).astype(cell.dtype)
    return q


def spoil(q, lengths):
    """Put something into the padding that would show."""
    for array in (q.x, q.da, q.dc):
        for j, length in enumerate(lengths):
            array[:, j, length:] = [np.nan, np.inf, np.finfo(array.dtype).min][j % 3]


def part(q, j, length):
    """Example j alone, unpadded."""
    r = copy.copy(q)
    r.x, r.da, r.dc = (array[:, j : j + 1, :length] for array in (q.x, q.da, q.dc))
    r.a0, r.c0 = q.a0[:, j : j + 1], q.c0[:, j : j + 1]
    return r


def check_against_each_alone(cell, q, lengths):
    """Everything that can be said about one batch; returns its gradients."""
    spoil(q, lengths)
    batch = forward(cell, q, lengths)
    gradients = backward(cell, q, batch.caches)
    for name, array in forward(cell, q, lengths, cache=False).out.items():
        assert_array_equal(array, batch.out[name])
    totals = {name: np.zeros_like(value) for name, value in gradients.items() if name not in ("dx", "da0", "dc0")}
    for j, length in enumerate(lengths):
        r = part(q, j, length)
        alone = forward(cell, r, None)
        back = backward(cell, r, alone.caches)
        for name, array in alone.out.items():
            assert_array_equal(batch.out[name][:, j, :length], array[:, 0])
            assert not batch.out[name][:, j, length:].any()
        assert_array_equal(gradients["dx"][:, j, :length], back["dx"][:, 0])
        assert not gradients["dx"][:, j, length:].any()
        for name in gradients.keys() & {"da0", "dc0"}:
            assert_array_equal(gradients[name][:, j], back[name][:, 0])
        for name in totals:
            totals[name] += back[name]
    for name, total in totals.items():
        close(gradients[name], total, 1e-13)
    return gradients


def orders(m, T_x):
    some = np.random.default_rng(m).integers(0, T_x + 1, m)
    one = np.zeros(m, int)
    one[m // 2] = T_x
    return {
        "ascending": np.sort(some), "descending": -np.sort(-some), "random": some, "all whole": np.full(m, T_x),
        "all equal": np.full(m, max(T_x - 2, 0)), "all zero": np.zeros(m, int), "one": one,
        "one long": np.where(one > 0, T_x, min(T_x, 1)), "all but one": T_x - one,
        "one short": np.where(one > 0, T_x - 1, T_x),
    }  # fmt: skip


def orders_for(cell, m, T_x):
    """All of them on one build; on the others, and for a cell whose way through time another one goes too, two."""
    found = orders(m, T_x)
    every = cell in STAGES and _kernels.build == _kernels.available()[0]
    return found.values() if every else [found["random"], found["one long"]]


@every_build
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_example_as_if_alone(cell, shape):
    for lengths in orders_for(cell, *shape[3:]):
        check_against_each_alone(cell, draw(cell, *shape), lengths)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_each_example_as_if_alone_for_any_shape(cell, data):
    sizes = [data.draw(st.integers(0, most)) for most in (5, 9, 4, 9, 40)]
    lengths = data.draw(st.lists(st.integers(0, sizes[4]), min_size=sizes[3], max_size=sizes[3]))
    check_against_each_alone(cell, draw(cell, *sizes), lengths)


@needs_openmp
@pytest.mark.usefixtures("build", "_every_call_is_worth_it")
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_same_bits_for_every_number_of_threads(cell, shape):
    try:
        for lengths in orders_for(cell, *shape[3:]):
            cyrnn.set_num_threads(1)
            q = draw(cell, *shape)
            spoil(q, lengths)
            want = forward(cell, q, lengths)
            gradients = backward(cell, q, want.caches)
            for n in (2, 3):
                cyrnn.set_num_threads(n)
                got = forward(cell, q, lengths)
                only = forward(cell, q, lengths, cache=False)
                for name, array in want.out.items():
                    assert_array_equal(got.out[name], array)
                    assert_array_equal(only.out[name], array)
                for name, value in backward(cell, q, got.caches).items():
                    assert_array_equal(value, gradients[name])
    finally:
        cyrnn.set_num_threads(None)


@every_build
def test_all_whole_is_none(cell):
    for shape in SHAPES:
        q = draw(cell, *shape)
        got, want = forward(cell, q, [shape[4]] * shape[3]), forward(cell, q, None)
        for name, array in want.out.items():
            assert_array_equal(got.out[name], array)
        gradients = backward(cell, q, got.caches)
        for name, value in backward(cell, q, want.caches).items():
            assert_array_equal(gradients[name], value)


@every_build
@pytest.mark.parametrize("T_x", [1, 6, 12])
def test_nothing_of_other_calls_is_kept(cell, T_x):
    """Not even on behalf of an example without steps."""
    q = draw(cell, 3, 100, 2, 20, T_x)
    bad = copy.copy(q)
    bad.x, bad.a0, bad.c0 = (np.full_like(array, np.nan) for array in (q.x, q.a0, q.c0))
    forward(cell, bad, None)  # its memory is used again
    assert np.isfinite(forward(cell, q, [0, T_x] * 10).caches[0].sequence.buffer).all()


@every_build
def test_against_finite_differences(cell):
    lengths = [3, 6, 0, 1]
    q = draw(cell, 3, 5, 2, 4, 6)
    gradients = backward(cell, q, forward(cell, q, lengths).caches)
    cell, q = cell.exact(q)

    def loss():
        out = forward(cell, q, lengths, cache=False).out
        return float((out["a"] * q.da).sum() + ((out["c"] * q.dc).sum() if "c" in out else 0.0))

    pairs = {"x": (q.x, gradients["dx"]), "a0": (q.a0, gradients["da0"])}
    if cell.memory:
        pairs["c0"] = q.c0, gradients["dc0"]
    check(loss, pairs | {name: (q.p[name], gradients["d" + name]) for name in cell.inputs})


@pytest.mark.parametrize("shape", [(3, 5, 2, 5, 6), (11, 9, 2, 45, 1), (11, 9, 2, 45, 3), (3, 5, 2, 5, 10),
                                   (60, 10, 30, 40, 33)], ids=str)  # fmt: skip
@pytest.mark.parametrize("layout", [np.asfortranarray, lambda v: np.ascontiguousarray(v.T).T, lambda v: v.astype("f4"),
                                    lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
                                    lambda v: v[..., ::-1].copy()[..., ::-1], np.ndarray.tolist])  # fmt: skip
def test_layouts(cell, layout, shape):
    lengths = orders(*shape[3:])["random"]
    q = draw(cell, *shape)
    for array in (q.x, q.da, q.dc, q.a0, q.c0):
        array[...] = array.astype("f4")
    want = forward(cell, q, lengths)
    gradients = backward(cell, q, want.caches)
    for name in ("x", "da", "dc", "a0", "c0"):
        setattr(q, name, layout(getattr(q, name)))
    got = forward(cell, q, lengths)
    for name, array in want.out.items():
        assert_array_equal(got.out[name], array)
    for name, value in backward(cell, q, got.caches).items():
        assert_array_equal(value, gradients[name])


@every_build
@pytest.mark.parametrize(("T_x", "each"), [(0, 1), (1, 1), (2, 1), (5, 1), (33, 7), (70, 20), (119, 20)])
def test_fewer_gradients_than_steps(cell, T_x, each):
    """The gradients are those of the first T_x steps, of the examples that have them."""
    lengths = each * np.array([3, 6, 0, 1, 2, 6])
    q = draw(cell, 3, 5, 2, 6, 6 * each)
    caches = forward(cell, q, lengths).caches
    r = copy.copy(q)
    r.x, r.da, r.dc = (array[:, :, :T_x] for array in (q.x, q.da, q.dc))
    want = backward(cell, r, forward(cell, r, np.minimum(lengths, T_x)).caches)
    for _ in range(2):
        got = backward(cell, r, caches)
        for name in want:
            close(got[name], want[name], 1e-14)
        r.da, r.dc = r.da.copy(), r.dc.copy()


@every_build
def test_in_chunks(cell):
    """docs/sequences.md: states carried forward and gradients back, while examples end on a border or off it."""
    lengths = np.array([3, 0, 16, 17, 40, 33])
    q = draw(cell, 3, 5, 2, 6, 40)
    spoil(q, lengths)
    want = forward(cell, q, lengths)
    gradients = backward(cell, q, want.caches)
    chunks, r = [], copy.copy(q)
    for start, end in ((0, 16), (16, 32), (32, 40)):
        r.x = q.x[:, :, start:end]
        got = forward(cell, r, np.clip(lengths - start, 0, end - start))
        for name, array in got.out.items():
            assert_array_equal(array, want.out[name][:, :, start:end])
        r.a0, r.c0 = got.out["a"][:, :, -1], got.out.get("c", q.da)[:, :, -1]
        chunks.insert(0, (slice(start, end), got.caches))
    carried = {}
    for cut, caches in chunks:
        r.da, r.dc = q.da[:, :, cut].copy(), q.dc[:, :, cut].copy()
        r.da[:, :, -1] += carried.get("da0", 0.0)
        r.dc[:, :, -1] += carried.get("dc0", 0.0)
        carried = backward(cell, r, caches)
        assert_array_equal(carried["dx"], gradients["dx"][:, :, cut])
    for name in gradients.keys() & {"da0", "dc0"}:
        assert_array_equal(carried[name], gradients[name])


# The steps as the notebook shows them


@every_build
@pytest.mark.parametrize("m", [1, 5])
def test_steps_look_like_the_notebook(cell, m):
    lengths = [3, 6, 0, 1, 2][:m]
    q = draw(cell, 3, 5, 2, m, 6)
    spoil(q, lengths)
    batch = forward(cell, q, lengths)
    steps, x = batch.caches
    assert len(steps) == 6
    assert x is q.x
    alone = [list(forward(cell, part(q, j, length), None).caches[0]) for j, length in enumerate(lengths)]
    for t, step in enumerate(steps):
        assert isinstance(step, tuple)
        assert len(step) == cell.entries
        assert step[-1] is q.p
        assert_array_equal(step[0], batch.out["a"][:, :, t])
        for k, array in enumerate(step[:-1]):
            assert array.shape == (3 if k == cell.entries - 2 else 5, m)
            assert not array.flags.writeable
            for j, length in enumerate(lengths):
                assert_array_equal(array[:, j], alone[j][t][k][:, 0] if t < length else 0)


@every_build
def test_lists_of_the_steps(cell):
    """A padded step is a cell of zeros, so that a da of zeros passes it and leaves nothing behind."""
    lengths = [3, 6, 0, 1, 2]
    q = draw(cell, 3, 5, 2, 5, 6)
    q.x[:, 0, 3:] = np.nan
    for array in (q.da, q.dc):
        for j, length in enumerate(lengths):
            array[:, j, length:] = 0
    caches = forward(cell, q, lengths).caches
    want = backward(cell, q, caches)
    edited = copy.copy(caches[0])
    edited[2] = edited[2]
    for steps in (list(caches[0]), caches[0][:], edited, tuple(caches[0])):
        got = backward(cell, q, (steps, q.x))
        assert got.keys() == want.keys()
        for name, value in want.items():
            close(got[name], value, 1e-14)


def test_caches_copy_and_pickle(cell):
    q = draw(cell, 3, 5, 2, 5, 6)
    lengths = np.array([3, 6, 0, 1, 2])
    caches = forward(cell, q, lengths).caches
    want = backward(cell, q, caches)
    lengths[:] = 6  # the caller's array was copied
    for twin in (caches, copy.deepcopy(caches), pickle.loads(pickle.dumps(caches))):
        for name, value in backward(cell, q, twin).items():
            assert_array_equal(value, want[name])
        assert len(list(twin[0])) == 6


# What is taken for lengths


def test_any_integers(cell):
    q = draw(cell, 3, 5, 2, 4, 6)
    want = forward(cell, q, np.array([3, 6, 0, 1])).out["a"]
    for dtype in ("i1", "u1", ">i4", "u8", "i8"):
        assert_array_equal(forward(cell, q, np.array([3, 6, 0, 1], dtype)).out["a"], want)
    strided = np.array([3, 9, 6, 9, 0, 9, 1, 9])[::2]
    for value in ([3, 6, 0, 1], (3, 6, 0, 1), [np.int32(3), 6, 0, 1], strided, np.array([1, 0, 6, 3])[::-1]):
        assert_array_equal(forward(cell, q, value).out["a"], want)
    empty = draw(cell, 3, 5, 2, 0, 6)
    for value in ([], (), np.zeros(0, int)):
        batch = forward(cell, empty, value)
        assert batch.out["a"].shape == (5, 0, 6)
        assert not any(value.any() for value in backward(cell, empty, batch.caches).values())


BAD = [
    ([3, 6, 0, 7], ValueError, "expected 0 to T_x = 6 steps, got 7 for example 3"),
    ([3, -1, 0, 1], ValueError, "expected 0 to T_x = 6 steps, got -1 for example 1"),
    ([2**62] * 4, ValueError, f"expected 0 to T_x = 6 steps, got {2**62} for example 0"),
    ([-(2**63)] * 4, ValueError, f"expected 0 to T_x = 6 steps, got {-(2**63)} for example 0"),
    (np.array([3, 2**64 - 1, 0, 1], "u8"), ValueError, "expected 0 to T_x = 6 steps, got 18446744073709551615 for"),
    ([3, 6, 0], ValueError, "expected shape (m,) = (4,), got (3,)"),
    ([], ValueError, "expected shape (m,) = (4,), got (0,)"),
    ([[3, 6, 0, 1]], ValueError, "expected shape (m,) = (4,), got (1, 4)"),
    (3, ValueError, "expected shape (m,) = (4,), got ()"),
    ([3.0, 6.0, 0.0, 1.0], TypeError, "expected integers, got dtype float64"),
    (np.ones(4, bool), TypeError, "expected integers, got dtype bool"),
    ([3, 6, 0, True], TypeError, "expected integers, got list"),
    ("3601", TypeError, "expected integers, got dtype <U4"),
    (["3", "6", "0", "1"], TypeError, "expected integers, got dtype <U1"),
    ([3, 6, 0, None], TypeError, "expected integers, got list"),
    ([3, 6, 0, 2**70], TypeError, "expected integers, got list"),
    ([3, 6, 0, 1j], TypeError, "expected integers, got dtype complex128"),
    ([[3], [6, 0]], ValueError, "expected an array of numbers, got a ragged nested sequence"),
    ({3, 6, 0, 1}, TypeError, "expected integers, got set"),
    (np.broadcast_to(np.intp(3), 1 << 50), ValueError, f"expected shape (m,) = (4,), got ({1 << 50},)"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "error", "text"), BAD, ids=[str(k) for k in range(len(BAD))])
def test_what_is_no_length(cell, value, error, text):
    q = draw(cell, 3, 5, 2, 4, 6)
    for how in ({}, {"cache": False}):
        with pytest.raises(error, match=re.escape(f"lengths: {text}")):
            forward(cell, q, value, **how)


def test_the_kernel_refuses_lengths_itself(cell):
    """What the cache holds is checked like every other argument."""
    q = draw(cell, 3, 5, 2, 4, 6)
    caches = forward(cell, q, [3, 6, 0, 1]).caches
    for wrong in ([3, 6, 0], [3, 7, 0, 1], [3, -1, 0, 1], [3, 6, 0, 2], [2**62] * 4, [-(2**63)] * 4):
        caches[0].sequence.lengths = np.array(wrong).tobytes()
        with pytest.raises(ValueError, match=r"no lengths|a length is out of range|the shapes do not fit"):
            backward(cell, q, caches)
    caches[0].sequence.lengths = np.array([3, 6, 0, 1])
    with pytest.raises(TypeError, match="bytes"):
        backward(cell, q, caches)


def test_against_torch(cell):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from test_torch import gradients_of, twin

    if not cell.torch:
        pytest.skip("PyTorch has no GRU with its reset before the product")
    n_x, n_a, n_y, m, T_x = 17, 33, 3, 6, 12
    lengths = [5, 12, 1, 7, 7, 11]  # PyTorch refuses 0
    q = draw(cell, n_x, n_a, n_y, m, T_x)
    _, wide = cell.exact(q)
    module = twin(cell, n_x, n_a, wide.p)
    x, a0, c0 = (torch.from_numpy(value.T.copy()).requires_grad_() for value in (wide.x, wide.a0, wide.c0))
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    a, _ = module(packed, (a0[None], c0[None]) if cell.memory else a0[None])
    a, _ = torch.nn.utils.rnn.pad_packed_sequence(a, total_length=T_x)
    (a * torch.from_numpy(wide.da.T.copy())).sum().backward()
    got = forward(cell, q, lengths)
    close(got.out["a"], a.detach().numpy().T, 1e-13)
    q.dc[...] = 0
    gradients = backward(cell, q, got.caches)
    pairs = {"dx": x.grad, "da0": a0.grad} | ({"dc0": c0.grad} if cell.memory else {})
    for name, value in pairs.items():
        close(gradients[name], value.numpy().T, 1e-13)
    for name, want in gradients_of(cell, module).items():
        close(gradients[name], want, 1e-13)


@pytest.mark.parametrize("length", [-1, 4, np.iinfo(np.intp).min, np.iinfo(np.intp).max])
def test_the_first_look_sees_what_is_out_of_range(cell, length):
    """Whatever the kernel would say, which looks again."""
    with pytest.raises(ValueError, match="out of range"):
        kernel_lengths.copy(np.array([1, length, 3]), 3, 3)
    assert kernel_lengths.copy(np.array([0, 2, 3]), 3, 3) == np.array([0, 2, 3]).tobytes()


def test_an_ordinary_list_of_padded_steps_knows_the_lengths(cell):
    q = draw(cell, 3, 5, 2, 4, 6)
    lengths = [6, 3, 0, 1]
    caches = forward(cell, q, lengths).caches
    want = backward(cell, q, caches)
    for steps in (list(caches[0]), copy.deepcopy(list(caches[0])), pickle.loads(pickle.dumps(list(caches[0])))):
        got = backward(cell, q, (steps, q.x))
        for name, value in want.items():
            close(got[name], value, 1e-13)
    spoil(q, lengths)  # what da and dc hold past the lengths is not used either
    got = backward(cell, q, (list(caches[0]), q.x))
    for name, value in want.items():
        close(got[name], value, 1e-13)
