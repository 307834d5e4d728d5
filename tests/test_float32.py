"""float32: which dtype follows which, mixtures, numbers too large for it, layouts, models of other libraries."""

import copy
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import test_losses
import test_updates
from cells import CELLS, FLOAT32, IDS
from layouts import LAYOUTS
from networks import build, changed, leaves
from numpy.testing import assert_array_equal
from reference import within

import cyrnn

SHAPE = 3, 5, 2, 4, 6
f4, f8 = np.float32, np.float64
each_cell = pytest.mark.parametrize("cell", FLOAT32, ids=IDS)
LARGE = 1e300


def refuse(error, message, function, *args, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error) as caught:
            function(*args, **keywords)
    assert re.fullmatch(message, str(caught.value.args[0])), caught.value.args[0]


def dtypes(*nested):
    return {array.dtype for array in leaves(list(nested)) if array is not None}


def same_bits(got, want):
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


# What follows what


@each_cell
def test_the_keyword_and_not_the_arguments_tells_the_dtype_of_a_forward_pass(cell):
    q = cell.problem(*SHAPE)
    plain, wide = cell.exact(q)
    for one in (plain, cell):
        kept = []
        for problem in (q, wide):
            out = one.forward(problem)
            gradients = one.backward(problem.da, out.caches)
            step = one.cell_forward(problem.x[:, :, 0], problem.a0, problem.c0, problem.p)
            back = one.cell_backward(problem.da[:, :, 0], problem.dc, step.cache)
            stream = one.stream(problem.p, 4)
            found = [out.a, out.y, out.c, gradients, step.a, step.y, step.c, back, stream.run(problem.x), stream.state]
            kept.append([value for value in found if value is not None])
            assert dtypes(kept, stream.parameters) == {np.dtype(one.dtype)}
        same_bits(*kept)


@each_cell
def test_names_of_the_dtype(cell):
    q = cell.problem(*SHAPE)
    forward = CELLS[FLOAT32.index(cell)].function("forward")
    want = cell.forward(q).a
    for dtype in (np.dtype("f4"), "float32", "f4", np.single):
        assert_array_equal(forward(q.x, q.a0, q.p, dtype=dtype)[0], want)
    expected = "dtype: expected numpy.float64 or numpy.float32, got "
    for dtype, error in ((None, TypeError), ("nonsense", TypeError), (3, TypeError), (np.float16, ValueError),
                         (int, ValueError), (">f4", ValueError), (complex, ValueError)):  # fmt: skip
        refuse(error, re.escape(f"{expected}{dtype!r}"), forward, q.x, q.a0, q.p, dtype=dtype)


@each_cell
def test_backward_follows_the_caches(cell):
    """Whatever da is; steps of two dtypes are refused."""
    q = cell.problem(*SHAPE)
    plain, wide = cell.exact(q)
    out, double = cell.forward(q), plain.forward(wide)
    want = cell.backward(q.da, out.caches)
    same_bits(cell.backward(wide.da, out.caches), want)
    same_bits(cell.backward(q.da.astype(np.longdouble), out.caches), want)
    same_bits(cell.backward(q.da, copy.deepcopy(out.caches)), want)
    same_bits(cell.backward(q.da, pickle.loads(pickle.dumps(out.caches))), want)
    same_bits(plain.backward(q.da, double.caches), plain.backward(wide.da, double.caches))
    assert dtypes(cell.backward(wide.da, (list(out.caches[0]), q.x))) == {np.dtype(f4)}
    mixed = [*double.caches[0][:3], *out.caches[0][3:]]
    refuse(ValueError, r"caches\[0\]\[2\]: expected float32 as in the step after, got float64",
           cell.backward, q.da, (mixed, q.x))  # fmt: skip


@each_cell
def test_a_dict_of_both_dtypes(cell):
    q = cell.problem(*SHAPE)
    q.p = {name: value if k % 2 else value.astype(f8) for k, (name, value) in enumerate(q.p.items())}
    want, given = cell.forward(cell.problem(*SHAPE)), {name: value.dtype for name, value in q.p.items()}
    out = cell.forward(q)
    same_bits([out.a, out.y], [want.a, want.y])
    assert {name: value.dtype for name, value in q.p.items()} == given
    assert dtypes(cell.backward(q.da, out.caches)) == {np.dtype(f4)}
    gradients = {"d" + name: np.ones_like(value) for name, value in q.p.items()}
    refuse(TypeError, r"parameters\['\w+'\]: expected a float64 numpy.ndarray to update in place, got .*float32.*",
           cyrnn.update_parameters_with_gd, q.p, gradients, 0.1)  # fmt: skip
    q.p = dict(reversed(q.p.items()))
    if next(iter(q.p.values())).dtype == f4:
        refuse(TypeError, r"parameters\['\w+'\]: expected a float32 numpy.ndarray, as the first parameter is, to .*",
               cyrnn.update_parameters_with_gd, q.p, gradients, 0.1)  # fmt: skip


def test_losses_follow_what_the_network_gave():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((3, 4, 6), f4)
    targets, weights, labels = rng.random((3, 4, 6)), rng.random((4, 6)), rng.integers(0, 3, (4, 6))
    for given in (z, z.astype(f8), z.tolist()):
        dtype = f4 if given is z else f8
        y = cyrnn.softmax(given)
        assert y.dtype == cyrnn.sigmoid(given).dtype == dtype
        for loss, dz in (
            cyrnn.cross_entropy(y, labels, weights=weights),
            cyrnn.cross_entropy(y, targets / targets.sum(0)),
            cyrnn.mean_squared_error(given, targets, [6, 0, 3, 2]),
            cyrnn.binary_cross_entropy(given, targets, weights=targets, from_logits=True),
            cyrnn.binary_cross_entropy(cyrnn.sigmoid(given), targets),
        ):
            assert type(loss) is float
            assert dz.dtype == dtype
    dropped, mask = cyrnn.dropout(z, 0.5, 0)
    assert dropped.dtype == mask.dtype == f4
    for one, other in ((targets.astype(f4), weights.astype(f4)), (targets, weights)):
        found = cyrnn.mean_squared_error(z, one, weights=other)
        assert found[0] == cyrnn.mean_squared_error(z, targets, weights=weights)[0]


def test_the_loss_of_a_saturated_prediction():
    """A probability below the smallest normal number counts as that one; logits are exact."""
    most = -np.log(f8(np.finfo(f4).tiny))  # 87.3
    for z in (-200.0, -95.0):  # whose softmax is 0 and subnormal
        z = np.array([[z], [0.0]], f4)
        loss, dz = cyrnn.cross_entropy(cyrnn.softmax(z), [0])
        assert loss == pytest.approx(most, rel=1e-7)
        assert_array_equal(dz, np.array([[-1.0], [1.0]], f4))
        assert cyrnn.binary_cross_entropy(z[:1], np.ones((1, 1)), from_logits=True)[0] == -z[0, 0]
    wrong = np.array([[0.0, 1.0]], f4), np.array([[1.0, 0.0]])
    assert cyrnn.binary_cross_entropy(*wrong)[0] == pytest.approx(most, rel=1e-7)
    close_to_1 = np.array([[0.5], [0.5 + 5e-5]], f4)
    cyrnn.cross_entropy(close_to_1, [0])
    for wrong in (close_to_1.astype(f8), close_to_1 * f4(1.001)):
        refuse(ValueError, "y_pred: expected probabilities that sum to 1 .*", cyrnn.cross_entropy, wrong, [0])


# Values: against float64 of the same numbers, or its oracle

EPS = float(np.finfo(f4).eps)


@pytest.mark.parametrize("kind", test_losses.LOSSES)
@pytest.mark.parametrize("scored", test_losses.SCORED)
def test_values_of_losses(build, kind, scored):
    for shape in ((2, 10, 4), (100, 3, 5), (3, 50, 170), (17, 1, 1)):
        q = test_losses.case(kind, *shape, scored=scored)
        q.z = q.z.astype(f4)
        given, weights = test_losses.given_of(q), q.weights if q.weights is None else q.weights.astype(f4)
        wanted = q.wanted if kind == "classes" else q.wanted.astype(f4)
        loss, dz = test_losses.LOSSES[kind](given, wanted, q.lengths, weights=weights)
        wide = [value if value is None else value.astype(f8) for value in (given, weights)]
        exact, dz_exact = test_losses.LOSSES[kind](
            wide[0], wanted if kind == "classes" else wanted.astype(f8), q.lengths, weights=wide[1]
        )
        assert (given.dtype, dz.dtype, dz_exact.dtype) == (f4, f4, f8)
        assert loss == pytest.approx(exact, rel=8 * EPS)
        assert np.abs(dz - dz_exact).max() <= 4 * EPS * np.abs(dz_exact).max()
        assert_array_equal(dz == 0, dz_exact == 0)


@pytest.mark.parametrize("cell", test_updates.SIZES)
def test_values_of_updates(build, cell):
    arrays = [changed(value, lambda v: v.astype(f4)) for value in test_updates.case(cell)]
    wide = [changed(value, lambda v: v.astype(f8)) for value in arrays]
    p, g, v, s = arrays
    for t in (1, 2, 3, 4000):
        cyrnn.update_parameters_with_adam(p, g, v, s, t, weight_decay=0.01)
        test_updates.oracle(*wide, t, decay=0.01)
    for found, want in zip(leaves([p, v, s]), leaves([wide[0], *wide[2:]]), strict=True):
        assert found.dtype == f4
        np.testing.assert_allclose(found, want, rtol=16 * EPS, atol=8 * EPS)
    exact = changed(p, lambda v: v.astype(f8))
    cyrnn.update_parameters_with_gd(p, g, 0.3)
    for name, value in p.items():
        assert value.dtype == f4
        np.testing.assert_allclose(value, exact[name] - 0.3 * g["d" + name].astype(f8), rtol=4 * EPS, atol=2 * EPS)


def test_clipping(build):
    _, g, _, _ = test_updates.case()
    g = {name: value.astype(f4) for name, value in g.items() if name[1] in "Wb"}
    exact = np.sqrt(sum((value.astype(f8) ** 2).sum() for value in g.values()))
    clipped, norm = cyrnn.clip_gradients(g, norm=0.5)
    assert type(norm) is float
    assert norm == pytest.approx(exact, rel=EPS)
    for name, value in clipped.items():
        assert value.dtype == f4
        np.testing.assert_allclose(value, g[name].astype(f8) * (0.5 / exact), rtol=4 * EPS)
    for scale in (1e-38, 1e-30, 1e18):  # whose squares float32 cannot hold
        tiny = {"dW": np.full((3, 1), f4(scale))}
        assert cyrnn.clip_gradients(tiny, norm=1e30)[1] == pytest.approx(np.sqrt(3) * f8(f4(scale)), rel=1e-5)
    clipped, _ = cyrnn.clip_gradients({**g, "dba": np.ones((2, 1))}, norm=0.5)
    assert dtypes(clipped) == {np.dtype(f8)}
    large = {"dW": np.full((3, 1), f4(1e20))}
    refuse(ValueError, r"gradients\['dW'\]: expected .*", cyrnn.clip_gradients, large, norm=1)


def test_softmax_sums_to_one(build):
    for n in (2, 7, 15, 16, 23, 64, 257, 1000, 10_000):
        rng = np.random.default_rng(n)
        large = np.repeat(-rng.uniform(0, 9, 20)[None], n, axis=0)
        large[n // 2] = 0.0
        for x in (large, rng.normal(size=(n, 3)) * 8, rng.choice([0.0, -np.inf, 3e38, -3e38, 80.0], (n, 4))):
            y = cyrnn.softmax(x.astype(f4))
            assert y.dtype == f4
            assert (y >= 0).all()
            for column in y[:, ~np.isnan(y).any(axis=0)].T:
                assert abs(math.fsum(column) - 1) <= 4 * EPS
            assert_array_equal(cyrnn.softmax(np.asfortranarray(x.astype(f4))), y)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_dropout_and_the_output_layer(rate):
    q = FLOAT32[1].problem(*SHAPE)
    dropped, mask = cyrnn.dropout(q.da, rate, 3)
    assert set(np.unique(mask)) == {0.0, f4(1 / (1 - rate))}
    assert_array_equal(dropped, q.da * mask)
    z = cyrnn.output_forward(q.da, q.p)
    exact = np.einsum("ya,amt->ymt", q.p["Wy"].astype(f8), q.da.astype(f8)) + q.p["by"][:, :, None]
    assert z.dtype == f4
    within(z, exact, 4 * EPS)


# Numbers too large for float32


@each_cell
def test_what_float32_cannot_hold_is_named(cell):
    q = cell.exact(cell.problem(*SHAPE))[1]
    can = r"expected numbers that float32 can hold, got 1e\+300 at "

    def spoiled(name):
        r = copy.copy(q)
        if name in q.p:
            r.p = {**q.p, name: q.p[name].copy()}
        value = r.p[name] if name in q.p else getattr(q, name).copy()
        value[(1,) * value.ndim if value.shape[-1] > 1 else (1, 0)] = LARGE
        if name not in q.p:
            setattr(r, name, value)
        return r

    caches = cell.forward(q).caches
    want = cell.backward(q.da, caches)
    refuse(ValueError, rf"x: {can}\[1, 1, 1\]", cell.forward, spoiled("x"))
    refuse(ValueError, rf"a0: {can}\[1, 1\]", cell.forward, spoiled("a0"))
    refuse(ValueError, rf"da: {can}\[1, 1, 1\]", cell.backward, spoiled("da").da, caches)
    refuse(ValueError, rf"da: {can}\[1, 1, 1\]", cell.backward, spoiled("da").da, (list(caches[0]), q.x))
    for name in q.p:
        refuse(ValueError, rf"parameters\['{name}'\]: {can}\[1, [01]\]", cell.forward, spoiled(name))
        refuse(ValueError, rf"parameters\['{name}'\]: {can}\[1, [01]\]", cell.stream, spoiled(name).p, 4)
    stream = cell.stream(q.p, 4)
    refuse(ValueError, rf"xt: {can}\[1, 1\]", stream.step, spoiled("x").x[:, :, 1])
    infinite = copy.copy(q)
    infinite.x = np.where(q.x == q.x[1, 1, 1], np.inf, q.x)  # which is not too large, and stays what it is
    assert abs(cell.forward(infinite).a[:, 1, 1]).max() > 0.5
    same_bits(cell.backward(q.da, caches), want)


@each_cell
def test_what_lies_past_the_lengths_may_be_any_number_of_float64(cell):
    q = cell.exact(cell.problem(*SHAPE))[1]
    lengths = [6, 0, 3, 1]
    past = np.arange(6) >= np.array(lengths)[:, None]
    q.a0[...] = 0.0
    want = cell.forward(q, lengths=lengths)
    gradients = cell.backward(q.da, want.caches)
    q.x, q.da = np.where(past, LARGE, q.x), np.where(past, -LARGE, q.da)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = cell.forward(q, lengths=lengths)
        same_bits([out.a, out.y], [want.a, want.y])
        same_bits(cell.backward(q.da, out.caches), gradients)
        assert dtypes(cell.backward(q.da, (list(out.caches[0]), q.x))) == {np.dtype(f4)}
        network = [{name: q.p[name] for name in cell.inputs}, {"Wy": q.p[cell.output[0]], "by": q.p["by"]}]
        y, *_, caches = cyrnn.network_forward(q.x, network, lengths=lengths, dtype=f4)
        same_bits(y, want.y)
        cyrnn.network_backward(caches, da=q.da, dz=np.where(past, LARGE, 1.0) + np.zeros((2, 1, 1)))
    q.x[0, 2, 2] = LARGE
    refuse(ValueError, r"x: expected numbers that float32 can hold, got 1e\+300 at \[0, 2, 2\]",
           cell.forward, q, lengths=lengths)  # fmt: skip


def test_targets_and_weights_too_large():
    z, targets = np.ones((2, 3), f4), np.ones((2, 3))
    targets[1, 2] = LARGE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cyrnn.mean_squared_error(z, targets, weights=np.array([1.0, 1.0, 0.0]))
        cyrnn.cross_entropy(cyrnn.softmax(z), targets, weights=np.array([1.0, 1.0, 0.0]))
    can = r"expected numbers that float32 can hold, got 1e\+300 at "
    refuse(ValueError, rf"targets: {can}\[1, 2\]", cyrnn.mean_squared_error, z, targets)
    refuse(ValueError, rf"labels: {can}\[1, 2\]", cyrnn.cross_entropy, cyrnn.softmax(z), targets)
    for weights, at in ((targets[1], r"\[2\]"), (targets, r"\[1, 2\]")):
        refuse(ValueError, f"weights: {can}{at}", cyrnn.mean_squared_error, z, np.ones((2, 3)), weights=weights)
    infinite = np.where(targets == LARGE, np.inf, targets)  # which is not too large, and stays what it is
    refuse(ValueError, r"targets: expected finite numbers, got inf at .*", cyrnn.mean_squared_error, z, infinite)
    refuse(ValueError, r"targets: expected shape \(n_y, m\) = \(2, 3\), got \(3, 2\)",
           cyrnn.mean_squared_error, z, targets.T)  # fmt: skip
    refuse(ValueError, r"weights: expected shape .*, got \(3, 2\)",
           cyrnn.mean_squared_error, z, np.ones((2, 3)), weights=targets.T)  # fmt: skip
    z, targets = np.ones((2, 3, 4), f4), np.ones((2, 3, 4))
    targets[:, 1, 3] = LARGE
    cyrnn.mean_squared_error(z, targets, [4, 3, 4])
    cyrnn.cross_entropy(cyrnn.softmax(z), targets, [4, 3, 4], weights=targets[0])
    refuse(ValueError, rf"targets: {can}\[0, 1, 3\]", cyrnn.mean_squared_error, z, targets, [4, 4, 4])


@pytest.mark.parametrize("rate", [4e38, LARGE])
def test_rates_too_large(rate):
    """Of an update; they would make a zero gradient NaN."""
    p, g = {"Wy": np.ones((2, 3), f4)}, {"dWy": np.zeros((2, 3), f4)}
    v, s = cyrnn.initialize_adam(p)
    kept = copy.deepcopy([p, v, s])
    finite = re.escape(f"learning_rate: expected a finite number in float32, got {rate}")
    refuse(ValueError, finite, cyrnn.update_parameters_with_gd, p, g, rate)
    refuse(ValueError, finite, cyrnn.update_parameters_with_adam, p, g, v, s, 1, rate)
    refuse(ValueError, re.escape(f"epsilon: expected a number above 0 in float32, got {rate}"),
           cyrnn.update_parameters_with_adam, p, g, v, s, 1, epsilon=rate)  # fmt: skip
    same_bits([p, v, s], kept)
    cyrnn.update_parameters_with_gd(p, g, 3e38)
    same_bits([p, v, s], kept)
    wide = changed(p, lambda value: value.astype(f8))
    cyrnn.update_parameters_with_gd(wide, g, rate)
    assert_array_equal(wide["Wy"], 1.0)


def test_numbers_of_float32_are_shown_as_such():
    """By the digits that tell them from their neighbours, not by those of the same number in float64."""
    most = re.escape("(at most 1.8e+19, so that their squares are), got 1e+20 at [0, 0]")
    large = {"dW": np.full((3, 1), f4(1e20))}
    refuse(ValueError, rf"gradients\['dW'\]: expected finite numbers {most}", cyrnn.clip_gradients, large, norm=1)
    y = np.array([[-0.1], [1.1]], f4)
    refuse(ValueError, r"y_pred: expected probabilities from 0 to 1, got -0\.1 at .*", cyrnn.cross_entropy, y, [0])


def test_a_forget_bias_too_large():
    assert cyrnn.initialize_parameters("lstm", 1, 1, 1, 0, forget_bias=LARGE)["bf"] == LARGE
    refuse(ValueError, r"forget_bias: expected a finite number in float32, got 1e\+300",
           cyrnn.initialize_parameters, "lstm", 1, 1, 1, 0, forget_bias=LARGE, dtype=f4)  # fmt: skip


def test_files_too_large(tmp_path):
    p = cyrnn.initialize_parameters("rnn", 3, 5, 2, 0)
    p["Wax"][0, 0] = LARGE
    np.savez(tmp_path / "p.npz", **p)
    assert cyrnn.load_parameters(tmp_path / "p.npz")["Wax"][0, 0] == LARGE
    can = r".*: expected numbers that float32 can hold, got 1e\+300 at \[0, 0\]"
    refuse(ValueError, r".*p\.npz: Wax" + can[2:], cyrnn.load_parameters, tmp_path / "p.npz", dtype=f4)
    cyrnn.save_network(tmp_path / "n.npz", [{name: p[name] for name in ("Wax", "Waa", "ba")}])
    refuse(ValueError, r".*n\.npz: " + can, cyrnn.load_network, tmp_path / "n.npz", dtype=f4)


# Layouts and special values of float32 itself


@each_cell
@pytest.mark.parametrize("layout", [*LAYOUTS, lambda v: v.astype(f8)], ids=lambda layout: layout.__name__)
def test_layouts(cell, layout):
    q = cell.problem(*SHAPE)
    out = cell.forward(q)
    want = [out.a, out.y, *cell.backward(q.da, out.caches).values()]
    r = copy.copy(q)
    r.x, r.a0, r.c0, r.da, r.dc = map(layout, (q.x, q.a0, q.c0, q.da, q.dc))
    r.p = {name: layout(value) for name, value in q.p.items()}
    out = cell.forward(r)
    same_bits([out.a, out.y, *cell.backward(r.da, out.caches).values()], want)


@each_cell
def test_subnormal_inputs_and_results(cell):
    """They are zeros in a forward pass, as those of float64 are; the caller's state of the processor stays."""
    q = cell.problem(*SHAPE)
    tiny = np.finfo(f4).smallest_subnormal
    q.x[...] = tiny
    out = cell.forward(q)
    q.x[...] = 0.0
    within(out.a, cell.forward(q).a, 1e-37)
    assert f4(tiny) * f4(1.0) == tiny


# Models of other libraries


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def drawn(cell, embedding=True, pairs=(True, False)):
    """A network of two layers in float32 with its input."""
    kind = "embedding" if embedding else "dense"
    q = build([cell] * 2, list(pairs), [5, 5], np.random.default_rng(1), input=kind, given=False)
    q.network = changed(q.network, lambda value: value.astype(f4))
    return q


@pytest.mark.parametrize("cell", [cell for cell in FLOAT32 if cell.torch], ids=lambda cell: cell.name)
def test_torch(torch, cell):
    p = cell.problem(*SHAPE).p
    state_dict = cyrnn.to_torch(p)
    assert {value.dtype for value in state_dict.values()} == {torch.float32}
    back = cyrnn.from_torch(state_dict, dtype=f4)
    same_bits([back[name] for name in p], list(p.values()))
    assert dtypes(cyrnn.from_torch(state_dict)) == {np.dtype(f8)}
    same_bits(cyrnn.from_torch(state_dict), changed(back, lambda value: value.astype(f8)))
    mixed = cyrnn.to_torch({**p, "by": p["by"].astype(f8)})
    assert {value.dtype for value in mixed.values()} == {torch.float64}
    for pairs in ((True, True), (False, False)):
        q = drawn(cell, pairs=pairs)
        module = torch.nn.Module()
        module.embedding = torch.nn.Embedding(9, 3)
        module.rnn = cell.torch_layer(torch.nn, 3, 5, num_layers=2, bidirectional=pairs[0])
        module.fc = torch.nn.Linear(5 * (1 + pairs[0]), 2)
        state_dict = cyrnn.to_torch(q.network)
        assert {value.dtype for value in state_dict.values()} == {torch.float32}
        module.load_state_dict(state_dict)
        same_bits(cyrnn.from_torch(module, dtype=f4), q.network)
        y, a, *_ = cyrnn.network_forward(q.x, q.network, dtype=f4)
        with torch.no_grad():
            states, _ = module.rnn(module.embedding(torch.from_numpy(q.x.T.copy())))
            probabilities = torch.softmax(module.fc(states), -1)
        within(a, states.numpy().transpose(2, 1, 0), 1e-6)
        within(y, probabilities.numpy().transpose(2, 1, 0), 1e-6)


def test_two_biases_are_added_and_rounded_once(torch):
    torch.manual_seed(0)
    module = torch.nn.LSTM(3, 5)
    b = module.bias_ih_l0.detach().numpy() + module.bias_hh_l0.detach().numpy()
    found = cyrnn.from_torch(module, dtype=f4)
    assert_array_equal(np.concatenate([found["b" + gate] for gate in "ifco"])[:, 0], b)


@pytest.mark.filterwarnings("ignore")
@each_cell
def test_keras(cell):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    p = cell.problem(*SHAPE).p
    weights = cyrnn.to_keras(p)
    assert dtypes(weights) == {np.dtype(f4)}
    back = cyrnn.from_keras(weights, dtype=f4)
    same_bits([back[name] for name in p], list(p.values()))
    assert dtypes(cyrnn.from_keras(weights)) == {np.dtype(f8)}
    layer = cell.keras_layer(keras.layers, 5, return_sequences=True)
    model = keras.Sequential([keras.Input((None, 3)), layer, keras.layers.Dense(2, "softmax")])
    model.set_weights(weights)
    same_bits([cyrnn.from_keras(model, dtype=f4)[name] for name in p], list(p.values()))
    q = cell.problem(*SHAPE)
    q.a0[...] = 0.0
    y = keras.ops.convert_to_numpy(model(q.x.transpose(1, 2, 0).copy()))
    within(cell.forward(q).y, y.transpose(2, 0, 1), 1e-6)


@each_cell
def test_onnx(cell, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    path = tmp_path / "net.onnx"
    q = cell.problem(*SHAPE)
    cyrnn.export_onnx(path, q.p, dtype=f4)
    written = path.read_bytes()
    for dtype in ("float32", np.dtype(f4)):
        cyrnn.export_onnx(path, q.p, dtype=dtype)
        assert path.read_bytes() == written
    back = cyrnn.import_onnx(path, dtype=f4)
    same_bits([back[name] for name in q.p], list(q.p.values()))
    assert dtypes(cyrnn.import_onnx(path)) == {np.dtype(f8)}
    cyrnn.export_onnx(path, q.p, dtype=f8)
    same_bits(cyrnn.import_onnx(path, dtype=f4), back)
    network = drawn(cell).network
    cyrnn.export_onnx(path, network)
    same_bits(cyrnn.import_onnx(path, dtype=f4), network)
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    cyrnn.export_onnx(path, q.p)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    out = cell.forward(q, **({"c0": q.c0} if cell.memory else {}))
    names = ("x", "a0", "c0") if cell.memory else ("x", "a0")
    a, y = session.run(["a", "y"], {name: getattr(q, name) for name in names})
    within(out.a, a, 1e-6)
    within(out.y, y, 1e-6)


@pytest.mark.parametrize("name", ["torch", "keras", "onnx"])
def test_a_model_too_large(name, tmp_path):
    p = cyrnn.initialize_parameters("lstm", 3, 5, 2, 0)
    p["Wi"][0, 0] = LARGE
    can = r": Wi: expected numbers that float32 can hold, got 1e\+300 at \[0, 0\]"
    dtype = r"dtype: expected numpy.float64 or numpy.float32, got 'half'"
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
        argument, function, model = "state_dict", cyrnn.from_torch, cyrnn.to_torch(p)
    elif name == "keras":
        argument, function, model = "weights", cyrnn.from_keras, cyrnn.to_keras(p)
    else:
        pytest.importorskip("onnx", reason="the package onnx is not installed")
        argument, function, model = "path", cyrnn.import_onnx, tmp_path / "net.onnx"
        refuse(ValueError, r"parameters: expected numbers that float32 can hold, got larger ones .*",
               cyrnn.export_onnx, model, p, dtype=f4)  # fmt: skip
        cyrnn.export_onnx(model, p, dtype=f8)
    refuse(ValueError, argument + can, function, model, dtype=f4)
    refuse(ValueError, dtype, function, model, dtype="half")
    assert function(model)["Wi"][0, 0] == LARGE
