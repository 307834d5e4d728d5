"""exp, tanh, sigmoid and softmax: accuracy against mpmath, limits, shapes."""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import close
from reference import softmax as reference_softmax

import cyrnn
from cyrnn import _kernels

pytestmark = pytest.mark.usefixtures("build")

mpmath.mp.prec = 160
EXACT = {
    "exp": mpmath.exp,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}
MOST_ULP = {"exp": 1.0, "tanh": 1.25, "sigmoid": 1.75}  # docs/numerics.md has the measured maxima


def run(name, x):
    out = np.array(x, dtype=np.float64)
    getattr(_kernels.activations, name)(out)
    return out


def ulp(exact):
    """The unit in the last place of float64 at an exact value."""
    if exact == 0:
        return mpmath.mpf(2) ** -1074
    exponent = int(mpmath.floor(mpmath.log(abs(exact), 2)))
    return mpmath.mpf(2) ** max(exponent - 52, -1074)


def arguments():
    """Everywhere, and densely where something happens."""
    rng = np.random.default_rng(5)
    return np.concatenate([
        rng.uniform(-750, 715, 400),
        rng.uniform(-45, 45, 600),
        rng.uniform(-1, 1, 600),
        rng.normal(size=200) * 1e-3,
        np.ldexp(rng.uniform(-1, 1, 300), rng.integers(-1074, 0, 300)),
        *(np.arange(-40, 41) * np.spacing(at) + at for at in (0.625, -0.625, 0.5 * np.log(2), 20.0, 22.0, 40.0)),
        *(np.arange(-40, 41) * np.spacing(at) + at for at in (-36.7, -37.4, -708.4, -745.1, 709.78)),
        np.log(2) * (np.arange(-60, 60) + 0.5),  # where k changes
        [5e-324, -5e-324, 2.3e-308, 0.0, -0.0],
    ])  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_within_two_ulp(name):
    x = arguments()
    with np.errstate(all="ignore"):
        got = run(name, x)
    worst = 0
    for x_u, y_u in zip(x, got, strict=True):
        exact = EXACT[name](mpmath.mpf(float(x_u)))
        if exact > mpmath.mpf(2) ** 1024:
            assert y_u == np.inf
            continue
        worst = max(worst, abs(mpmath.mpf(float(y_u)) - exact) / ulp(exact))
    assert worst <= MOST_ULP[name]


def test_limits_and_special_values():
    x = [np.inf, -np.inf, np.nan, 0.0, -0.0, 800.0, -800.0]
    assert_array_equal(run("exp", x), [np.inf, 0, np.nan, 1, 1, np.inf, 0])
    assert_array_equal(run("tanh", x), [1, -1, np.nan, 0, -0.0, 1, -1])
    assert_array_equal(run("sigmoid", x), [1, 0, np.nan, 0.5, 0.5, 1, 0])
    assert np.signbit(run("tanh", [-0.0]))[0]
    assert not np.signbit(run("tanh", [0.0]))[0]


def test_symmetry():
    x = arguments()
    assert_array_equal(run("tanh", -x), -run("tanh", x))
    s, t = cyrnn.sigmoid(x), cyrnn.sigmoid(-x)
    assert np.abs(s + t - 1).max() <= np.spacing(1.0)


def test_same_bits_in_every_position():
    """A value is the same in the vector body of a loop and in its tail."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=67) * 3
    for name in EXACT:
        whole = run(name, x)
        for n in range(1, 20):
            for start in (0, 1, 5, 40):
                assert_array_equal(run(name, x[start : start + n]), whole[start : start + n])


def test_sigmoid_shapes():
    x = np.linspace(-3, 3, 24)
    want = cyrnn.sigmoid(x)
    assert_array_equal(cyrnn.sigmoid(x.reshape(2, 3, 4)), want.reshape(2, 3, 4))
    assert_array_equal(cyrnn.sigmoid(np.asfortranarray(x.reshape(4, 6))), want.reshape(4, 6))
    assert_array_equal(cyrnn.sigmoid(x[::2]), want[::2])
    assert cyrnn.sigmoid(np.zeros((0, 3))).shape == (0, 3)
    scalar = cyrnn.sigmoid(0)
    assert scalar == 0.5
    assert isinstance(scalar, float)
    assert not np.shares_memory(cyrnn.sigmoid(x), x)


SOFTMAX_SHAPES = [
    (4,), (1,), (7, 5), (3, 4, 6), (257, 3), (2, 3, 4, 5), (1000, 2), (7, 150), (3, 70, 2), (15, 64), (16, 65)
]  # fmt: skip


@pytest.mark.parametrize("shape", SOFTMAX_SHAPES, ids=str)
def test_softmax(shape):
    x = np.random.default_rng(1).normal(size=shape) * 5
    kept = x.copy()
    y = cyrnn.softmax(x)
    assert_array_equal(x, kept)
    close(y, reference_softmax(x), 1e-15)
    assert y.flags.c_contiguous
    assert np.abs(y.sum(axis=0) - 1).max() <= 4 * np.spacing(1.0)
    assert_array_equal(cyrnn.softmax(np.asfortranarray(x)), y)
    if x.ndim > 1:  # an example alone
        assert_array_equal(cyrnn.softmax(x[:, :1]), y[:, :1])


def test_softmax_takes_the_maximum_per_example():
    y = cyrnn.softmax(np.array([[1000.0, -1000.0, 0.0], [1001.0, -1001.0, 0.0]]))
    assert np.isfinite(y).all()
    close(y, np.array([[1, np.e, 0.5], [np.e, 1, 0.5]]) / np.array([1 + np.e, 1 + np.e, 1]), 1e-15)


def test_softmax_special_values():
    x = np.zeros((3, 5))
    x[1] = [0, -np.inf, np.inf, np.nan, 0]
    with np.errstate(all="ignore"):
        y = cyrnn.softmax(x)
    third = np.full(3, 1 / 3)
    close(y[:, 0], third, 1e-15)
    assert_array_equal(y[:, 1], [0.5, 0, 0.5])
    assert np.isnan(y[1, 2])
    assert np.isnan(y[:, 3]).all()
    close(y[:, 4], third, 1e-15)
    assert cyrnn.softmax(np.zeros((0, 4))).shape == (0, 4)
    assert cyrnn.softmax(np.zeros((4, 0, 2))).shape == (4, 0, 2)


def test_softmax_of_ten_thousand_classes_sums_to_one():
    import math

    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=10_000) * (seed + 1)
        assert abs(math.fsum(cyrnn.softmax(x)) - 1) <= 4 * np.spacing(1.0)
