"""Cross-entropy (also binary) and mean squared error: the values, the gradients, what is scored, bad input."""

import copy
import math
import re
from functools import partial
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_gradients import TOLERANCE, derivative

import cyrnn
from cyrnn import _kernels

TINY = np.finfo(float).tiny
SHAPES = [
    (2, 10, 4), (3, 1, 1), (1, 3, 2), (17, 5, 3), (100, 3, 5), (70, 1, 1), (5, 9, 30), (300, 2, 40),
    (3, 50, 170), (2, 9000, 1),  # more columns than a block of the kernel
]  # fmt: skip
LOSSES = {
    "classes": cyrnn.cross_entropy,
    "probabilities": cyrnn.cross_entropy,
    "squares": cyrnn.mean_squared_error,
    "sigmoids": cyrnn.binary_cross_entropy,
    "logits": partial(cyrnn.binary_cross_entropy, from_logits=True),
}
OF_OUTPUTS = ["squares", "sigmoids", "logits"]  # whose outputs have terms of their own
SCORED = ["all", "lengths", "weights", "lengths and weights", "outputs", "lengths and outputs"]
each_loss = pytest.mark.parametrize("kind", LOSSES)


def case(kind, n, m, T, seed=0, scored="lengths and weights"):
    """Logits z, what the loss reads of them, labels or targets, lengths and weights."""
    rng = np.random.default_rng([seed, n, m, T])
    z = 3 * rng.standard_normal((n, m, T))
    wanted = {
        "classes": rng.integers(0, n, (m, T)),
        "probabilities": rng.random((n, m, T)),  # the columns do not sum to 1
        "squares": rng.standard_normal((n, m, T)),
        "sigmoids": np.clip(rng.uniform(-1, 2, (n, m, T)), 0, 1),  # a third each 0, 1 and between
        "logits": np.clip(rng.uniform(-1, 2, (n, m, T)), 0, 1),
    }[kind]
    lengths = rng.integers(0, T + 1, m) if "lengths" in scored else None
    shape = (n, m, T) if "outputs" in scored else (m, T)
    weights = rng.random(shape) * rng.integers(0, 2, shape) if "weights" in scored or "outputs" in scored else None
    if lengths is not None:
        lengths[m // 2] = T
    if weights is not None:
        weights[..., m // 2, T // 2] = 0.5
    return SimpleNamespace(kind=kind, z=z, wanted=wanted, lengths=lengths, weights=weights)


def given_of(q):
    """What the loss is given."""
    return {"squares": copy.copy, "logits": copy.copy, "sigmoids": cyrnn.sigmoid}.get(q.kind, cyrnn.softmax)(q.z)


def run(q):
    return LOSSES[q.kind](given_of(q), q.wanted, q.lengths, weights=q.weights)


def terms(kind, z, wanted):
    """The loss of each output and its derivative, one step of a loss whose outputs have terms of their own."""
    if kind == "squares":
        return (z - wanted) ** 2, 2 * (z - wanted)
    if kind == "logits":
        return wanted * np.logaddexp(0, -z) + (1 - wanted) * np.logaddexp(0, z), 1 / (1 + np.exp(-z)) - wanted
    y = cyrnn.sigmoid(z)  # as it is rounded: what is lost there is not in the loss
    return -wanted * np.log(y) - (1 - wanted) * np.log1p(-y), y - wanted


def oracle(q):
    """Loss and dz, a step at a time."""
    n, m, T = q.z.shape
    per_output = q.weights is not None and q.weights.ndim == 3
    total, loss, dz = 0.0, [], np.zeros(q.z.shape)
    for j in range(m):
        for t in range(T if q.lengths is None else q.lengths[j]):
            w = np.broadcast_to(1.0 if q.weights is None else q.weights[..., j, t], n)
            if not w.any():
                continue
            if q.kind in OF_OUTPUTS:
                each, slope = terms(q.kind, q.z[:, j, t], q.wanted[:, j, t])
                total += w.sum()
                loss.extend(w * each)
                dz[:, j, t] = w * slope
            else:
                y = reference.softmax(q.z[:, j, t])
                label = w * (np.eye(n)[q.wanted[j, t]] if q.kind == "classes" else q.wanted[:, j, t])
                total += label.sum() if per_output else w[0]
                loss.extend(-(label * np.log(np.maximum(y, TINY))))
                dz[:, j, t] = y * label.sum() - label
    return math.fsum(loss) / total, dz / total


@each_loss
@pytest.mark.parametrize("scored", SCORED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(kind, shape, scored):
    q = case(kind, *shape, scored=scored)
    want = None
    before = _kernels.build
    try:
        for build in _kernels.available():
            _kernels.use(build)
            if want is None or kind == "sigmoids":  # their rounding is that of the build
                want, dz_want = oracle(q)
            loss, dz = run(q)
            assert type(loss) is float
            assert loss == pytest.approx(want, rel=1e-14, abs=1e-15), build
            np.testing.assert_allclose(dz, dz_want, rtol=0, atol=1e-14 * np.abs(dz_want).max(), err_msg=build)
            assert_array_equal(dz == 0.0, dz_want == 0.0, err_msg=build)
    finally:
        _kernels.use(before)


@pytest.mark.usefixtures("build")
@each_loss
@pytest.mark.parametrize("scored", ["lengths and weights", "outputs"])
def test_gradient_is_that_of_the_logits(kind, scored):
    q = case(kind, 4, 3, 5, scored=scored)
    _, dz = run(q)
    for index in np.ndindex(q.z.shape):
        assert dz[index] == pytest.approx(derivative(lambda: run(q)[0], q.z, index), rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.usefixtures("build")
@each_loss
def test_what_is_not_scored_may_hold_anything(kind):
    for *shape, scored in [(3, 4, 6, "weights"), (3, 30, 6, "weights"), (40, 2, 2, "weights"), (5, 7, 6, "outputs")]:
        q = case(kind, *shape, scored="lengths and " + scored)
        loss, dz = run(q)
        past = np.arange(shape[2]) >= q.lengths[:, None]
        off = past | (q.weights == 0)
        steps_off = off if kind in OF_OUTPUTS or off.ndim == 2 else off.all(axis=0)
        for rubbish in (np.nan, np.inf, -1e300):
            given = given_of(q)
            given[np.broadcast_to(steps_off, given.shape)] = rubbish
            wanted = q.wanted.copy()
            if kind == "classes":
                wanted[steps_off] = -(2**62)
            else:
                wanted[np.broadcast_to(off, wanted.shape)] = rubbish
            weights = q.weights.copy()
            weights[..., past] = rubbish
            again, dz_again = LOSSES[kind](given, wanted, q.lengths, weights=weights)
            assert again == loss
            assert_array_equal(dz_again, dz)


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("n", [2, 3, 40])
def test_probabilities_that_underflow(n):
    z = np.zeros((n, 3, 1))
    z[:2, :, 0] = [[1000.0, -1000.0, 1000.0], [-1000.0, 1000.0, 1000.0]]
    y = cyrnn.softmax(z)
    loss, dz = cyrnn.cross_entropy(y, [[1], [1], [0]])
    want = -np.log(TINY) + np.log(2.0)
    assert loss == pytest.approx(want / 3, rel=1e-15)
    expected = np.zeros((n, 3, 1))
    expected[:2, :, 0] = [[1 / 3, 0.0, -1 / 6], [-1 / 3, 0.0, 1 / 6]]
    np.testing.assert_allclose(dz, expected, rtol=1e-15)
    soft = np.zeros((n, 3, 1))
    soft[1, :2], soft[0, 2] = 1.0, 1.0
    loss_soft, dz_soft = cyrnn.cross_entropy(y, soft)
    assert loss_soft == pytest.approx(loss, rel=1e-15)
    assert_array_equal(dz_soft, dz)


@pytest.mark.usefixtures("build")
def test_gradient_of_a_prediction_near_1_keeps_its_digits():
    y = np.array([[1.0 - 2.0**-40, 2.0**-40]]).T
    _, dz = cyrnn.cross_entropy(np.repeat(y, 3, axis=1), [0, 0, 0])
    assert_array_equal(dz[:, 0], np.array([-(2.0**-40), 2.0**-40]) / 3)


@pytest.mark.usefixtures("build")
@each_loss
def test_one_step_is_a_sequence_of_one(kind):
    for n, m, scored in [(5, 7, "weights"), (3, 400, "weights"), (200, 1, "weights"), (5, 7, "outputs")]:
        q = case(kind, n, m, 1, scored=scored)
        loss, dz = run(q)
        one = copy.copy(q)
        one.z, one.wanted, one.weights = q.z[:, :, 0], q.wanted[..., 0], q.weights[..., 0]
        loss_one, dz_one = run(one)
        assert loss_one == loss
        assert_array_equal(dz_one, dz[:, :, 0])
        # the last step of a sequence is strided
        wide = np.repeat(q.z, 3, axis=2)
        wide[:, :, :2] = np.nan
        one.z = wide[:, :, 2]
        given = np.repeat(given_of(q), 3, axis=2)[:, :, 2]
        assert_array_equal(LOSSES[kind](given, one.wanted, weights=one.weights)[1], dz[:, :, 0])


@each_loss
@pytest.mark.parametrize("scored", ["lengths and weights", "lengths and outputs"])
def test_types_and_layouts(kind, scored):
    q = case(kind, 3, 4, 5, scored=scored)
    q.z = np.round(q.z)
    loss, dz = run(q)
    given, function, wanted = given_of(q), LOSSES[kind], q.wanted
    before = copy.deepcopy((given, wanted, q.lengths, q.weights))
    for view in (
        np.asfortranarray,
        lambda a: a[::1, ...].byteswap().view(a.dtype.newbyteorder()),
        lambda a: a.tolist(),
    ):
        again, dz_again = function(view(given), view(wanted), view(q.lengths), weights=view(q.weights))
        assert again == loss
        assert_array_equal(dz_again, dz)
    for value in (given, wanted, q.lengths, q.weights):
        value.setflags(write=False)
    assert function(given, wanted, q.lengths.astype(np.uint8), weights=q.weights)[0] == loss
    if kind == "classes":
        assert function(given, wanted.astype(np.uint64), q.lengths, weights=q.weights)[0] == loss
    mask = q.weights > 0
    assert (
        function(given, wanted, q.lengths, weights=mask)[0] == function(given, wanted, q.lengths, weights=mask * 1.0)[0]
    )
    for value, kept in zip((given, wanted, q.lengths, q.weights), before, strict=True):
        assert_array_equal(value, kept)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(LOSSES)), st.integers(1, 90), st.integers(1, 12), st.integers(1, 9), st.integers(0, 99),
    st.sampled_from(SCORED),
)  # fmt: skip
def test_any_size(kind, n, m, T, seed, scored):
    q = case(kind, n, m, T, seed, scored)
    loss, dz = run(q)
    want, dz_want = oracle(q)
    assert loss == pytest.approx(want, rel=1e-14, abs=1e-15)
    np.testing.assert_allclose(dz, dz_want, rtol=1e-11, atol=1e-15)


@pytest.mark.usefixtures("build")
def test_log():
    rng = np.random.default_rng(0)
    x = np.concatenate([
        np.exp(rng.uniform(-708, 709, 3000)), 1 + rng.uniform(-0.3, 0.5, 3000), 1 + rng.uniform(-1, 1, 500) * 1e-8,
        [TINY, 1.0, np.nextafter(1, 0), np.nextafter(1, 2), 0.5**0.5, 2**0.5, 2.0, 0.5, np.finfo(float).max],
    ])  # fmt: skip
    got = x.copy()
    _kernels.f64.losses.log(got)
    with mpmath.workprec(200):
        for value, result in zip(x, got, strict=True):
            exact = mpmath.log(mpmath.mpf(value))
            assert abs(mpmath.mpf(result) - exact) <= 0.9 * math.ulp(float(exact)), value


def refuse(error, message, function, *args, **more):
    with pytest.raises(error) as caught:
        function(*args, **more)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]


Y = np.full((3, 4, 5), 1 / 3)
LABELS = np.ones((4, 5), int)
RAGGED = "expected an array of numbers, got a ragged nested sequence"
UNPADDED = "expected an array of numbers, got 2 sequences of 1 to 2 steps: pad them, .*"


def with_value(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


def test_bad_predictions_and_labels():
    ce = cyrnn.cross_entropy
    for bad in (np.nan, np.inf, -np.inf, -0.1, 1.1):
        for labels in (LABELS, Y):
            refuse(
                ValueError, rf"y_pred: expected probabilities from 0 to 1, got {bad} at \[2, 1, 3\]",
                ce, with_value(Y, (2, 1, 3), bad), labels,
            )  # fmt: skip
    for bad in (-1, 3, 2**62, -(2**63)):
        refuse(
            ValueError, rf"labels: expected classes from 0 to n_y - 1 = 2, got {bad} at \[3, 4\]",
            ce, Y, with_value(LABELS, (3, 4), bad),
        )  # fmt: skip
    for bad in (np.nan, np.inf, -0.1):
        refuse(
            ValueError, rf"labels: expected finite numbers that are not negative, got {bad} at \[0, 0, 1\]",
            ce, Y, with_value(Y, (0, 0, 1), bad),
        )  # fmt: skip
    refuse(ValueError, "labels: expected a loss that is finite, got one that overflows", ce, Y, Y * 0 + 1.7e308)
    two = np.full((2, 1), 0.5)  # the loss is finite, the gradient would not be
    refuse(ValueError, "labels: expected a loss that is finite, got one that overflows", ce, two, two + 1e308)
    refuse(TypeError, "labels: expected integers, got dtype float64", ce, Y, LABELS * 1.0)
    refuse(TypeError, "labels: expected integers, got None", ce, Y, None)
    refuse(ValueError, r"labels: expected integers below 2\^63, got \d+", ce, Y, np.full((4, 5), 2**63, np.uint64))
    refuse(ValueError, r"labels: expected shape \(m, T_x\) = \(4, 5\), got \(5, 4\)", ce, Y, LABELS.T)
    refuse(ValueError, r"labels: expected shape \(m, T_x\) = \(4, 5\), got \(4,\)", ce, Y, LABELS[:, 0])
    refuse(ValueError, r"labels: expected shape \(m,\) = \(4,\), got \(5,\)", ce, Y[:, :, 0], LABELS[0])
    refuse(ValueError, r"labels: expected shape \(n_y, m, T_x\) = \(3, 4, 5\), got \(2, 4, 5\)", ce, Y, Y[:2])
    refuse(ValueError, r"labels: expected shape \(n_y, m\) = \(3, 4\), got \(4, 5\)", ce, Y[:, :, 0], LABELS)
    for wrong in (Y[0, 0], Y[None], 0.5):
        refuse(ValueError, r"y_pred: expected shape \(n_y, m, T_x\) or \(n_y, m\), got \(.*\)", ce, wrong, LABELS)
    refuse(ValueError, r"y_pred: expected at least one unit \(n_y\), got shape \(0, 4, 5\)", ce, Y[:0], LABELS)
    refuse(TypeError, "y_pred: expected real numbers, got None", ce, None, LABELS)
    refuse(TypeError, "y_pred: expected real numbers, got dtype complex128", ce, Y * 1j, LABELS)
    refuse(ValueError, f"y_pred: {UNPADDED}", ce, [[1.0], [1.0, 2.0]], LABELS)
    refuse(ValueError, f"labels: {UNPADDED}", ce, Y, [[1], [1, 2]])


def test_bad_targets():
    mse = cyrnn.mean_squared_error
    for bad in (np.nan, np.inf):
        refuse(
            ValueError, rf"z: expected finite numbers, got {bad} at \[0, 1, 2\]", mse, with_value(Y, (0, 1, 2), bad), Y
        )
        refuse(
            ValueError, rf"targets: expected finite numbers, got {bad} at \[0, 1, 2\]",
            mse, Y, with_value(Y, (0, 1, 2), bad),
        )  # fmt: skip
    refuse(ValueError, "z: expected a squared error that is finite, got one that overflows", mse, Y * 1e200, Y)
    refuse(ValueError, r"targets: expected shape \(n_y, m, T_x\) = \(3, 4, 5\), got \(3, 4\)", mse, Y, Y[:, :, 0])
    refuse(ValueError, r"targets: expected shape \(n_y, m\) = \(3, 4\), got \(3, 4, 5\)", mse, Y[:, :, 0], Y)
    refuse(ValueError, r"z: expected at least one unit \(n_y\), got shape \(0, 4, 5\)", mse, Y[:0], Y[:0])
    refuse(TypeError, "targets: expected real numbers, got dtype <U4", mse, Y, "text")
    refuse(TypeError, "targets: expected real numbers, got None", mse, Y, None)
    refuse(ValueError, f"targets: {UNPADDED}", mse, Y, [[1.0], [1.0, 2.0]])
    refuse(ValueError, f"z: {UNPADDED}", mse, [[1.0], [1.0, 2.0]], Y)


@each_loss
def test_bad_lengths_and_weights(kind):
    def one_example(lengths, weights):
        given = Y[:, :1].copy()
        return LOSSES[kind](given, LABELS[:1] if kind == "classes" else given, lengths, weights=weights)

    def loss(lengths=None, weights=None, given=Y):
        return LOSSES[kind](given, LABELS if kind == "classes" else given, lengths, weights=weights)

    for bad in (-1, 6, 2**40, -(2**63)):
        refuse(
            ValueError, rf"lengths: expected integers from 0 to T_x = 5, got {bad} at \[2\]",
            loss, np.array([5, 1, bad, 0]),
        )  # fmt: skip
    refuse(TypeError, "lengths: expected integers, got dtype float64", loss, [5.0, 1.0, 2.0, 3.0])
    refuse(TypeError, "lengths: expected integers, got dtype bool", loss, [True] * 4)
    refuse(ValueError, f"lengths: {RAGGED}", loss, [[1], [1, 2]])
    refuse(ValueError, r"lengths: expected shape \(m,\) = \(4,\), got \(3,\)", loss, [5, 5, 5])
    refuse(ValueError, r"lengths: expected shape \(m,\) = \(4,\), got \(\)", loss, 5)
    refuse(ValueError, "lengths: expected at least one step to score, got none", loss, [0] * 4)
    refuse(ValueError, r"lengths: expected shape \(m,\) = \(1,\), got \(\)", one_example, 5, np.ones((3, 1, 5)))
    ones = np.ones((4, 5))
    for bad in (np.nan, np.inf, -1e-300):
        for weights, index in ((ones, (1, 4)), (Y, (2, 1, 4))):
            refuse(
                ValueError, rf"weights: expected finite numbers that are not negative, got {bad} at \[(2, )?1, 4\]",
                loss, None, with_value(weights, index, bad),
            )  # fmt: skip
    shapes = r"\(m, T_x\) = \(4, 5\) or \(n_y, m, T_x\) = \(3, 4, 5\)"
    for wrong in (ones.T, ones[0], Y[:1], Y[None], Y.transpose(0, 2, 1)):
        refuse(ValueError, rf"weights: expected shape {shapes}, got \(.*\)", loss, None, wrong)
    refuse(ValueError, rf"weights: expected shape {shapes}, got \(\)", loss, None, 1.0)
    for weights in (ones, np.ones((3, 4, 5))):
        refuse(ValueError, "weights: expected a finite sum, got inf", loss, None, weights * 1e308)
        refuse(ValueError, "weights: expected at least one step to score, got none", loss, None, weights * 0)
    refuse(TypeError, "weights: expected real numbers, got dtype <U4", loss, None, "text")
    refuse(
        ValueError, "lengths, weights: expected at least one step to score, got none",
        loss, [0, 1, 0, 0], with_value(ones, (1, 0), 0.0),
    )  # fmt: skip
    if kind != "classes":
        refuse(ValueError, "m, T_x: expected at least one step to score, got none", loss, given=Y[:, :0])
        refuse(ValueError, "lengths: expected None for one step, .*", loss, [1] * 4, given=Y[:, :, 0])


def test_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for shape in [(3, 10, 4), (40, 7, 9)]:
        for kind in ("classes", "probabilities"):
            q = case(kind, *shape, scored="all")
            z = torch.from_numpy(q.z.copy()).requires_grad_()
            wanted = torch.from_numpy(q.wanted)
            if kind == "classes":
                wanted = wanted.clone()
                wanted[0, :3] = -100  # what torch ignores
                q.weights = np.ones(shape[1:])
                q.weights[0, :3] = 0
            loss = torch.nn.functional.cross_entropy(z.permute(1, 2, 0).reshape(-1, shape[0]), wanted.reshape(-1)
                if kind == "classes" else wanted.permute(1, 2, 0).reshape(-1, shape[0]))  # fmt: skip
            loss.backward()
            got, dz = run(q)
            assert got == pytest.approx(loss.item(), rel=1e-14)
            reference.close(dz, z.grad.numpy(), 1e-15)


def test_what_is_no_distribution_is_refused():
    y, labels = cyrnn.softmax(np.random.default_rng(0).normal(size=(3, 4, 6))), np.zeros((4, 6), int)
    probabilities = np.full((3, 4, 6), 1 / 3)
    for wanted in (labels, probabilities):
        for wrong, got in ((y * 0.5, "0.5"), (np.full((3, 4, 6), 0.9), r"2\.7"), (1 - y, r"[12]\.")):
            message = rf"^y_pred: expected probabilities that sum to 1 .*, got {got}.* at \[0, 0\]"
            with pytest.raises(ValueError, match=message):
                cyrnn.cross_entropy(wrong, wanted)
        cyrnn.cross_entropy(y * (1 + 9e-7), wanted)
        with pytest.raises(ValueError, match="sum to 1"):
            cyrnn.cross_entropy(y * (1 + 2e-6), wanted)
        late = y.copy()
        late[:, 2, 3] *= 0.5
        with pytest.raises(ValueError, match=r"at \[2, 3\]"):
            cyrnn.cross_entropy(late, wanted)
        cyrnn.cross_entropy(late, wanted, weights=np.arange(24).reshape(4, 6) != 15)
        with pytest.raises(ValueError, match=r"^y_pred: .* got zeros at \[1, 3\]; .*pass the same lengths"):
            cyrnn.cross_entropy(y * (np.arange(6) < [[6], [3], [2], [1]]), wanted)


def test_labels_of_other_types():
    y = cyrnn.softmax(np.random.default_rng(0).normal(size=(2, 3)))
    want = cyrnn.cross_entropy(y, [1, 0, 1])
    for labels in (np.array([True, False, True]), np.array([1, 0, 1], object), [True, False, True]):
        loss, dz = cyrnn.cross_entropy(y, labels)
        assert loss == want[0]
        np.testing.assert_array_equal(dz, want[1])
    with pytest.raises(TypeError, match="labels: expected integers, got ndarray of objects"):
        cyrnn.cross_entropy(y, np.array([1, 0.5, 1], object))
    with pytest.raises(TypeError, match="lengths: expected integers"):
        cyrnn.cross_entropy(y[:, :, None], [[1], [0], [1]], [True, True, True])


@pytest.mark.parametrize("ignore", [-100, 7, 1])
def test_ignored_labels(ignore):
    y = cyrnn.softmax(np.random.default_rng(0).normal(size=(3, 4, 6)))
    labels = np.random.default_rng(1).integers(0, 3, (4, 6))
    skip = labels == 1 if ignore == 1 else np.arange(24).reshape(4, 6) % 5 == 0
    want = cyrnn.cross_entropy(y, labels, [6, 3, 5, 1], weights=~skip)
    y = np.where(skip, np.nan, y)
    for weights in (None, np.ones((4, 6))):
        how = {} if ignore == -100 else {"ignore_index": ignore}
        loss, dz = cyrnn.cross_entropy(y, np.where(skip, ignore, labels), [6, 3, 5, 1], weights=weights, **how)
        assert loss == want[0]
        np.testing.assert_array_equal(dz, want[1])
    with pytest.raises(ValueError, match="labels: expected at least one step to score"):
        cyrnn.cross_entropy(y, np.full((4, 6), ignore), ignore_index=ignore)


EDGES = [0.0, 1e-320, 1e-17, 0.3, 1.0, 20.0, 36.7, 37.5, 40.0, 709.0, 744.0, 746.0, 1e6, 1e300]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("target", [0.0, 1e-300, 0.25, 0.9, 1.0])
def test_logits_keep_their_digits(target):
    """The loss and, for a target of 0 or 1, the gradient to a few units in the last place, whatever the logit."""
    with mpmath.workprec(3000):
        for z in (*EDGES, *(-edge for edge in EDGES)):
            loss, dz = cyrnn.binary_cross_entropy([[z]], [[target]], from_logits=True)
            t, minus = mpmath.mpf(target), mpmath.exp(-abs(mpmath.mpf(z)))
            want = abs(mpmath.mpf(z)) * (1 - t if z > 0 else t) + mpmath.log(1 + minus)
            slope = (1 if z > 0 else minus) / (1 + minus) - t
            assert abs(mpmath.mpf(loss) - want) <= 2 * math.ulp(float(want)), z
            digits = 2 * math.ulp(float(slope)) if target in (0.0, 1.0) else 2**-52
            assert abs(mpmath.mpf(float(dz[0, 0])) - slope) <= digits, z


@pytest.mark.usefixtures("build")
def test_probabilities_of_sigmoids_keep_their_digits():
    """Those near 0 and 1 too; 0 and 1 themselves are free of cost, or cost what the smallest number does."""
    with mpmath.workprec(3000):
        for y in (1e-300, 1e-20, 1e-9, 0.1, 0.5, 0.75, 1 - 1e-9, np.nextafter(1, 0)):
            for target in (0.0, 0.3, 1.0):
                loss, dz = cyrnn.binary_cross_entropy([[y]], [[target]])
                p, t = mpmath.mpf(float(y)), mpmath.mpf(target)
                want = -t * mpmath.log(p) - (1 - t) * mpmath.log(1 - p)
                assert abs(mpmath.mpf(loss) - want) <= 2 * math.ulp(float(want)), y
                assert dz[0, 0] == y - target
    for y in (0.0, 1.0):
        assert cyrnn.binary_cross_entropy([[y]], [[y]]) == (0.0, 0.0)
        loss, dz = cyrnn.binary_cross_entropy([[y]], [[1 - y]])
        assert loss == pytest.approx(-np.log(TINY), rel=1e-15)
        assert dz == 2 * y - 1


def test_bad_binary_input():
    bce, logits = cyrnn.binary_cross_entropy, partial(cyrnn.binary_cross_entropy, from_logits=True)
    for bad in (np.nan, np.inf, -1e-300, np.nextafter(1, 2)):
        where = rf"got {bad} at \[2, 1, 3\]".replace("e+", r"e\+")
        wrong = with_value(Y, (2, 1, 3), bad)
        refuse(ValueError, f"y_pred: expected probabilities from 0 to 1, {where}", bce, wrong, Y)
        for function in (bce, logits):
            refuse(ValueError, f"targets: expected numbers from 0 to 1, {where}", function, Y, wrong)
        if not np.isfinite(bad):
            refuse(ValueError, f"y_pred: expected finite numbers, {where}", logits, wrong, Y)
    for target in (0.0, 1.0):  # an infinite logit is refused where its loss would be 0 too
        for bad in (np.inf, -np.inf):
            refuse(ValueError, r"y_pred: expected finite .*, got -?inf at \[0, 0\]", logits, [[bad]], [[target]])
    overflow = "y_pred: expected a loss that is finite, got one that overflows"
    refuse(ValueError, overflow, logits, np.full((3, 4, 5), 1.7e308), Y)
    for function in (bce, logits):
        refuse(ValueError, r"targets: expected shape \(n_y, m, T_x\) = \(3, 4, 5\), got \(4, 5\)", function, Y, LABELS)
        refuse(ValueError, r"targets: expected shape \(n_y, m, T_x\) = .*", function, Y, Y.transpose(1, 0, 2))
        one = np.ones((3, 4, 5))  # the sizes fit, the shapes do not
        refuse(ValueError, "targets: expected shape .*", function, Y, Y.transpose(1, 0, 2), weights=one)
        refuse(ValueError, r"y_pred: expected at least one unit \(n_y\), got .*", function, Y[:0], Y[:0])
        refuse(TypeError, "y_pred: expected real numbers, got None", function, None, Y)
        refuse(TypeError, "targets: expected real numbers, got None", function, Y, None)
    for bad in ("yes", None, 1, np.ones(2)):
        refuse(TypeError, "from_logits: expected True or False, got .*", bce, Y, Y, from_logits=bad)
    assert bce(Y, Y > 0, from_logits=np.True_)[0] == bce(Y, Y * 0 + 1, from_logits=True)[0]


def test_binary_against_torch():
    functional = pytest.importorskip("torch", reason="PyTorch is not installed").nn.functional
    torch = functional.torch
    for shape in [(3, 10, 4), (40, 7, 9)]:
        q = case("logits", *shape, scored="outputs")
        mean = q.weights.mean()  # by which torch does not divide
        for scale in (1.0, 30.0):
            z = torch.from_numpy(scale * q.z).requires_grad_()
            targets, weights = torch.from_numpy(q.wanted), torch.from_numpy(q.weights)
            loss = functional.binary_cross_entropy_with_logits(z, targets, weight=weights)
            loss.backward()
            got, dz = cyrnn.binary_cross_entropy(scale * q.z, q.wanted, weights=q.weights, from_logits=True)
            assert got * mean == pytest.approx(loss.item(), rel=1e-14)
            reference.close(dz * mean, z.grad.numpy(), 1e-15)
        z = torch.from_numpy(q.z).requires_grad_()
        y = torch.sigmoid(z)
        loss = functional.binary_cross_entropy(y, targets)
        loss.backward()
        got, dz = cyrnn.binary_cross_entropy(y.detach().numpy(), q.wanted)
        assert got == pytest.approx(loss.item(), rel=1e-14)
        reference.close(dz, z.grad.numpy(), 1e-15)


def test_weights_of_classes_against_torch():
    """PyTorch's class weights: for integer labels the same numbers, for probabilities another divisor."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    cross_entropy = torch.nn.functional.cross_entropy
    n, m, T = 5, 7, 9
    weight = np.array([0.5, 2.0, 0.0, 1.0, 3.0])
    weights = np.broadcast_to(weight[:, None, None], (n, m, T))
    for kind in ("classes", "probabilities"):
        q = case(kind, n, m, T, scored="all")
        if kind == "classes":
            q.wanted[0, :3] = -100
        else:
            q.wanted /= q.wanted.sum(0)
        z = torch.from_numpy(q.z).requires_grad_()
        wanted = torch.from_numpy(q.wanted)
        wanted = wanted if kind == "classes" else wanted.permute(1, 0, 2)
        loss = cross_entropy(z.permute(1, 0, 2), wanted, weight=torch.from_numpy(weight))
        loss.backward()
        got, dz = cyrnn.cross_entropy(cyrnn.softmax(q.z), q.wanted, weights=weights)
        divisor = (q.wanted * weights).sum() / (m * T) if kind == "probabilities" else 1.0
        assert got * divisor == pytest.approx(loss.item(), rel=1e-14)
        reference.close(dz * divisor, z.grad.numpy(), 1e-15)


@pytest.mark.parametrize("kind", LOSSES)
def test_equal_weights_of_outputs_are_those_of_the_steps(kind):
    q = case(kind, 5, 6, 7, scored="lengths and weights")
    if kind == "probabilities":
        q.wanted /= q.wanted.sum(axis=0)
    loss, dz = run(q)
    q.weights = np.broadcast_to(q.weights, q.z.shape)
    again, dz_again = run(q)
    assert again == pytest.approx(loss, rel=1e-15 if kind == "classes" else 1e-14)
    reference.close(dz_again, dz, 1e-15)


def test_weights_of_classes_that_leave_nothing():
    y, labels = cyrnn.softmax(np.ones((3, 4, 5))), np.zeros((4, 5), int)
    weights = np.ones((3, 4, 5))
    weights[0] = 0.0
    message = "weights: expected at least one step to score, got none whose label has a weight above 0"
    refuse(ValueError, message, cyrnn.cross_entropy, y, labels, weights=weights)
    refuse(ValueError, message, cyrnn.cross_entropy, y, 1.0 * (np.arange(3)[:, None, None] == labels), weights=weights)
    labels[1, 2] = 1
    loss, dz = cyrnn.cross_entropy(np.where(labels == 1, y, np.nan), labels, weights=weights)
    assert loss == pytest.approx(np.log(3), rel=1e-15)
    assert_array_equal(np.argwhere(dz[0]), [[1, 2]])
    refuse(ValueError, r"labels: expected classes .*, got 3 at \[0, 0\]",
           cyrnn.cross_entropy, y, np.where(labels == 1, 1, 3), weights=weights)  # fmt: skip
    late = np.where(labels == 1, 0.5, y)
    refuse(ValueError, r"y_pred: expected probabilities that sum to 1 .* at \[1, 2\]",
           cyrnn.cross_entropy, late, labels, weights=weights)  # fmt: skip


def test_sigmoids_whose_lengths_are_forgotten():
    """Zeros at the end where a target is not zero; a saturated output, hard predictions and what has no weight pass."""
    q = case("sigmoids", 3, 4, 6, scored="all")
    lengths, bce = np.array([6, 3, 5, 0]), cyrnn.binary_cross_entropy
    q.wanted[:] = np.clip(q.wanted, 0.1, 0.9)
    y = cyrnn.sigmoid(q.z)
    padded = y * (np.arange(6) < lengths[:, None])
    message = r"^y_pred: expected probabilities .*, got zeros of all outputs at \[1, 5\], .*pass the same lengths"
    weights = np.ones((4, 6))
    for predicted in (padded, np.asfortranarray(padded), padded.tolist()):
        for how in ({}, {"weights": weights}, {"weights": np.ones((3, 4, 6))}):
            with pytest.raises(ValueError, match=message):
                bce(predicted, q.wanted, **how)
        assert bce(predicted, q.wanted, lengths)[0] == bce(y, q.wanted, lengths)[0]
        assert bce(predicted, q.wanted, weights=weights * (np.arange(6) < lengths[:, None]))[0] < 2
    bce(padded, np.where(padded == 0, 0, q.wanted))  # each prediction is right
    bce(np.round(padded), q.wanted)  # hard predictions
    one = y.copy()
    one[0, 1, 5] = 0  # the other outputs are not
    assert bce(one, q.wanted)[0] > bce(y, q.wanted)[0] + 0.9
    middle = y.copy()
    middle[:, 1, 4] = 0  # it is not the end
    bce(middle, q.wanted)
    bce(padded[:, :, 5], q.wanted[:, :, 5])  # one step
    bce(padded, q.wanted, from_logits=True)
    with pytest.raises(ValueError, match=r"\[3, 0\]"):
        bce(padded[:, :, :1], q.wanted[:, :, :1])
