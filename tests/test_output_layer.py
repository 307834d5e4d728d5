"""The linear output layer: values, gradients, the same bits as the forward passes, bad input."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal
from reference import close, problem
from rows import each_row
from test_gradients import check
from test_losses import refuse

import cyrnn

SHAPES = [
    (3, 5, 2, 10, 4),
    (3, 6, 1, 1, 1),
    (2, 33, 17, 5, 40),
    (2, 4, 300, 3, 2),
    (1, 200, 3, 1, 500),
    (2, 7, 5, 9, 1),
]
each_cell = each_row
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.mark.usefixtures("build")
@each_cell
@each_shape
def test_values(cell, shape):
    q = cell.problem(*shape)
    W, b = (q.p[key] for key in cell.output)
    dz = np.random.default_rng(0).standard_normal((shape[2], *shape[3:]))
    z = cyrnn.output_forward(q.da, q.p)
    close(z, np.einsum("ya,amt->ymt", W, q.da) + b[:, :, None], 1e-14)
    got = cyrnn.output_backward(dz, q.da, q.p)
    key = "d" + cell.output[0]
    assert list(got) == ["da", key, "dby"]
    close(got["da"], np.einsum("ya,ymt->amt", W, dz), 1e-14)
    close(got[key], np.einsum("ymt,amt->ya", dz, q.da), 1e-14)
    close(got["dby"], dz.sum(axis=(1, 2))[:, None], 1e-14)
    # every step alone
    t = shape[4] // 2
    assert_array_equal(cyrnn.output_forward(q.da[:, :, t], q.p), z[:, :, t])
    one = cyrnn.output_backward(dz[:, :, t], q.da[:, :, t], q.p)
    close(one["da"], got["da"][:, :, t], 1e-14)
    close(one[key], dz[:, :, t] @ q.da[:, :, t].T, 1e-14)
    close(one["dby"], dz[:, :, t].sum(axis=1, keepdims=True), 1e-14)


@pytest.mark.usefixtures("build")
@each_cell
@each_shape
def test_softmax_of_it_is_the_prediction(cell, shape):
    q = cell.problem(*shape)
    out = cell.forward(q)
    assert_array_equal(cyrnn.softmax(cyrnn.output_forward(out.a, q.p)), out.y)


@pytest.mark.usefixtures("build")
@each_cell
@pytest.mark.parametrize("kind", ["classes", "squares"])
def test_gradients_of_the_whole_network(cell, kind):
    """From the loss back to every parameter, by finite differences."""
    q = cell.problem(3, 5, 2, 4, 6)
    rng = np.random.default_rng(1)
    lengths = np.array([6, 0, 3, 1])
    labels, targets = rng.integers(0, 2, (4, 6)), rng.standard_normal((2, 4, 6))

    def run():
        out = cell.forward(q)
        if kind == "classes":
            return out, *cyrnn.cross_entropy(out.y, labels, lengths)
        return out, *cyrnn.mean_squared_error(cyrnn.output_forward(out.a, q.p), targets, lengths)

    out, _, dz = run()
    output = cyrnn.output_backward(dz, out.a, q.p)
    gradients = output | cell.backward(output["da"], out.caches)
    cell, q = cell.exact(q)  # of which `run` is exact
    check(lambda: run()[1], {name: (q.p[name], gradients["d" + name]) for name in (*cell.inputs, *cell.output)})


def test_types_and_layouts():
    q = problem("lstm", 3, 5, 2, 4, 6)
    a, dz = np.round(q.da, 3), np.ones((2, 4, 6))
    z, back = cyrnn.output_forward(a, q.p), cyrnn.output_backward(dz, a, q.p)
    for view in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2], lambda x: x.tolist()):
        p = {key: view(value) for key, value in q.p.items()}
        assert_array_equal(cyrnn.output_forward(view(a), p), z)
        for name, value in cyrnn.output_backward(view(dz), view(a), p).items():
            assert_array_equal(value, back[name])
    for value in (a, dz, *q.p.values()):
        value.setflags(write=False)
    assert_array_equal(cyrnn.output_forward(a, q.p), z)
    assert_array_equal(cyrnn.output_backward(dz, a, q.p)["da"], back["da"])


def test_no_examples_no_steps_no_units():
    for n_a, n_y, m, T in [(5, 2, 0, 3), (5, 2, 3, 0), (0, 2, 3, 4), (5, 0, 3, 4)]:
        p = {"Wya": np.ones((n_y, n_a)), "by": np.ones((n_y, 1))}
        assert_array_equal(cyrnn.output_forward(np.ones((n_a, m, T)), p), np.full((n_y, m, T), n_a + 1.0))
        got = cyrnn.output_backward(np.ones((n_y, m, T)), np.ones((n_a, m, T)), p)
        assert_array_equal(got["da"], np.full((n_a, m, T), float(n_y)))
        assert_array_equal(got["dWya"], np.full((n_y, n_a), float(m * T)))
        assert_array_equal(got["dby"], np.full((n_y, 1), float(m * T)))


def test_bad_input():
    q = problem("lstm", 3, 5, 2, 4, 6)
    forward, backward, a, dz = cyrnn.output_forward, cyrnn.output_backward, q.da, np.ones((2, 4, 6))
    for wrong in (a[:4], a[0], a[None], 1.0):
        expected = r"a: expected shape \(n_a, m, T_x\) or \(n_a, m\) with n_a = 5, got \(.*\)"
        refuse(ValueError, expected, forward, wrong, q.p)
        refuse(ValueError, expected, backward, dz, wrong, q.p)
    refuse(TypeError, "a: expected real numbers, got None", forward, None, q.p)
    ragged = "a: expected an array of numbers, got a ragged nested sequence"  # which cannot be padded
    refuse(ValueError, ragged, forward, [[1.0], [[1.0, 2.0]]], q.p)
    for wrong in (dz[:1], dz[:, :3], dz[:, :, 0]):
        refuse(ValueError, r"dz: expected shape \(n_y, m, T_x\) = \(2, 4, 6\), got \(.*\)", backward, wrong, a, q.p)
    refuse(ValueError, r"dz: expected shape \(n_y, m\) = \(2, 4\), got \(2, 4, 6\)", backward, dz, a[:, :, 0], q.p)
    for p in (None, 3, [1]):
        refuse(TypeError, r"parameters: expected a mapping from names to arrays, got \w+", forward, a, p)
        refuse(TypeError, r"parameters: expected a mapping from names to arrays, got \w+", backward, dz, a, p)
    refuse(KeyError, r"parameters: expected an entry 'Wy', got only \['by'\]", forward, a, {"by": q.p["by"]})
    refuse(KeyError, r"parameters: expected an entry 'by', got only \['Wy'\]", forward, a, {"Wy": q.p["Wy"]})
    wrong = {**q.p, "by": q.p["by"].T}
    refuse(ValueError, r"parameters\['by'\]: expected shape \(n_y, 1\) = \(2, 1\), got \(1, 2\)", forward, a, wrong)
    assert set(backward(dz, a, {"Wy": q.p["Wy"]})) == {"da", "dWy", "dby"}


def test_sums_of_many_steps_are_accurate():
    rng = np.random.default_rng(0)
    dz, a = rng.random((1, 50, 2000)), rng.random((3, 50, 2000))
    got = cyrnn.output_backward(dz, a, {"Wy": np.ones((1, 3)), "by": np.ones((1, 1))})
    reference.close(got["dby"], dz.sum(axis=(1, 2))[:, None], 1e-15)
