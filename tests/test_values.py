"""Every output of every function against the oracle, over many shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import close
from rows import each_row

from cyrnn import _kernels
from cyrnn.demo import numpy_reference

# Relative to the largest value: the order of summation is all that differs, and it grows with the
# number of terms (n_a + n_x, and m T_x for the weights) and with the steps that an error travels.
FORWARD = 2e-14
BACKWARD = 1e-13

pytestmark = [
    pytest.mark.usefixtures("build"),
    each_row,
]

SHAPES = [  # n_x, n_a, n_y, m, T_x: 1 in every place, primes, around the vector and panel lengths
    (3, 5, 2, 10, 4),
    (1, 2, 3, 4, 5),
    (2, 1, 3, 4, 5),
    (2, 3, 1, 4, 5),
    (2, 3, 4, 1, 5),
    (2, 3, 4, 5, 1),
    (1, 1, 1, 1, 1),
    (7, 11, 13, 17, 19),
    (64, 100, 9, 7, 6),
    (100, 64, 257, 3, 5),
    (5, 257, 3, 2, 4),
    (33, 31, 32, 6, 9),
    (8, 16, 24, 12, 33),
    (3, 40, 5, 1, 300),
    (4, 9, 2, 300, 3),
    (170, 165, 4, 9, 10),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sequence(cell, shape):
    q = cell.problem(*shape)
    got = cell.forward(q)
    want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da)
    close(got.a, want.a, FORWARD)
    close(got.y, want.y, FORWARD)
    if cell.memory:
        close(got.c, want.c, FORWARD)
    gradients = cell.backward(q.da, got.caches)
    assert list(gradients) == list(want.gradients)
    for name, value in want.gradients.items():
        close(gradients[name], value, BACKWARD)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cell(cell, shape):
    q = cell.problem(*shape)
    xt = q.x[:, :, -1]
    got = cell.cell_forward(xt, q.a0, q.c0, q.p)
    da, dc = q.da[:, :, :1], q.dc
    want = cell.reference(xt[:, :, None], q.a0, q.c0, q.p, da, dc)
    close(got.a, want.a[:, :, 0], FORWARD)
    close(got.y, want.y[:, :, 0], FORWARD)
    if cell.memory:
        close(got.c, want.c[:, :, 0], FORWARD)
    for slot, value in zip(got.cache[2 * len(cell.states) : -2], getattr(want, "gates", ()), strict=True):
        close(slot, value[0], FORWARD)
    gradients = cell.cell_backward(da[:, :, 0], dc, got.cache)
    close(gradients.pop("dxt"), want.gradients.pop("dx")[:, :, 0], BACKWARD)
    close(gradients.pop("da_prev"), want.gradients.pop("da0"), BACKWARD)
    if cell.memory:
        close(gradients.pop("dc_prev"), want.gradients.pop("dc0"), BACKWARD)
    assert gradients.keys() == want.gradients.keys()
    for name, value in want.gradients.items():
        close(gradients[name], value, BACKWARD)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3, st.integers(1, 40), st.integers(1, 20)),
    shorter=st.integers(0, 19),
    seed=st.integers(0, 2**20),
)
def test_random_shapes(cell, shape, shorter, seed):
    q = cell.problem(*shape, seed=seed)
    da = q.da[:, :, : max(1, shape[4] - shorter)]  # fewer steps than the caches
    got = cell.forward(q)
    want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, da)
    close(got.a, want.a, FORWARD)
    close(got.y, want.y, FORWARD)
    gradients = cell.backward(da, got.caches)
    for name, value in want.gradients.items():
        close(gradients[name], value, BACKWARD)


def test_plain_numpy_is_the_same_algorithm(cell):
    """The yardstick of the benchmarks computes what is measured."""
    if _kernels.build != _kernels.available()[0] or cell.dtype is not np.float64:
        pytest.skip("does not use the kernels")
    q = cell.problem(3, 5, 4, 7, 6)
    forward = cell.function("forward", numpy_reference)(q.x, q.a0, q.p)
    want = cell.reference(q.x, q.a0, np.zeros_like(q.a0), q.p, q.da)
    close(forward[0], want.a, FORWARD)
    close(forward[1], want.y, FORWARD)
    gradients = cell.function("backward", numpy_reference)(q.da, forward[-1])
    want.gradients.pop("dc0", None)  # which the notebook does not return
    assert gradients.keys() == want.gradients.keys()
    for name, value in want.gradients.items():
        close(gradients[name], value, BACKWARD)
