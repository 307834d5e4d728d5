"""The examples run in their short form and tell what they promise."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import cyrnn

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "digits": ("sklearn", "tqdm", "matplotlib"),
    "names": ("names", "sklearn", "tqdm", "matplotlib"),
    "series": ("sklearn", "tqdm", "matplotlib"),
    "keywords": ("tqdm", "matplotlib"),
    "data_parallel": ("sklearn", "tqdm", "distributed"),
}


WATCHED = """
import runpy, sys, cyrnn
from importlib.util import find_spec
update, t_of_updates = cyrnn.update_parameters_with_adam, []
def watched(parameters, gradients, v, s, t, *others, **named):
    t_of_updates.append(t)
    return update(parameters, gradients, v, s, t, *others, **named)
cyrnn.update_parameters_with_adam = watched
if find_spec("sklearn"):
    from cyrnn.estimators import _base
    _base.update_parameters_with_adam = watched
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
assert len(t_of_updates) > 9
assert t_of_updates == list(range(1, len(t_of_updates) + 1)), t_of_updates[:9]
"""


def run(name, *arguments, watched=True):
    """What the example prints in its short form; where it is watched, Adam's t counts its updates."""
    environment = os.environ | {"PYTHONPATH": str(Path(cyrnn.__file__).parent.parent), "CYRNN_NUM_THREADS": "1"}
    command = [sys.executable, *["-c", WATCHED] * watched, EXAMPLES / f"{name}.py", "--quick", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["digits", "names", "series"])
def test_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60


def needs(name):
    for module in NEEDS[name]:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def drawn(path):
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 20_000


def test_digits(tmp_path):
    needs("digits")
    printed = run("digits", "--picture", str(tmp_path / "digits.png"))
    assert float(re.search(r"([\d.]+)% of 599 held-out digits classified correctly", printed)[1]) > 85
    if find_spec("torch"):
        assert float(re.search(r"PyTorch with these weights: .*at most (\S+) apart", printed)[1]) < 1e-13
    assert drawn(tmp_path / "digits.png")


def test_names(tmp_path):
    needs("names")
    printed = run("names", "--picture", str(tmp_path / "names.png"))
    bits, *counted = map(float, re.findall(r"^([\d.]+) (?:bits|by counted)", printed, re.MULTILINE))
    assert len(counted) == 3
    assert bits < min(counted)
    assert int(re.search(r"(\d+) of 1000 invented names are not in the training data", printed)[1]) > 300
    assert len(re.search(r"a dozen of the new ones: (.*)", printed)[1].split(", ")) == 12
    assert drawn(tmp_path / "names.png")


def test_series(tmp_path):
    needs("series")
    printed = run("series", "--picture", str(tmp_path / "series.png"))
    wrong = {name: float(by) for name, by in re.findall(r"^(\w+) +([\d.]+)$", printed, re.MULTILINE)}
    assert wrong.keys() == {"network", "linear", "neighbours", "naive"}
    assert 3 * wrong["network"] < wrong["linear"] < wrong["naive"]
    assert drawn(tmp_path / "series.png")


@pytest.mark.parametrize("reset", ["before", "after"])
def test_keywords(tmp_path, reset):
    needs("keywords")
    printed = run("keywords", "--reset", reset, "--picture", str(tmp_path / "keywords.png"))
    heard, others = map(float, re.findall(r"([\d.]+)% of \d+ (?:keywords detected|other words)", printed))
    assert heard > 85
    assert others < 20
    assert drawn(tmp_path / "keywords.png")


@pytest.mark.parametrize("killed", [False, True])
def test_data_parallel(killed):
    needs("data_parallel")
    printed = run("data_parallel", *["--kill"] * killed, watched=False)  # its workers want the file itself
    assert "workers: loss" in printed
    assert "the same bits as in one process: True" in printed
    died = re.findall(r"a worker died with (\d+) gradients under way", printed)
    assert len(died) == killed
    assert all(int(gradients) >= 1 for gradients in died)
