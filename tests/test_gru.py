"""The two forms of the GRU: against a loop over slots and products, where they agree, and what mixes them up."""

import copy
import io

import numpy as np
import pytest
from cells import GRU_AFTER, GRU_BEFORE
from numpy.testing import assert_array_equal
from reference import close, problem, sigmoid
from test_losses import refuse

import cyrnn

pytestmark = pytest.mark.usefixtures("build")
FORMS = [GRU_BEFORE, GRU_AFTER]
each_form = pytest.mark.parametrize("cell", FORMS, ids=[cell.name for cell in FORMS])
SHAPES = [(3, 5, 2, 4, 6), (17, 33, 9, 11, 20), (6, 70, 3, 1, 30)]
SHAPE = SHAPES[0]
C, U, R, H = range(4)  # slots: candidate, update gate, reset gate, what the hidden state gives to the candidate


def by_slots(cell, q):
    """The table of docs/design.md as a loop: time first, units last, a slot an array of all steps.

    The input goes into the first three slots in one product; the hidden state into u, r, q, or into u, r and then
    s into g.  Returns the states and the gradients.
    """
    after = cell is GRU_AFTER
    x, da = q.x.transpose(2, 1, 0), q.da.transpose(2, 1, 0)
    T_x, m, n_a = da.shape
    W = np.stack([q.p["Wc"], q.p["Wu"], q.p["Wr"]])  # of the slots C, U, R
    W_h, W_x = W[:, :, :n_a], W[:, :, n_a:]
    slots = np.zeros((4, T_x, m, n_a))
    slots[:3] = np.einsum("tmi,kui->ktmu", x, W_x)
    for k, name in enumerate(("bc", "bu", "br")):
        slots[k] += q.p[name][:, 0]
    states = np.zeros((T_x + 1, m, n_a))
    states[0] = q.a0.T
    for t in range(T_x):
        a, z = states[t], slots[:, t]
        z[U], z[R] = sigmoid(z[U] + a @ W_h[U].T), sigmoid(z[R] + a @ W_h[R].T)
        z[H] = a @ W_h[C].T + q.p["bca"][:, 0] if after else z[R] * a
        z[C] = np.tanh(z[C] + (z[R] * z[H] if after else z[H] @ W_h[C].T))
        states[t + 1] = a + z[U] * (z[C] - a)
    d, carried = np.zeros_like(slots), np.zeros((m, n_a))
    for t in reversed(range(T_x)):
        a, z, reaching = states[t], slots[:, t], da[t] + carried
        d[U, t] = reaching * (z[C] - a) * z[U] * (1 - z[U])
        d[C, t] = reaching * z[U] * (1 - z[C] ** 2)
        d[H, t] = d[C, t] * z[R] if after else d[C, t] @ W_h[C]  # of the slot: of q, or of s
        d[R, t] = (d[C, t] * z[H] if after else d[H, t] * a) * z[R] * (1 - z[R])
        carried = reaching * (1 - z[U]) + d[U, t] @ W_h[U] + d[R, t] @ W_h[R]
        carried += d[H, t] @ W_h[C] if after else d[H, t] * z[R]
    dW_x = np.einsum("ktmu,tmi->kui", d[:3], x)
    dW_h = np.einsum("ktmu,tmi->kui", d[:3], states[:-1])
    source, of = (states[:-1], d[H]) if after else (slots[H], d[C])
    dW_h[C] = np.einsum("tmu,tmi->ui", of, source)
    found = {"dx": np.einsum("ktmu,kui->imt", d[:3], W_x), "da0": carried.T}
    for k, gate in enumerate("cur"):
        found |= {"dW" + gate: np.hstack([dW_h[k], dW_x[k]]), "db" + gate: d[k].sum((0, 1))[:, None]}
    if after:
        found["dbca"] = d[H].sum((0, 1))[:, None]
    return states[1:].transpose(2, 1, 0), found


@each_form
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_loop_over_slots(cell, shape):
    q = cell.problem(*shape)
    a, want = by_slots(cell, q)
    got = cell.forward(q)
    close(got.a, a, 2e-14)
    gradients = cell.backward(q.da, got.caches)
    assert gradients.keys() == want.keys()
    for name, value in want.items():
        close(gradients[name], value, 1e-13)


def test_the_forms_differ_and_agree_where_they_must():
    """With a diagonal Wca the reset commutes with the product; then bca = 0 is all that is between them."""
    q = problem("gru_before", *SHAPE)
    after = copy.copy(q)
    after.p = {**q.p, "bca": np.zeros((5, 1))}
    assert np.abs(GRU_BEFORE.forward(q).a - GRU_AFTER.forward(after).a).max() > 1e-2
    diagonal = np.hstack([np.diag(np.arange(1.0, 6.0)) / 3, q.p["Wc"][:, 5:]])
    q.p, after.p = {**q.p, "Wc": diagonal}, {**after.p, "Wc": diagonal}
    ours, theirs = GRU_BEFORE.forward(q), GRU_AFTER.forward(after)
    close(ours.a, theirs.a, 1e-14)
    gradients = GRU_AFTER.backward(q.da, theirs.caches)
    for name, value in GRU_BEFORE.backward(q.da, ours.caches).items():
        if name != "dWc":  # which is not kept diagonal
            close(gradients[name], value, 1e-13)


def test_an_update_gate_of_one_replaces_the_state_and_of_zero_keeps_it():
    """The course's gate: PyTorch's z is 1 - ut."""
    for cell in FORMS:
        q = cell.problem(*SHAPE)
        q.p["Wu"] = np.zeros_like(q.p["Wu"])
        q.p["bu"] = np.full((5, 1), -800.0)
        assert_array_equal(cell.forward(q).a, np.repeat(q.a0[:, :, None], 6, 2))
        q.p["bu"] = np.full((5, 1), 800.0)
        out = cell.forward(q)
        assert_array_equal(out.a[:, :, 2], out.caches[0][2][2])  # the candidate


@each_form
def test_the_form_is_told(cell):
    q = cell.problem(*SHAPE)
    caches = cell.forward(q).caches
    assert repr(caches[0]) == f"<the caches of 6 steps of {cell.title}>"
    assert ("dbca" in cell.backward(q.da, caches)) == (cell is GRU_AFTER)
    archive = io.BytesIO()
    np.savez(archive, **q.p)
    archive.seek(0)
    with np.load(archive) as q.p:  # a mapping that reads at every access
        again = cell.forward(q)
        assert_array_equal(again.a, cell.forward(q).a)
        for steps in (again.caches[0], list(again.caches[0])):
            assert ("dbca" in cell.backward(q.da, (steps, q.x))) == (cell is GRU_AFTER)


def test_none_is_not_the_other_form():
    q = problem("gru_after", *SHAPE)
    q.p["bca"] = None
    refuse(TypeError, r"parameters\['bca'\]: expected real numbers, got None", GRU_AFTER.forward, q)
    step = cyrnn.gru_cell_forward
    refuse(TypeError, r"parameters\['bca'\]: expected real numbers, got None", step, q.x[:, :, 0], q.a0, q.p)


def test_steps_of_both_forms_in_one_list():
    q, r = (cell.problem(*SHAPE) for cell in FORMS)
    before, after = GRU_BEFORE.forward(q).caches[0], GRU_AFTER.forward(r).caches[0]
    edited = copy.copy(before)
    edited[2] = after[2]
    message = r"caches\[0\]\[2\]: expected a GRU, reset {} the product, as in the step after, got a GRU, reset {} .*"
    refuse(ValueError, message.format("after", "before"), cyrnn.gru_backward, q.da, (before[:3] + after[3:], q.x))
    refuse(ValueError, message.format("before", "after"), cyrnn.gru_backward, q.da, (edited, q.x))
    refuse(ValueError, message.format("before", "after"), cyrnn.gru_backward, q.da[:, :, :4].tolist(), (edited, q.x))
    same = cyrnn.gru_backward(q.da[:, :, :2], (edited, q.x))  # what is not reached does not matter
    close(same["dWu"], cyrnn.gru_backward(q.da[:, :, :2], (before, q.x))["dWu"], 1e-13)


@each_form
def test_parameters_that_changed_their_form_since(cell):
    q = cell.problem(*SHAPE)
    caches = cell.forward(q).caches
    if cell is GRU_AFTER:
        kept = q.p.pop("bca")
    else:
        q.p["bca"] = np.zeros((5, 1))
    message = rf"caches: parameters: expected those of {cell.title}, as in the forward pass, got those of a GRU, .*"
    for da in (q.da, q.da.tolist()):
        refuse(ValueError, message, cyrnn.gru_backward, da, caches)
    update = {"Wu": q.p["Wu"]}, {"dWu": np.ones_like(q.p["Wu"])}, 0.1
    cyrnn.update_parameters_with_gd(*update)
    refuse(ValueError, message, cyrnn.gru_backward, q.da, caches)
    if cell is GRU_AFTER:
        q.p["bca"] = kept
        with pytest.raises(RuntimeError, match=r"^caches: parameters\['Wu'\] was updated in place after"):
            cyrnn.gru_backward(q.da, caches)


def test_caches_older_than_an_update_of_the_second_bias():
    q = problem("gru_after", *SHAPE)
    caches = GRU_AFTER.forward(q).caches
    cyrnn.update_parameters_with_gd({"bca": q.p["bca"]}, {"dbca": np.ones((5, 1))}, 0.1)
    with pytest.raises(RuntimeError, match=r"^caches: parameters\['bca'\] was updated in place after"):
        cyrnn.gru_backward(q.da, caches)


@each_form
def test_parameters_of_another_cell(cell):
    q = cell.problem(*SHAPE)
    lstm = problem("lstm", *SHAPE)
    refuse(KeyError, r"parameters: expected an entry 'Wu', got only \[.*\]", cyrnn.gru_forward, q.x, q.a0, lstm.p)
    refuse(KeyError, r"parameters: expected an entry 'Wf', got only \[.*\]", cyrnn.lstm_forward, q.x, q.a0, q.p)
