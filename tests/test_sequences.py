"""What stands beside the estimators: padding, batches, last steps, indices, draws, checkpoints."""

import re

import numpy as np
import pytest
from networks import leaves
from numpy.testing import assert_array_equal

import cyrnn


def refused(message, function, *arguments, **named):
    with pytest.raises((TypeError, ValueError, KeyError), match=message):
        function(*arguments, **named)


def test_pad_sequences():
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 3)) for n in (4, 1, 6)]
    x, lengths = cyrnn.pad_sequences(sequences, value=np.nan)
    assert x.shape == (3, 3, 6)
    assert lengths.tolist() == [4, 1, 6]
    for j, sequence in enumerate(sequences):
        assert_array_equal(x[:, j, : len(sequence)], sequence.T)
        assert np.isnan(x[:, j, len(sequence) :]).all()
    network = cyrnn.initialize_network("gru", n_x=3, n_a=4, n_y=2, rng=0, bidirectional=True)
    y, *_ = cyrnn.network_forward(x, network, lengths=lengths)
    alone, *_ = cyrnn.network_forward(sequences[1].T[:, None], network)
    assert_array_equal(y[:, 1:2, :1], alone)
    x, lengths = cyrnn.pad_sequences([[1.5, 2], [3]])
    assert_array_equal(x, [[[1.5, 2], [3, 0]]])
    index, lengths = cyrnn.pad_sequences([[5], np.array([], np.intp), [7, 8]], value=-1)
    assert index.dtype == np.intp
    assert_array_equal(index, [[5, -1], [-1, -1], [7, 8]])
    assert lengths.tolist() == [1, 0, 2]
    refused("sequences: expected one sequence at least", cyrnn.pad_sequences, [])
    refused("sequences: expected a list of sequences, got int", cyrnn.pad_sequences, 3)
    refused(r"sequences\[1\]: expected n_x = 3, as sequences\[0\], got n_x = 2", cyrnn.pad_sequences,
            [np.ones((2, 3)), np.ones((2, 2))])  # fmt: skip
    refused(r"sequences\[1\]: expected real numbers", cyrnn.pad_sequences, [[1.0], ["a"]])
    refused(r"sequences\[0\]: expected a sequence of shape", cyrnn.pad_sequences, [np.ones((2, 3, 4))])


def test_reverse_sequences():
    x, lengths = np.random.default_rng(0).normal(size=(3, 4, 5)), [5, 1, 0, 3]
    want = x.copy()
    for j, n in enumerate(lengths):
        want[:, j, :n] = want[:, j, :n][:, ::-1]
    given = x.copy()
    assert_array_equal(cyrnn.reverse_sequences(x, lengths), want)
    assert_array_equal(cyrnn.reverse_sequences(x), x[:, :, ::-1])
    assert_array_equal(x, given)
    index = np.arange(10).reshape(2, 5)
    found = cyrnn.reverse_sequences(index, [2, 5])
    assert_array_equal(found, [[1, 0, 2, 3, 4], [9, 8, 7, 6, 5]])
    assert found.dtype == index.dtype
    assert cyrnn.reverse_sequences(x.astype(np.float32), lengths).dtype == np.float32
    assert cyrnn.reverse_sequences(np.empty((3, 0, 5))).shape == (3, 0, 5)
    assert cyrnn.reverse_sequences(x[:, :, :0]).shape == (3, 4, 0)
    refused("lengths: expected 0 to T_x = 5 steps, got 6", cyrnn.reverse_sequences, x, [1, 6, 1, 3])
    refused(r"x: expected shape \(n, m, T_x\) or \(m, T_x\), got \(5,\)", cyrnn.reverse_sequences, x[0, 0])


def test_a_layer_from_right_to_left_is_a_reversed_sequence():
    rng, lengths = np.random.default_rng(1), [6, 2, 4]
    network = cyrnn.initialize_network("gru", 2, 3, None, rng, bidirectional=True)
    x = rng.normal(size=(2, 3, 6))
    _, a, *_ = cyrnn.network_forward(x, network, lengths=lengths, output=None)
    turned = cyrnn.reverse_sequences(x, lengths)
    turned, *_ = cyrnn.gru_forward(turned, None, network[0][1], lengths=lengths, output=None)
    assert_array_equal(a[3:], cyrnn.reverse_sequences(turned, lengths))


def test_last_steps():
    a = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert_array_equal(cyrnn.last_steps(a), a[:, :, -1])
    assert_array_equal(cyrnn.last_steps(a, [1, 5, 2, 3]), np.stack([a[:, 0, 0], a[:, 1, 4], a[:, 2, 1], a[:, 3, 2]], 1))
    refused("lengths: expected one step at least of .* none of example 2", cyrnn.last_steps, a, [1, 5, 0, 3])
    refused("lengths: expected 0 to T_x = 5 steps, got 6", cyrnn.last_steps, a, [1, 6, 1, 3])
    refused("a: expected 3 dimensions", cyrnn.last_steps, a[0])
    refused("a: expected one step at least", cyrnn.last_steps, a[:, :, :0])


def test_make_batches():
    lengths = np.random.default_rng(0).integers(1, 100, 1001)
    batches = cyrnn.make_batches(lengths, 16, rng=0)
    assert sorted(np.concatenate(batches)) == list(range(1001))
    assert sorted(map(len, batches)) == [9] + [16] * 62
    assert max(lengths[batch].max() - lengths[batch].min() for batch in batches) < 30
    means = np.array([lengths[batch].mean() for batch in cyrnn.make_batches(lengths, 16, rng=0, pool=100)])
    assert 20 < (np.diff(means) < 0).sum() < 43  # neither from short to long nor back
    for one, other in zip(batches, cyrnn.make_batches(lengths, 16, rng=0), strict=True):
        assert_array_equal(one, other)
    rng = np.random.default_rng(0)
    assert [b.tolist() for b in cyrnn.make_batches(lengths, 16, rng)] != [
        b.tolist() for b in cyrnn.make_batches(lengths, 16, rng)
    ]
    any_lengths = np.concatenate(cyrnn.make_batches(lengths, 16, rng=0, pool=1))
    assert_array_equal(any_lengths, np.random.default_rng(0).permutation(1001))
    refused("pool: expected an integer of 1 or more, got 0", cyrnn.make_batches, lengths, 16, 0, pool=0)
    same = cyrnn.make_batches(np.full(10, 7), 4, rng=1)
    assert_array_equal(np.concatenate(same), np.random.default_rng(1).permutation(10))
    assert cyrnn.make_batches([], 4, rng=1) == []
    refused("batch_size: expected an integer of 1 or more, got 0", cyrnn.make_batches, lengths, 0, 1)
    refused("lengths: expected integers", cyrnn.make_batches, [1.5], 2, 1)
    refused("rng: expected a numpy.random.Generator", cyrnn.make_batches, lengths, 2, None)


def test_one_hot_and_indices():
    index = np.random.default_rng(0).integers(5, size=(4, 7))
    assert_array_equal(cyrnn.one_hot(index, 5), np.eye(5)[:, index])
    refused("indices: expected integers from 0 to n - 1 = 4, got -1 at .1.", cyrnn.one_hot, [0, -1], 5)
    refused("indices: expected integers", cyrnn.one_hot, [0.5], 5)
    found, words = cyrnn.to_indices([["b", "a"], [], ["b"]])
    assert words == ["a", "b"]
    assert [row.tolist() for row in found] == [[1, 0], [], [1]]
    found, same = cyrnn.to_indices(["bab"], words)
    assert same == words


def test_to_indices_refuses_what_is_unknown():
    refused(r"sequences\[1\]: expected entries of the vocabulary, got 'c' at step 2", cyrnn.to_indices,
            ["a", "bac"], ["a", "b"])  # fmt: skip
    refused("vocabulary: expected each entry once, got 'a' twice", cyrnn.to_indices, ["a"], ["a", "b", "a"])
    refused("unknown: expected an entry of the vocabulary, got '.'", cyrnn.to_indices, ["a"], ["a"], unknown="?")
    found, _ = cyrnn.to_indices(["bac"], ["?", "a"], unknown="?")
    assert found[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sample(temperature):
    """Frequencies of 200,000 draws: within five standard deviations of y ** (1 / temperature)."""
    p = np.array([0.5, 0.3, 0.2, 0.0])
    drawn = cyrnn.sample(np.repeat(p[:, None], 200_000, axis=1), np.random.default_rng(0), temperature=temperature)
    want = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    share = np.bincount(drawn, minlength=4) / 200_000
    assert (np.abs(share - want) <= 5 * np.sqrt(want * (1 - want) / 200_000)).all()
    assert share[3] == 0


def test_sample_at_the_ends():
    y = np.array([[1e-300, 0.0], [2e-300, 1.0]])
    assert cyrnn.sample(y, rng=0, temperature=1e-3).tolist() == [1, 1]
    assert cyrnn.sample(y, rng=0, temperature=1e6).shape == (2,)
    refused("y: expected probabilities", cyrnn.sample, [[0.0], [0.0]], 0)
    refused("y: expected probabilities", cyrnn.sample, [[np.nan], [1.0]], 0)
    refused("temperature: expected a finite number above 0", cyrnn.sample, y, 0, temperature=0)
    refused("y: expected 2 dimensions", cyrnn.sample, [0.5, 0.5], 0)


@pytest.mark.parametrize("moments", [True, False])
def test_checkpoint(tmp_path, moments):
    path = tmp_path / "training.npz"
    network = cyrnn.initialize_network("gru", n_x=3, n_a=[5, 4], n_y=2, rng=0, bidirectional=True, vocabulary=7)
    v, s = cyrnn.initialize_adam(network)
    for k, array in enumerate(leaves([v, s])):
        array += k
    names = np.array(["a", "bc"])
    cyrnn.save_checkpoint(path, network, moments=(v, s) if moments else None, step=12, mean=[0.5, 1.5], names=names)
    found = cyrnn.load_checkpoint(path)
    assert found.step == 12
    assert_array_equal(found.arrays["mean"], [0.5, 1.5])
    assert found.arrays["names"].tolist() == ["a", "bc"]
    for one, other in zip(leaves(found.network), leaves(network), strict=True):
        assert_array_equal(one, other)
    assert (found.moments is not None) == moments
    if moments:
        for one, other in zip(leaves(list(found.moments)), leaves([v, s]), strict=True):
            assert_array_equal(one, other)
        assert found.moments[0][1][1].keys() == v[1][1].keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["training.npz"]


def test_training_goes_on_from_a_checkpoint(tmp_path):
    """With the bits of one that was not interrupted."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(3, 8, 5)), rng.integers(2, size=(8, 5))

    def train(network, moments, steps):
        for t in steps:
            y, _, _, caches = cyrnn.network_forward(x, network)
            gradients, _, _ = cyrnn.network_backward(caches, dz=cyrnn.cross_entropy(y, labels)[1])
            cyrnn.update_parameters_with_adam(network, gradients, *moments, t)
        return network

    def new():
        network = cyrnn.initialize_network("lstm", n_x=3, n_a=4, n_y=2, rng=0)
        return network, cyrnn.initialize_adam(network)

    whole = train(*new(), range(1, 9))
    network, moments = new()
    cyrnn.save_checkpoint(tmp_path / "a", train(network, moments, range(1, 4)), moments=moments, step=3)
    found = cyrnn.load_checkpoint(tmp_path / "a")
    for one, other in zip(leaves(whole), leaves(train(found.network, found.moments, range(4, 9))), strict=True):
        assert_array_equal(one, other)


def test_checkpoint_refuses_by_name(tmp_path):
    path = tmp_path / "training.npz"
    network = cyrnn.initialize_network("gru", n_x=3, n_a=5, n_y=2, rng=0)
    v, s = cyrnn.initialize_adam(network)
    cyrnn.save_checkpoint(path, network, step=1)
    before = path.read_bytes()
    save = cyrnn.save_checkpoint
    refused("moments: expected a tuple", save, path, network, moments={"v": v})
    refused("moments: expected those of the network as s", save, path, network, moments=(v, s[1:]))
    refused("moments: expected arrays of the network's shapes as s", save, path, network, moments=(v, s[:1]))
    other = cyrnn.initialize_adam(cyrnn.initialize_network("gru", n_x=3, n_a=4, n_y=2, rng=0))
    refused("moments: expected arrays of the network's shapes as v", save, path, network, moments=other)
    refused("step: expected an integer of 0 or more, got -1", save, path, network, step=-1)
    refused("names: expected an array of numbers or strings, got dtype object", save, path, network, names=[None])
    refused("network: expected finite numbers", save, path, [{**network[0], "bu": np.full((5, 1), np.nan)}, network[1]])
    assert path.read_bytes() == before  # nothing was written
    arrays = dict(np.load(path))

    def broken(message, **changed):
        np.savez(path, **{key: value for key, value in (arrays | changed).items() if value is not None})
        refused(re.escape(str(path)) + message, cyrnn.load_checkpoint, path)

    broken(": expected what save_checkpoint writes, got an array 'other'", other=np.ones(2))
    broken(": expected what save_checkpoint writes", step=None)
    broken(".*Wu", **{"network.0.Wu": None})
    broken(": 0.Wu: expected finite numbers", **{"network.0.Wu": np.full((5, 8), np.nan)})
    broken(".*missing: network.0...bu", **{"v.0.Wu": np.ones((5, 8))})
    one = {"v" + key.removeprefix("network"): value for key, value in arrays.items() if key.startswith("network")}
    broken(": expected moments v and s", **one)
    broken(".*pickled", **{"arrays.names": np.array([None])})
    path.write_bytes(b"nothing")
    refused("expected a file that numpy.savez made", cyrnn.load_checkpoint, path)
    refused("path: expected a path", cyrnn.load_checkpoint, 3.5)
