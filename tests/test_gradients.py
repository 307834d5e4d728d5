"""Gradients against fourth-order central differences of the forward pass."""

import numpy as np
import pytest
from cells import CELLS, IDS
from reference import problem

STEP = 1e-3  # its fourth power and the rounding of the loss divided by it are both near 1e-12
TOLERANCE = 1e-9

pytestmark = [pytest.mark.usefixtures("build"), pytest.mark.parametrize("cell", CELLS, ids=IDS)]


def derivative(loss, array, index):
    """d loss / d array[index] by the five-point formula (Abramowitz and Stegun 25.3.6)."""
    kept = array[index]
    values = []
    for k in (-2, -1, 1, 2):
        array[index] = kept + k * STEP
        values.append(loss())
    array[index] = kept
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)


def check(loss, pairs):
    for name, (array, gradient) in pairs.items():
        assert gradient.shape == array.shape
        for index in np.ndindex(array.shape):
            numeric = derivative(loss, array, index)
            assert gradient[index] == pytest.approx(numeric, rel=TOLERANCE, abs=TOLERANCE), (name, index)


def test_sequence(cell):
    q = problem(cell.name, 3, 5, 2, 4, 6)
    gradients = cell.backward(q.da, cell.forward(q).caches)
    pairs = {"x": (q.x, gradients["dx"]), "a0": (q.a0, gradients["da0"])}
    pairs |= {name: (q.p[name], gradients["d" + name]) for name in cell.inputs}
    check(lambda: float((cell.forward(q).a * q.da).sum()), pairs)


def test_cell(cell):
    q = problem(cell.name, 3, 5, 2, 4, 1)
    xt, da = q.x[:, :, 0], q.da[:, :, 0]

    def loss():
        out = cell.cell_forward(xt, q.a0, q.c0, q.p)
        return float((out.a * da).sum() + (0 if out.c is None else (out.c * q.dc).sum()))

    gradients = cell.cell_backward(da, q.dc, cell.cell_forward(xt, q.a0, q.c0, q.p).cache)
    pairs = {"xt": (xt, gradients["dxt"]), "a_prev": (q.a0, gradients["da_prev"])}
    if cell.name == "lstm":
        pairs["c_prev"] = (q.c0, gradients["dc_prev"])
    pairs |= {name: (q.p[name], gradients["d" + name]) for name in cell.inputs}
    check(loss, pairs)
