"""Parameters to begin with, and those read from a file."""

import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cells import CELLS, IDS
from numpy.testing import assert_array_equal
from test_losses import refuse

import cyrnn

each_cell = pytest.mark.parametrize("cell", IDS)


def begin(cell, n_x=7, n_a=40, n_y=5, seed=0):
    return CELLS[IDS.index(cell)].initialize(n_x, n_a, n_y, np.random.default_rng(seed))


def uniform(W, limit):
    """Within the limit, and filling it."""
    assert np.abs(W).max() <= limit
    assert np.abs(W).max() > 0.9 * limit
    assert abs(W.mean()) < 0.2 * limit
    assert W.std() == pytest.approx(limit / np.sqrt(3), rel=0.2)


def orthogonal(W):
    np.testing.assert_allclose(W @ W.T, np.eye(len(W)), atol=1e-14)
    assert abs(W.mean()) < 0.05


def test_rnn():
    p = begin("rnn")
    assert {key: value.shape for key, value in p.items()} == {
        "Wax": (40, 7), "Waa": (40, 40), "ba": (40, 1), "Wya": (5, 40), "by": (5, 1),
    }  # fmt: skip
    uniform(p["Wax"], np.sqrt(6 / 47))
    uniform(p["Wya"], np.sqrt(6 / 45))
    orthogonal(p["Waa"])
    assert not p["ba"].any()
    assert not p["by"].any()


def test_lstm():
    p = begin("lstm")
    assert list(p) == ["Wf", "bf", "Wi", "bi", "Wc", "bc", "Wo", "bo", "Wy", "by"]
    for gate in "fico":
        W = p["W" + gate]
        assert W.shape == (40, 47)
        orthogonal(W[:, :40])
        uniform(W[:, 40:], np.sqrt(6 / 47))
        assert_array_equal(p["b" + gate], np.full((40, 1), float(gate == "f")))
    assert not np.allclose(p["Wf"], p["Wi"])
    uniform(p["Wy"], np.sqrt(6 / 45))
    assert_array_equal(p["by"], np.zeros((5, 1)))


@pytest.mark.parametrize("reset", [None, "before", "after"])
def test_gru(reset):
    p = cyrnn.initialize_parameters("gru", 7, 40, 5, 0, reset=reset)
    assert list(p) == ["Wu", "bu", "Wr", "br", "Wc", "bc", *["bca"] * (reset == "after"), "Wy", "by"]
    for gate in "urc":
        W = p["W" + gate]
        assert W.shape == (40, 47)
        orthogonal(W[:, :40])
        uniform(W[:, 40:], np.sqrt(6 / 47))
        assert_array_equal(p["b" + gate], np.zeros((40, 1)))
    if reset == "after":
        assert_array_equal(p["bca"], np.zeros((40, 1)))
    assert not np.allclose(p["Wu"], p["Wr"])
    uniform(p["Wy"], np.sqrt(6 / 45))
    assert_array_equal(p["by"], np.zeros((5, 1)))


def test_bad_resets():
    init = cyrnn.initialize_parameters
    for bad in ("both", "", 1, True, ["after"], np.array(["after", "before"])):
        refuse(ValueError, r"reset: expected 'before' or 'after', got .*", init, "gru", 1, 1, 1, 0, reset=bad)
    for cell in ("rnn", "lstm"):
        message = rf"reset: expected None for a cell without a reset gate \('{cell}'\), got 'after'"
        refuse(ValueError, message, init, cell, 1, 1, 1, 0, reset="after")


@each_cell
def test_draws(cell):
    """The generator alone decides; every array is new, and the functions take them without a conversion."""
    p, again, other = begin(cell), begin(cell), begin(cell, seed=1)
    for key, value in p.items():
        assert_array_equal(value, again[key])
        assert value.dtype == np.float64
        assert value.flags.carray
        assert value.flags.owndata
        assert key.startswith("b") or not np.allclose(value, other[key])
    rng = np.random.default_rng(0)
    first, second = (CELLS[IDS.index(cell)].initialize(3, 4, 2, rng) for _ in range(2))
    assert not any(np.allclose(first[key], second[key]) for key in first if key.startswith("W"))


def test_orthogonal_matrices_are_uniform():
    """Both signs of the determinant and of the diagonal occur."""
    drawn = [begin("rnn", 1, 3, 1, seed=seed)["Waa"] for seed in range(200)]
    assert 70 < sum(np.linalg.det(W) > 0 for W in drawn) < 130
    assert 70 < sum(W[0, 0] > 0 for W in drawn) < 130


@each_cell
@pytest.mark.parametrize("recurrent", ["orthogonal", "glorot_uniform"])
def test_recurrent_weights(cell, recurrent):
    row = CELLS[IDS.index(cell)]
    p = row.initialize(7, 40, 5, 0, recurrent=recurrent)
    for key in [key for key in row.inputs if key[0] == "W" and key != "Wax"]:
        if recurrent == "orthogonal":  # as without the argument
            assert_array_equal(p[key], begin(cell)[key])
            orthogonal(p[key][:, :40])
        else:
            uniform(p[key][:, :40], np.sqrt(6 / 80))
            assert p[key].flags.carray
    if cell == "lstm":
        assert not np.allclose(p["Wf"][:, :40], p["Wi"][:, :40])
    message = "recurrent: expected 'orthogonal' or 'glorot_uniform', got .*"
    for bad in ("identity", None, 1, ["orthogonal"], np.array(["orthogonal", "glorot_uniform"])):
        refuse(ValueError, message, row.initialize, 7, 40, 5, 0, recurrent=bad)


def test_forget_bias():
    """Alone the forget gate's bias changes: the draws are the same."""
    for value in (0.0, -2, 5.5, np.float32(1.5)):
        want = begin("lstm") | {"bf": np.full((40, 1), float(value))}
        got = cyrnn.initialize_parameters("lstm", 7, 40, 5, 0, forget_bias=value)
        assert list(got) == list(want)
        for key, expected in want.items():
            assert_array_equal(got[key], expected)
            assert got[key].dtype == np.float64
    init, expected = cyrnn.initialize_parameters, "forget_bias: expected a finite number, got "
    for bad in (np.nan, np.inf, -np.inf):
        refuse(ValueError, f"{expected}{bad}", init, "lstm", 1, 1, 1, 0, forget_bias=bad)
    refuse(ValueError, f"{expected}int beyond every float", init, "lstm", 1, 1, 1, 0, forget_bias=-(10**400))
    for bad in ("1", [1.0], np.ones(2), 1j):
        refuse(TypeError, rf"{expected}\w+", init, "lstm", 1, 1, 1, 0, forget_bias=bad)
    message = r"forget_bias: expected None, since an RNN has no forget gate, got 1.0"
    refuse(ValueError, message, init, "rnn", 1, 1, 1, 0, forget_bias=1.0)
    refuse(ValueError, message.replace("an RNN", "a GRU"), init, "gru", 1, 1, 1, 0, forget_bias=1.0)


def test_bad_sizes():
    init, rng = cyrnn.initialize_parameters, np.random.default_rng(0)
    refuse(ValueError, "cell: expected 'rnn' or 'lstm' or 'gru', got 'GRU'", init, "GRU", 1, 1, 1, rng)
    refuse(ValueError, r"cell: expected 'rnn' or 'lstm' or 'gru', got \['rnn'\]", init, ["rnn"], 1, 1, 1, rng)
    for k, name in enumerate(("n_x", "n_a", "n_y")):
        sizes = [3, 4, 5]
        for bad in (0, -2):
            sizes[k] = bad
            refuse(ValueError, f"{name}: expected a size of at least 1, got {bad}", init, "rnn", *sizes, rng)
        sizes[k] = 2.0
        refuse(TypeError, f"{name}: expected an integer, got float", init, "rnn", *sizes, rng)
    for bad in (0.5, True, None, np.random.RandomState(0)):
        maker = r"a numpy.random.Generator, as default_rng\(seed\) makes, or a seed"
        message = f"rng: expected {maker}, got {type(bad).__name__}"
        refuse(TypeError, message, init, "rnn", 1, 1, 1, bad)


@each_cell
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_saved_and_loaded(cell, save, tmp_path):
    p = begin(cell)
    path = tmp_path / "a model.npz"
    save(path, **dict(reversed(p.items())))
    for name in (path, str(path), os.fsencode(path)):
        q = cyrnn.load_parameters(name)
        assert list(q) == list(p)
        for key, value in p.items():
            assert_array_equal(q[key], value)
            assert q[key].dtype == np.float64
            assert q[key].flags.carray
    np.savez(path, **{key: np.asfortranarray(value.astype(">f4")) for key, value in p.items()})
    for key, value in cyrnn.load_parameters(path).items():
        assert_array_equal(value, p[key].astype(np.float32))
        assert value.flags.carray
        assert value.dtype == np.float64
        assert value.dtype.isnative


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


def refused(path, message):
    with pytest.raises(ValueError, match=r"model\.npz: ") as caught:
        cyrnn.load_parameters(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text, text
    assert "\n" not in text


@each_cell
def test_entries(cell, path):
    p = begin(cell)
    for key in p:
        rest = {name: value for name, value in p.items() if name != key}
        np.savez(path, **rest)
        if key == "bca":  # without it they are those of the other form
            assert list(cyrnn.load_parameters(path)) == list(rest)
            continue
        refused(path, f"(missing: {key}; unknown: none)")
        np.savez(path, **rest, wrong=p[key])
        refused(path, f"(missing: {key}; unknown: wrong)")
    np.savez(path, **p, optimizer=np.zeros(3))
    refused(path, "(missing: none; unknown: optimizer)")
    refused(path, "of a basic RNN" if cell == "rnn" else f"of {CELLS[IDS.index(cell)].title}")
    np.savez(path)
    refused(path, "got none")


@each_cell
def test_shapes_and_types(cell, path):
    p = begin(cell)
    for key, value in p.items():
        for wrong in (value[:-1], np.hstack([value, value[:, :2]]), value[None]):
            np.savez(path, **{**p, key: wrong})
            if key not in ("Wax", "Wya", "Wy") or wrong.shape[0] != value.shape[0]:
                refused(path, "expected ")
        for wrong, got in ((value * 1j, "complex128"), (value.astype(str), "<U"), (np.array("text"), "<U4")):
            np.savez(path, **{**p, key: wrong})
            refused(path, f"{key}: expected real numbers, got dtype {got}")
        for bad in (np.nan, -np.inf):
            wrong = value.copy()
            wrong[-1, -1] = bad
            np.savez(path, **{**p, key: wrong})
            refused(path, f"{key}: expected finite numbers")
    # a shape that every other one contradicts is named
    key, shape = ("Waa", "(n_a, n_a) = (40, 40), got (39, 40)") if cell == "rnn" else (
        "Wc", "(n_a, n_a + n_x) = (40, 47), got (39, 47)")  # fmt: skip
    np.savez(path, **{**p, key: p[key][:-1]})
    refused(path, f"{key}: expected shape {shape}")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_never_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    p = begin("rnn")
    objects = np.empty((5, 1), object)
    objects[:] = Bomb()
    np.savez(path, **{**p, "by": objects})
    refused(path, "expected a file that numpy.savez made")
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "expected a file that numpy.savez made")
    np.save(str(path), objects, allow_pickle=True)
    os.replace(f"{path}.npy", path)
    refused(path, "expected a file that numpy.savez made")
    assert not Path("exploded").exists()


def test_broken_files(path):
    p = begin("rnn")
    for content in (b"", b"PK\x03\x04", b"some text", b"\x93NUMPY"):
        path.write_bytes(content)
        refused(path, "expected a file that numpy.savez made")
    np.save(str(path), p["Waa"])
    os.replace(f"{path}.npy", path)
    refused(path, "expected a file that numpy.savez made")
    np.savez(path, **p)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        refused(path, "expected a file that numpy.savez made")
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    path.write_bytes(bytes(flipped))
    refused(path, "expected a file that numpy.savez made")
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in p.items():
            buffer = io.BytesIO()
            np.save(buffer, value)
            archive.writestr(f"{key}.npy", buffer.getvalue() if key != "by" else b"no array")
    refused(path, "by: expected real numbers")


def test_no_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        cyrnn.load_parameters(tmp_path / "nothing.npz")
    refuse(TypeError, "path: expected a path, got NoneType", cyrnn.load_parameters, None)
    refuse(TypeError, "path: expected a path, got int", cyrnn.load_parameters, 0)


@each_cell
def test_without_an_output_layer_and_with_further_entries(cell, path):
    p = begin(cell)
    rest = {key: value for key, value in p.items() if key not in ("Wya", "Wy", "by")}
    np.savez(path, **rest)
    assert list(cyrnn.load_parameters(path)) == list(rest)
    np.savez(path, **p, mean=np.zeros(3), names=np.array(["a", "b"]))
    refused(path, "unknown: mean, names")
    assert list(cyrnn.load_parameters(path, strict=False)) == list(p)
    np.savez(path, **rest, by=p["by"])
    refused(path, "missing: W")


def test_headers_are_checked_before_anything_large_is_read(path):
    """A file of some kilobytes whose arrays would take 8 GB is refused in a moment."""
    p = begin("rnn")
    np.savez_compressed(path, **{**p, "Waa": np.zeros((3000, 3000))})
    tracemalloc.start()
    try:
        refused(path, "Waa: expected shape")
        np.savez_compressed(path, **p, more=np.zeros((3000, 3000)))
        tracemalloc.reset_peak()
        refused(path, "unknown: more")
        cyrnn.load_parameters(path, strict=False)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_seed_is_enough():
    for seed in (0, 7, np.int64(7)):
        got = cyrnn.initialize_parameters("lstm", 3, 5, 2, seed)
        want = cyrnn.initialize_parameters("lstm", 3, 5, 2, np.random.default_rng(seed))
        for key, value in want.items():
            assert_array_equal(got[key], value)
    refuse(ValueError, "rng: expected a seed of 0 or more, got -1", cyrnn.initialize_parameters, "rnn", 1, 1, 1, -1)


@each_cell
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_numbers_in_a_file(cell, path, dtype):
    """`numpy.savez` keeps of bfloat16 the two bytes and not the name."""
    dtype = np.float16 if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    p = {key: value.astype(dtype) for key, value in begin(cell).items()}
    p["by"][0] = -0.0
    np.savez(path, **p)
    for key, value in cyrnn.load_parameters(path).items():
        assert value.dtype == np.float64
        assert value.flags.carray
        assert value.tobytes() == p[key].astype(np.float64).tobytes()
    p["by"][0] = np.nan
    np.savez(path, **p)
    refused(path, "by: expected finite numbers")
    np.savez(path, **p | {"by": np.zeros((5, 1), "V1")})  # of several types
    refused(path, "by: expected real numbers, got dtype |V1")
    np.savez(path, **p | {"by": p["by"][:, 0]})
    refused(path, "by: expected 2 dimensions")


def test_advice_to_load_pickles_is_not_passed_on(tmp_path):
    path = tmp_path / "junk.npz"
    path.write_bytes(b"junk")
    for load in (cyrnn.load_parameters, cyrnn.load_network):
        with pytest.raises(ValueError, match="no archive of arrays") as caught:
            load(path)
        assert "allow_pickle" not in str(caught.value)
