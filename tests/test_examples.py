"""The examples run in their short form and tell what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cyrnn

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "digits": ("sklearn", "tqdm", "matplotlib"),
    "series": ("statsmodels", "tqdm", "matplotlib"),
    "data_parallel": ("sklearn", "tqdm", "distributed"),
}


def run(name, *arguments):
    """What the example prints in its short form."""
    environment = os.environ | {"PYTHONPATH": str(Path(cyrnn.__file__).parent.parent), "CYRNN_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / f"{name}.py", "--quick", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(name):
    for module in NEEDS[name]:
        # What they warn of while they are imported is not ours.
        found = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False)
        if found.returncode:
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


def test_series(tmp_path):
    needs("series")
    printed = run("series", "--picture", str(tmp_path / "series.png"))
    ours, naive = (float(re.search(rf"forecast:? ([\d.]+){end}", printed)[1]) for end in (" sunspots", ", so"))
    assert ours < naive
    assert drawn(tmp_path / "series.png")


def test_data_parallel():
    needs("data_parallel")
    printed = run("data_parallel")
    assert printed.startswith("2 workers")
    assert float(re.search(r"at most (\S+) apart", printed)[1]) < 1e-12
