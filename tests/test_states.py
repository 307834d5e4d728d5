"""The LSTM's memory given and taken: c0 in, dc in, dc0 out."""

import copy
import pickle
import re

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from reference import close, problem
from test_gradients import check

import cyrnn

pytestmark = pytest.mark.usefixtures("build")

SHAPES = [(3, 5, 2, 4, 6), (6, 70, 3, 1, 30), (17, 33, 9, 11, 40)]


def draw(*shape):
    """A problem with a gradient for every memory."""
    q = problem("lstm", *shape)
    q.dc = np.random.default_rng(9).standard_normal(q.da.shape)
    return q


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_reference(shape):
    q = draw(*shape)
    want = reference.lstm(q.x, q.a0, q.c0, q.p, q.da, dc=q.dc)
    a, y, c, caches = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0)
    for got, array in ((a, want.a), (y, want.y), (c, want.c)):
        close(got, array, 1e-14)
    gradients = cyrnn.lstm_backward(q.da, caches, dc=q.dc)
    by_steps = cyrnn.lstm_backward(q.da, (list(caches[0]), q.x), dc=q.dc)
    for name, value in want.gradients.items():
        close(gradients[name], value, 1e-13)
        close(by_steps[name], value, 1e-13)
    for name in ("dx", "da0", "dc0"):
        assert_array_equal(by_steps[name], gradients[name])
    only = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0, cache=False)
    for got, array in zip(only[:3], (a, y, c), strict=True):
        assert_array_equal(got, array)


def test_against_finite_differences():
    q = draw(3, 5, 2, 4, 6)

    def loss():
        a, _, c, _ = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0, cache=False)
        return float((a * q.da).sum() + (c * q.dc).sum())

    gradients = cyrnn.lstm_backward(q.da, cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0)[-1], dc=q.dc)
    pairs = {"x": (q.x, gradients["dx"]), "a0": (q.a0, gradients["da0"]), "c0": (q.c0, gradients["dc0"])}
    pairs |= {name: (value, gradients[f"d{name}"]) for name, value in q.p.items() if name not in ("Wy", "by")}
    check(loss, pairs)


def test_dc0_is_always_returned():
    q = draw(*SHAPES[0])
    without = cyrnn.lstm_forward(q.x, q.a0, q.p)[-1]
    zeros = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=np.zeros((5, 1)))[-1]
    for dc in (None, q.dc):
        plain = cyrnn.lstm_backward(q.da, without, dc=dc)
        told = cyrnn.lstm_backward(q.da, zeros, dc=dc)
        by_steps = cyrnn.lstm_backward(q.da, (list(without[0]), q.x), dc=dc)
        assert "dc0" in plain
        assert plain.keys() == told.keys() == by_steps.keys()
        for name, value in plain.items():
            assert_array_equal(told[name], value)
        assert_array_equal(plain["dc0"], by_steps["dc0"])
    for twin in (copy.deepcopy(zeros), pickle.loads(pickle.dumps(zeros))):
        assert_array_equal(cyrnn.lstm_backward(q.da, twin, dc=q.dc)["dc0"], told["dc0"])


def test_zeros_are_none():
    q = draw(*SHAPES[2])
    a, y, c, caches = cyrnn.lstm_forward(q.x, q.a0, q.p)
    for value in (np.zeros_like(q.c0), np.zeros((33, 1)), [[0]] * 33):
        for got, want in zip(cyrnn.lstm_forward(q.x, q.a0, q.p, c0=value)[:3], (a, y, c), strict=True):
            assert_array_equal(got, want)
    gradients = cyrnn.lstm_backward(q.da, caches)
    for name, value in cyrnn.lstm_backward(q.da, caches, dc=np.zeros_like(q.da)).items():
        assert_array_equal(value, gradients[name])


@pytest.mark.parametrize("convert", [np.asfortranarray, np.ndarray.tolist, lambda v: v.astype("f4"), lambda v: v[::-1]])
def test_layouts(convert):
    q = draw(*SHAPES[0])
    c0, dc = (np.array(convert(value), float) for value in (q.c0, q.dc))
    caches = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=c0)[-1]
    want = cyrnn.lstm_backward(q.da, caches, dc=dc)
    caches = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=convert(q.c0))[-1]
    for name, value in cyrnn.lstm_backward(q.da, caches, dc=convert(q.dc)).items():
        assert_array_equal(value, want[name])
    one = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0[:, :1])[0]
    assert_array_equal(one, cyrnn.lstm_forward(q.x, q.a0, q.p, c0=np.repeat(q.c0[:, :1], 4, 1))[0])


def test_fewer_steps_and_none():
    q = draw(*SHAPES[0])
    caches = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0)[-1]
    for steps in (caches[0], list(caches[0])):
        got = cyrnn.lstm_backward(q.da[:, :, :2], (steps, q.x), dc=q.dc[:, :, :2])
        want = reference.lstm(q.x, q.a0, q.c0, q.p, q.da[:, :, :2], dc=q.dc)
        close(got["dc0"], want.gradients["dc0"], 1e-13)
        close(got["dx"], want.gradients["dx"], 1e-13)
        got = cyrnn.lstm_backward(q.da[:, :, :0], (steps, q.x), dc=q.dc[:, :, :0])
        assert not any(value.any() for value in got.values())
    empty = cyrnn.lstm_forward(q.x[:, :, :0], q.a0, q.p, c0=q.c0)[-1]
    assert_array_equal(cyrnn.lstm_backward(q.da[:, :, :0], empty)["dc0"], np.zeros((5, 4)))


BAD_STATES = [
    ("text", TypeError, "expected real numbers, got dtype <U4"),
    (1j, TypeError, "expected real numbers, got dtype complex128"),
    (np.zeros((5, 3)), ValueError, "expected shape (n_a, m) = (5, 4) or (n_a, 1), got (5, 3)"),
    (np.zeros((4, 4)), ValueError, "expected shape (n_a, m) = (5, 4) or (n_a, 1), got (4, 4)"),
    (np.zeros(5), ValueError, "expected shape (n_a, m) = (5, 4) or (n_a, 1), got (5,)"),
]


@pytest.mark.parametrize(("value", "error", "text"), BAD_STATES, ids=lambda value: str(type(value).__name__))
def test_what_is_no_memory(value, error, text):
    q = draw(*SHAPES[0])
    with pytest.raises(error, match=re.escape(f"c0: {text}")):
        cyrnn.lstm_forward(q.x, q.a0, q.p, c0=value)


@pytest.mark.parametrize("listed", [False, True])
def test_what_is_no_gradient_of_the_memory(listed):
    q = draw(*SHAPES[0])
    caches = cyrnn.lstm_forward(q.x, q.a0, q.p, c0=q.c0)[-1]
    if listed:
        caches = list(caches[0]), q.x
    for value in (q.dc[:4], q.dc[:, :3], q.dc[:, :, :5], q.dc[:, :, 0], 0.0):
        got = re.escape(str(np.shape(value)))
        with pytest.raises(ValueError, match=rf"^dc: expected shape \(n_a, m, T_x\) = \(5, 4, 6\), got {got}"):
            cyrnn.lstm_backward(q.da, caches, dc=value)
    with pytest.raises(TypeError, match=r"^dc: expected real numbers, got dtype <U4"):
        cyrnn.lstm_backward(q.da, caches, dc="text")
