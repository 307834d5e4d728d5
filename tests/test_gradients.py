"""Gradients against fourth-order central differences of the forward pass, and by what they are for: training."""

import copy
from functools import partial

import numpy as np
import pytest
from cells import CELLS, IDS
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

import cyrnn
from cyrnn import _kernels
from cyrnn.demo import numpy_reference

STEP = 1e-3  # its fourth power and the rounding of the loss divided by it are both near 1e-12
SHORT = STEP / 4  # along a direction in which every value moves
TOLERANCE = 1e-10
SINGLE = 450 * 2.0**-23  # of float32, against differences in float64: as many units in the last place as BACKWARD has

pytestmark = pytest.mark.usefixtures("build")
each_cell = pytest.mark.parametrize("cell", CELLS, ids=IDS)


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
            tolerance = SINGLE if gradient.dtype == np.float32 else TOLERANCE
            assert gradient[index] == pytest.approx(numeric, rel=tolerance, abs=tolerance), (name, index)


@each_row
def test_sequence(cell):
    q = cell.problem(3, 5, 2, 4, 6)
    gradients = cell.backward(q.da, cell.forward(q).caches)
    cell, q = cell.exact(q)
    pairs = {"x": (q.x, gradients["dx"]), "a0": (q.a0, gradients["da0"])}
    pairs |= {name: (q.p[name], gradients["d" + name]) for name in cell.inputs}
    check(lambda: float((cell.forward(q).a * q.da).sum()), pairs)


@each_row
def test_cell(cell):
    q = cell.problem(3, 5, 2, 4, 1)
    one = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    gradients = cell.cell_backward(q.da[:, :, 0], q.dc, one.cache)
    cell, q = cell.exact(q)
    xt, da = q.x[:, :, 0], q.da[:, :, 0]

    def loss():
        out = cell.cell_forward(xt, q.a0, q.c0, q.p)
        return float((out.a * da).sum() + (0 if out.c is None else (out.c * q.dc).sum()))

    pairs = {"xt": (xt, gradients["dxt"]), "a_prev": (q.a0, gradients["da_prev"])}
    if cell.memory:
        pairs["c_prev"] = (q.c0, gradients["dc_prev"])
    pairs |= {name: (q.p[name], gradients["d" + name]) for name in cell.inputs}
    check(loss, pairs)


# Along random directions, over random shapes


def along(states, inputs, direction, step):
    """The directional derivative of `states`, a function of a dict of arrays, by the five-point formula."""
    at = [states({name: value + k * step * direction[name] for name, value in inputs.items()}) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step)


def with_inputs(cell, q, values):
    """The problem with its x, a0, c0 and parameters as in `values`."""
    r = copy.copy(q)
    r.x, r.a0, r.c0 = (values.get(name, getattr(q, name)) for name in ("x", "a0", "c0"))
    r.p = {**q.p, **{name: value for name, value in values.items() if name in q.p}}
    return r


def sequence_states(cell, q, values):
    return cell.forward(with_inputs(cell, q, values)).a


def cell_states(cell, q, values):
    r = with_inputs(cell, q, values)
    out = cell.cell_forward(np.ascontiguousarray(r.x[:, :, 0]), r.a0, r.c0, r.p)
    return out.a if out.c is None else np.stack([out.a, out.c])


def sequence_inputs(cell, q):
    return {"x": q.x, "a0": q.a0, **{name: q.p[name] for name in cell.inputs}}


def assert_adjoint(derivative_of, states, inputs, gradients, upstream, directions):
    """<upstream, J v> = <J' upstream, v> for each direction v, relative to the sum of its terms."""
    for v in directions:
        left = (upstream * derivative_of(states, inputs, v)).sum()
        terms = [gradients[name] * v[name] for name in v]
        scale = sum(np.abs(term).sum() for term in terms)
        assert abs(left - sum(term.sum() for term in terms)) <= TOLERANCE * max(scale, 1.0)


def one_at_a_time(rng, inputs):
    """A random direction for every input by itself, and one for all together."""
    v = {name: rng.standard_normal(value.shape) / np.sqrt(max(value.size, 1)) for name, value in inputs.items()}
    still = {name: np.zeros_like(value) for name, value in inputs.items()}
    return [*({**still, name: value} for name, value in v.items()), v]


random_shapes = settings(max_examples=15, deadline=None, derandomize=True)
SIZES = st.tuples(st.integers(0, 9), st.integers(1, 20), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))


@random_shapes
@given(size=SIZES, seed=st.integers(0, 2**20), fewer=st.integers(0, 2))
@each_cell
def test_every_input_of_a_sequence(cell, size, seed, fewer):
    q = cell.problem(*size, seed=seed)
    T_x = max(1, size[4] - fewer)  # da may have fewer steps
    caches, inputs = cell.forward(q).caches, sequence_inputs(cell, q)
    directions = one_at_a_time(np.random.default_rng(seed), inputs)
    for steps in (caches[0], list(caches[0])):  # the kernel's way, and cell by cell
        gradients = cell.backward(q.da[:, :, :T_x], (steps, q.x))
        gradients = {name: gradients["d" + name] for name in inputs}
        missing = np.zeros((size[0], size[3], size[4] - T_x))
        gradients["x"] = np.concatenate([gradients["x"], missing], 2)
        upstream = np.where(np.arange(size[4]) < T_x, q.da, 0.0)
        states = partial(sequence_states, cell, q)
        assert_adjoint(partial(along, step=SHORT), states, inputs, gradients, upstream, directions)


@random_shapes
@given(size=SIZES, seed=st.integers(0, 2**20))
@each_cell
def test_every_input_of_a_cell(cell, size, seed):
    q = cell.problem(*size[:4], 1, seed=seed)
    one = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    back = cell.cell_backward(q.da[:, :, 0], q.dc, one.cache)
    inputs = sequence_inputs(cell, q)
    gradients = {name: back["d" + name] for name in cell.inputs}
    gradients |= {"x": back["dxt"][:, :, None], "a0": back["da_prev"]}
    upstream = q.da[:, :, 0]
    if cell.memory:
        inputs["c0"], gradients["c0"], upstream = q.c0, back["dc_prev"], np.stack([upstream, q.dc])
    directions = one_at_a_time(np.random.default_rng(seed), inputs)
    states = partial(cell_states, cell, q)
    assert_adjoint(partial(along, step=SHORT), states, inputs, gradients, upstream, directions)


LARGE = [(40, 256, 2, 3, 200), (20, 100, 2, 1, 200), (7, 33, 5, 19, 120), (9, 200, 3, 12, 30)]


@pytest.mark.parametrize("size", LARGE, ids=str)
@each_cell
def test_adjoint_at_large_sizes(cell, size):
    """The directions lean towards the gradient, so that the products are no small remainder of large terms.

    Each input by itself on one build, all together on the others too.
    """
    q = cell.problem(*size)
    inputs = sequence_inputs(cell, q)
    gradients = cell.backward(q.da, cell.forward(q).caches)
    gradients = {name: gradients["d" + name] for name in inputs}
    length = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    states = partial(sequence_states, cell, q)
    directions = one_at_a_time(np.random.default_rng(1), inputs)
    for v in directions if _kernels.build == _kernels.available()[0] else directions[-1:]:
        v = {name: gradients[name] / length + 0.3 * v[name] for name in v}
        left = (q.da * along(states, inputs, v, STEP)).sum()
        assert left == pytest.approx(sum((gradients[name] * v[name]).sum() for name in v), rel=1e-9)


def training(module, cell, steps):
    """The losses of a net that learns to say what it heard a step ago."""
    n, n_a, m, T_x = 5, 16, 8, 12
    rng = np.random.default_rng(3)
    p = {name: value * 0.5 for name, value in cell.problem(n, n_a, n, m, T_x).p.items()}
    heard = rng.integers(n, size=(m, T_x))
    x = np.eye(n)[heard].transpose(2, 0, 1).copy()
    target = np.zeros_like(x)
    target[:, :, 1:] = x[:, :, :-1]
    W_out, b_out = cell.output
    losses = []
    for _ in range(steps):
        a, y, *_, caches = cell.function("forward", module)(x, np.zeros((n_a, m)), p)
        losses.append(-(target[:, :, 1:] * np.log(y[:, :, 1:])).sum() / (m * (T_x - 1)))
        dz = (y - target) / (m * (T_x - 1))
        dz[:, :, 0] = 0.0
        gradients = cell.function("backward", module)(np.tensordot(p[W_out].T, dz, 1), caches)
        gradients["d" + W_out] = np.tensordot(dz, a, ((1, 2), (1, 2)))
        gradients["d" + b_out] = dz.sum(axis=(1, 2))[:, None]
        p = {name: value - 0.5 * gradients["d" + name] for name, value in p.items()}
    return np.array(losses)


@each_cell
def test_training_as_the_notebook_does(cell):
    """200 steps of gradient descent: the same loss after every one, and it learns."""
    ours, notebook = training(cyrnn, cell, 200), training(numpy_reference, cell, 200)
    assert np.abs(ours - notebook).max() <= 1e-12
    assert ours[-1] < 0.6 * ours[0]
