"""The types of the public functions, as a program that uses them sees them: mypy and pyright, where installed."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import cyrnn

HERE = Path(__file__).parent
PACKAGES = Path(cyrnn.__file__).parent.parent


def checked(folder, *command):
    """What a type checker prints about the files of a folder."""
    if find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return run(folder, "-m", *command)


def run(folder, *command):
    environment = dict(os.environ)
    if PACKAGES.name == "src":  # not installed: beside this folder
        environment |= {"MYPYPATH": str(PACKAGES), "PYTHONPATH": str(PACKAGES)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder with the first example of the README and a small program with more of the functions."""
    folder = tmp_path_factory.mktemp("programs")
    readme = (HERE.parent / "README.md").read_text()
    (folder / "readme.py").write_text(readme.split("```python\n")[1].split("```")[0])
    (folder / "program.py").write_text((HERE / "typed_program.py").read_text())
    return folder


def test_mypy(programs):
    done = checked(programs, "mypy", "--strict", "readme.py", "program.py")
    assert done.stdout == "Success: no issues found in 2 source files\n", done.stdout + done.stderr


def test_pyright(programs):
    done = checked(programs, "pyright", "--pythonpath", sys.executable, "readme.py", "program.py")
    if "errors, " not in done.stdout:
        pytest.skip(f"pyright does not run here: {done.stderr[-200:]}")  # it needs Node.js, or the package index
    assert done.stdout == "0 errors, 0 warnings, 0 informations\n", done.stdout + done.stderr


def test_every_public_type_is_known(programs):
    command = ("--pythonpath", sys.executable, "--ignoreexternal", "--outputjson", "--verifytypes", "cyrnn")
    done = checked(programs, "pyright", *command)
    if "{" not in done.stdout:
        pytest.skip(f"pyright does not run here: {done.stdout[-200:]}{done.stderr[-200:]}")
    symbols = json.loads(done.stdout[done.stdout.index("{") :])["typeCompleteness"]["symbols"]
    internal = ("cyrnn.interop.onnx_graph.", "cyrnn.demo.", "cyrnn.__main__.")
    def known(symbol):
        """Whether its type is known, but for a base class of scikit-learn, which has no types."""
        base = re.compile("Type of (metaclass|base class)")
        inherits = symbol["name"].startswith("cyrnn.estimators.")
        return symbol["isTypeKnown"] or (inherits and all(base.match(d["message"]) for d in symbol["diagnostics"]))

    unknown = {s["name"] for s in symbols if not known(s) and not s["name"].startswith(internal)}
    assert len(symbols) > 100
    assert not unknown


def test_the_program_runs(programs):
    pytest.importorskip("torch", reason="PyTorch is not installed, which the program converts weights to")
    done = run(programs, "program.py")
    assert done.returncode == 0, done.stderr
