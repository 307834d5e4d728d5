"""The pointwise functions of every cell by themselves, against the equations of reference.py."""

import numpy as np
import pytest
from reference import close, lstm, problem, rnn

from cyrnn import _kernels

pytestmark = pytest.mark.usefixtures("build")
N = [1, 2, 3, 7, 8, 9, 64, 255, 256, 257, 1000]
TOLERANCE = 1e-14


def draw(n, *rows):
    rng = np.random.default_rng([n, len(rows)])
    return [rng.standard_normal((count, n)) for count in rows]


def columns(rows):
    """Rows (k, n) as the states of n units of one example at one step: (n, 1, 1)."""
    return [row[:, None, None] for row in rows]


@pytest.mark.parametrize("n", N)
def test_rnn(n):
    """With weights of zero the sum is the bias, which is drawn."""
    z, da, da_next = draw(n, 1, 1, 1)
    p = problem("rnn", 1, n, 1, 1, 1).p
    p |= {"Wax": np.zeros((n, 1)), "Waa": np.zeros((n, n)), "ba": z.T}
    want = rnn(np.zeros((1, 1, 1)), np.zeros((n, 1)), p, *columns(da + da_next))
    before, after, slots, d_slots = np.zeros((1, n)), z.copy(), np.empty((1, n)), da.copy()
    _kernels.pointwise.forward("rnn", 0, slots, before, after)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    assert _kernels.pointwise.backward("rnn", 0, slots, before, after, d_slots, da_next.copy()) == 0
    close(d_slots[0], want.gradients["dba"][:, 0], TOLERANCE)


@pytest.mark.parametrize("n", N)
def test_lstm(n):
    z, before, da, da_next, dc_next = draw(n, 4, 2, 1, 1, 1)
    p = problem("lstm", 1, n, 1, 1, 1).p
    p |= {"W" + gate: np.zeros((n, n + 1)) for gate in "fico"} | {"b" + g: z[k][:, None] for k, g in enumerate("fico")}
    want = lstm(np.zeros((1, 1, 1)), before[:1].T, before[1:].T, p, *columns(da + da_next), dc_next.T)
    slots, after = z.copy(), np.empty((2, n))
    _kernels.pointwise.forward("lstm", 0, slots, before, after)
    for got, gate in zip(slots, want.gates, strict=True):
        close(got, gate[0][:, 0], TOLERANCE)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    close(after[1], want.c[:, 0, 0], TOLERANCE)
    d_slots, d_states = np.empty((4, n)), np.vstack([da_next, dc_next])
    d_slots[3] = da
    assert _kernels.pointwise.backward("lstm", 0, slots, before, after, d_slots, d_states) == 3
    for got, gate in zip(d_slots, "fico", strict=True):
        close(got, want.gradients["db" + gate][:, 0], TOLERANCE)
    close(d_states[1], want.gradients["dc0"][:, 0], TOLERANCE)


def test_unknown_cells_and_wrong_shapes_are_refused():
    slots, states = np.zeros((4, 3)), np.zeros((2, 3))
    with pytest.raises(ValueError, match="cell"):
        _kernels.pointwise.forward("gru?", 0, slots, states, states)
    with pytest.raises(ValueError, match="fit"):
        _kernels.pointwise.forward("lstm", 0, slots[:3], states, states)
