"""Networks of several layers and both directions: against their layers run one by one, PyTorch and differences."""

import gc
import itertools
import re
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from cells import CELLS, FLOAT32, GRU_AFTER, GRU_BEFORE, IDS, LSTM, RNN
from networks import (
    backward,
    build,
    by_layers,
    changed,
    column,
    draw,
    forward,
    leaves,
    part,
    per_direction,
    recurrent,
    rounded,
)
from numpy.testing import assert_array_equal
from reference import close
from test_environment import alarm, ends_in_time  # noqa: F401
from test_gradients import SHORT, TOLERANCE
from test_memory import kept
from test_openmp import _every_call_is_worth_it, needs_openmp  # noqa: F401

import cyrnn
from cyrnn._kernels.runtime import buffers, threads

every_build = pytest.mark.usefixtures("build")


@pytest.fixture(autouse=True)
def _what_is_not_written_shows():
    """New arrays and workspace begin as NaN."""
    buffers.fill_with_nan(True)
    yield
    buffers.fill_with_nan(False)


def same_bits(found, want):
    found, want = leaves(found), leaves(want)
    assert len(found) == len(want)
    for ours, theirs in zip(found, want, strict=True):
        assert_array_equal(ours, theirs)


# Bit for bit as the layers one by one, each example alone


def check_against_each_alone(q, output="softmax", cache=True):
    if q.lengths is not None:  # what lies past them does not count
        past = np.arange(q.T_x) >= q.lengths[:, None]
        q.x[..., past] = 10**9 if q.input != "dense" else np.nan
        for array in (q.dz, q.da):
            if array is not None:
                array[:, past] = np.inf
    out = forward(q, output=output, cache=cache)
    back = backward(q, out.caches) if cache else None
    assert (out.caches is None) == (not cache)
    total = None
    for j in range(q.m):
        r = part(q, j)
        want = by_layers(r, output)
        for name in "ay":
            found, value = getattr(out, name), getattr(want, name)
            assert (found is None) == (value is None)
            if found is not None:
                assert_array_equal(found[:, j : j + 1, : r.T_x], value)
                assert not found[:, j, r.T_x :].any()
        same_bits(column(out.states, j), want.states)
        if not cache:
            continue
        alone = backward(r, forward(r).caches)
        same_bits(column(back.dstates, j), alone.dstates)
        if q.input == "dense":
            assert_array_equal(back.dx[:, j : j + 1, : r.T_x], alone.dx)
            assert not back.dx[:, j, r.T_x :].any()
        else:
            assert back.dx is None
        each = leaves(alone.gradients)
        total = each if total is None else [a + b for a, b in zip(total, each, strict=True)]
    if cache:
        for found, want in zip(leaves(back.gradients), total, strict=True):
            close(found, want, 1e-12)


@every_build
@pytest.mark.parametrize("seed", range(40))
def test_each_example_as_if_alone(seed):
    rng = np.random.default_rng(seed)
    q = draw(rng)
    check_against_each_alone(q, rng.choice(["softmax", "sigmoid", "linear", None]), bool(rng.integers(4)))


@pytest.mark.parametrize("seed", range(100, 116))
def test_each_example_as_if_alone_in_float32(seed):
    rng = np.random.default_rng(seed)
    q = draw(rng, FLOAT32)
    check_against_each_alone(q, rng.choice(["softmax", "sigmoid", "linear", None]), bool(rng.integers(4)))


@pytest.mark.parametrize("seed", range(8))
def test_float32_against_float64(seed):
    """Of the same numbers: as many units in the last place as for float64 in this file; float64 arrays, same bits."""
    q = draw(np.random.default_rng(seed), FLOAT32)
    out = forward(q)
    found = [out.y, out.a, out.states, *vars(backward(q, out.caches)).values()]
    r = SimpleNamespace(**vars(q))
    for name in ("network", "states", "dz", "da", "dstates", *["x"] * (q.input == "dense")):
        setattr(r, name, changed(getattr(q, name), rounded(np.float64)))
    again = forward(r)
    same_bits([again.y, again.a, again.states, *vars(backward(r, again.caches)).values()], found)
    r.cells = [CELLS[FLOAT32.index(cell)] for cell in q.cells]
    out = forward(r)
    want = [out.y, out.a, out.states, *vars(backward(r, out.caches)).values()]
    for one, other in zip(leaves(found), leaves(want), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one.dtype, other.dtype) == (np.float32, np.float64)
            close(one, other, 1e-12)


@every_build
@pytest.mark.parametrize("shape", [(40, 70, 9, 20), (90, 150, 1, 30), (20, 37, 45, 3), (11, 130, 30, 33)], ids=str)
@pytest.mark.parametrize("shortest", [None, 0])
def test_larger_networks(shape, shortest):
    """Several blocks, few steps in one block, one example, weights beyond a core's caches."""
    n_x, n_a, m, T_x = shape
    rng = np.random.default_rng(shape)
    q = build([LSTM, GRU_AFTER, RNN], [True, False, True], [n_a, 33, 9], rng, n_x, m, T_x, shortest=shortest)
    check_against_each_alone(q)


@every_build
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_one_layer_is_the_function_of_the_layer(cell):
    rng = np.random.default_rng(0)
    q = build([cell], [False], [21], rng, n_x=7, m=9, T_x=33, shortest=0)
    q.dz = None
    out = forward(q)
    back = backward(q, out.caches)
    state = q.states[0] if cell.memory else (q.states[0],)
    p = q.network[0] | dict(zip(cell.output, q.network[1].values(), strict=True))
    how = {"c0": state[1]} if cell.memory else {}
    a, y, *_, caches = cell.function("forward")(q.x, state[0], p, lengths=q.lengths, **how)
    assert_array_equal(out.a, a)
    assert_array_equal(out.y, y)
    da = q.da.copy()  # the gradient of the last state is one of the hidden states of the last step
    last = np.maximum(q.lengths - 1, 0)
    end = q.dstates[0][0] if cell.memory else q.dstates[0]
    da[:, np.arange(q.m), last] += end
    dc = None
    if cell.memory:
        dc = np.zeros_like(da)
        dc[:, np.arange(q.m), last] = q.dstates[0][1]
    want = cell.function("backward")(da, caches, **({"dc": dc} if cell.memory else {}))
    close(back.dx, want["dx"], 1e-14)
    for name, value in back.gradients[0].items():
        close(value, want[name], 1e-13)
    assert list(back.gradients[0]) == ["d" + name for name in cell.inputs]
    some = q.lengths > 0
    close((back.dstates[0][0] if cell.memory else back.dstates[0])[:, some], want["da0"][:, some], 1e-14)


def test_no_examples_and_no_steps():
    for m, T_x in ((0, 5), (4, 0)):
        for shortest in (None, 0):
            q = build([LSTM, RNN], [True, False], [3, 4], np.random.default_rng(0), m=m, T_x=T_x, shortest=shortest)
            out = forward(q)
            assert (out.y.shape, out.a.shape) == ((2, m, T_x), (4, m, T_x))
            same_bits(out.states, q.states)
            back = backward(q, out.caches)
            assert back.dx.shape == q.x.shape
            same_bits(back.dstates, q.dstates)
            assert not any(gradient.any() for gradient in leaves(back.gradients))


def test_states_may_be_left_out():
    """None for zeros, of all, of a layer, of a direction, of one of the states; one column for all examples."""
    q = build([LSTM, RNN, LSTM], [True, False, False], [3, 4, 5], np.random.default_rng(0))
    (fa, fc), (ba, bc) = q.states[0]
    zero = np.zeros_like(fa)
    for given, full in (
        (None, [((zero, zero), (zero, zero)), np.zeros((4, 4)), (np.zeros((5, 4)),) * 2]),
        ([None, q.states[1], None], [((zero, zero), (zero, zero)), q.states[1], (np.zeros((5, 4)),) * 2]),
        ([(None, (ba, None)), *q.states[1:]], [((zero, zero), (ba, zero)), *q.states[1:]]),
        ([[[fa, None], None], *q.states[1:]], [((fa, zero), (zero, zero)), *q.states[1:]]),
        (
            [((fa[:, :1], fc), (ba, bc)), *q.states[1:]],
            [((fa[:, :1].repeat(4, 1), fc), (ba, bc)), *q.states[1:]],
        ),
    ):
        q.states = given
        out = forward(q)
        q.dstates = None if given is None else given
        back = backward(q, out.caches)
        q.states = full
        want = forward(q)
        same_bits([out.y, out.a, out.states], [want.y, want.a, want.states])
        q.dstates = full
        want = backward(q, want.caches)
        same_bits([back.gradients, back.dx, back.dstates], [want.gradients, want.dx, want.dstates])


# Gradients


@pytest.fixture
def torch():
    """PyTorch on one thread: its threads spin while they wait for each other on a busy machine."""
    module = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)  # the setting is that of the OpenMP that it shares with the kernels


@every_build
@pytest.mark.parametrize("seed", range(24))
def test_against_torch(seed, torch):
    """Each layer a module of its own, so that cells may be mixed; packed sequences, of any lengths."""
    from test_torch import SUFFIXES, gradients_of, twin

    rng = np.random.default_rng(seed)
    q = draw(rng, [RNN, LSTM, GRU_AFTER], most=30, shortest=1)
    out = forward(q, output="linear")
    back = backward(q, out.caches)

    def leaf(array):
        return torch.tensor(np.asarray(array), requires_grad=True)

    steps = torch.full((q.m,), q.T_x) if q.lengths is None else torch.tensor(q.lengths)
    E = leaf(q.network[0]["E"]) if q.input == "embedding" else None
    n_x = len(q.network[0]["E"]) if E is not None else len(q.x)
    if q.input == "dense":
        x = leaf(q.x)
    else:
        n_x = n_x if E is not None else cyrnn_inputs(q)
        x = (E if E is not None else torch.eye(n_x, dtype=torch.float64))[:, torch.tensor(q.x)]
    begin = [leaf(v) for v in leaves(q.states if q.states is not None else per_direction(q, zeros(q)))]
    below, given, ends, modules = x.permute(1, 2, 0), iter(begin), [], []
    layers = q.network[E is not None :]
    for cell, pair, n_a, layer in zip(q.cells, q.pairs, q.sizes, layers, strict=False):
        directions = layer if pair else (layer,)
        modules.append(twin(cell, below.shape[2], n_a, *directions))
        states = [[next(given).T for _ in cell.states] for _ in directions]
        start = tuple(torch.stack([one[k] for one in states]) for k in range(len(cell.states)))
        packed = torch.nn.utils.rnn.pack_padded_sequence(below, steps, batch_first=True, enforce_sorted=False)
        packed, last = modules[-1](packed, start if cell.memory else start[0])
        below, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=q.T_x)
        last = last if cell.memory else (last,)
        ends += [last[k][d].T for d in range(len(directions)) for k in range(len(cell.states))]
    a = below.permute(2, 0, 1)
    loss = (a * torch.tensor(q.da)).sum()
    loss = loss + sum((end * torch.tensor(d)).sum() for end, d in zip(ends, leaves(q.dstates), strict=True))
    if q.n_y is not None:
        Wy, by = (leaf(value) for value in q.network[-1].values())
        inside = torch.arange(q.T_x) < steps[:, None]
        z = (torch.einsum("yu,umt->ymt", Wy, a) + by[:, :, None]) * inside
        loss = loss + (z * torch.tensor(q.dz)).sum()
        close(out.y, z.detach().numpy(), 1e-12)
    loss.backward()
    close(out.a, a.detach().numpy(), 1e-12)
    for ours, theirs in zip(leaves(out.states), ends, strict=True):
        close(ours, theirs.detach().numpy(), 1e-12)
    for ours, theirs in zip(leaves(back.dstates), begin, strict=True):
        close(ours, theirs.grad.numpy(), 1e-11)
    if q.input == "dense":
        close(back.dx, x.grad.numpy(), 1e-11)
    if E is not None:
        close(back.gradients[0]["dE"], E.grad.numpy(), 1e-11)
    if q.n_y is not None:
        close(back.gradients[-1]["dWy"], Wy.grad.numpy(), 1e-11)
        close(back.gradients[-1]["dby"], by.grad.numpy(), 1e-11)
    for cell, module, gradients in zip(q.cells, modules, back.gradients[E is not None :], strict=False):
        directions = gradients if isinstance(gradients, tuple) else (gradients,)
        for suffix, found in zip(SUFFIXES, directions, strict=False):
            want = gradients_of(cell, module, suffix)
            assert found.keys() == want.keys()
            for name, value in want.items():
                close(found[name], value, 1e-11)


def cyrnn_inputs(q):
    """The number of inputs of the first layer, of which the input has none of its own."""
    first = q.network[0][0] if q.pairs[0] else q.network[0]
    return first["Wax"].shape[1] if "Wax" in first else next(iter(first.values())).shape[1] - q.sizes[0]


def zeros(q):
    return lambda cell, n_a: (np.zeros((n_a, q.m)),) * 2 if cell.memory else np.zeros((n_a, q.m))


@every_build
@pytest.mark.parametrize("seed", range(16))
def test_against_differences(seed):
    """Every array along a random direction of its own, and all together."""
    rng = np.random.default_rng(seed)
    q = draw(rng, given=True, cells=CELLS if seed % 2 else [GRU_BEFORE])
    back = backward(q, forward(q).caches)
    values = [q.network, q.states, *[q.x] * (q.input == "dense")]
    gradients = leaves([back.gradients, back.dstates, *[back.dx] * (q.input == "dense")])
    directions = [rng.standard_normal(v.shape) / np.sqrt(v.size) for v in leaves(values)]
    assert [g.shape for g in gradients] == [d.shape for d in directions]

    def loss(step, chosen):
        moves = iter([direction * (k in chosen) for k, direction in enumerate(directions)])
        network, states, *x = changed(values, lambda v: v + step * SHORT * next(moves))
        y, a, ends, _ = cyrnn.network_forward(
            x[0] if x else q.x, network, states=states, lengths=q.lengths, output="linear", cache=False
        )
        pairs = [(a, q.da), *([(y, q.dz)] if y is not None else []), *zip(leaves(ends), leaves(q.dstates), strict=True)]
        terms = [left * right for left, right in pairs]
        return sum(term.sum() for term in terms), sum(np.abs(term).sum() for term in terms)

    for chosen in (*([k] for k in range(len(directions))), range(len(directions))):
        at = [loss(step, chosen)[0] for step in (-2, -1, 1, 2)]
        numeric = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * SHORT)
        terms = [gradients[k] * directions[k] for k in chosen]
        scale = sum(np.abs(term).sum() for term in terms) + 1e-3 * loss(0, ())[1]
        assert abs(numeric - sum(term.sum() for term in terms)) <= TOLERANCE * max(scale, 1.0)


class Unread(dict):
    """Entries that are there, and that no function may read."""

    def __getitem__(self, key):
        raise AssertionError(f"{key} was read")


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_without_an_output_its_entries_are_not_read(pair, dtype):
    """Nor are they needed for the gradients, where those of the output layer are zeros of their shapes."""
    network = cyrnn.initialize_network("gru", 3, [5, 4], 2, 0, bidirectional=pair, dtype=dtype)
    x = np.random.default_rng(0).normal(size=(3, 6, 8))
    y, a, states, caches = cyrnn.network_forward(x, network, output=None, dtype=dtype)
    assert y is None
    assert_array_equal(a, cyrnn.network_forward(x, network, dtype=dtype)[1])
    gradients, dx, _ = cyrnn.network_backward(caches, da=a)
    want, want_dx, _ = cyrnn.network_backward(cyrnn.network_forward(x, network, dtype=dtype)[3], da=a)
    same_bits([gradients, dx], [want, want_dx])
    assert not any(value.any() for value in gradients[-1].values())
    same_bits(cyrnn.network_backward(cyrnn.network_forward(x, network[:-1], dtype=dtype)[3], da=a)[0], want[:-1])
    unread = [*network[:-1], Unread(network[-1])]
    for cache in (True, False):
        found = cyrnn.network_forward(x, unread, output=None, cache=cache, dtype=dtype)
        same_bits([found[1], found[2]], [a, states])
    if not pair:
        assert_array_equal(cyrnn.Stream(unread, 6, output=None, dtype=dtype).run(x)[0], a)


def test_only_what_is_given_reaches_back():
    """Gradients that are left out are zeros; what reaches back is linear in what is given."""
    q = build([LSTM, GRU_BEFORE], [True, True], [3, 4], np.random.default_rng(0), shortest=0)
    caches = forward(q).caches
    every = {"dz": q.dz, "da": q.da, "dstates": q.dstates}
    nothing = cyrnn.network_backward(caches)
    assert not any(gradient.any() for gradient in leaves([nothing]))
    parts = [leaves([cyrnn.network_backward(caches, **{name: value})]) for name, value in every.items()]
    whole = leaves([cyrnn.network_backward(caches, **every)])
    for found, *each in zip(whole, *parts, strict=True):
        close(found, sum(each), 1e-13)


# The same bits


@needs_openmp
@pytest.mark.usefixtures("build", "_every_call_is_worth_it")
@pytest.mark.parametrize(
    "shape", [(3, 5, 13, 6), (33, 37, 19, 40), (40, 270, 2, 5), (9, 333, 9, 12), (20, 40, 1, 70)], ids=str
)
@pytest.mark.parametrize("shortest", [None, 0])
def test_same_bits_for_every_number_of_threads(shape, shortest):
    n_x, n_a, m, T_x = shape
    q = build([LSTM, GRU_BEFORE, RNN], [True, False, True], [n_a, 21, 9], np.random.default_rng(0), n_x, m, T_x,
              shortest=shortest)  # fmt: skip
    found = []
    try:
        for n in (1, 2, 3):
            cyrnn.set_num_threads(n)
            out, only = forward(q), forward(q, cache=False)
            same_bits([only.y, only.a, only.states], [out.y, out.a, out.states])
            back = backward(q, out.caches)
            found.append([out.y, out.a, out.states, back.gradients, back.dx, back.dstates])
    finally:
        cyrnn.set_num_threads(None)
    same_bits(found[1], found[0])
    same_bits(found[2], found[0])


@needs_openmp
@pytest.mark.usefixtures("_every_call_is_worth_it")
@pytest.mark.parametrize(("pair", "count"), [(True, 2), (False, 1)])
def test_two_directions_of_one_example_take_a_thread_each(pair, count):
    """Where there is nothing else to split: few units, one example."""
    q = build([LSTM], [pair], [40], np.random.default_rng(0), m=1, T_x=20_000)
    caches, seen = forward(q).caches, []
    cyrnn.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            for call in (lambda: forward(q), lambda: backward(q, caches)):
                found = 0
                for _ in range(20):  # the other thread may not have looked
                    future = pool.submit(call)
                    while not future.done():
                        found = max(found, threads.busy_threads())
                    if found == count:
                        break
                seen.append(found)
    finally:
        cyrnn.set_num_threads(None)
    assert seen == [count] * 2


@every_build
@pytest.mark.parametrize("seed", range(12))
def test_a_sequence_in_chunks(seed):
    """Left to right, in pieces with the states carried forward and their gradients carried back."""
    rng = np.random.default_rng(seed)
    q = draw(rng, pairs=False, T_x=23)
    out = forward(q)
    whole = backward(q, out.caches)
    cuts = [0, *sorted(rng.integers(0, 24, size=3)), 23]
    states, chunks = q.states, []
    for begin, end in itertools.pairwise(cuts):
        lengths = None if q.lengths is None else np.clip(q.lengths - begin, 0, end - begin)
        y, a, states, caches = cyrnn.network_forward(q.x[..., begin:end], q.network, states=states, lengths=lengths)
        assert_array_equal(a, out.a[:, :, begin:end])
        if y is not None:
            assert_array_equal(y, out.y[:, :, begin:end])
        chunks.append((begin, end, caches))
    same_bits(states, out.states)
    dstates, total = q.dstates, None
    for begin, end, caches in reversed(chunks):
        dz = None if q.dz is None else q.dz[:, :, begin:end]
        gradients, dx, dstates = cyrnn.network_backward(caches, dz=dz, da=q.da[:, :, begin:end], dstates=dstates)
        if dx is not None:
            assert_array_equal(dx, whole.dx[:, :, begin:end])
        total = leaves(gradients) if total is None else [a + b for a, b in zip(total, leaves(gradients), strict=True)]
    same_bits(dstates, whole.dstates)
    for found, want in zip(total, leaves(whole.gradients), strict=True):
        close(found, want, 1e-12)


def test_arguments_in_any_form():
    """Lists, float32, strides; tuples for the network; nothing of the caller's is changed."""
    q = build([GRU_AFTER, LSTM], [True, False], [3, 4], np.random.default_rng(0), shortest=1)
    for values in (q.network, q.states, q.dstates, [q.x, q.dz, q.da]):
        for array in leaves(values):
            array[...] = array.astype(np.float32)
    out = forward(q)
    back = backward(q, out.caches)
    for how in (
        np.ndarray.tolist, lambda v: v.astype(np.float32), np.asfortranarray,
        lambda v: np.repeat(v, 2, axis=-1)[..., ::2], lambda v: v[::-1].copy()[::-1],
    ):  # fmt: skip
        given = q.network, q.states, q.dstates, [q.x, q.dz, q.da]
        network, states, dstates, (x, dz, da) = (changed(v, how) for v in given)
        kept = [changed(v, np.array) for v in leaves([network, states, x]) if isinstance(v, np.ndarray)]
        y, a, ends, caches = cyrnn.network_forward(x, tuple(network), states=states, lengths=q.lengths.tolist())
        same_bits([y, a, ends], [out.y, out.a, out.states])
        found = cyrnn.network_backward(caches, dz=dz, da=da, dstates=dstates)
        same_bits([*found], [back.gradients, back.dx, back.dstates])
        same_bits([v for v in leaves([network, states, x]) if isinstance(v, np.ndarray)], kept)


# Updates


def flat(nested, place=""):
    """One dict of all the arrays, under names that are unique."""
    if isinstance(nested, dict):
        return {key + place: value for key, value in nested.items()}
    return {key: value for k, entry in enumerate(nested) for key, value in flat(entry, f"{place}_{k}").items()}


def test_updates_of_a_network_are_those_of_its_dicts():
    q = build([LSTM, GRU_BEFORE], [True, False], [3, 4], np.random.default_rng(0), input="embedding")
    gradients = backward(q, forward(q).caches).gradients
    clipped, norm = cyrnn.clip_gradients(gradients, norm=0.5)
    want, want_norm = cyrnn.clip_gradients(flat(gradients), norm=0.5)
    assert norm == want_norm
    same_bits(clipped, want)
    assert [type(entry) for entry in clipped] == [type(entry) for entry in q.network]
    for update in ("adam", "gd"):
        network = changed(q.network, np.copy)
        one = flat(changed(q.network, np.copy))
        ours, theirs = cyrnn.initialize_adam(network), cyrnn.initialize_adam(one)
        for t in range(1, 4):
            if update == "adam":
                cyrnn.update_parameters_with_adam(network, clipped, *ours, t, 0.1, weight_decay=0.01)
                cyrnn.update_parameters_with_adam(one, want, *theirs, t, 0.1, weight_decay=0.01)
            else:
                assert cyrnn.update_parameters_with_gd(network, clipped, 0.1) is network
                cyrnn.update_parameters_with_gd(one, want, 0.1)
            same_bits(network, one)
        same_bits(list(ours), list(theirs))
        assert not any(np.array_equal(a, b) for a, b in zip(leaves(network), leaves(q.network), strict=True))


@pytest.mark.parametrize(
    ("at", "name"),
    [(0, "[0]['E']"), (1, "[1][0]['Wf']"), (9, "[1][1]['Wf']"), (-3, "[2]['bc']"), (-2, "[3]['Wy']")],
)
def test_caches_older_than_an_update(at, name):
    q = build([LSTM, GRU_BEFORE], [True, False], [3, 4], np.random.default_rng(0), input="embedding")
    out = forward(q)
    cyrnn.update_parameters_with_gd({"other": np.zeros(3)}, {"dother": np.zeros(3)}, 0.1)
    backward(q, out.caches)  # of arrays of others
    array = leaves(q.network)[at]
    cyrnn.update_parameters_with_gd({"W": array}, {"dW": np.zeros_like(array)}, 0.1)
    with pytest.raises(RuntimeError, match=re.escape(f"caches: network{name} was updated in place")):
        backward(q, out.caches)
    backward(q, forward(q).caches)


# What does not fit


def put(value, *where):
    """A change of a nested list: `value`, or what it gives for what is there, in this place."""

    def change(nested):
        k, *rest = where
        copy = dict(nested) if isinstance(nested, dict) else list(nested)
        copy[k] = put(value, *rest)(nested[k]) if rest else value(nested[k]) if callable(value) else value
        return copy if isinstance(nested, dict) else type(nested)(copy)

    return change


def without(name):
    return lambda entry: {key: value for key, value in entry.items() if key != name}


RECURRENT = recurrent(GRU_BEFORE, 3, 3, np.random.default_rng(1))
WIDER = recurrent(LSTM, 3, 4, np.random.default_rng(1))
# Of an embedding (3, 9), an LSTM of both directions with 3 units, a GRU with 4, an output layer
NETWORKS = [
    (lambda n: {"a": n}, TypeError, r"network: expected a list of layers, got dict"),
    (lambda n: None, TypeError, r"network: expected a list of layers, got NoneType"),
    (lambda n: [], ValueError, r"network: expected one recurrent layer at least, got none"),
    (lambda n: [n[0], n[3]], ValueError, r"network: expected one recurrent layer at least, got none"),
    (lambda n: n[:3] + n[1:], (ValueError, KeyError), r"network\[3\]"),
    (put(7, 2), TypeError, r"network\[2\]: expected the parameters of a layer, or a pair of them .*, got int"),
    (put(lambda p: (*p, p[0]), 1), TypeError, r"network\[1\]: expected .* a pair of them .*, got 3 entries"),
    (put(lambda p: (), 1), TypeError, r"network\[1\]: expected .* a pair of them .*, got 0 entries"),
    (put(None, 1, 1), TypeError, r"network\[1\]\[1\]: expected the parameters of a layer.*, got NoneType"),
    (put({}, 2), (KeyError, ValueError), r"network\[2\]: "),
    (put(RECURRENT, 1, 1), ValueError, r"network\[1\]\[1\]: expected an LSTM, as network\[1\]\[0\], got a GRU"),
    (put(WIDER, 1, 1), ValueError, r"network\[1\]\[1\]: expected n_a = 3 units, as network\[1\]\[0\], got 4"),
    (put(RECURRENT, 2), ValueError, r"network\[2\]\['W[urc]'\]: expected shape .* n_x = 6 units of network\[1\], got "),
    (put(without("bf"), 1, 0), KeyError, r"network\[1\]\[0\]: expected an entry 'bf'"),
    (put(lambda W: W[:, 1:], 1, 1, "Wf"), ValueError, r"network\[1\]\[1\]\['W[fico]'\]: expected shape .* got \(3, "),
    (put(lambda W: W[:, :-1], 1, 1, "Wo"), ValueError, r"network\[1\]\[1\]\['Wo'\]: expected shape .*, got \(3, 5\)"),
    (put(lambda b: b[:, 0], 2, "bc"), ValueError, r"network\[2\]\['bc'\]: expected .*, got "),
    (put("text", 2, "Wc"), TypeError, r"network\[2\]\['Wc'\]: "),
    (put(lambda W: W + 1j, 1, 0, "Wi"), TypeError, r"network\[1\]\[0\]\['Wi'\]: "),
    (put(lambda p: p | {"Wy": 1}, 2), ValueError, r"network\[2\]: expected the recurrent parameters alone, got 'Wy'"),
    (put(lambda p: p | {"by": 1}, 1, 0), ValueError, r"network\[1\]\[0\]: expected the recurrent .* got 'by'"),
    (put(lambda p: p | {"b": 1}, 0), ValueError, r"network\[0\]: expected the entries 'E' alone, got 'b'"),
    (put(lambda p: p | {"Wf": 1}, 3), (KeyError, ValueError), r"network\[3\]: "),
    (put(lambda p: p | {"extra": 1}, 3), ValueError, r"network\[3\]: expected the entries 'Wy', 'by' alone"),
    (put(without("by"), 3), KeyError, r"network\[3\]: expected an entry 'by'"),
    (put(lambda W: W[:, 1:], 3, "Wy"), ValueError, r"network\[3\]\['Wy'\]: expected shape .*\(2, 4\), got \(2, 3\)"),
    (put(lambda b: b[1:], 3, "by"), ValueError, r"network\[3\]\['by'\]: expected shape .*\(2, 1\), got \(1, 1\)"),
    (put(lambda E: E[1:], 0, "E"), ValueError, r"network\[1\]\[0\]\['W[fico]'\]: .* n_x = 2 rows of network\[0\]"),
    (put(lambda E: E[0], 0, "E"), ValueError, r"network\[0\]\['E'\]: expected 2 dimensions"),
    (put(lambda E: E[:, :2], 0, "E"), ValueError, r"x: .*got \d for example \d at step \d"),
    (lambda n: n[1:], ValueError, r"x: .*got \d for example \d at step \d"),
    (lambda n: [n[1], n[0], *n[2:]], KeyError, r"network\[1\]: .*got only \['E'\]; an embedding is the first"),
    (lambda n: [*n[:2], n[3], n[2]], KeyError, r"network\[2\]: .*got only .*; the output layer is the last entry"),
]


def example():
    return build([LSTM, GRU_BEFORE], [True, False], [3, 4], np.random.default_rng(0), m=5, T_x=6, input="embedding",
                 shortest=0)  # fmt: skip


def refused(call, q, want, kind, message):
    """The call is refused and names what is wrong; nothing of the caller's is changed; the next call is right."""
    before = [array.tobytes() for array in leaves([q.network, q.states, q.x, q.dz, q.da, q.dstates])]
    with pytest.raises(kind, match=f"^{message}"):
        call()
    assert [array.tobytes() for array in leaves([q.network, q.states, q.x, q.dz, q.da, q.dstates])] == before
    out = forward(q)
    same_bits([out.y, out.a, out.states], want)


def test_networks_that_are_none():
    q = example()
    out = forward(q)
    for change, kind, message in NETWORKS:
        call = partial(cyrnn.network_forward, q.x, change(q.network), states=q.states, lengths=q.lengths)
        refused(call, q, [out.y, out.a, out.states], kind, message)


STATES = [
    (lambda s: {"a": s}, r"states: expected a list of 2 entries, one for each layer, got dict"),
    (lambda s: s[:1], r"states: expected a list of 2 entries, one for each layer, got 1 entries"),
    (lambda s: s[0], r"states\[0\]\[0\]: expected a tuple \(a, c\), got ndarray"),
    (put(lambda s: s[0][0], 0), r"states\[0\]: expected a pair, of both directions, got ndarray"),
    (put(lambda s: s[0], 0, 1), r"states\[0\]\[1\]: expected "),
    (put(lambda s: (*s, s[0]), 0, 1), r"states\[0\]\[1\]: expected "),
    (put(lambda v: v[1:], 0, 1, 0), r"states\[0\]\[1\]\[0\]: expected shape .* got \(2, 5\)"),
    (put(lambda v: v[:, 1:], 0, 0, 1), r"states\[0\]\[0\]\[1\]: expected shape .* got \(3, 4\)"),
    (put(lambda v: (v, v), 1), r"states\[1\]: "),
    (put(lambda v: v.T, 1), r"states\[1\]: expected shape .* got \(5, 4\)"),
    (put("text", 1), r"states\[1\]: "),
]


def test_states_of_another_network():
    q = example()
    out = forward(q)
    want = [out.y, out.a, out.states]
    for change, message in STATES:
        run = partial(cyrnn.network_forward, q.x, q.network, states=change(q.states))
        refused(run, q, want, (TypeError, ValueError), message)
        back = partial(cyrnn.network_backward, out.caches, dz=q.dz, dstates=change(q.dstates))
        refused(back, q, want, (TypeError, ValueError), "d" + message)


def test_other_arguments():
    q = example()
    out = forward(q)
    want = [out.y, out.a, out.states]

    def run(x=q.x, **how):
        return cyrnn.network_forward(x, q.network, **how)

    def back(caches=out.caches, **how):
        return cyrnn.network_backward(caches, **how)

    dense = np.zeros((3, 5, 6))
    for call, kind, message in (
        (lambda: run(dense), ValueError, r"x: expected integers of shape \(m, T_x\), indices for the embedding"),
        (lambda: run(q.x.astype(float)), ValueError, r"x: expected integers of shape \(m, T_x\), indices .* float64"),
        (lambda: run(None), ValueError, "x: expected integers of shape .* dtype object"),
        (lambda: run(np.where(q.x == q.x[2, 3], -1, q.x)), ValueError, r"x: .*got -1 for example \d at step \d"),
        (lambda: run(lengths=[1] * 4), ValueError, r"lengths: expected shape \(m,\) = \(5,\), got \(4,\)"),
        (lambda: run(lengths=[1, 2, 3, 4, 7]), ValueError, r"lengths: "),
        (lambda: run(output="relu"), (TypeError, ValueError), r"output: "),
        (lambda: back(None), TypeError, r"caches: expected what network_forward returned, got None, .* cache=False"),
        (lambda: back(7), TypeError, r"caches: expected what network_forward returned, got int"),
        (lambda: back(dz=q.da), ValueError, r"dz: expected shape \(n_y, m, T_x\) = \(2, 5, 6\), got \(4, 5, 6\)"),
        (lambda: back(da=q.dz), ValueError, r"da: expected shape \(n_a, m, T_x\) = \(4, 5, 6\), got \(2, 5, 6\)"),
        (lambda: back(da="text"), TypeError, r"da: "),
        (lambda: back(dz=q.dz + 1j), TypeError, r"dz: "),
    ):
        refused(call, q, want, kind, message)
    bare = build([LSTM], [True], [3], np.random.default_rng(0), n_y=None)
    caches = forward(bare).caches
    with pytest.raises(ValueError, match=r"^dz: expected None for a network without an output layer"):
        cyrnn.network_backward(caches, dz=q.dz)
    backward(bare, caches)


def test_gradients_nested_otherwise():
    q = example()
    gradients = backward(q, forward(q).caches).gradients
    before = [array.tobytes() for array in leaves(q.network)]
    for change, kind, message in (
        (lambda g: g[:-1], ValueError, r"gradients: expected a list of 4 entries, as parameters, got 3 entries"),
        (put(lambda g: g[0], 1), ValueError, r"gradients\[1\]: expected a list of 2 entries, as parameters\[1\]"),
        (put(without("dWf"), 1, 1), KeyError, r"gradients\[1\]\[1\]: expected an entry 'dWf' for parameters\[1\]\[1\]"),
        (put(lambda g: g * np.nan, 2, "dWc"), ValueError, r"gradients\[2\]\['dWc'\]: expected finite numbers"),
        (put(lambda g: g[1:], 3, "dWy"), ValueError, r"gradients\[3\]\['dWy'\]: expected \(2, 4\), as parameters\[3\]"),
    ):
        wrong = change(gradients)
        with pytest.raises(kind, match=f"^{message}"):
            cyrnn.update_parameters_with_adam(q.network, wrong, *cyrnn.initialize_adam(q.network), 1)
        with pytest.raises(kind, match=f"^{message}"):
            cyrnn.update_parameters_with_gd(q.network, wrong, 0.1)
        assert [array.tobytes() for array in leaves(q.network)] == before


def test_what_is_not_a_number_stays_in_its_example():
    q = build([LSTM, GRU_BEFORE], [True, True], [3, 4], np.random.default_rng(0), m=5)
    out = forward(q)
    q.x[:, 2, 3] = np.nan
    spoilt = forward(q)
    others = np.arange(5) != 2
    assert_array_equal(spoilt.y[:, others], out.y[:, others])
    assert np.isnan(spoilt.y[:, 2]).all()  # it reaches every step, from the one side or the other


# Memory and interrupts


def peak_and_kept(call, *inputs):
    call()
    buffers.release_pool()
    tracemalloc.start()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, kept([*result], {id(value) for value in inputs})


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("shortest", [None, 0])
def test_a_call_needs_little_beside_what_it_returns_and_keeps(pairs, shortest):
    q = build([LSTM] * 4 + [GRU_AFTER], [pairs] * 5, [64] * 4 + [48], np.random.default_rng(0), 32, 32, 60, n_y=16,
              shortest=shortest)  # fmt: skip
    weights = sum(array.nbytes for array in leaves(q.network))
    peak, whole = peak_and_kept(lambda: vars(forward(q)).values(), q.x)
    assert peak < 1.3 * whole + weights
    caches = forward(q).caches
    memory = kept(caches, {id(q.x)})
    peak, returned = peak_and_kept(lambda: vars(backward(q, caches)).values(), q.dz, q.da)
    assert peak < 1.3 * (returned + memory) + weights
    peak, returned = peak_and_kept(lambda: vars(forward(q, cache=False)).values(), q.x)
    columns = q.m * q.T_x if q.lengths is None else q.lengths.sum()
    hidden = 8 * 64 * columns * 2 if pairs else 0  # a layer from right to left reads all steps; two layers at a time
    assert peak < 1.3 * returned + 2.1 * hidden + weights
    assert peak < 0.5 * whole


@every_build
@pytest.mark.parametrize("input", ["dense", "indices", "embedding"])
@pytest.mark.parametrize("shortest", [None, 0])
def test_without_caches_some_steps_of_all_layers_at_a_time(input, shortest):
    """The bits of all steps at once; what is handed on does not grow with the sequence."""
    rng, more = np.random.default_rng(0), []
    for T_x in (700, 1400):
        q = build([LSTM, GRU_AFTER, RNN], [False] * 3, [60, 50, 8], rng, 9, 5, T_x, input, shortest=shortest)
        out = forward(q)
        peak, returned = peak_and_kept(lambda q=q: vars(forward(q, cache=False)).values(), q.x)
        more.append(peak - returned)
        only = forward(q, cache=False)
        same_bits([only.y, only.a, only.states], [out.y, out.a, out.states])
    assert more[1] < 1.4 * more[0] + 8 * 5 * 1400  # the indices are copied


def test_calls_leave_nothing_behind():
    q = example()

    def calls():
        for _ in range(20):
            backward(q, forward(q).caches)
            for change, kind, _ in NETWORKS[5:9]:
                with pytest.raises(kind):
                    cyrnn.network_forward(q.x, change(q.network))

    calls()
    held = [q, *leaves([q.network, q.states, q.x, q.dz, q.da, q.dstates])]
    gc.collect()
    counts = [sys.getrefcount(value) for value in held]
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
    assert counts == [sys.getrefcount(value) for value in held]


@pytest.mark.alone
@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_ends_a_long_call(count, alarm, request):  # noqa: F811
    cyrnn.set_num_threads(count)
    request.addfinalizer(lambda: cyrnn.set_num_threads(None))
    q = build([LSTM, RNN, GRU_BEFORE], [True, False, True], [150, 150, 150], np.random.default_rng(0), 20, 16, 1000,
              shortest=0)  # fmt: skip
    out = forward(q)
    for call in (lambda: forward(q), lambda: backward(q, out.caches)):
        ends_in_time(call, alarm)
    assert_array_equal(forward(q).a, out.a)
