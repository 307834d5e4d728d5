"""Dropout: the mask, what is dropped, the gradient through it, bad input."""

import copy

import numpy as np
import pytest
from cells import CELLS, IDS
from layouts import as_list, float32, fortran, strided_last, swapped
from numpy.testing import assert_array_equal
from test_losses import refuse

import cyrnn
from cyrnn.training import dropout as module

each_shape = pytest.mark.parametrize("shape", [(7, 5, 30), (7, 5), (1, 1, 1), (0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)


@each_shape
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_values(shape, rate):
    a = np.random.default_rng(0).standard_normal(shape)
    before = a.copy()
    dropped, mask = cyrnn.dropout(a, rate, np.random.default_rng(1))
    keep = np.random.default_rng(1).random(shape) >= rate  # the draws, by NumPy
    assert_array_equal(mask, keep * (1 / (1 - rate)))
    assert_array_equal(dropped, a * mask)
    assert_array_equal(a, before)
    for array in (dropped, mask):
        assert array.dtype == np.float64
        assert array.flags.carray
        assert not np.shares_memory(array, a)


def test_one_mask_for_all_steps():
    a = np.random.default_rng(0).standard_normal((7, 5, 30))
    dropped, mask = cyrnn.dropout(a, 0.5, np.random.default_rng(1), variational=True)
    assert mask.shape == (7, 5, 1)
    assert_array_equal(mask, 2.0 * (np.random.default_rng(1).random((7, 5, 1)) >= 0.5))
    assert_array_equal(dropped, a * mask)
    assert len(np.unique(mask)) == 2


def test_many_values():
    """More than are drawn at a time: the draws are those of one call of the generator; the rate and the mean."""
    shape = 3, 50, 1000
    assert np.prod(shape) > 2 * module.CHUNK
    dropped, mask = cyrnn.dropout(np.ones(shape), 0.3, np.random.default_rng(1))
    assert_array_equal(mask > 0, np.random.default_rng(1).random(shape) >= 0.3)
    assert abs((dropped == 0).mean() - 0.3) < 0.01
    assert abs(dropped.mean() - 1) < 0.01


def test_draws():
    """A generator goes on, a seed begins anew."""
    a, rng = np.ones((7, 5, 30)), np.random.default_rng(3)
    first, second = cyrnn.dropout(a, 0.5, rng)[0], cyrnn.dropout(a, 0.5, rng)[0]
    assert not np.array_equal(first, second)
    for seed in (3, np.int64(3)):
        assert_array_equal(cyrnn.dropout(a, 0.5, seed)[0], first)


def test_what_is_dropped_is_zero_whatever_it_was():
    a = np.full((7, 5, 30), np.nan)
    a[:, 0] = np.inf
    for variational in (False, True):
        dropped, mask = cyrnn.dropout(a, 0.5, 1, variational=variational)
        assert_array_equal(dropped, np.where(mask > 0, a, 0.0))


def test_types_and_layouts():
    a = np.round(np.random.default_rng(0).standard_normal((4, 5, 6)), 1).astype(np.float32).astype(float)
    want = cyrnn.dropout(a, 0.5, 1)
    for view in (as_list, fortran, strided_last, swapped):
        got = cyrnn.dropout(view(a), np.float32(0.5), 1, variational=np.False_)
        for one, other in zip(got, want, strict=True):
            assert one.tobytes() == other.tobytes()
    for one in cyrnn.dropout(float32(a), 0.5, 1):
        assert one.dtype == np.float32
        assert 0 < np.count_nonzero(one) < one.size


@pytest.mark.parametrize("cell", CELLS, ids=IDS)
@pytest.mark.parametrize("variational", [False, True])
def test_gradients_pass_through_the_mask(cell, variational):
    """Of a network with dropout on its inputs and its hidden states, with lengths, against central differences."""
    n_x, n_a, n_y, m, T = 3, 4, 2, 3, 5
    rng = np.random.default_rng(0)
    p = cell.initialize(n_x, n_a, n_y, rng)
    x, labels, lengths = rng.standard_normal((n_x, m, T)), rng.integers(0, n_y, (m, T)), [5, 2, 4]
    forward, backward = cell.function("forward"), cell.backward

    def run():
        x_in, x_mask = cyrnn.dropout(x, 0.4, 7, variational=variational)
        a, *_, caches = forward(x_in, None, p, lengths=lengths)
        a_out, a_mask = cyrnn.dropout(a, 0.4, 8, variational=variational)
        loss, dz = cyrnn.cross_entropy(cyrnn.softmax(cyrnn.output_forward(a_out, p)), labels, lengths)
        output = cyrnn.output_backward(dz, a_out, p)
        gradients = output | backward(output["da"] * a_mask, caches)
        return loss, gradients | {"dx": gradients["dx"] * x_mask}

    _, gradients = run()
    arrays = {"x": x, **p}
    for key, array in arrays.items():
        for index in [(0,) * array.ndim, tuple(size - 1 for size in array.shape), (1, *(0,) * (array.ndim - 1))]:
            losses = []
            for step in (1e-6, -2e-6):
                array[index] += step
                losses.append(run()[0])
            array[index] += 1e-6
            assert gradients["d" + key][index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-9), key


def test_bad_input():
    a, drop = np.ones((3, 4, 5)), cyrnn.dropout
    rng = np.random.default_rng(0)
    state = copy.deepcopy(rng.bit_generator.state)
    for bad in (-0.1, 1.0, 1, np.nan, np.inf):
        refuse(ValueError, f"rate: expected a number from 0 up to, not including, 1, got {bad}", drop, a, bad, rng)
    for bad in ("0.5", None, [0.5], 1j, np.array([0.5])):
        refuse(TypeError, r"rate: expected a number from 0 up to, not including, 1, got \w+", drop, a, bad, rng)
    for bad in (a[0, 0], a[None], 1.0):
        refuse(ValueError, r"a: expected shape \(n, m, T_x\) or \(n, m\), got \(.*\)", drop, bad, 0.5, rng)
    refuse(TypeError, "a: expected real numbers, got None", drop, None, 0.5, rng)
    refuse(TypeError, "a: expected real numbers, got dtype complex128", drop, a * 1j, 0.5, rng)
    refuse(ValueError, "a: .* masked", drop, np.ma.masked_equal(a, 1), 0.5, rng)
    for bad in (0.5, True, None, "seed", np.random.RandomState(0)):
        refuse(TypeError, "rng: expected a numpy.random.Generator, .*, or a seed, got .*", drop, a, 0.5, bad)
    refuse(ValueError, "rng: expected a seed of 0 or more, got -1", drop, a, 0.5, -1)
    for bad in (1, "yes", None):
        refuse(TypeError, "variational: expected True or False, got .*", drop, a, 0.5, rng, variational=bad)
    refuse(ValueError, "variational: expected False for one step, .*", drop, a[0], 0.5, rng, variational=True)
    assert rng.bit_generator.state == state  # nothing was drawn
