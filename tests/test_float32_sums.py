"""Gradients are sums over all examples and steps: those of float32 lose no digits by their length."""

import numpy as np
import pytest
from cells import CELLS, IDS

import cyrnn

ROUNDED = 2.0**-24  # the most that a rounding to float32 changes a value, relatively
# The states of float32 are off by roundings too, and their gradients with them.  Plain sums of 48,000 terms: 4e-6.
STATES = 16 * ROUNDED


def distance(found, exact):
    return np.linalg.norm(found.astype(float) - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
@pytest.mark.parametrize(
    ("m", "T_x", "lengths"), [(1, 48_000, None), (400, 120, None), (16, 4000, [4000, 3, 0, 2000] * 4)]
)
def test_gradients_of_many_steps(build, cell, m, T_x, lengths):
    n_x, n_a = 3, 4
    rng = np.random.default_rng(0)
    p = cell.initialize(n_x, n_a, 2, rng, dtype=np.float32)
    x = rng.standard_normal((n_x, m, T_x), np.float32)
    da = rng.standard_normal((n_a, m, T_x), np.float32) + np.float32(0.5)
    forward, backward = cell.function("forward"), cell.function("backward")
    exact = backward(da, forward(x, None, p, lengths=lengths)[-1])
    found = backward(da, forward(x, None, p, lengths=lengths, dtype=np.float32)[-1])
    for name, value in found.items():
        if name.startswith(("dW", "db")):
            assert value.dtype == np.float32
            assert distance(value, exact[name]) < STATES, name


def test_gradients_of_indices(build):
    """Two of them, each about 24,000 times."""
    rng = np.random.default_rng(0)
    p = cyrnn.initialize_parameters("lstm", 2, 4, 2, rng, dtype=np.float32)
    x = rng.integers(0, 2, (16, 3000))
    da = rng.standard_normal((4, 16, 3000), np.float32) + np.float32(0.5)
    exact = cyrnn.lstm_backward(da, cyrnn.lstm_forward(x, None, p)[-1])
    found = cyrnn.lstm_backward(da, cyrnn.lstm_forward(x, None, p, dtype=np.float32)[-1])
    assert distance(found["dWf"], exact["dWf"]) < STATES
    network = [{"E": rng.standard_normal((2, 2), np.float32)}, {key: p[key] for key in p if key not in ("Wy", "by")}]
    exact, *_ = cyrnn.network_backward(cyrnn.network_forward(x, network)[-1], da=da)
    found, *_ = cyrnn.network_backward(cyrnn.network_forward(x, network, dtype=np.float32)[-1], da=da)
    assert distance(found[0]["dE"], exact[0]["dE"]) < STATES


def test_gradients_of_the_output_layer(build):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 40, 500), np.float32) + np.float32(0.5)
    dz = rng.standard_normal((3, 40, 500), np.float32) + np.float32(0.5)
    W = {"Wy": rng.standard_normal((3, 6), np.float32)}
    found, exact = cyrnn.output_backward(dz, a, W), cyrnn.output_backward(dz.astype(float), a.astype(float), W)
    assert found["dWy"].dtype == np.float32
    for name in ("dWy", "dby"):
        assert distance(found[name], exact[name]) < 3 * ROUNDED
