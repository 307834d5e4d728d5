"""The package in a program that PyInstaller froze, and where its kernels are missing."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cyrnn
from cyrnn import _kernels, _pyinstaller

PACKAGE = Path(cyrnn.__file__).parent
PROGRAM = """import numpy as np, cyrnn
p = cyrnn.initialize_parameters("lstm", n_x=3, n_a=4, n_y=2, rng=0)
print(cyrnn._kernels.build, cyrnn.lstm_forward(np.ones((3, 2, 5)), np.zeros((4, 1)), p)[0].tobytes().hex())
"""


def run(*command, **environment):
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600
    )


def test_a_frozen_program_runs(tmp_path):
    """On every build, with the bits that it has otherwise; the hook is found by its entry point, if it is installed."""
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    entry_points = importlib.metadata.entry_points(group="pyinstaller40", name="hook-dirs")
    installed = any(point.value == "cyrnn._pyinstaller:get_hook_dirs" for point in entry_points)
    options = [] if installed else ["--additional-hooks-dir", *_pyinstaller.get_hook_dirs()]
    for module in ("IPython", "matplotlib", "onnx", "pandas", "scipy", "tkinter", "torch"):  # which nothing here needs
        options += ["--exclude-module", module]
    folders = [f"--{name}path={tmp_path / name}" for name in ("dist", "work", "spec")]
    freeze = run(sys.executable, "-m", "PyInstaller", "--onedir", "--log-level=ERROR", *options, *folders, program)
    assert freeze.returncode == 0, freeze.stderr
    for build in _kernels.available():
        frozen = run(tmp_path / "dist" / "program" / "program", CYRNN_BUILD=build, PYTHONPATH="")
        plain = run(sys.executable, program, CYRNN_BUILD=build)
        assert frozen.stdout.split()[:1] == [build], frozen.stderr
        assert frozen.stdout == plain.stdout


def test_the_hook_names_every_compiled_module():
    """What is beside the kernels in files, whatever the import system sees."""
    found = {
        ".".join(["cyrnn", *path.relative_to(PACKAGE).parent.parts, path.name.partition(".")[0]])
        for path in PACKAGE.rglob("*")
        if path.suffix in (".so", ".pyd", ".dylib")
    }
    assert set(_kernels.modules()) == found
    assert len(found) > 10
    hook = Path(*_pyinstaller.get_hook_dirs()) / "hook-cyrnn.py"
    names = {}
    exec(hook.read_text(), names)
    assert names["hiddenimports"] == _kernels.modules()


@pytest.fixture
def package(tmp_path):
    """A copy of the package without the kernels of any build."""
    compiled = shutil.ignore_patterns("baseline", "v3", "v4", "__pycache__")
    return shutil.copytree(PACKAGE, tmp_path / "cyrnn", ignore=compiled)


def refused(package, reason):
    done = run(sys.executable, "-c", "import cyrnn", PYTHONPATH=str(package.parent))
    last = done.stderr.strip().splitlines()[-1]
    python = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
    start = f"ImportError: cyrnn: no compiled kernels that {python} and this processor can load in {package}{os.sep}"
    assert last.startswith(start), done.stderr
    assert f"({reason}). Install cyrnn with this Python (of the sources: pip install .)" in last
    assert last.endswith("in a frozen program include every module of cyrnn._kernels (docs/freezing.md)")


def test_without_kernels_the_import_says_so(package):
    refused(package, "builds: none")
    (package / "_kernels" / "baseline").mkdir()
    refused(package, "builds: none")
    for path in (PACKAGE / "_kernels" / "baseline" / "f64").iterdir():  # those of another Python
        folder = package / "_kernels" / "baseline" / "f64"
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name.replace("cpython-3", "cpython-2"))
    refused(package, "builds: none")
    (package / "_kernels" / "runtime" / next(PACKAGE.rglob("_memoryview.*")).name).unlink()
    refused(package, "No module named 'cyrnn._kernels.runtime._memoryview'")
    for path in [*package.rglob("*.so"), *package.rglob("*.pyd")]:
        path.unlink()
    refused(package, "No module named 'cyrnn._kernels.runtime.cpu'")


def test_with_the_baseline_alone_the_import_succeeds(package):
    shutil.copytree(PACKAGE / "_kernels" / "baseline", package / "_kernels" / "baseline")
    done = run(sys.executable, "-c", "import cyrnn; print(cyrnn._kernels.build)", PYTHONPATH=str(package.parent))
    assert done.stdout.strip() == "baseline", done.stderr
