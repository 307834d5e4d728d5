"""The pointwise functions of every cell by themselves, against the equations of reference.py."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import close, gru, lstm, problem, rnn

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
    _kernels.f64.recurrent.pointwise_forward("rnn", 0, slots, before, after)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    assert _kernels.f64.recurrent.pointwise_backward("rnn", 0, slots, before, after, d_slots, da_next.copy()) == 0
    close(d_slots[0], want.gradients["dba"][:, 0], TOLERANCE)


@pytest.mark.parametrize("n", N)
def test_lstm(n):
    z, before, da, da_next, dc_next = draw(n, 4, 2, 1, 1, 1)
    p = problem("lstm", 1, n, 1, 1, 1).p
    p |= {"W" + gate: np.zeros((n, n + 1)) for gate in "fico"} | {"b" + g: z[k][:, None] for k, g in enumerate("fico")}
    want = lstm(np.zeros((1, 1, 1)), before[:1].T, before[1:].T, p, *columns(da + da_next), dc_next.T)
    slots, after = z.copy(), np.empty((2, n))
    _kernels.f64.recurrent.pointwise_forward("lstm", 0, slots, before, after)
    for got, gate in zip(slots, want.gates, strict=True):
        close(got, gate[0][:, 0], TOLERANCE)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    close(after[1], want.c[:, 0, 0], TOLERANCE)
    d_slots, d_states = np.empty((4, n)), np.vstack([da_next, dc_next])
    d_slots[3] = da
    assert _kernels.f64.recurrent.pointwise_backward("lstm", 0, slots, before, after, d_slots, d_states) == 3
    for got, gate in zip(d_slots, "fico", strict=True):
        close(got, want.gradients["db" + gate][:, 0], TOLERANCE)
    close(d_states[1], want.gradients["dc0"][:, 0], TOLERANCE)


def gru_of(form, z, before, *gradients):
    """What reference.py finds for n units whose sums are z: of the candidate, the gates, and in the form with its reset
    after the product of q; in the other form the product of s, `Wca` one to one."""
    n = z.shape[1]
    p = problem(form, 1, n, 1, 1, 1).p
    p |= {"W" + gate: np.zeros((n, n + 1)) for gate in "ur"} | {"b" + g: z[k][:, None] for k, g in enumerate("cur")}
    p["Wc"] = np.zeros((n, n + 1)) if form == "gru_after" else np.eye(n, n + 1)
    if form == "gru_after":
        p["bca"] = z[3][:, None]
    return gru(np.zeros((1, 1, 1)), before.T, p, *columns(gradients))


@pytest.mark.parametrize("n", N)
def test_gru_after(n):
    """One stage."""
    z, before, da, da_next = draw(n, 4, 1, 1, 1)
    want = gru_of("gru_after", z, before, (da + da_next)[0])
    slots, after = z.copy(), np.empty((1, n))
    _kernels.f64.recurrent.pointwise_forward("gru_after", 0, slots, before, after)
    for got, slot in zip(slots, want.gates, strict=True):
        close(got, slot[0][:, 0], TOLERANCE)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    d_slots, d_state = np.full((4, n), np.nan), da_next.copy()
    d_slots[0] = da[0]
    assert _kernels.f64.recurrent.pointwise_backward("gru_after", 0, slots, before, after, d_slots, d_state) == 0
    for got, name in zip(d_slots, ("dbc", "dbu", "dbr", "dbca"), strict=True):
        close(got, want.gradients[name][:, 0], TOLERANCE)
    close(d_state[0], want.gradients["da0"][:, 0], TOLERANCE)  # all of it: the weights of the state are zero


@pytest.mark.parametrize("n", N)
def test_gru_before(n):
    """Two stages, with the product g += s between them, and ds = dg on the way back."""
    z, before, da, da_next = draw(n, 4, 1, 1, 1)
    want = gru_of("gru_before", z, before, (da + da_next)[0])
    slots, after = z.copy(), np.full((1, n), np.nan)
    slots[3] = np.nan
    _kernels.f64.recurrent.pointwise_forward("gru_before", 0, slots, before, after)
    close(slots[3], want.gates[3][0][:, 0], TOLERANCE)
    assert_array_equal(slots[0], z[0])
    assert np.isnan(after).all()
    slots[0] += slots[3]
    _kernels.f64.recurrent.pointwise_forward("gru_before", 1, slots, before, after)
    for got, slot in zip(slots, want.gates, strict=True):
        close(got, slot[0][:, 0], TOLERANCE)
    close(after[0], want.a[:, 0, 0], TOLERANCE)
    d_slots, d_state = np.full((4, n), np.nan), da_next.copy()
    d_slots[0] = da[0]
    assert _kernels.f64.recurrent.pointwise_backward("gru_before", 1, slots, before, after, d_slots, d_state) == 0
    close(d_slots[0], want.gradients["dbc"][:, 0], TOLERANCE)
    close(d_slots[1], want.gradients["dbu"][:, 0], TOLERANCE)
    close(d_state[0], (da + da_next)[0] * (1 - slots[1]), TOLERANCE)
    assert np.isnan(d_slots[2:]).all()
    d_slots[3] = d_slots[0]
    _kernels.f64.recurrent.pointwise_backward("gru_before", 0, slots, before, after, d_slots, d_state)
    close(d_slots[2], want.gradients["dbr"][:, 0], TOLERANCE)
    close(d_state[0], want.gradients["da0"][:, 0], TOLERANCE)
    for stage in (-1, 2):
        with pytest.raises(ValueError, match="fit"):
            _kernels.f64.recurrent.pointwise_forward("gru_before", stage, slots, before, after)


def test_unknown_cells_and_wrong_shapes_are_refused():
    slots, states = np.zeros((4, 3)), np.zeros((2, 3))
    with pytest.raises(ValueError, match="cell"):
        _kernels.f64.recurrent.pointwise_forward("gru?", 0, slots, states, states)
    with pytest.raises(ValueError, match="fit"):
        _kernels.f64.recurrent.pointwise_forward("lstm", 0, slots[:3], states, states)
