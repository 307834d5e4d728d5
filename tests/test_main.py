"""`python -m cyrnn`: the notebook replayed, its comparison, its output and its exit status."""

import importlib
import math
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

import cyrnn
from cyrnn.demo import notebook, numpy_reference

program = importlib.import_module("cyrnn.demo.report")

# How many quantities each test cell of the notebook prints, and the numbers published for lstm_backward.
PRINTED = {
    "rnn_cell_forward": 4,
    "rnn_forward": 6,
    "lstm_cell_forward": 8,
    "lstm_forward": 7,
    "rnn_cell_backward": 10,
    "rnn_backward": 10,
    "lstm_backward": 6,
}
COLOUR = re.compile(r"\x1b\[\d+m")


@pytest.fixture(autouse=True)
def _no_wishes(monkeypatch):
    """Start without a wish for or against colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def run(capsys, *args):
    status = program.main(list(args))
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def test_every_printed_value_agrees():
    records = notebook.replay()
    assert Counter(record.function for record in records) == PRINTED
    assert [record for record in records if not record.agrees] == []


def test_plain_numpy_agrees_where_the_blas_does_not_matter():
    cells = notebook.arguments(numpy_reference)
    for function, printed in notebook.PRINTED.items():
        result = getattr(numpy_reference, function)(*cells[function])
        names = notebook.RESULTS[function]
        variables = dict(zip(names, (result,) if len(names) == 1 else result, strict=True))
        for expression, text in printed.items():
            if not notebook.in_full(text):
                assert notebook.agree(eval(expression, {"len": len}, variables), text)


def test_the_cell_backward_uses_the_bias_left_over():
    cells = notebook.arguments(cyrnn)
    _, (*_, parameters) = cells["rnn_cell_backward"]
    assert parameters["ba"] is cells["rnn_forward"][2]["ba"]


def test_the_callers_generator_is_left_alone():
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    notebook.replay()
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    ("value", "text", "agrees"),
    [
        (0.4051243309349, "0.40512433093", True),
        (0.4051243309351, "0.40512433093", False),
        (np.array([0.988816104, 0.01682021]), "[0.9888161  0.01682021]", True),
        (np.array([0.98881614, 0.01682021]), "[0.9888161  0.01682021]", False),  # its 8th decimal was 0
        (np.array([0.9888161]), "[0.9888161  0.01682021]", False),
        (np.array([-0.98881610, 0.01682021]), "[0.9888161  0.01682021]", False),
        (np.array([math.nan, 0.01682021]), "[0.9888161  0.01682021]", False),
        (math.nan, "0.17211776753291672", False),
        (0.17211776753291672, "0.17211776753291672", True),
        ((5, 10), "(5, 10)", True),
        ((10, 5), "(5, 10)", False),
        (2, "2", True),
        (3, "2", False),
    ],
)
def test_agree(value, text, agrees):
    assert notebook.agree(value, text) is agrees


@pytest.mark.parametrize(("steps", "agrees"), [(notebook.ULPS, True), (notebook.ULPS + 1, False)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_number_printed_in_full_may_differ_by_ulps(sign, steps, agrees):
    value = 0.17211776753291672
    assert notebook.agree(value + sign * steps * math.ulp(value), repr(value)) is agrees


def test_everything_agrees(capsys):
    status, out = run(capsys, "--no-timing")
    assert status == 0
    assert "51/51 values agree with the notebook, 20/20 arrays with plain NumPy" in out
    for section in ("The notebook, replayed", "A real text"):
        assert section in out
    assert "speed" not in out.lower()
    assert out.count(program.Screen().tick) == 73  # 51 values, 20 arrays, the verdict first and last
    assert out.splitlines()[3] == out.splitlines()[-1].rpartition(" (")[0]
    assert out.count("published") == 1
    assert max(map(len, out.splitlines())) <= 88


def test_no_colour_where_there_is_no_terminal(capsys):
    assert not COLOUR.search(run(capsys, "--no-timing")[1])


def test_forced_colours_change_nothing_else(capsys, monkeypatch):
    _, plain = run(capsys, "--no-timing")
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, coloured = run(capsys, "--no-timing")
    assert COLOUR.search(coloured)
    # All but the last line, which holds a time.
    assert COLOUR.sub("", coloured).splitlines()[:-1] == plain.splitlines()[:-1]


@pytest.mark.parametrize(
    ("environment", "terminal", "colour"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_when_colours_are_used(monkeypatch, environment, terminal, colour):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert program.Screen().colour is colour


def test_the_times(capsys, monkeypatch):
    monkeypatch.setattr(program, "in_turn", lambda plain, ours, rounds, seconds: (5e-3, 2e-3, 2.5))
    status, out = run(capsys)
    assert status == 0
    assert "NumPy uses as many BLAS threads as it is set to; cyrnn takes one thread" in out
    lines = [line.split() for line in out.splitlines() if line.endswith("2.5")]
    assert [line[0] for line in lines[:14]] == [
        "softmax", "sigmoid",
        "rnn_cell_forward", "rnn_forward", "rnn_cell_backward", "rnn_backward",
        "lstm_cell_forward", "lstm_forward", "lstm_cell_backward", "lstm_backward",
        "gru_cell_forward", "gru_forward", "gru_cell_backward", "gru_backward",
    ]  # fmt: skip
    assert lines[0][1:] == ["5000.0", "µs", "2000.0", "µs", "2.5"]
    assert [line[0] for line in lines[14:]] == [
        "lstm_forward",
        "lstm_backward",
        "rnn_forward",
        "rnn_backward",
    ]
    assert lines[14][1:] == ["5.0", "ms", "2.0", "ms", "2.5"]


def test_calls_are_timed_in_turn():
    calls = []
    times = program.in_turn(lambda: calls.append("A"), lambda: calls.append("B"), 3, 0)
    assert "".join(calls) == "AABB" + "ABABAB"
    assert all(value > 0 for value in times)


def wrong(name, change):
    """Return a function of the package with `change` applied to its first result or its da0."""
    right = getattr(cyrnn, name)

    def function(*args):
        result = right(*args)
        if isinstance(result, dict):
            return result | {"da0": change(result["da0"])}
        return change(result[0]), *result[1:]

    return function


@pytest.mark.parametrize("name", ["rnn_forward", "lstm_cell_forward", "rnn_backward"])
def test_a_wrong_value_is_seen(capsys, monkeypatch, name):
    monkeypatch.setattr(cyrnn, name, wrong(name, lambda value: value + 2e-8))
    status, out = run(capsys, "--no-timing")
    assert status == 1
    assert "50/51 values" in out
    assert out.splitlines()[-1].startswith(program.Screen().cross)


@pytest.mark.parametrize("change", [lambda v: v * (1 + 3e-11), lambda v: v * math.nan, lambda v: v[:1]])
def test_a_wrong_array_of_the_text_is_seen(capsys, monkeypatch, change):
    name = "lstm_backward"
    monkeypatch.setattr(cyrnn, name, wrong(name, lambda value: change(value) if value.shape[1] == 32 else value))
    status, out = run(capsys, "--no-timing")
    assert status == 1
    assert "51/51 values agree with the notebook, 19/20 arrays" in out


def test_the_text_is_the_same_length_whatever_python_has(capsys, monkeypatch):
    name, text = program.a_text(3232)
    assert "pydoc_data" in name
    assert len(text) == 3232
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    name, text = program.a_text(3232)
    assert "Zen" in name
    assert len(text) == 3232
    assert text.startswith("the zen of python, by tim peters")
    assert capsys.readouterr().out == ""


def test_the_text_is_cut_and_shifted_by_one():
    text = program.a_text(program.M * (program.T_X + 1))[1]
    x, following = program.one_hot(text)
    letters = np.unique(list(text))
    assert x.shape == following.shape == (len(letters), program.M, program.T_X)
    assert (x.sum(axis=0) == 1).all()
    assert "".join(letters[x[:, 1].argmax(axis=0)]) == text[101:201]
    assert "".join(letters[following[:, 1].argmax(axis=0)]) == text[102:202]


def test_from_the_command_line_in_ascii():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "cyrnn", "--no-timing"], env=env, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert done.stdout.splitlines()[-1].startswith(b"ok 51/51")


def test_a_reader_that_leaves_early_gets_no_traceback():
    command = [sys.executable, "-m", "cyrnn", "--no-timing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        program.main(["--help"])
    assert exit_.value.code == 0
    assert "--no-timing" in capsys.readouterr().out
