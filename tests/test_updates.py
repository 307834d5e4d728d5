"""Adam, gradient descent, clipped gradients: values, in place or not at all, bad input."""

import copy
import gc
import math
import re
import tracemalloc
from types import MappingProxyType

import numpy as np
import pytest
from cells import CELLS, IDS
from numpy.testing import assert_array_equal
from test_losses import refuse

import cyrnn

SIZES = {"rnn": (3, 5, 2), "lstm": (7, 33, 5), "gru_after": (4, 17, 3)}
each_cell = pytest.mark.parametrize("cell", SIZES)


def case(cell="lstm", seed=0):
    """Parameters, gradients (and two entries that belong to no parameter), moments in the middle of a training."""
    rng = np.random.default_rng(seed)
    p = CELLS[IDS.index(cell)].initialize(*SIZES[cell], rng)
    g = {"d" + key: rng.standard_normal(value.shape) for key, value in p.items()}
    g |= {"dx": rng.standard_normal((3, 2, 4)), "da0": np.full((2, 2), np.nan)}
    v = {"d" + key: rng.standard_normal(value.shape) for key, value in p.items()}
    s = {"d" + key: rng.random(value.shape) for key, value in p.items()}
    return p, g, v, s


def oracle(p, g, v, s, t, rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.0):
    """Kingma and Ba, algorithm 1, and the decay of Loshchilov and Hutter."""
    for key in p:
        d = "d" + key
        v[d] = beta1 * v[d] + (1 - beta1) * g[d]
        s[d] = beta2 * s[d] + (1 - beta2) * g[d] ** 2
        kept = 1 - rate * decay if key[0] == "W" else 1
        p[key] = kept * p[key] - rate * (v[d] / (1 - beta1**t)) / (np.sqrt(s[d] / (1 - beta2**t)) + epsilon)


def update(step, p, g, v, s, t=1, **rates):
    if step == "adam":
        cyrnn.update_parameters_with_adam(p, g, v, s, t, **rates)
    else:
        cyrnn.update_parameters_with_gd(p, g, **{"learning_rate": 0.1, **rates})


def same_bits(got, want):
    for one, other in zip(got, want, strict=True):
        assert list(one) == list(other)
        for key in one:
            assert np.asarray(one[key]).tobytes() == np.asarray(other[key]).tobytes(), key


@pytest.mark.usefixtures("build")
@each_cell
def test_adam(cell):
    p, g, v, s = case(cell)
    want = copy.deepcopy((p, v, s))
    before = copy.deepcopy(g)
    kept = [value for d in (p, v, s) for value in d.values()]
    for t in (1, 2, 3, 4000, 10**400):
        out = cyrnn.update_parameters_with_adam(p, g, v, s, t)
        assert out[0] is p
        assert out[1] is v
        assert out[2] is s
        oracle(want[0], g, *want[1:], min(t, 10**9))
    for got, expected in zip((p, v, s), want, strict=True):
        for key in got:
            np.testing.assert_allclose(got[key], expected[key], rtol=1e-13, atol=1e-15)
    assert all(a is b for a, b in zip(kept, (value for d in (p, v, s) for value in d.values()), strict=True))
    same_bits([g], [before])


@pytest.mark.usefixtures("build")
def test_adam_with_other_rates():
    p, g, v, s = case()
    want = copy.deepcopy((p, v, s))
    rates = 0.3, 0.5, 0.25, 0.125
    cyrnn.update_parameters_with_adam(p, g, v, s, np.int64(3), *map(np.float64, rates))
    oracle(want[0], g, *want[1:], 3, *rates)
    for key in p:
        np.testing.assert_allclose(p[key], want[0][key], rtol=1e-14, atol=1e-15)


@pytest.mark.usefixtures("build")
@each_cell
def test_weight_decay(cell):
    """Of the weights, not of the biases; without it, the bits are those of Adam."""
    p, g, v, s = case(cell)
    start = copy.deepcopy((p, v, s))
    want = copy.deepcopy(start)
    for t in (1, 2, 3):
        cyrnn.update_parameters_with_adam(p, g, v, s, t, 0.1, weight_decay=0.5)
        oracle(want[0], g, *want[1:], t, rate=0.1, decay=0.5)
    for got, expected in zip((p, v, s), want, strict=True):
        for key in got:
            np.testing.assert_allclose(got[key], expected[key], rtol=1e-13, atol=1e-15)
    plain, none, all_of_it = (copy.deepcopy(start) for _ in range(3))
    cyrnn.update_parameters_with_adam(plain[0], g, *plain[1:], 1, 0.25)
    cyrnn.update_parameters_with_adam(none[0], g, *none[1:], 1, 0.25, weight_decay=0)
    same_bits(none, plain)
    cyrnn.update_parameters_with_adam(all_of_it[0], g, *all_of_it[1:], 1, 0.25, weight_decay=4.0)
    same_bits(all_of_it[1:], plain[1:])
    for key, value in all_of_it[0].items():
        if key[0] == "b":
            assert_array_equal(value, plain[0][key])
        else:
            np.testing.assert_allclose(value, plain[0][key] - start[0][key], rtol=0, atol=1e-14)


def test_weight_decay_in_every_mapping():
    """The slow way too: moments in a mapping that is no dict, gradients in lists."""
    p, g, v, s = case()
    other = copy.deepcopy((p, v, s))
    cyrnn.update_parameters_with_adam(p, g, v, s, 1, weight_decay=0.5)
    lists = {key: value.tolist() for key, value in g.items()}
    frozen = [MappingProxyType(values) for values in other]
    cyrnn.update_parameters_with_adam(frozen[0], lists, *frozen[1:], 1, weight_decay=0.5)
    same_bits(other, (p, v, s))


def test_adam_begins_with_zeros():
    p, _, _, _ = case()
    v, s = cyrnn.initialize_adam(p)
    for moments in (v, s):
        assert list(moments) == ["d" + key for key in p]
        for key, value in p.items():
            assert_array_equal(moments["d" + key], np.zeros(value.shape))
    assert not any(np.shares_memory(v[key], s[key]) for key in v)


@pytest.mark.usefixtures("build")
@each_cell
def test_gradient_descent(cell):
    p, g, _, _ = case(cell)
    want = {key: value - 0.3 * g["d" + key] for key, value in p.items()}
    assert cyrnn.update_parameters_with_gd(p, g, 0.3) is p
    same_bits([p], [want])


def test_adam_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    p, _, _, _ = case()
    v, s = cyrnn.initialize_adam(p)
    twins = [torch.from_numpy(value.copy()).requires_grad_() for value in p.values()]
    optimizer = torch.optim.Adam(twins, lr=0.01)
    rng = np.random.default_rng(1)
    for t in range(1, 51):
        g = {"d" + key: rng.standard_normal(value.shape) + value for key, value in p.items()}
        for twin, value in zip(twins, g.values(), strict=True):
            twin.grad = torch.from_numpy(value.copy())
        optimizer.step()
        cyrnn.update_parameters_with_adam(p, g, v, s, t, learning_rate=0.01)
    for twin, value in zip(twins, p.values(), strict=True):
        np.testing.assert_allclose(value, twin.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_weight_decay_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    p, _, _, _ = case()
    v, s = cyrnn.initialize_adam(p)
    twins = {key: torch.from_numpy(value.copy()).requires_grad_() for key, value in p.items()}
    groups = [
        {"params": [twin for key, twin in twins.items() if key[0] == "W"], "weight_decay": 0.3},
        {"params": [twin for key, twin in twins.items() if key[0] == "b"], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    rng = np.random.default_rng(1)
    for t in range(1, 51):
        g = {"d" + key: rng.standard_normal(value.shape) + value for key, value in p.items()}
        for key, twin in twins.items():
            twin.grad = torch.from_numpy(g["d" + key].copy())
        optimizer.step()
        cyrnn.update_parameters_with_adam(p, g, v, s, t, learning_rate=0.01, weight_decay=0.3)
    for key, value in p.items():
        np.testing.assert_allclose(value, twins[key].detach().numpy(), rtol=1e-12, atol=1e-12)


def test_gradients_of_any_type_and_layout():
    want, g, v, s = case()
    g = {key: np.round(value, 2) for key, value in g.items()}
    start = copy.deepcopy((want, v, s))
    cyrnn.update_parameters_with_adam(want, g, v, s, 1)
    stepped = cyrnn.update_parameters_with_gd(copy.deepcopy(start[0]), g, 0.1)
    for view in (np.asfortranarray, lambda x: x.tolist(), lambda x: np.repeat(x, 2, axis=-1)[..., ::2]):
        p, v, s = copy.deepcopy(start)
        viewed = {key: view(value) for key, value in g.items()}
        cyrnn.update_parameters_with_adam(p, viewed, v, s, 1)
        same_bits([p], [want])
        same_bits([cyrnn.update_parameters_with_gd(copy.deepcopy(start[0]), viewed, 0.1)], [stepped])
    for value in g.values():
        value.setflags(write=False)
    p, v, s = copy.deepcopy(start)
    cyrnn.update_parameters_with_adam(p, g, v, s, 1)
    same_bits([p], [want])


def test_arrays_of_any_shape():
    p = {"a": np.ones(3), "b": np.ones((2, 3, 4)), "c": np.array(1.0), "d": np.ones((0, 4))}
    g = {"d" + key: 2 * value for key, value in p.items()}
    v, s = cyrnn.initialize_adam(p)
    cyrnn.update_parameters_with_adam(p, g, v, s, 1, learning_rate=0.25)
    for value in p.values():
        np.testing.assert_allclose(value, 0.75, rtol=1e-8)
    assert cyrnn.update_parameters_with_gd({}, {}, 1.0) == {}


def read_only(value):
    value = value.copy()
    value.setflags(write=False)
    return value


UNFIT = [
    (lambda x: x.astype(np.float32), TypeError, "a float64 numpy.ndarray to update in place, got dtype float32"),
    (lambda x: x.astype(">f8"), TypeError, "a float64 numpy.ndarray to update in place, got dtype >f8"),
    (lambda x: x.tolist(), TypeError, "a float64 numpy.ndarray to update in place, got list"),
    (lambda x: None, TypeError, "a float64 numpy.ndarray to update in place, got NoneType"),
    (np.asfortranarray, ValueError, "a C-contiguous, aligned, writeable array, got one that is not C-contiguous"),
    (read_only, ValueError, "a C-contiguous, aligned, writeable array, got one that is not writeable"),
]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("step", ["adam", "gd"])
class TestNothingIsHalfDone:
    """After any error the bits of all arrays are what they were."""

    def refuse(self, step, error, message, p, g, v, s, t=1, **rates):
        before = copy.deepcopy((p, v, s, g))
        ids = [id(value) for values in (p, v, s, g) if isinstance(values, dict) for value in values.values()]
        with pytest.raises(error) as caught:
            update(step, p, g, v, s, t, **rates)
        assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]
        assert ids == [id(value) for values in (p, v, s, g) if isinstance(values, dict) for value in values.values()]
        if all(isinstance(values, dict) for values in before):
            same_bits((p, v, s, g), before)

    def test_gradients(self, step):
        p, g, v, s = case()
        last = "dby"
        for bad in (np.nan, np.inf, -np.inf, 1e200):
            wrong = copy.deepcopy(g)
            wrong[last][4, 0] = bad
            message = (
                r"gradients\['dby'\]: expected finite numbers \(at most 1.3e\+154, .*\), " + rf"got {bad} at \[4, 0\]"
            )
            self.refuse(step, ValueError, message.replace("e+200", r"e\+200"), p, wrong, v, s)
        wrong = {key: value for key, value in g.items() if key != last}
        message = r"gradients: expected an entry 'dby' for parameters\['by'\], got only \[.*\]"
        self.refuse(step, KeyError, message, p, wrong, v, s)
        for value in (g[last].T, g[last][:4], g[last][:, 0], 1.0):
            message = r"gradients\['dby'\]: expected \(5, 1\), as parameters\['by'\], got \(.*\)"
            self.refuse(step, ValueError, message, p, {**g, last: value}, v, s)
        message = r"gradients\['dby'\]: expected real numbers, got dtype complex128"
        self.refuse(step, TypeError, message, p, {**g, last: g[last] * 1j}, v, s)

    def test_what_cannot_be_updated(self, step):
        p, g, v, s = case()
        for view, error, message in UNFIT:
            wrong = {**p, "Wy": view(p["Wy"])}
            self.refuse(step, error, r"parameters\['Wy'\]: expected " + message, wrong, g, v, s)

    def test_shared_memory(self, step):
        p, g, v, s = case()
        message = r"parameters\['(W.|..)'\]: expected memory of its own to update, got some that \w+\['\w+'\] shares"
        self.refuse(step, ValueError, message, {**p, "Wi": p["Wf"]}, g, v, s)
        both = np.zeros((34, 40))
        self.refuse(step, ValueError, message, {**p, "Wf": both[:33], "Wi": both[1:]}, g, v, s)
        self.refuse(step, ValueError, message, p, {**g, "dWo": p["Wc"]}, v, s)
        neighbours = np.zeros((66, 40))
        fine = {**p, "Wf": neighbours[:33], "Wi": neighbours[33:]}
        tied = {**g, "dWi": g["dWf"]}
        update(step, fine, tied, v, s)
        if step == "gd":
            assert_array_equal(fine["Wf"], fine["Wi"])

    def test_no_mappings(self, step):
        p, g, v, s = case()
        for wrong in (None, "p", 3):
            kind = type(wrong).__name__
            message = f"expected a mapping from names to arrays, got {kind}"
            self.refuse(step, TypeError, f"parameters: {message}", wrong, g, v, s)
            self.refuse(step, TypeError, f"gradients: {message}", p, wrong, v, s)
        message = r"expected a mapping from names to arrays, got int"
        self.refuse(step, TypeError, rf"parameters\[0\]: {message}", [1], [g], [v], [s])
        self.refuse(step, TypeError, rf"gradients\[0\]: {message}", [p], [1], [v], [s])
        message = "gradients: expected a list of 1 entries, as parameters, got dict"
        self.refuse(step, ValueError, message, [p], g, [v], [s])
        self.refuse(step, TypeError, "parameters: expected names for keys, got 3", {**p, 3: p["by"]}, g, v, s)

    def test_rates(self, step):
        p, g, v, s = case()
        for bad in (-1e-9, np.nan, np.inf):
            message = rf"learning_rate: expected a finite number, 0 or more, got {bad}"
            self.refuse(step, ValueError, message, p, g, v, s, learning_rate=bad)
        for bad in ("0.1", None, [0.1], [[0.1], [0.1, 0.2]], 1j):
            message = r"learning_rate: expected a finite number, 0 or more, got \w+"
            self.refuse(step, TypeError, message, p, g, v, s, learning_rate=bad)
        if step == "gd":
            return
        for name in ("beta1", "beta2"):
            for bad in (-0.1, 1.0, 1, np.nan):
                message = rf"{name}: expected a number from 0 up to, not including, 1, got {bad}"
                self.refuse(step, ValueError, message, p, g, v, s, **{name: bad})
        for bad in (0.0, -1.0, np.nan, np.inf):
            message = rf"epsilon: expected a finite number above 0, got {bad}"
            self.refuse(step, ValueError, message, p, g, v, s, epsilon=bad)
        for bad in (-1e-9, np.nan, np.inf):
            message = rf"weight_decay: expected a finite number, 0 or more, got {bad}"
            self.refuse(step, ValueError, message, p, g, v, s, weight_decay=bad)
        for bad in ("0.1", None, [0.1], 1j):
            message = r"weight_decay: expected a finite number, 0 or more, got \w+"
            self.refuse(step, TypeError, message, p, g, v, s, weight_decay=bad)
        message = r"weight_decay: expected at most 1 / learning_rate = 4.0, .*, got "
        self.refuse(step, ValueError, message + "4.5", p, g, v, s, learning_rate=0.25, weight_decay=4.5)
        self.refuse(step, ValueError, message + r"1e\+308", p, g, v, s, learning_rate=0.25, weight_decay=1e308)
        for name in ("learning_rate", "epsilon", "weight_decay", "beta1"):
            message = rf"{name}: expected a .*number.*, got int beyond every float"
            self.refuse(step, ValueError, message, p, g, v, s, **{name: 10**400})
        for wrong in (None, 3):
            message = r"parameters: expected a mapping from names to arrays, got \w+"
            self.refuse(step, TypeError, message, wrong, g, v, s, weight_decay=0.1)
        biases = {"by": p["by"], 3: p["bf"]}
        message = r"parameters: expected entries that begin with 'W' to decay, got only \['3', 'by'\]"
        self.refuse(step, KeyError, message, biases, g, v, s, weight_decay=0.1)
        for bad in (0, -3):
            message = f"t: expected the number of the step, 1 or more, got {bad}"
            self.refuse(step, ValueError, message, p, g, v, s, t=bad)
        for bad in (1.0, None, "1"):
            self.refuse(step, TypeError, r"t: expected an integer, got \w+", p, g, v, s, t=bad)

    def test_an_array_made_at_every_look(self, step):
        class Fresh(dict):
            def __getitem__(self, key):
                return super().__getitem__(key).copy()

        p, g, v, s = case()
        fresh = MappingProxyType(Fresh(p))
        with pytest.raises(TypeError, match=r"parameters\['Wf'\]: .* got a new array on each access"):
            update(step, fresh, g, v, s)


@pytest.mark.parametrize("which", ["v", "s"])
def test_bad_moments(which):
    p, g, v, s = case()
    states = {"v": v, "s": s}

    def bad(error, message, value):
        before = copy.deepcopy((p, v, s))
        wrong = {**states, which: value}
        refuse(error, message, cyrnn.update_parameters_with_adam, p, g, wrong["v"], wrong["s"], 1)
        same_bits((p, v, s), before)

    moments = states[which]
    bad(
        KeyError,
        rf"{which}: expected an entry 'dbf' for parameters\['bf'\], got only \['dWf'\]",
        {"dWf": moments["dWf"]},
    )
    bad(
        ValueError, rf"{which}\['dby'\]: expected \(5, 1\), as parameters\['by'\], got \(1, 5\)",
        {**moments, "dby": np.zeros((1, 5))},
    )  # fmt: skip
    for view, error, message in UNFIT:
        bad(error, rf"{which}\['dWy'\]: expected " + message, {**moments, "dWy": view(moments["dWy"])})
    bad(TypeError, f"{which}: expected a mapping from names to arrays, got NoneType", None)
    for other in (p["Wy"], g["dWy"], moments["dWf"][:5, :33]):
        shared = {
            **moments,
            "dWy": other if other.flags.c_contiguous else moments["dWf"].reshape(-1)[:165].reshape(5, 33),
        }
        bad(ValueError, r"(\w+\['\w+'\]): expected memory of its own to update, got some that .* shares", shared)


@pytest.mark.usefixtures("build")
@each_cell
def test_clip_by_norm(cell):
    p, g, _, _ = case(cell)
    before = copy.deepcopy(g)
    names = ["d" + key for key in p]
    want = math.sqrt(math.fsum((g[name] ** 2).sum() for name in names))
    for limit in (want / 3, want * 3, math.inf, 1e-300):
        clipped, norm = cyrnn.clip_gradients(g, norm=limit)
        assert type(norm) is float
        assert norm == pytest.approx(want, rel=1e-15)
        assert list(clipped) == list(g)
        for name in names:
            np.testing.assert_allclose(clipped[name], g[name] * min(1.0, limit / want), rtol=1e-14, atol=0)
            assert not np.shares_memory(clipped[name], g[name])
        assert clipped["dx"] is g["dx"]
        assert clipped["da0"] is g["da0"]
    same_bits([g], [before])


@pytest.mark.usefixtures("build")
@each_cell
def test_clip_by_value(cell):
    p, g, _, _ = case(cell)
    want = math.sqrt(math.fsum((g["d" + key] ** 2).sum() for key in p))
    for limit in (0.3, 1e300, math.inf):
        clipped, norm = cyrnn.clip_gradients(g, value=limit)
        assert norm == pytest.approx(want, rel=1e-15)
        for name in ("d" + key for key in p):
            assert_array_equal(clipped[name], np.clip(g[name], -limit, limit))
            assert not np.shares_memory(clipped[name], g[name])
        assert clipped["dx"] is g["dx"]


@pytest.mark.usefixtures("build")
@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-140, 1e140, 1e153])
def test_the_norm_neither_overflows_nor_underflows(scale):
    g = {"dWy": np.full((3, 300), scale), "dby": np.full((100, 1), -scale)}
    clipped, norm = cyrnn.clip_gradients(g, norm=math.inf)
    assert norm == pytest.approx(math.sqrt(1000) * scale, rel=1e-14 if scale > 1e-307 else 1e-3)
    assert_array_equal(clipped["dWy"], g["dWy"])
    clipped, _ = cyrnn.clip_gradients(g, norm=norm / 2)
    np.testing.assert_allclose(clipped["dby"], g["dby"] / 2, rtol=1e-14 if scale > 1e-307 else 1e-3)
    clipped, norm = cyrnn.clip_gradients({"dW": np.zeros((2, 2))}, norm=1.0)
    assert norm == 0.0
    assert_array_equal(clipped["dW"], np.zeros((2, 2)))


def test_clip_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    p, g, _, _ = case()
    twins = [torch.zeros(value.shape, dtype=torch.float64).requires_grad_() for value in p.values()]
    for twin, key in zip(twins, p, strict=True):
        twin.grad = torch.from_numpy(g["d" + key].copy())
    total = torch.nn.utils.clip_grad_norm_(twins, 2.5).item()
    clipped, norm = cyrnn.clip_gradients(g, norm=2.5)
    assert norm == pytest.approx(total, rel=1e-14)
    for twin, key in zip(twins, p, strict=True):  # torch divides by the norm + 1e-6
        np.testing.assert_allclose(clipped["d" + key], twin.grad.numpy() * (1 + 1e-6 / norm), rtol=1e-13)


def test_clip_types_and_bad_input():
    clip = cyrnn.clip_gradients
    g = {"dWy": np.array([[3.0, 0.0]]), "dby": [[4]], "dx": "anything"}
    clipped, norm = clip(g, norm=1)
    assert norm == 5.0
    np.testing.assert_allclose(clipped["dby"], [[0.8]], rtol=1e-15)
    assert clipped["dx"] == "anything"
    refuse(TypeError, "norm, value: expected exactly one of them, got neither", clip, g)
    refuse(TypeError, "norm, value: expected exactly one of them, got both", clip, g, norm=1.0, value=1.0)
    for name in ("norm", "value"):
        for bad in (0.0, -1.0, np.nan):
            refuse(ValueError, f"{name}: expected a number above 0, got {bad}", clip, g, **{name: bad})
        refuse(TypeError, f"{name}: expected a number above 0, got str", clip, g, **{name: "1"})
        for bad in (np.nan, np.inf, -1e200):
            message = rf"gradients\['dWy'\]: expected finite numbers \(.*\), got {bad} at \[0, 1\]".replace(
                "e+", r"e\+"
            )
            refuse(ValueError, message, clip, {"dWy": np.array([[0.0, bad]])}, **{name: 1.0})
        refuse(TypeError, r"gradients\['dby'\]: expected real numbers, got None", clip, {"dby": None}, **{name: 1.0})
        message = r"gradients: expected entries that begin with 'dW' or 'db', got only \['da0', 'dx'\]"
        refuse(KeyError, message, clip, {"dx": g["dWy"], "da0": g["dWy"]}, **{name: 1.0})
        refuse(TypeError, r"gradients\[0\]: expected a mapping from names to arrays, got int", clip, [1], **{name: 1.0})


def test_initialize_adam_refuses():
    message = "parameters: expected a mapping from names to arrays, got NoneType"
    refuse(TypeError, message, cyrnn.initialize_adam, None)
    refuse(TypeError, r"parameters\['Wy'\]: expected real numbers, got None", cyrnn.initialize_adam, {"Wy": None})


def test_calls_leave_nothing_behind():
    p, g, v, s = case()
    bad = {**g, "dby": np.full((5, 1), np.nan)}
    labels = np.zeros((4, 6), int)
    y = np.full((2, 4, 6), 0.5)

    def calls():
        for _ in range(20):
            cyrnn.update_parameters_with_adam(p, g, v, s, 1)
            cyrnn.clip_gradients(g, norm=1.0)
            cyrnn.output_backward(cyrnn.cross_entropy(y, labels)[1], np.ones((33, 4, 6)), {"Wy": p["Wy"][:2]})
            for call in (
                lambda: cyrnn.update_parameters_with_gd(p, bad, 0.1),
                lambda: cyrnn.clip_gradients(bad, value=1.0),
                lambda: cyrnn.cross_entropy(y, labels + 2),
            ):
                with pytest.raises(ValueError, match="expected"):
                    call()

    calls()
    gc.collect()
    tracemalloc.start()
    calls()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(5):
        calls()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000


def test_a_subclass_is_updated_in_its_own_memory():
    """One whose __buffer__ (Python 3.12) exports other memory, which is gone when the update runs."""

    class Evil(np.ndarray):
        def __buffer__(self, flags):
            return memoryview(bytearray(8 * 10**6)).cast("d")

    w = np.ones(10**6)
    cyrnn.update_parameters_with_gd({"A": w.view(Evil)}, {"dA": np.ones(10**6).view(Evil)}, 0.25)
    np.testing.assert_array_equal(w, np.full(10**6, 0.75))
