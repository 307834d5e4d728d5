"""The pictures show the values of the caches, of one example and its own steps."""

import subprocess
import sys

import numpy as np
import pytest

import cyrnn
from cyrnn.plots import CELL_OF_LENGTH, PANELS

pytest.importorskip("matplotlib")

TITLES = {
    "rnn": ["hidden state a"],
    "lstm": ["forget gate", "input gate", "output gate", "candidate", "cell state c", "hidden state a"],
    "gru": ["update gate", "reset gate", "candidate", "hidden state a"],
}
SLOTS = {
    "rnn": "a_next a_prev xt parameters",
    "lstm": "a_next c_next a_prev c_prev ft it cct ot xt parameters",
    "gru": "a_next a_prev cct ut rt hct xt parameters",
}
PLACES = {
    "forget gate": "ft", "input gate": "it", "output gate": "ot", "candidate": "cct", "cell state c": "c_next",
    "hidden state a": "a_next", "update gate": "ut", "reset gate": "rt",
}  # fmt: skip


def caches_of(cell, lengths=None):
    rng = np.random.default_rng(0)
    p = cyrnn.initialize_parameters(cell, n_x=3, n_a=5, n_y=2, rng=rng)
    return getattr(cyrnn, f"{cell}_forward")(rng.normal(size=(3, 4, 7)), None, p, lengths=lengths)[-1]


@pytest.mark.parametrize("lengths", [None, [2, 7, 0, 5]], ids=["whole", "lengths"])
@pytest.mark.parametrize("cell", TITLES)
def test_gates_are_those_of_the_caches(cell, lengths):
    caches, example = caches_of(cell, lengths), 3
    T = 7 if lengths is None else lengths[example]
    figure = cyrnn.plot_gates(caches, example)
    axes = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in axes] == TITLES[cell]
    for axis in axes:
        (image,) = axis.images
        place = SLOTS[cell].split().index(PLACES[axis.get_title()])
        expected = np.stack([caches[0][t][place][:, example] for t in range(T)], axis=1)
        np.testing.assert_array_equal(np.asarray(image.get_array()), expected)
        low, high = image.get_clim()
        assert (low, high) == (0, 1) if "gate" in axis.get_title() else (-low == high == abs(expected).max())
    assert axes[-1].get_xlabel() == "step"


def test_a_list_of_steps_and_labels():
    steps, x = caches_of("gru")
    figure = cyrnn.plot_gates((list(steps)[:3], x), labels="abc")
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["a", "b", "c"]


def test_every_cell_is_known():
    for cell, names in SLOTS.items():
        assert CELL_OF_LENGTH[len(names.split())] == cell
    assert PANELS.keys() == TITLES.keys()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((caches_of("rnn"), 4), IndexError, r"example: expected a number from 0 to 3, got 4"),
        ((caches_of("rnn"), -1), IndexError, r"example: .* got -1"),
        ((caches_of("rnn"), 1.0), TypeError, r"example: expected a whole number, got 1.0"),
        ((caches_of("rnn", [2, 7, 0, 5]), 2), ValueError, r"example: .* got 2, whose length is 0"),
        ((np.ones(3),), TypeError, r"caches: expected \(steps, x\) from rnn_forward, .* got ndarray"),
        ((([], None),), ValueError, "caches: expected the steps"),
        ((([(1, 2)], None),), ValueError, "caches: expected the steps"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        cyrnn.plot_gates(*arguments)


def test_labels_of_another_number():
    with pytest.raises(ValueError, match="labels: expected one for each of the 5 steps, got 2"):
        cyrnn.plot_gates(caches_of("lstm", [2, 7, 0, 5]), 3, labels="ab")


def test_history(tmp_path):
    figure = cyrnn.plot_history({"training": [3, 2, 1], "validation": np.array([3.0, np.nan])}, xlabel="update")
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("update", "loss (nats)")
    for line, name, values in zip(axis.lines, ("training", "validation"), ([3, 2, 1], [3, np.nan]), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), values)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(values) + 1))
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["training", "validation"]
    figure.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes()[:4] == b"\x89PNG"
    assert cyrnn.plot_history([1.0, 0.5]).axes[0].get_legend() is None
    with pytest.raises(TypeError, match=r"history\['a'\]: expected real numbers"):
        cyrnn.plot_history({"a": ["x"]})
    with pytest.raises(ValueError, match=r"history: expected a sequence of numbers, got an array of shape \(2, 2\)"):
        cyrnn.plot_history(np.eye(2))


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        cyrnn.plot_history([1.0])


def test_matplotlib_is_imported_when_needed_alone():
    code = "import sys, cyrnn; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
