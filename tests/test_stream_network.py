"""Stream of a network: the bits of network_forward and of its layers one after the other, with fixed memory."""

import contextlib
import copy
import gc
import itertools
import pickle
import re
import signal
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from cells import CELLS, GRU_AFTER, IDS, LSTM, RNN
from networks import changed, rounded
from numpy.testing import assert_array_equal

import cyrnn
from cyrnn import _checks
from cyrnn._kernels.runtime import buffers

every_build = pytest.mark.usefixtures("build")
GRU = next(cell for cell in CELLS if cell.name == "gru_before")

# cells, n_x, units, n_y (None: no output layer), vocabulary (None: no embedding), m, T_x
NETWORKS = [
    ([LSTM], 3, [5], 2, None, 1, 30), ([RNN], 3, [5], 2, 9, 3, 30), ([LSTM, LSTM], 8, [16, 16], 4, None, 1, 40),
    ([LSTM, GRU, RNN], 3, [5, 7, 4], 2, None, 4, 30), ([GRU_AFTER, RNN, LSTM], 4, [9, 33, 6], None, None, 1, 30),
    ([RNN, GRU_AFTER], 6, [40, 3], 20, 31, 1, 50), ([GRU, LSTM], 1, [17, 8], 3, 5, 6, 30), ([RNN, RNN], 0, [3, 1], 1,
    None, 2, 12), ([LSTM, RNN], 130, [140, 30], 5, None, 3, 12), ([LSTM, LSTM], 2, [3, 90], 0, None, 40, 12),
    ([GRU_AFTER, GRU], 5, [4, 4], 2, None, 300, 9),
]  # fmt: skip
IDS_OF_NETWORKS = ["-".join([*(cell.name for cell in row[0]), *map(str, row[2:])]) for row in NETWORKS]
PAIRS = list(itertools.product(CELLS, CELLS))
networks = pytest.mark.parametrize("row", NETWORKS, ids=IDS_OF_NETWORKS)


def layers_of(cells, n_x, units):
    """The recurrent parameters of each layer."""
    found = []
    for k, (cell, n_a) in enumerate(zip(cells, units, strict=True)):
        p = cell.problem(n_x, n_a, 1, 1, 1, seed=k).p
        found.append({key: value for key, value in p.items() if key not in cell.output})
        n_x = n_a
    return found


def built(row, seed=0):
    """A network, its input and the row's m and T_x."""
    cells, n_x, units, n_y, vocabulary, m, T_x = row
    rng = np.random.default_rng(seed)
    network = layers_of(cells, n_x, units)
    if vocabulary is not None:
        network.insert(0, {"E": rng.normal(size=(n_x, vocabulary))})
    if n_y is not None:
        network.append({"Wy": rng.normal(size=(n_y, units[-1])), "by": rng.normal(size=(n_y, 1))})
    x = rng.normal(size=(n_x, m, T_x)) if vocabulary is None else rng.integers(0, vocabulary, (m, T_x))
    return network, x


def at(x, t):
    return x[..., t]


def flat(states):
    """The arrays of all states, in their order."""
    return [array for layer in states for array in (layer if isinstance(layer, tuple) else (layer,))]


def assert_states(found, want):
    assert [type(layer) for layer in found] == [type(layer) for layer in want]
    for one, other in zip(flat(found), flat(want), strict=True):
        assert_array_equal(one, other)


def random_states(row, seed=1):
    cells, _, units, *_ = row
    rng, m = np.random.default_rng(seed), row[5]
    states = []
    for cell, n_a in zip(cells, units, strict=True):
        a = rng.normal(size=(n_a, m))
        states.append((a, rng.normal(size=(n_a, m))) if cell is LSTM else a)
    return states


def new_out(row):
    _, _, units, n_y, _, m, _ = row
    return np.full((units[-1], m), 7.0), None if n_y is None else np.full((n_y, m), 8.0)


def refuse(error, message, call, *args):
    with pytest.raises(error) as caught:
        call(*args)
    assert isinstance(caught.value, error)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]


# ---- the same bits


@networks
def test_steps_and_blocks_of_float32(row):
    network, x = built(row)
    m, T_x = row[5:]
    single = {"dtype": np.float32}
    y_want, a_want, last, _ = cyrnn.network_forward(x, network, states=random_states(row), cache=False, **single)
    stream = cyrnn.Stream(changed(network, rounded(np.float32)), m, output="softmax", **single)
    stream.state = random_states(row)
    a, y = (value if value is None else value.astype(np.float32) for value in new_out(row))
    stream = pickle.loads(pickle.dumps(stream))
    for t in range(T_x // 2):
        stream.step(at(x, t), (a, y))
        assert_array_equal(a, a_want[:, :, t])
        assert y is None or np.array_equal(y, y_want[:, :, t])
    a, y = stream.run(x[..., T_x // 2 :])
    assert a.dtype == np.float32
    assert_array_equal(a, a_want[:, :, T_x // 2 :])
    assert y is None or np.array_equal(y, y_want[:, :, T_x // 2 :])
    assert_states(stream.state, last)


@every_build
@networks
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear", None])
def test_steps_and_blocks_give_the_bits_of_the_network(row, output):
    network, x = built(row)
    m, T_x = row[5:]
    start = random_states(row)
    y_want, a_want, last, _ = cyrnn.network_forward(x, network, states=start, output=output, cache=False)
    stream, out = cyrnn.Stream(network, m, output=output), new_out(row)
    if output is None:
        out = out[0], None
    for pieces in ([1] * T_x, [T_x], [1, 1, 3, 0, 1, T_x - 6], [T_x - 2, 1, 1]):
        stream.state = start
        assert_states(stream.state, start)
        t = 0
        for count in pieces:
            if count == 1:
                a, y = stream.step(at(x, t), out if t % 2 else None)
                a, y = a[:, :, None], None if y is None else y[:, :, None]
            else:
                a, y = stream.run(x[..., t : t + count])
            assert_array_equal(a, a_want[:, :, t : t + count])
            if y_want is None:
                assert y is None
            else:
                assert_array_equal(y, y_want[:, :, t : t + count])
            t += count
        assert t == T_x
        assert_states(stream.state, last)


@every_build
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("cells", PAIRS, ids=lambda cells: "-".join(c.name for c in cells))
def test_two_layers_are_two_streams(cells, m):
    """Blocks longer than those the time loop has, too."""
    lower, upper = layers_of(cells, 4, [11, 6])
    x = np.random.default_rng(2).normal(size=(4, m, 1500))
    both = cyrnn.Stream([lower, upper], m)
    first, second = cyrnn.Stream(lower, m, output=None), cyrnn.Stream(upper, m, output=None)
    a, y = both.run(x)
    assert y is None
    assert_array_equal(a, second.run(first.run(x)[0])[0])
    assert_states(both.state, [first.state, second.state])
    for t in range(5):
        assert_array_equal(both.step(x[:, :, t])[0], second.step(first.step(x[:, :, t])[0])[0])
    assert_states(both.state, [first.state, second.state])


@every_build
@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_an_embedding_is_its_columns(cell, m):
    row = [cell, RNN], 5, [6, 4], 2, 12, m, 700
    network, index = built(row)
    E = network[0]["E"]
    dense, stream = cyrnn.Stream(network[1:], m), cyrnn.Stream(network, m)
    for given in (index, index.astype("u1"), np.asfortranarray(index), index.tolist()):
        dense.reset()
        stream.reset()
        for found, want in zip(stream.run(given), dense.run(E[:, index]), strict=True):
            assert_array_equal(found, want)
        for t in range(4):
            xt = np.asarray(given)[:, t] if t % 2 else index[:, t].tolist()
            for found, want in zip(stream.step(xt), dense.step(E[:, index[:, t]]), strict=True):
                assert_array_equal(found, want)
    kept = stream.state
    dims = r"2 dimensions of dtype float64"
    refuse(ValueError, rf"xt: expected integers of shape \(m\), indices for the embedding network\[0\], got {dims}",
           stream.step, E[:, index[:, 0]])  # fmt: skip
    dims = r"3 dimensions of dtype float64"
    refuse(ValueError, rf"x: expected integers of shape \(m, T_x\), indices for the embedding network\[0\], got {dims}",
           stream.run, E[:, index])  # fmt: skip
    wrong = index.copy()
    wrong[m - 1, 3] = 12
    refuse(ValueError, rf"x: expected indices from 0 to vocabulary - 1 = 11, got 12 for example {m - 1} at step 3",
           stream.run, wrong)  # fmt: skip
    refuse(ValueError, "xt: expected indices from 0 to vocabulary - 1 = 11, got -1 for example 0",
           stream.step, np.full(m, -1))  # fmt: skip
    assert_states(stream.state, kept)
    assert_array_equal(stream.step(index[:, 4])[1], dense.step(E[:, index[:, 4]])[1])


@every_build
def test_the_kernel_itself_takes_no_columns_for_an_embedding():
    """`Stream` asks it for indices only; columns of the width that the layer above reads fit but for that."""
    network, index = built(([LSTM], 5, [6], 2, 12, 3, 7))
    columns = network[0]["E"][:, index]
    stream = cyrnn.Stream(network, 3)
    stream.step(index[:, 0])
    kept = stream.state
    for call in (lambda: stream._net.step(columns[:, :, 0].copy(), None), lambda: stream._net.run(columns)):
        with pytest.raises(_checks.MISFIT):
            call()
        assert_states(stream.state, kept)
    assert stream.run(index)[1].shape == (2, 3, 7)


@every_build
@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_indices_without_an_embedding_are_one_hot_columns(cell, m):
    network, _ = built(([cell, LSTM], 7, [6, 4], 2, None, m, 1))
    index = np.random.default_rng(3).integers(0, 7, (m, 40))
    dense, stream = cyrnn.Stream(network, m), cyrnn.Stream(network, m)
    x = (index == np.arange(7)[:, None, None]).astype(float)
    assert_array_equal(stream.run(index)[1], dense.run(x)[1])
    for t in range(6):  # numbers and indices in turn
        assert_array_equal(stream.step(x[:, :, t] if t % 3 == 2 else index[:, t])[1], dense.step(x[:, :, t])[1])


@every_build
def test_nan_and_infinity_stay_in_their_example():
    row = [LSTM, GRU, RNN], 4, [9, 6, 5], 3, None, 5, 8
    network, x = built(row)
    healthy = cyrnn.network_forward(x, network)[0]
    x[1, 2, 3], x[0, 4, 2], x[2, 1, :] = np.nan, np.inf, -1e300
    want = cyrnn.network_forward(x, network)[0]
    stream = cyrnn.Stream(network, 5)
    for t in range(8):
        y = stream.step(x[:, :, t])[1]
        assert_array_equal(y, want[:, :, t])
        assert_array_equal(y[:, [0, 3]], healthy[:, [0, 3], t])
    assert np.isnan(y[:, 2]).all()


# ---- state, reset, copies


def test_states_are_nested_as_those_of_the_network():
    row = [LSTM, GRU, RNN], 3, [5, 4, 6], 2, None, 3, 8
    network, x = built(row)
    stream = cyrnn.Stream(network, 3)
    assert_states(stream.state, [(np.zeros((5, 3)), np.zeros((5, 3))), np.zeros((4, 3)), np.zeros((6, 3))])
    states = cyrnn.network_forward(x, network)[2]
    stream.run(x)
    saved = stream.state
    assert_states(saved, states)
    ahead = stream.run(x)[1]
    for array in flat(stream.state):
        array[:] = 9.0  # a copy
    given = copy.deepcopy(saved)
    stream.state = tuple(given)
    for array in flat(given):
        array[:] = 9.0  # copied
    assert_states(stream.state, saved)
    assert_array_equal(stream.run(x)[1], ahead)
    (a, c), b, d = saved
    stream.state = [(a[:, :1], None), None, d[:, :1].tolist()]
    repeated = [np.repeat(value[:, :1], 3, 1) for value in (a, d)]
    assert_states(stream.state, [(repeated[0], np.zeros((5, 3))), np.zeros((4, 3)), repeated[1]])
    stream.state = saved
    shape = r": expected shape \(n_a, m\) = \(4, 3\) or \(n_a, 1\), got \(3, 4\)"
    entries = "state: expected a list of 3 entries, one for each layer, got "
    for value, error, message in [
        (None, TypeError, entries + "None"), (a, ValueError, entries + "ndarray"),
        (saved[:2], ValueError, entries + "2 entries"), ([(a, c), b.T, d], ValueError, r"state\[1\]" + shape),
        ([(a, c), b, None, d], ValueError, entries + "4 entries"),
        ([a, b, d], TypeError, r"state\[0\]: expected a tuple \(a, c\), got ndarray"),
        ([(a, b), b, d], ValueError, r"state\[0\]\[1\]: expected shape .*"),
        ([(a + 1, c + 1), b + 1, (d, d)], ValueError, r"state\[2\]: expected shape .*"),
    ]:  # fmt: skip
        refuse(error, message, cyrnn.Stream.state.fset, stream, value)
        assert_states(stream.state, saved)


@every_build
def test_some_examples_are_reset():
    row = [LSTM, GRU, RNN], 3, [5, 4, 6], 2, None, 6, 4
    network, x = built(row)
    start = random_states(row)
    for chosen, given in [([2], 2), ([0, 5], [5, 0]), ([1], np.arange(6) == 1), ([], []), (list(range(6)), None)]:
        stream = cyrnn.Stream(network, 6)
        stream.state = start
        stream.reset(given)
        want = copy.deepcopy(start)
        for array in flat(want):
            array[:, chosen] = 0.0
        assert_states(stream.state, want)
        y = cyrnn.network_forward(x, network, states=want)[0]
        assert_array_equal(stream.run(x)[1], y)
    kept = stream.state
    refuse(ValueError, "examples: expected numbers from 0 to m - 1 = 5, got 6", stream.reset, [0, 6])
    assert_states(stream.state, kept)


COPIES = [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))]


@every_build
@networks
@pytest.mark.parametrize("output", ["sigmoid", None])
def test_parameters_and_copies(row, output):
    network, x = built(row)
    before = copy.deepcopy(network)
    stream = cyrnn.Stream(network, row[5], output=output)
    for entry, kept in zip(network, before, strict=True):
        for key in entry:
            assert entry[key].tobytes() == kept[key].tobytes()  # nothing of the caller's is changed
            entry[key][:] = np.nan  # nor read again
    found = stream.parameters
    want = before[:-1] if output is None and row[3] is not None else before
    assert len(found) == len(want)
    for entry, kept in zip(found, want, strict=True):
        assert set(entry) == set(kept)
        for key, value in entry.items():
            assert type(value) is np.ndarray
            assert value.flags.c_contiguous
            assert value.flags.writeable
            assert value.shape == kept[key].shape
            assert value.tobytes() == kept[key].tobytes()
            value[:] = np.nan  # a copy
    stream.run(x[..., :3])
    kept = stream.state
    others = [way(stream) for way in COPIES]
    a, y = stream.run(x[..., 3:])
    assert_array_equal(a, cyrnn.network_forward(x, before, output=output)[1][:, :, 3:])
    for other in others:
        assert repr(other) == repr(stream)
        assert_states(other.state, kept)
        result = other.run(x[..., 3:])
        assert_array_equal(result[0], a)
        assert result[1] is y is None or np.array_equal(result[1], y)


def test_repr():
    network, _ = built(([LSTM, GRU], 3, [16, 8], 2, None, 1, 1))
    layers = "an LSTM, n_a=16; a GRU, reset before the product, n_a=8"
    assert repr(cyrnn.Stream(network)) == f"<Stream of a network [{layers}]: n_x=3, n_y=2, m=1>"
    embedding = [{"E": np.ones((3, 20))}, *network]
    want = f"<Stream of a network [{layers}]: vocabulary=20, n_x=3, n_y=0, m=4, output=None>"
    assert repr(cyrnn.Stream(embedding, 4, output=None)) == want


# ---- what is refused


def test_what_no_stream_is_made_of():
    network, _ = built(([LSTM, GRU, RNN], 3, [5, 4, 6], 2, 9, 1, 1))
    lstm, gru = network[1:3]
    reason = "expected one direction, got a pair; from right to left a layer begins with the last step, .* to come"
    pair = lstm, copy.deepcopy(lstm)
    refuse(ValueError, rf"network\[1\]: {reason}", cyrnn.Stream, [network[0], pair, *network[2:]])
    refuse(ValueError, rf"network\[0\]: {reason}", cyrnn.Stream, [pair])
    refuse(ValueError, rf"network\[1\]: {reason}", cyrnn.Stream, [lstm, list(pair)])

    def without(k, key):
        return [{name: v for name, v in entry.items() if (i, name) != (k, key)} for i, entry in enumerate(network)]

    def replaced(k, key, value):
        return [entry | ({key: value} if i == k else {}) for i, entry in enumerate(network)]

    refuse(KeyError, r"network\[1\]: expected an entry 'Wo', got only .*", cyrnn.Stream, without(1, "Wo"))
    refuse(KeyError, r"network\[4\]: expected an entry 'by', got only .*", cyrnn.Stream, without(4, "by"))
    for k, key in [(1, "Wf"), (1, "bo"), (2, "Wu"), (3, "Waa"), (0, "E"), (4, "Wy"), (4, "by")]:
        wrong = replaced(k, key, np.ones((99, 98, 1)))
        refuse(ValueError, rf"network\[{k}\]\['{key}'\]: expected .*, got .*", cyrnn.Stream, wrong)
    swapped = [network[0], gru, lstm, *network[3:]]
    refuse(ValueError, r"network\[1\]\['Wu'\]: expected .* = \(4, 7\), with n_x = 3 rows of .*, got \(4, 9\)",
           cyrnn.Stream, swapped)  # fmt: skip
    refuse(ValueError, r"network\[1\]: expected the recurrent parameters alone, got 'Wy' as well.*", cyrnn.Stream,
           replaced(1, "Wy", 1))  # fmt: skip
    nothing = {key: value[:0] if key[0] == "b" else value[:0, 5:] for key, value in lstm.items()}
    refuse(ValueError, r"network\[0\]: expected one unit at least, got n_a = 0", cyrnn.Stream, [nothing])
    refuse(ValueError, "m: expected as many examples as memory can hold, got .*", cyrnn.Stream, network, 1 << 37)
    refuse(ValueError, "output: expected .*, got 'relu'", lambda: cyrnn.Stream(network, output="relu"))
    assert cyrnn.Stream([*network[:4], {"Wy": "never read", "by": None}], output=None).step([0])[1] is None


def test_a_wrong_step_changes_nothing():
    row = [LSTM, RNN], 3, [5, 4], 2, None, 4, 6
    network, x = built(row)
    stream = cyrnn.Stream(network, 4)
    stream.run(x)
    kept, (a, y) = stream.state, new_out(row)
    xt, out = x[:, :, 0], r"out\[{}\]: expected "
    for given, into, error, message in [
        (xt[:2], (a, y), ValueError, r"xt: expected shape \(n_x, m\) = \(3, 4\), got \(2, 4\)"),
        (xt, (np.ones((5, 4)), y), ValueError, out.format(0) + r"shape \(n_a, m\) = \(4, 4\), got \(5, 4\)"),
        (xt, (a, None), TypeError, out.format(1) + "a numpy.ndarray to write into, got NoneType"),
        (xt, (a, a[:2]), ValueError, "out: expected two arrays that share no memory, got two that overlap"),
        (None, None, TypeError, "xt: expected real numbers, got None"),
    ]:
        refuse(error, message, stream.step, given, into)
    assert (a == 7.0).all()
    assert (y == 8.0).all()
    assert_states(stream.state, kept)
    bare, output = cyrnn.Stream(network[:2], 4), r"out\[1\]: expected None, as the network has no output layer, got "
    refuse(TypeError, output + "ndarray", bare.step, xt, (a, y))
    refuse(TypeError, r"out\[1\]: expected None, as output is None, got ndarray",
           cyrnn.Stream(network, 4, output=None).step, xt, (a, y))  # fmt: skip


# ---- memory, threads, interrupts


@pytest.mark.alone
@every_build
@pytest.mark.parametrize("vocabulary", [None, 3000])
@pytest.mark.parametrize("size", [(60, [70, 65], 20, 1), (60, [70, 65, 63], 20, 6), (150, [140, 140], 20, 1)], ids=str)
def test_a_step_with_out_allocates_nothing(size, vocabulary):
    n_x, units, n_y, m = size
    row = [LSTM, GRU, RNN][: len(units)], n_x, units, n_y, vocabulary, m, 2
    network, x = built(row)
    stream, out, xt, strided = cyrnn.Stream(network, m), new_out(row), np.ascontiguousarray(at(x, 0)), at(x, 1)

    def steps(count):
        for _ in itertools.repeat(None, count):
            stream.step(xt, out)
            stream.step(strided, out)

    steps(10)
    gc.collect()
    tracemalloc.start()
    try:
        steps(10)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        steps(100)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 400  # the numbers above, the memoryview of xt; the smallest state is 504
        buffers.release_pool()  # a buffer that is used again may be larger than what is asked for
        tracemalloc.reset_peak()
        results = stream.run(np.repeat(xt[..., None], 2000, -1))
        _, peak = tracemalloc.get_traced_memory()
        inputs = xt.nbytes * 2000
        assert peak - before < inputs + sum(array.nbytes for array in results) + 5_000  # nothing between the layers
    finally:
        tracemalloc.stop()


def test_a_stream_of_a_network_gives_its_memory_back():
    row = [LSTM, LSTM], 60, [120, 100], 30, 500, 1, 1
    network, _ = built(row)
    values = [value for entry in network for value in entry.values()]
    cyrnn.Stream(network)
    gc.collect()
    counts = [sys.getrefcount(value) for value in values]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        streams = [cyrnn.Stream(network) for _ in range(5)]
        del streams
        for _ in range(20):
            with pytest.raises(ValueError, match="by"):
                cyrnn.Stream([*network[:-1], network[-1] | {"by": np.zeros(3)}])
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5_000
    assert counts == [sys.getrefcount(value) for value in values]


@pytest.mark.alone
def test_a_call_during_another_is_refused():
    network, x = built(([LSTM, LSTM], 200, [200, 200], 4, None, 4, 800))
    stream, want = cyrnn.Stream(network, 4), cyrnn.network_forward(x, network, cache=False)[0]
    calls = [
        lambda: stream.state, stream.reset, lambda: copy.copy(stream), lambda: stream.step(x[:, :, 0]),
        lambda: stream.run(x), lambda: setattr(stream, "state", [None, None]),
    ]  # fmt: skip
    for _ in range(10):  # on a busy machine the block may be done before this thread runs again
        stream.reset()
        result, refused = [], 0

        def work(result=result):
            while not result:  # without a GIL the look at the state below may be what is in the stream
                with contextlib.suppress(RuntimeError):
                    result.extend(stream.run(x))

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive() and not refused:
            try:
                _ = stream.state
            except RuntimeError:  # it has begun
                for call in calls:
                    try:
                        call()
                    except RuntimeError as error:
                        refused += str(error) == "this stream is making a step in another thread"
        thread.join()
        if refused == len(calls):
            break
    assert refused == len(calls)
    assert_array_equal(result[1], want)


def test_an_interrupted_run_leaves_all_states():
    network, x = built(([LSTM, GRU, RNN], 64, [128, 64, 32], 4, None, 8, 3))
    stream = cyrnn.Stream(network, m=8)
    stream.run(x)
    before = stream.state

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Stop):
            stream.run(np.broadcast_to(x[:, :, :1], (64, 8, 100_000)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert_states(stream.state, before)
    again = cyrnn.Stream(network, m=8)
    again.state = before
    assert_array_equal(stream.run(x)[1], again.run(x)[1])
