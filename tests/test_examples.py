"""The examples run in their short form and tell what they promise."""

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cyrnn

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "digits": ("sklearn", "tqdm", "matplotlib"),
    "names": ("names", "tqdm", "matplotlib"),
    "series": ("statsmodels", "tqdm", "matplotlib"),
    "keywords": ("tqdm", "matplotlib"),
    "data_parallel": ("sklearn", "tqdm", "distributed"),
}


WATCHED = """
import runpy, sys, cyrnn
update, t_of_updates = cyrnn.update_parameters_with_adam, []
def watched(parameters, gradients, v, s, t, *others):
    t_of_updates.append(t)
    return update(parameters, gradients, v, s, t, *others)
cyrnn.update_parameters_with_adam = watched
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


@pytest.mark.parametrize("reset", ["before", "after"])
def test_keywords(tmp_path, reset):
    needs("keywords")
    printed = run("keywords", "--reset", reset, "--picture", str(tmp_path / "keywords.png"))
    heard, others = map(float, re.findall(r"([\d.]+)% of \d+ (?:keywords heard|other words)", printed))
    assert heard > 85
    assert others < 20
    assert drawn(tmp_path / "keywords.png")


@pytest.mark.parametrize("killed", [False, True])
def test_data_parallel(killed):
    needs("data_parallel")
    printed = run("data_parallel", *["--kill"] * killed, watched=False)  # its workers want the file itself
    assert "workers: loss" in printed
    differences = [float(apart) for apart in re.findall(r"at most (\S+) apart", printed)]
    assert len(differences) == 2
    assert max(differences) < 1e-12
    died = re.findall(r"a worker died with (\d+) gradients under way", printed)
    assert len(died) == killed
    assert all(int(gradients) >= 1 for gradients in died)


class LocalClient:
    """A cluster whose only worker is here: what `map` gives stays there and is known here by its number."""

    def __init__(self):
        self.kept, self.sent = [], []

    def map(self, function, numbers, **named):
        self.kept = [function(k, **named) for k in numbers]
        return list(range(len(self.kept)))

    def submit(self, function, k, *others, pure):
        assert not pure  # else Dask would hash all parameters at every step
        self.sent.append(k)
        return function(self.kept[k], *others)

    def gather(self, results):
        return results


def test_data_parallel_shards_stay_with_the_workers(monkeypatch):
    needs("data_parallel")
    example = runpy.run_path(str(EXAMPLES / "data_parallel.py"))
    client, rng = LocalClient(), np.random.default_rng(0)
    gradients_of_shards = example["on_workers"](client, 4)
    parameters = cyrnn.initialize_parameters("lstm", n_x=8, n_a=3, n_y=10, rng=rng)
    for _ in range(2):
        loss, gradients = example["mean"](gradients_of_shards(parameters))
    assert client.sent == [0, 1, 2, 3, 0, 1, 2, 3]
    want, whole = example["mean"]([example["gradient"](example["shard_of_digits"](0, 1), parameters)])
    assert abs(loss - want) < 1e-14
    assert example["apart"](gradients, whole) < 1e-14
    t_of_updates = []
    monkeypatch.setattr(cyrnn, "update_parameters_with_adam", lambda p, d, v, s, t, rate: t_of_updates.append(t))
    assert len(list(example["train"](parameters, 3, gradients_of_shards))) == 3
    assert t_of_updates == [1, 2, 3]
