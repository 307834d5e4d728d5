"""exp, tanh, sigmoid and softmax: accuracy against mpmath, limits, shapes."""

import math

import mpmath
import numpy as np
import pytest
from cells import CELLS
from hypothesis import given, settings
from hypothesis import strategies as st
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


# Where something changes: k of each function, the two forms of tanh, saturation, underflow, overflow.
SWITCHES = [
    *(np.log(2) * (np.arange(-60, 60) + 0.5)), *(np.log(2) / 2 * (np.arange(-62, 62) + 0.5)),
    0.625, -0.625, 0.5 * np.log(2), 19.06154746539849, -19.06154746539849, 20.0, 22.0, -22.0, 36.7368005696771, 40.0,
    -36.7, -37.4, -708.3964185322641, -709.782712893384, -744.4400719213812, -745.1332191019412, 709.782712893384,
    -746.0, 710.0,
]  # fmt: skip


def run(name, x):
    out = np.array(x, dtype=np.float64)
    getattr(_kernels.f64.activations, name)(out)
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
        *(np.arange(-9, 10) * np.spacing(at) + at for at in SWITCHES),
        *(sign * np.ldexp(1.0 + rng.uniform(size=40), -1023 - np.arange(40)) for sign in (1, -1)),
        [5e-324, -5e-324, 2.3e-308, 0.0, -0.0, 1.7e308, -1.7e308, np.inf, -np.inf],
    ])  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_within_two_ulp(name):
    x = arguments()
    with np.errstate(all="ignore"):
        got = run(name, x)
    worst = 0
    for x_u, y_u in zip(x, got, strict=True):
        exact = EXACT[name](mpmath.mpf(float(x_u)))
        if exact > mpmath.mpf(2) ** 1024 or mpmath.isinf(x_u):
            assert y_u == float(exact)
            continue
        worst = max(worst, abs(mpmath.mpf(float(y_u)) - exact) / ulp(exact))
    assert worst <= MOST_ULP[name]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double")
@pytest.mark.parametrize("name", EXACT)
def test_within_two_ulp_at_a_million_points(name):
    """Against the x87 long double, which is exact to 1/2048 ulp here."""
    rng = np.random.default_rng(11)
    x = np.concatenate([
        np.ldexp(rng.uniform(-1, 1, 200_000), -rng.integers(0, 60, 200_000)),
        rng.uniform(-2, 2, 300_000), rng.uniform(-45, 45, 300_000), rng.uniform(-746, 709.7, 200_000),
    ])  # fmt: skip
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            e = np.exp(-np.abs(wide))
            exact = np.where(wide < 0, e, 1) / (1 + e)
        else:
            exact = getattr(np, name)(wide)
    unit = np.ldexp(np.longdouble(1), np.maximum(np.frexp(exact)[1], -1021) - 53)
    assert (np.abs(run(name, x) - exact) / unit).max() <= MOST_ULP[name]


@pytest.mark.parametrize("name", EXACT)
def test_monotone(name):
    """No value is below that of the float before: at random places, across every switch, over the whole range."""
    rng = np.random.default_rng(17)
    places = np.concatenate([SWITCHES, rng.uniform(-45, 45, 100), np.ldexp(rng.uniform(-1, 1, 100), -np.arange(100))])
    for at in places:
        y = run(name, at + np.arange(-300, 301) * np.spacing(abs(at)))
        assert (y[1:] >= y[:-1]).all(), at
    everywhere = np.concatenate([rng.uniform(-750, 715, 50_000), rng.uniform(-40, 40, 50_000), arguments()])
    with np.errstate(over="ignore"):
        y = run(name, np.sort(everywhere))
    assert (y[1:] >= y[:-1]).all()


def test_saturation_edges():
    """The last float before a limit, and from where on it is reached for good."""
    assert_array_equal(run("exp", [709.782712893384, 709.7827128933841]) == np.inf, [False, True])
    for name in ("exp", "sigmoid"):  # half the smallest subnormal lies between the two
        assert_array_equal(run(name, [-745.1332191019411, -745.1332191019412]), [5e-324, 0])
    for name, edge in (("tanh", 19.06154746539850), ("sigmoid", 36.7368005696771)):  # 2**-54 below 1
        y = run(name, edge * np.array([0.95, 1.02, 2.0, 1e300]))
        assert 1 - 1e-14 < y[0] < 1
        assert_array_equal(y[1:], 1)


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


def sums_to_one(y):
    """Every column, with the sum itself exact."""
    columns = y.reshape(len(y), -1)
    assert (columns >= 0).all()
    for j in range(columns.shape[1]):
        assert abs(math.fsum(columns[:, j]) - 1) <= 4 * np.spacing(1.0)


def test_softmax_of_ten_thousand_classes_sums_to_one():
    for seed in range(5):
        sums_to_one(cyrnn.softmax(np.random.default_rng(seed).normal(size=10_000) * (seed + 1)))


@pytest.mark.parametrize("n", [2, 7, 13, 15, 16, 23, 64, 257, 1000, 10_000])
def test_softmax_of_one_large_and_many_small_ones_sums_to_one(n):
    """Each small one is rounded in the same way when it is added to the large one."""
    rng = np.random.default_rng(n)
    for where in (0, n // 2, n - 1):
        x = np.repeat(-rng.uniform(0, 9, 60)[None], n, axis=0)
        x[where] = 0
        y = cyrnn.softmax(x)
        sums_to_one(y)
        assert_array_equal(cyrnn.softmax(np.asfortranarray(x)), y)  # by rows where fewer than 16 were by columns


LOGITS = st.sampled_from([0.0, -np.inf, 1e308, -1e308, 1.7e308, 5e-324, -5e-324, 700.0, -745.0, 36.0])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    n=st.one_of(st.integers(1, 40), st.integers(1, 10_000)),
    m=st.integers(1, 3),
    scale=st.sampled_from([0.0, 1e-300, 1e-8, 1.0, 7.0, 40.0, 800.0, 1e300]),
    special=st.lists(LOGITS, max_size=6),
    seed=st.integers(0, 2**20),
)
def test_softmax_of_any_logits_sums_to_one(n, m, scale, special, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, m)) * scale
    for value in special:
        x[rng.integers(n, size=max(1, n // 3)), rng.integers(m)] = value
    x[rng.integers(n), np.isneginf(x).all(axis=0)] = 0.0  # all of them -inf: 0/0, NaN as in NumPy
    y = cyrnn.softmax(x)
    sums_to_one(y)
    with np.errstate(over="ignore"):
        assert_array_equal(y[x - x.max(axis=0) < -746], 0)


def test_predictions_sum_to_one():
    """The output layer of every cell, the logits that no weight was drawn for included."""
    for n_y in (3, 15, 16, 1000):
        for cell in CELLS:
            q = cell.problem(4, 6, n_y, 3, 5)
            q.p["by"] = np.random.default_rng(n_y).choice([0.0, -3.0, -np.inf, 1e300, 650.0], (n_y, 1))
            sums_to_one(cell.forward(q).y)
            sums_to_one(cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p).y)
