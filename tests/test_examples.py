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
    "names": ("names", "tqdm", "matplotlib"),
    "series": ("statsmodels", "tqdm", "matplotlib"),
    "data_parallel": ("sklearn", "tqdm", "distributed"),
}


def run(name, *arguments):
    """What the example prints in its short form."""
    environment = os.environ | {"PYTHONPATH": str(Path(cyrnn.__file__).parent.parent), "CYRNN_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / f"{name}.py", "--quick", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(name):
    for module in NEEDS[name]:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def drawn(path):
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 20_000


def test_digits(tmp_path):
    needs("digits")
    printed = run("digits", "--picture", str(tmp_path / "digits.png"))
    assert float(re.search(r"([\d.]+)% of 599 held-out digits told right", printed)[1]) > 85
    if "PyTorch is not installed" not in printed:
        assert float(re.search(r"at most (\S+) apart", printed)[1]) < 1e-8
        assert re.search(r"PyTorch float64 [\d.]+ s, cyrnn [\d.]+ s: ", printed)
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
    wrong = {name: float(by) for name, by in re.findall(r"^(\w*) ?forecast +([\d.]+)$", printed, re.MULTILINE)}
    assert wrong.keys() == {"", "naive", "linear"}
    assert wrong[""] < wrong["naive"]
    assert drawn(tmp_path / "series.png")


@pytest.mark.parametrize("killed", [False, True])
def test_data_parallel(killed):
    needs("data_parallel")
    printed = run("data_parallel", *["--kill"] * killed)
    assert "workers: loss" in printed
    differences = [float(apart) for apart in re.findall(r"at most (\S+) apart", printed)]
    assert len(differences) == 2
    assert max(differences) < 1e-12
    died = re.findall(r"a worker died with (\d+) gradients under way", printed)
    assert len(died) == killed
    assert all(int(gradients) >= 1 for gradients in died)
