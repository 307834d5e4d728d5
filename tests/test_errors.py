"""Bad input: the kind of error, and a message that names the argument, what was expected, what came."""

import copy
import io
import re
import warnings
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from cells import CELLS
from numpy.testing import assert_array_equal
from reference import problem
from rows import each_row

import cyrnn

SHAPE = 3, 5, 2, 10, 4  # n_x, n_a, n_y, m, T_x

both = each_row


def refuse(error, message, function, *args):
    with pytest.raises(error) as caught:
        function(*args)
    assert re.fullmatch(message, caught.value.args[0]), caught.value.args[0]
    assert caught.value.__context__ is None or isinstance(caught.value.__context__, (KeyError, ValueError))


@pytest.fixture
def q(cell):
    q = cell.problem(*SHAPE)
    q.before = copy.deepcopy(q)
    q.out = cell.forward(q)
    q.step = cell.cell_forward(q.x[:, :, 0], q.a0, q.c0, q.p)
    yield q
    # Nothing was modified, and the next call works.
    for name in ("x", "a0", "c0", "da", "dc"):
        assert_array_equal(getattr(q, name), getattr(q.before, name))
    again = cell.forward(q)
    assert_array_equal(again.a, q.out.a)
    assert_array_equal(cell.backward(q.da, again.caches)["dx"], cell.backward(q.da, q.out.caches)["dx"])


def changed(q, **values):
    r = copy.copy(q)
    for name, value in values.items():
        setattr(r, name, value)
    return r


@both
def test_shapes_of_the_sequence(cell, q):
    refuse(
        ValueError, r"a0: expected shape \(n_a, m\) = \(5, 10\) or \(n_a, 1\), got \(5, 9\)",
        cell.forward, changed(q, a0=q.a0[:, :9]),
    )  # fmt: skip
    refuse(
        ValueError, r"a0: expected shape \(n_a, m\) = \(5, 10\) or \(n_a, 1\), got \(5,\)",
        cell.forward, changed(q, a0=q.a0[:, 0]),
    )  # fmt: skip
    refuse(
        ValueError, r"x: expected 3 dimensions \(n_x, m, T_x\), got shape \(3, 10\); "
        r"\(m, T_x\) is for indices, which are integers and not float\d\d",
        cell.forward, changed(q, x=q.x[:, :, 0]),
    )  # fmt: skip
    refuse(
        ValueError, r"x: expected 3 dimensions \(n_x, m, T_x\), got shape \(\)",
        cell.forward, changed(q, x=3.0),
    )  # fmt: skip
    weight = cell.inputs[0]
    refuse(
        ValueError, rf"parameters\['{weight}'\]: expected shape \(n_a, .*n_x\) = \(5, \d\), got \(5, \d\)",
        cell.forward, changed(q, x=q.x[:2]),
    )  # fmt: skip
    refuse(
        ValueError, r"da: expected shape \(n_a, m, T_x\) = \(5, 10, 4\), got \(5, 9, 4\)",
        cell.backward, q.da[:, :9], q.out.caches,
    )  # fmt: skip
    refuse(
        ValueError, r"da: expected 3 dimensions \(n_a, m, T_x\), got shape \(5, 10\)",
        cell.backward, q.da[:, :, 0], q.out.caches,
    )  # fmt: skip
    refuse(
        ValueError, r"da: expected at most T_x = 4 steps, as the caches have, got 5",
        cell.backward, np.zeros((5, 10, 5)), q.out.caches,
    )  # fmt: skip


@both
def test_every_parameter_is_checked(cell, q):
    for name in (*cell.inputs, *cell.output):
        value = q.p[name]
        for wrong in (value[:-1], value[:, :-1], value[:, 0], value[None], np.hstack([value, value])):
            if wrong.shape == value.shape:
                continue
            p = {**q.p, name: wrong}
            # The shape of the output weights tells n_y and n_a, so a wrong one shows elsewhere.
            named = r"parameters\[.*\]|a0|a_prev" if name == cell.output[0] else rf"parameters\['{name}'\]"
            refuse(ValueError, rf"({named}): expected .*, got .*", cell.forward, changed(q, p=p))
            refuse(
                ValueError, rf"({named}): expected .*, got .*",
                cell.cell_forward, q.x[:, :, 0], q.a0, q.c0, p,
            )  # fmt: skip
        p = {other: array for other, array in q.p.items() if other != name}
        if name != "bca":  # without it they are those of the other form
            message = rf"parameters: expected an entry '{name}', got only \[.*\].*"
            refuse(KeyError, message, cell.forward, changed(q, p=p))
        for wrong, text in ((None, "None"), ("text", "dtype <U4"), (1j, "dtype complex128")):
            p = {**q.p, name: wrong}
            refuse(
                TypeError, rf"parameters\['{name}'\]: expected real numbers, got {re.escape(text)}",
                cell.forward, changed(q, p=p),
            )  # fmt: skip


@both
def test_a_bias_along_the_wrong_axis_is_refused(cell, q):
    """NumPy would broadcast a row of n_a over the batch where m happens to equal n_a."""
    r = cell.problem(3, 5, 5, 5, 4)
    for name in (name for name in r.p if name.startswith("b")):
        for wrong in (r.p[name][:, 0], r.p[name].T, r.p[name][0], np.float64(1.0), r.p[name][:1]):
            p = {**r.p, name: wrong}
            refuse(
                ValueError, rf"parameters\['{name}'\]: expected shape \(n_[ay], 1\) = \(5, 1\), got .*",
                cell.forward, changed(r, p=p),
            )  # fmt: skip


BAD_TYPES = [
    (None, TypeError, "expected real numbers, got None"),
    ("text", TypeError, "expected real numbers, got dtype <U4"),
    (np.zeros((5, 10), complex), TypeError, "expected real numbers, got dtype complex128"),
    (np.zeros((5, 10), "datetime64[s]"), TypeError, r"expected real numbers, got dtype datetime64\[s\]"),
    (np.full((5, 10), "1", object), TypeError, "expected real numbers, got ndarray of objects"),
    ({"a": 1}, TypeError, "expected real numbers, got dict of objects"),
    ([[1.0], [[1.0, 2.0]]], ValueError, "expected an array of numbers, got a ragged nested sequence"),
]


@both
@pytest.mark.parametrize(("value", "error", "text"), BAD_TYPES, ids=lambda v: type(v).__name__)
def test_types(cell, q, value, error, text):
    refuse(error, f"x: {text}", cell.forward, changed(q, x=value))
    if value is not None:  # zeros
        refuse(error, f"a0: {text}", cell.forward, changed(q, a0=value))
    refuse(error, f"xt: {text}", cell.cell_forward, value, q.a0, q.c0, q.p)
    refuse(error, f"a_prev: {text}", cell.cell_forward, q.x[:, :, 0], value, q.c0, q.p)
    refuse(error, f"da: {text}", cell.backward, value, q.out.caches)
    refuse(error, f"da_next: {text}", cell.cell_backward, value, q.dc, q.step.cache)
    if cell.memory:
        refuse(error, f"c_prev: {text}", cell.cell_forward, q.x[:, :, 0], q.a0, value, q.p)
        refuse(error, f"dc_next: {text}", cell.cell_backward, q.da[:, :, 0], value, q.step.cache)
    refuse(error, f"x: {text}", cyrnn.softmax, value)
    refuse(error, f"x: {text}", cyrnn.sigmoid, value)
    for k in range(cell.entries - 1):
        cache = (*q.step.cache[:k], value, *q.step.cache[k + 1 :])
        if k == 0 and not cell.reads_a_next and getattr(value, "shape", None) == (5, 10):
            continue  # only its shape is looked at
        refuse(error, rf"cache\[{k}\] \(\w+\): {text}", cell.cell_backward, q.da[:, :, 0], q.dc, cache)
        steps = [q.out.caches[0][0], cache, *q.out.caches[0][2:]]
        refuse(error, rf"caches\[0\]\[1\]\[{k}\] \(\w+\): {text}", cell.backward, q.da, (steps, q.x))


@both
def test_parameters_must_be_a_mapping(cell, q):
    for wrong in (None, 3, [1, 2], np.zeros(3)):
        refuse(
            TypeError, r"parameters: expected a mapping from names to arrays, got \w+",
            cell.forward, changed(q, p=wrong),
        )  # fmt: skip
        refuse(
            TypeError, r"parameters: expected a mapping from names to arrays, got \w+",
            cell.cell_backward, q.da[:, :, 0], q.dc, (*q.step.cache[:-1], wrong),
        )  # fmt: skip


@both
def test_shapes_of_the_cell(cell, q):
    xt, da = q.x[:, :, 0], q.da[:, :, 0]
    refuse(
        ValueError, r"xt: expected 2 dimensions \(n_x, m\), got shape \(3, 10, 4\)",
        cell.cell_forward, q.x, q.a0, q.c0, q.p,
    )  # fmt: skip
    refuse(
        ValueError, r"a_prev: expected shape \(n_a, m\) = \(5, 10\) or \(n_a, 1\), got \(4, 10\)",
        cell.cell_forward, xt, q.a0[:4], q.c0, q.p,
    )  # fmt: skip
    refuse(
        ValueError, r"da_next: expected shape \(n_a, m\) = \(5, 10\), got \(5, 1\)",
        cell.cell_backward, da[:, :1], q.dc, q.step.cache,
    )  # fmt: skip
    if cell.memory:
        refuse(
            ValueError, r"c_prev: expected shape \(n_a, m\) = \(5, 10\) or \(n_a, 1\), got \(5, 3\)",
            cell.cell_forward, xt, q.a0, q.c0[:, :3], q.p,
        )  # fmt: skip
        refuse(
            ValueError, r"dc_next: expected shape \(n_a, m\) = \(5, 10\), got \(5, 1\)",
            cell.cell_backward, da, q.dc[:, :1], q.step.cache,
        )  # fmt: skip
    for k, array in enumerate(q.step.cache[:-1]):
        cache = (*q.step.cache[:k], array[:, :7], *q.step.cache[k + 1 :])
        refuse(ValueError, r"(cache\[\d\] \(\w+\)|da_next): expected .*, got .*", cell.cell_backward, da, q.dc, cache)


@both
def test_wrong_caches(cell, q):
    for other in CELLS:
        if other.kind == cell.kind:
            continue  # the forms of the GRU: tests/test_gru.py
        r = problem(other.name, *SHAPE)
        theirs = other.forward(r).caches
        refuse(
            TypeError, rf"caches: expected the caches of {cell.kind}_forward, got those of another cell",
            cell.backward, q.da, theirs,
        )  # fmt: skip
        refuse(
            ValueError, rf"caches\[0\]\[3\]: expected a tuple \(a_next, .*\), got {other.entries} entries",
            cell.backward, q.da, (list(theirs[0]), r.x),
        )  # fmt: skip
    refuse(ValueError, r"caches: expected a tuple \(steps, x\), got 3 entries", cell.backward, q.da, (1, 2, 3))
    none = r"caches: expected a tuple \(steps, x\), got None, which a forward pass returns with cache=False"
    refuse(TypeError, none, cell.backward, q.da, None)
    refuse(TypeError, r"caches\[0\]: expected the list of steps, got int", cell.backward, q.da, (1, q.x))
    refuse(
        ValueError, r"caches\[0\]: expected at least one step, got an empty list",
        cell.backward, q.da[:, :, :0], ([], q.x),
    )  # fmt: skip
    refuse(TypeError, r"cache: expected a tuple \(a_next, .*\), got dict", cell.cell_backward, q.da[:, :, 0], q.dc, {})
    refuse(
        TypeError, r"caches\[0\]\[3\]: expected a tuple \(a_next, .*\), got int",
        cell.backward, q.da, ([1, 2, 3, 4], q.x),
    )  # fmt: skip
    mixed = list(q.out.caches[0])
    narrow = cell.problem(2, *SHAPE[1:])
    mixed[1] = cell.forward(narrow).caches[0][1]
    refuse(
        ValueError, r"caches\[0\]\[1\]: expected n_x = 3 as in the step after, got 2",
        cell.backward, q.da, (mixed, q.x),
    )  # fmt: skip


@both
def test_x_or_parameters_that_no_longer_fit(cell, q):
    caches = cell.forward(q).caches
    weight = cell.inputs[0]
    caches[0].sequence.parameters = {**q.p, weight: q.p[weight][:, :-1]}
    refuse(ValueError, rf"parameters\['{weight}'\]: expected .*", cell.backward, q.da, caches)
    caches = cell.forward(q).caches
    caches[0].sequence.x = q.x[:, :, :3]
    refuse(ValueError, r"x: expected shape \(n_x, m, T_x\) = \(n_x, 10, 4\), got .*", cell.backward, q.da, caches)


@both
@pytest.mark.parametrize(("m", "T_x"), [(2**30, 2**29), (2**59, 1), (1, 2**59)])
def test_sizes_whose_product_overflows(cell, q, m, T_x):
    """Without inputs such an x is an array that NumPy can make; what we would return is not."""
    p = {name: value if name in ("Waa", *cell.output, "ba") else value[:, :5] for name, value in q.p.items()}
    p |= {name: value[:, :0] for name, value in q.p.items() if name == "Wax"}
    refuse(
        ValueError, rf"x: sizes m = {m}, T_x = {T_x} are more than an array can hold",
        cell.forward, changed(q, x=np.zeros((0, m, T_x)), a0=q.a0[:, :1], p=p),
    )  # fmt: skip


@both
def test_a_cell_of_too_many_examples(cell, q):
    p = {name: value if name in ("Waa", *cell.output, "ba") else value[:, :5] for name, value in q.p.items()}
    p |= {name: value[:, :0] for name, value in q.p.items() if name == "Wax"}
    refuse(
        ValueError, rf"xt: sizes m = {2**59}, T_x = 1 are more than an array can hold",
        cell.cell_forward, np.zeros((0, 2**59)), q.a0[:, :1], q.c0[:, :1], p,
    )  # fmt: skip
    wide = np.zeros((0, 2**59))
    empty = {name: value[:0, :0] if name.startswith("W") else value[:0] for name, value in q.p.items()}
    cache = (*(wide for _ in q.step.cache[:-1]), empty)
    refuse(
        ValueError, rf"da_next: sizes m = {2**59}, T_x = 1 are more than an array can hold",
        cell.cell_backward, wide, wide, cache,
    )  # fmt: skip


@both
def test_no_parameter_is_taken_for_none(cell):
    q = cell.problem(0, 0, 0, 0, 3)
    p = dict.fromkeys(q.p)
    p[cell.output[0]] = q.p[cell.output[0]]
    with pytest.raises(TypeError, match="expected real numbers, got None"):
        cell.forward(changed(q, p=p))


@both
def test_what_lies_about_its_shape(cell, q):
    """The kernels compare every buffer with every other, whatever was said before."""

    class Liar(np.ndarray):
        shape = property(lambda self: (3, 10, 40))

    assert_array_equal(cell.forward(changed(q, x=q.x.view(Liar))).a, q.out.a)

    class Changes(dict):
        def __getitem__(self, key):
            if key in ("ba", "bo", "bc"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # NumPy, on setting a shape
                    x.shape = (3, 40, 1)
            return super().__getitem__(key)

    x = q.x.copy()
    with pytest.raises(ValueError, match="a0: expected shape"):
        cell.forward(changed(q, x=x, p=Changes(q.p)))


@both
def test_errors_of_others_keep_their_name(cell, q):
    class Lost:
        def __array__(self, *args, **kwargs):
            raise ValueError("device lost")

    class Broken(dict):
        def __getitem__(self, key):
            raise KeyError("the store is gone")

    with pytest.raises(ValueError, match="device lost"):
        cell.forward(changed(q, x=Lost()))
    with pytest.raises(KeyError, match="the store is gone"):
        cell.forward(changed(q, p=Broken(q.p)))


def test_scalars():
    refuse(ValueError, r"x: expected shape \(n_y, \.\.\.\), got a scalar", cyrnn.softmax, 1.0)


def masked(value):
    array = np.ma.array(value)
    array[(0,) * array.ndim] = np.ma.masked
    return array


@both
def test_masked_values_are_refused_by_name(cell, q):
    """A number under a mask is not valid; a masked array without any is an array."""
    told = "expected an array of valid numbers, got one with 1 of {} masked"
    refuse(ValueError, "x: " + told.format(q.x.size), cell.forward, changed(q, x=masked(q.x)))
    refuse(ValueError, "a0: " + told.format(q.a0.size), cell.forward, changed(q, a0=masked(q.a0)))
    key = cell.inputs[0]
    wrong = changed(q, p={**q.p, key: masked(q.p[key])})
    refuse(ValueError, rf"parameters\['{key}'\]: " + told.format(q.p[key].size), cell.forward, wrong)
    refuse(ValueError, "da: " + told.format(q.da.size), cell.backward, masked(q.da), q.out.caches)
    refuse(ValueError, "x: " + told.format(q.x.size), cyrnn.softmax, masked(q.x))
    refuse(ValueError, "x: " + told.format(q.x.size), cyrnn.sigmoid, masked(q.x))
    refuse(ValueError, "xt: .* masked", cell.cell_forward, masked(q.x[:, :, 0]), q.a0, q.c0, q.p)
    labels, out_y = masked(np.zeros(q.x.shape[1:], int)), q.out.y
    refuse(ValueError, "labels: .* masked", cyrnn.cross_entropy, q.out.y, labels)
    for name, given in (("y_pred", (masked(out_y), out_y)), ("targets", (out_y, masked(out_y)))):
        refuse(ValueError, f"{name}: .* masked", cyrnn.binary_cross_entropy, *given)
        refuse(ValueError, f"{name}: .* masked", partial(cyrnn.binary_cross_entropy, weights=out_y), *given)
    weighted = partial(cyrnn.binary_cross_entropy, weights=masked(out_y))
    refuse(ValueError, "weights: .* masked", weighted, out_y, out_y)
    weighted = partial(cyrnn.binary_cross_entropy, weights=out_y)
    refuse(ValueError, "lengths: .* masked", weighted, out_y, out_y, masked(np.ones(out_y.shape[1], int)))
    refuse(ValueError, "a: .* masked", cyrnn.output_forward, masked(q.a0), q.p)
    W = {"W": np.zeros(2)}
    update, one = cyrnn.update_parameters_with_gd, np.ones(2)
    refuse(ValueError, r"gradients\['dW'\]: .* masked", update, W, {"dW": masked(one)}, 1.0)
    refuse(ValueError, r"parameters\['W'\]: .* masked", update, {"W": masked(one)}, {"dW": one}, 1.0)
    np.testing.assert_array_equal(cell.forward(changed(q, x=np.ma.array(q.x))).a, q.out.a)


@both
def test_a_conversion_that_fails_is_named(cell, q):
    class Tensor:
        def __array__(self, *args, **kwargs):
            raise RuntimeError("requires grad")

    with pytest.raises(TypeError, match=r"^x: expected an array of numbers, got Tensor, .*requires grad") as caught:
        cell.forward(changed(q, x=Tensor()))
    assert isinstance(caught.value.__cause__, RuntimeError)
    file = io.BytesIO()
    np.savez(file, **q.p)
    file.seek(0)
    archive = np.load(file)
    caches = cell.forward(changed(q, p=archive)).caches
    archive.close()
    with pytest.raises(ValueError, match=r"^parameters\['\w+'\]: expected an array, got none: reading it failed"):
        cell.backward(q.da, caches)


@both
def test_an_input_in_another_layout_is_blamed_itself(cell, q):
    n_x, m, T_x = q.x.shape
    assert len({n_x, m, T_x}) == 3
    key = re.escape(repr(cell.inputs[0]))
    for axes, hint in (((1, 2, 0), "transpose(2, 0, 1) of (m, T_x, n_x)"), ((1, 0, 2), "transpose(1, 0, 2) of")):
        x = q.x.transpose(axes)
        expected = rf"x: expected shape \(n_x, m, T_x\) with n_x = {n_x} as in parameters\[{key}\], got .*"
        refuse(ValueError, expected + re.escape(hint) + ".*", cell.forward, changed(q, x=x))
    turned = rf"xt: expected .* n_x = {n_x} .*; xt\.T has it"
    refuse(ValueError, turned, cell.cell_forward, q.x[:, :, 0].T, q.a0, q.c0, q.p)


@both
def test_no_initial_state_is_zeros(cell, q):
    got, want = cell.forward(changed(q, a0=None)), cell.forward(changed(q, a0=np.zeros_like(q.a0)))
    np.testing.assert_array_equal(got.a, want.a)
    with pytest.raises(TypeError, match="a_prev: expected real numbers, got None"):
        cell.cell_forward(q.x[:, :, 0], None, q.c0, q.p)


def test_missing_entries_read_as_sentences():
    with pytest.raises(KeyError) as caught:
        cyrnn.rnn_forward(np.ones((3, 4, 2)), None, {})
    hint = "without an output layer pass output=None"
    assert str(caught.value) == f"parameters: expected an entry 'Wya', got only []; {hint}"


def test_objects_that_hold_real_numbers_are_arrays():
    np.testing.assert_array_equal(cyrnn.sigmoid(np.array([0.5, 1], object)), cyrnn.sigmoid([0.5, 1.0]))
    refuse(TypeError, "x: expected real numbers, got ndarray of objects", cyrnn.sigmoid, np.array([0.5, "1"], object))
    decimals = np.array([Decimal("0.5"), Decimal("1")])
    np.testing.assert_array_equal(cyrnn.sigmoid(decimals), cyrnn.sigmoid([0.5, 1.0]))
    for value in (10**400, Decimal("sNaN")):
        with pytest.raises(ValueError, match=r"^x: expected numbers that a float64 can hold, got .*"):
            cyrnn.sigmoid(np.array([value, 1]))


NARROW = ["float16", "bfloat16", "float8_e4m3fn"]


def narrow_type(name):
    """A type of NumPy, or of ml_dtypes, as the arrays of JAX, Keras and ONNX have it."""
    return np.float16 if name == "float16" else getattr(pytest.importorskip("ml_dtypes"), name)


@both
@pytest.mark.parametrize("name", NARROW)
def test_narrow_weights_are_their_numbers_in_float64(cell, q, name):
    """Both passes, over a sequence and over a step, the stream and the output layer; the inputs too."""
    dtype = narrow_type(name)
    p = {key: value.astype(dtype) for key, value in q.p.items()}
    wide = {key: value.astype(np.float64) for key, value in p.items()}
    assert all(value.dtype == dtype for value in p.values())
    x, a0 = q.x.astype(dtype), q.a0.astype(dtype)
    r, s = changed(q, p=p, x=x, a0=a0), changed(q, p=wide, x=x.astype(float), a0=a0.astype(float))
    got, want = cell.forward(r), cell.forward(s)
    pairs = [(got.a, want.a), (got.y, want.y)]
    gradients = cell.backward(q.da, got.caches), cell.backward(q.da, want.caches)
    pairs += [(gradients[0][key], gradients[1][key]) for key in gradients[1]]
    step, same = cell.cell_forward(x[:, :, 0], a0, q.c0, p), cell.cell_forward(s.x[:, :, 0], s.a0, q.c0, wide)
    pairs += [(step.a, same.a), (step.y, same.y)]
    back, same = (cell.cell_backward(q.da[:, :, 0], q.dc, c) for c in (step.cache, same.cache))
    pairs += [(back[key], same[key]) for key in same]
    pairs += zip(cell.stream(p, m=10).run(x), cell.stream(wide, m=10).run(s.x), strict=True)
    pairs += [(cyrnn.output_forward(got.a, p), cyrnn.output_forward(want.a, wide))]
    for one, other in pairs:
        assert one.dtype == cell.dtype
        assert_array_equal(one, other)


SEQUENCES = [np.ones((4, 3)), np.ones((7, 3)), np.ones((1, 3))]
OBJECTS = np.empty(3, object)
OBJECTS[:] = SEQUENCES


def padded(name, value, function, *args, kind="an array of numbers", **how):
    """What the line in the message makes of sequences of different lengths, which a function refuses."""
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*args, **how, **{name: value})
    start = rf"{name}: expected {kind}, got (\d) sequences of (\d) to (\d) steps: pad them, "
    line = re.fullmatch(start + r"(.* = cyrnn.pad_sequences\(.*), and pass their `lengths`", str(caught.value))
    assert line, caught.value
    names = {"numpy": np, "cyrnn": cyrnn, name: value}
    exec(line[4].replace(", " + name, "; " + name), names)
    lengths = names["lengths"]
    assert_array_equal([len(lengths), lengths.min(), lengths.max()], list(map(int, line.groups()[:3])))
    return names[name], lengths


@both
@pytest.mark.parametrize(
    ("value", "kind", "n_x"),
    [
        (SEQUENCES, "an array of numbers", 3),
        (OBJECTS, "real numbers", 3),
        ([s.T for s in SEQUENCES], "an array of numbers", 3),
        (tuple(s[:, 0] for s in SEQUENCES), "an array of numbers", 1),
        ([s[:, 0].tolist() for s in SEQUENCES], "an array of numbers", 1),
    ],
    ids=["by step", "objects", "by unit", "one input", "lists"],
)
def test_sequences_of_different_lengths(cell, q, value, kind, n_x):
    """The message has the line that pads them, and this line is right."""
    forward, network = cell.function("forward"), [{key: q.p[key] for key in cell.inputs}]
    for function, more in (
        (forward, {"a0": None, "parameters": q.p}),
        (cyrnn.network_forward, {"network": network}),
        (cell.stream(q.p, 3).run, {}),
    ):
        x, lengths = padded("x", value, function, kind=kind, **more)
        assert x.shape == (n_x, 3, 7)
        assert_array_equal(lengths, [4, 7, 1])
        assert_array_equal(x.sum((0, 2)), n_x * lengths)
    if n_x == 3:
        x, lengths = padded("x", value, forward, kind=kind, a0=None, parameters=q.p)
        forward(x, None, q.p, lengths=lengths)


@both
def test_indices_of_different_lengths(cell, q):
    """Sequences of integers are of indices where an input is expected."""
    value, network = [[1, 2, 0], [1], [2, 2]], [{"E": np.ones((3, 9))}, {key: q.p[key] for key in cell.inputs}]
    forward = cell.function("forward")
    for function, more in (
        (forward, {"a0": None, "parameters": q.p}),
        (cyrnn.network_forward, {"network": network}),
        (cell.stream(q.p, 3).run, {}),
    ):
        for given in (value, [np.array(row, "u1") for row in value]):
            x, lengths = padded("x", given, function, **more)
            assert_array_equal(x, [[1, 2, 0], [1, 0, 0], [2, 2, 0]])
            assert_array_equal(lengths, [3, 1, 2])
    cyrnn.network_forward(x, network, lengths=lengths)
    forward(x, None, q.p, lengths=lengths)


def test_labels_and_targets_of_different_lengths():
    y, steps = np.full((2, 2, 3), 0.5), [np.ones((2, 2)), np.ones((3, 2))]
    labels, lengths = padded("labels", [[1, 0], [1, 0, 1]], cyrnn.cross_entropy, y_pred=y)
    cyrnn.cross_entropy(y, labels, lengths)
    assert_array_equal(labels, [[1, 0, 0], [1, 0, 1]])
    weights, lengths = padded("weights", [[1.0, 0.5], [1.0, 2.0, 3.0]], cyrnn.cross_entropy, y_pred=y, labels=labels)
    cyrnn.cross_entropy(y, labels, lengths, weights=weights)
    assert_array_equal(weights, [[1.0, 0.5, 0.0], [1.0, 2.0, 3.0]])
    targets, lengths = padded("targets", steps, cyrnn.mean_squared_error, z=y)
    cyrnn.mean_squared_error(y, targets, lengths)
    targets, lengths = padded("targets", [[0, 1], [1, 1, 0]], cyrnn.binary_cross_entropy, y_pred=y[:1])
    cyrnn.binary_cross_entropy(y[:1], targets, lengths)
    assert_array_equal(targets, [[[0, 1, 0], [1, 1, 0]]])
    p = {"Wy": np.ones((1, 2)), "by": np.zeros((1, 1))}
    for name, function, how in (
        ("z", cyrnn.mean_squared_error, {"targets": y}),
        ("a", cyrnn.output_forward, {"parameters": p}),
        ("a", cyrnn.dropout, {"rate": 0.5, "rng": 0}),
    ):
        assert padded(name, steps, function, **how)[0].shape == (2, 2, 3)
    for value in ([[1.0], [1.0, 2.0]], SEQUENCES):  # where no sequence is expected
        refuse(ValueError, "x: expected an array of numbers, got a ragged nested sequence", cyrnn.sigmoid, value)
    nested = [[[1], [1, 2]], [[1]]], [np.ones((4, 3)), np.ones((5, 2))], [1.0, [1.0]]  # nor can these be padded
    for value in nested:
        ragged = "targets: expected an array of numbers, got a ragged nested sequence"
        refuse(ValueError, ragged, cyrnn.mean_squared_error, y, value)


@both
def test_sparse_matrices(cell, q):
    sparse = pytest.importorskip("scipy.sparse")
    key = cell.inputs[0]
    for make in (sparse.csr_matrix, sparse.coo_array):
        text = f"expected real numbers, got a sparse {make.__name__}, of which toarray\\(\\) makes an array"
        matrix = make(q.p[key])
        refuse(TypeError, rf"parameters\['{key}'\]: {text}", cell.forward, changed(q, p={**q.p, key: matrix}))
        assert_array_equal(matrix.toarray(), q.p[key])
        refuse(TypeError, f"xt: {text}", cell.cell_forward, make(q.x[:, :, 0]), q.a0, q.c0, q.p)
        refuse(TypeError, f"x: {text}", cell.forward, changed(q, x=[make(q.x[:, :, 0])]))
        integers = make(np.ones((2, 2), int))
        text = text.replace("real numbers", "integers")
        refuse(TypeError, f"lengths: {text}", partial(cell.forward, lengths=integers), q)
        refuse(TypeError, f"labels: {text}", cyrnn.cross_entropy, np.full((2, 2, 2), 0.5), integers)
        refuse(TypeError, f"indices: {text}", cyrnn.one_hot, integers, 3)


class Table:
    """As far as pandas' and polars' tables go here."""

    columns = ("t", "city")

    def __init__(self, *entries):
        self.entries = entries

    def __array__(self, dtype=None, copy=None):
        return np.array(self.entries, object)


@both
def test_tables_with_other_columns_than_numbers(cell, q):
    got = "xt: expected real numbers, got a {} with {} in column 'city'; leave out or convert such columns"
    refuse(
        TypeError, re.escape(got.format("Table", "'Paris'")), cell.cell_forward,
        Table((1.0, 2.5), (2.0, "Paris")), q.a0, q.c0, q.p,
    )  # fmt: skip
    records = np.zeros(4, [("t", float), ("city", "U5")])
    columns = "x: expected real numbers, got the columns t, city; numpy.lib.recfunctions.structured_to_.*"
    refuse(TypeError, columns, cell.forward, changed(q, x=records))
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"t": [1.0, 2.0], "city": ["Paris", "Rome"]})
    how = ", as xt.select_dtypes('number') does"
    message = re.escape(got.format("DataFrame", "'Paris'") + how)
    refuse(TypeError, message, cell.cell_forward, table, q.a0, q.c0, q.p)
    assert list(table.select_dtypes("number")) == ["t"]
    message = message.replace("xt", "x")
    refuse(TypeError, message, cyrnn.network_forward, table, [{key: q.p[key] for key in cell.inputs}])
    table["city"] = pandas.array([None, 1], dtype="Int64")
    message = re.escape(got.format("DataFrame", "<NA>"))
    refuse(TypeError, message, cell.cell_forward, table, q.a0, q.c0, q.p)


def test_masks_in_a_list_are_refused():
    masked, plain = np.ma.array([1.0, 99.0], mask=[0, 1]), np.array([1.0, 2.0])
    message = r"^{}\[1\]: expected an array of valid numbers, got one with 1 of 2 masked"
    for name, call in (
        ("x", lambda value: cyrnn.sigmoid(value)),
        ("targets", lambda value: cyrnn.mean_squared_error(np.ones((2, 2)), value)),
    ):
        with pytest.raises(ValueError, match=message.format(name)):
            call([plain, masked])
        call([plain, np.ma.array(plain)])  # nothing is masked


def test_tables_are_no_arrays():
    """A table of numbers slices otherwise: it is converted, or refused by name."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]})
    want, _ = cyrnn.mean_squared_error(table.to_numpy(), table.to_numpy() * 2)
    assert cyrnn.mean_squared_error(table, table * 2)[0] == want
    p = {"Wy": np.ones((1, 2)), "by": np.zeros((1, 1))}
    np.testing.assert_array_equal(cyrnn.output_forward(table, p), cyrnn.output_forward(table.to_numpy(), p))
