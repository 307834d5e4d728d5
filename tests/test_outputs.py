"""The output layer of the forward passes: softmax, sigmoid, linear, none."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rows import each_row

import cyrnn

pytestmark = [pytest.mark.usefixtures("build"), each_row]

SHAPES = [(3, 5, 2, 4, 6), (2, 17, 9, 1, 3), (4, 33, 70, 37, 2), (1, 8, 1, 16, 1), (3, 4, 0, 2, 3)]
ACTIVATIONS = {"softmax": cyrnn.softmax, "sigmoid": cyrnn.sigmoid, "linear": np.copy}


def without_output(cell, p):
    return {key: value for key, value in p.items() if key not in cell.output}


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activations_have_the_bits_of_the_functions(cell, shape, output):
    q = cell.problem(*shape)
    q.p["by"] = q.p["by"] * 40  # saturated sigmoids as well
    usual = cell.forward(q)
    out = cell.forward(q, output=output)
    assert_array_equal(out.a, usual.a)
    want = ACTIVATIONS[output](cyrnn.output_forward(out.a, q.p)) if shape[2] else usual.y
    want[np.abs(want) < np.finfo(want.dtype).tiny] = 0.0  # as a forward pass flushes them
    assert_array_equal(out.y, want)
    step = cell.cell_forward(q.x[:, :, 0], q.a0, np.zeros_like(q.a0), q.p, output=output)
    assert_array_equal(step.y, out.y[:, :, 0])
    lengths = np.arange(shape[3]) % (shape[4] + 1)
    padded = cell.forward(q, output=output, lengths=lengths)
    for j, length in enumerate(lengths):
        assert_array_equal(padded.y[:, j, :length], out.y[:, j, :length])
        assert not padded.y[:, j, length:].any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_an_output_its_entries_are_not_read(cell, shape):
    q = cell.problem(*shape)
    usual = cell.forward(q)
    gradients = cell.backward(q.da, usual.caches)
    p = without_output(cell, q.p)
    for q.p in (
        p,
        p | dict.fromkeys(cell.output, "not read"),
        {key: value.astype(np.float32) for key, value in p.items()},
    ):
        out = cell.forward(q, output=None)
        step = cell.cell_forward(q.x[:, :, 0], q.a0, np.zeros_like(q.a0), q.p, output=None)
        assert out.y is None
        assert step.y is None
        if q.p[cell.inputs[0]].dtype == np.float64:
            assert_array_equal(out.a, usual.a)
            assert_array_equal(step.a, usual.a[:, :, 0])
            for key, value in cell.backward(q.da, out.caches).items():
                assert_array_equal(value, gradients[key])
    cell.backward(q.da, [[*out.caches[0]], q.x])


def test_what_is_no_output_layer_is_named(cell):
    q = cell.problem(3, 5, 2, 4, 6)
    for output, error in (
        ("relu", ValueError),
        ("Softmax", ValueError),
        (1, TypeError),
        ([], TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match=r"^output: expected 'softmax', 'sigmoid', 'linear' or None, got "):
            cell.forward(q, output=output)
        with pytest.raises(error, match=r"^output: expected 'softmax', 'sigmoid', 'linear' or None, got "):
            cell.cell_forward(q.x[:, :, 0], q.a0, np.zeros_like(q.a0), q.p, output=output)
    for key in cell.output:
        for output in ACTIVATIONS:
            p = {name: value for name, value in q.p.items() if name != key}
            with pytest.raises(KeyError, match=repr(key)):
                cell.cell_forward(q.x[:, :, 0], q.a0, np.zeros_like(q.a0), p, output=output)
            with pytest.raises(TypeError, match=key):
                cell.cell_forward(q.x[:, :, 0], q.a0, np.zeros_like(q.a0), p | {key: None}, output=output)
    assert cell.forward(q).y is not None


def test_a_wrong_size_is_named_without_an_output_too(cell):
    q = cell.problem(3, 5, 2, 4, 6)
    q.p = without_output(cell, q.p)
    with pytest.raises(ValueError, match=r"^xt: expected shape"):
        cell.cell_forward(q.x[:, :, 0].T, q.a0, np.zeros_like(q.a0), q.p, output=None)
    q.p[cell.inputs[-1]] = np.zeros((4, 1))
    with pytest.raises(ValueError, match=cell.inputs[-1]):
        cell.forward(q, output=None)
