"""Bit for bit: an example does not depend on its batch, nor a step on how the sequence was cut."""

import numpy as np
import pytest
from cells import CELLS, IDS
from numpy.testing import assert_array_equal
from reference import problem

import cyrnn

pytestmark = [pytest.mark.usefixtures("build"), pytest.mark.parametrize("cell", CELLS, ids=IDS)]

SHAPES = [(3, 5, 2, 13, 6), (33, 37, 9, 11, 40), (170, 165, 4, 9, 10), (2, 64, 3, 30, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch(cell, shape):
    q = problem(cell.name, *shape)
    whole = cell.forward(q)
    whole_back = cell.backward(q.da, whole.caches)
    m = shape[3]
    for chosen in ([0], [m - 1], [m // 2], [3, 1], list(range(m))[::-1], [0] * 7):
        r = problem(cell.name, *shape)
        r.x, r.a0 = q.x[:, chosen], q.a0[:, chosen]
        part = cell.forward(r)
        back = cell.backward(q.da[:, chosen], part.caches)
        assert_array_equal(part.a, whole.a[:, chosen])
        assert_array_equal(part.y, whole.y[:, chosen])
        assert_array_equal(back["dx"], whole_back["dx"][:, chosen])
        assert_array_equal(back["da0"], whole_back["da0"][:, chosen])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_step_at_a_time(cell, shape):
    q = problem(cell.name, *shape)
    whole = cell.forward(q)
    gradients = cell.backward(q.da, whole.caches)
    a, c, steps = q.a0, np.zeros_like(q.a0), []
    for t in range(shape[4]):
        out = cell.cell_forward(q.x[:, :, t], a, c, q.p)
        assert_array_equal(out.a, whole.a[:, :, t])
        assert_array_equal(out.y, whole.y[:, :, t])
        a, c = out.a, out.c
        steps.append(out.cache)
    by_steps = cell.backward(q.da, (steps, q.x))
    assert_array_equal(by_steps["dx"], gradients["dx"])
    assert_array_equal(by_steps["da0"], gradients["da0"])


def test_rnn_in_pieces(cell):
    if cell.name == "lstm":
        pytest.skip("lstm_forward starts its memory at zero")
    q = problem("rnn", 7, 33, 5, 9, 40)
    a, y, _ = cyrnn.rnn_forward(q.x, q.a0, q.p)
    for cut in (1, 17, 39):
        first, y_first, _ = cyrnn.rnn_forward(q.x[:, :, :cut], q.a0, q.p)
        rest, y_rest, _ = cyrnn.rnn_forward(q.x[:, :, cut:], first[:, :, -1], q.p)
        assert_array_equal(np.concatenate([first, rest], 2), a)
        assert_array_equal(np.concatenate([y_first, y_rest], 2), y)
