"""The package around the functions: builds, configuration, documentation, metadata."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from race import FREE_THREADED

import cyrnn
from cyrnn import _kernels

ROOT = Path(__file__).parent.parent


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


NEEDS = {
    "interop.torch_weights": "torch", "interop.onnx": "onnx", "plots": "matplotlib", "estimators._models": "sklearn",
    "estimators._preprocessing": "sklearn",
}  # fmt: skip
DOCUMENTED = [
    "recurrent.activations", "recurrent.rnn", "recurrent.lstm", "recurrent.stream", "training.losses",
    "training.optimizers", "training.output_layer", "training.parameters", "training.checkpoints", "training.networks",
    "training.sequences", "_config", "interop.keras_weights", *NEEDS,
]  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_examples(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    result = doctest.testmod(importlib.import_module(f"cyrnn.{name}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0


def test_public_functions_are_documented():
    for name in cyrnn.__all__:
        thing = getattr(cyrnn, name)
        if callable(thing):
            assert "Examples\n" in thing.__doc__
            if inspect.signature(thing).parameters:
                assert "Parameters\n" in thing.__doc__
            if name != "show_config":
                assert isinstance(thing, type) or "Returns\n" in thing.__doc__
                assert "Raises\n" in thing.__doc__


def test_show_config(capsys):
    cyrnn.show_config()
    shown = capsys.readouterr().out
    for word in (cyrnn.__version__, np.__version__, _kernels.build, "threads", "CPU features", "available"):
        assert word in shown


def test_version():
    assert importlib.metadata.version("cyrnn") == cyrnn.__version__
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert first == cited == cyrnn.__version__


def test_numpy_is_the_only_dependency():
    required = [r for r in importlib.metadata.requires("cyrnn") if "extra" not in r]
    assert [re.split(r"[^\w]", r)[0] for r in required] == ["numpy"]
    others = "'scipy', 'sklearn', 'torch', 'Cython'"
    code = f"import sys, cyrnn; print([m for m in sys.modules if m.split('.')[0] in ({others})])"
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_build_is_picked_by_cpu_and_by_name():
    code = "import cyrnn._kernels as k; print(k.build)"
    assert python(code, CYRNN_BUILD="").stdout.strip() == _kernels.available()[0]
    for name in _kernels.available():
        assert python(code, CYRNN_BUILD=name).stdout.strip() == name
    done = python(code, CYRNN_BUILD="v9")
    assert done.returncode != 0
    assert "CYRNN_BUILD: expected one of v4, v3, baseline, got 'v9'" in done.stderr


def test_a_build_that_the_cpu_lacks_is_refused(monkeypatch):
    if len(_kernels.available()) < 2:
        pytest.skip("this machine has the baseline alone")
    best = _kernels.available()[0]
    monkeypatch.setitem(_kernels.FEATURES, _kernels.NEEDS[best][-1], False)
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail("it was loaded"))
    assert best not in _kernels.available()
    with pytest.raises(ImportError, match=f"the build '{best}' needs .*, which this CPU lacks"):
        _kernels.use(best)
    monkeypatch.setattr(_kernels, "installed", lambda: ["baseline"])
    with pytest.raises(ImportError, match=f"the build '{best}' was not compiled, only baseline"):
        _kernels.use(best)


def test_what_the_builds_need():
    """x86-64-v3 and v4, as far as they concern the kernels' instructions."""
    assert _kernels.NEEDS == {"v4": ("avx2", "fma", "bmi2", "avx512"), "v3": ("avx2", "fma", "bmi2"), "baseline": ()}
    assert set(_kernels.FEATURES) == set(_kernels.NEEDS["v4"])


def test_without_a_compiler_the_build_fails(tmp_path):
    """With a sentence that says so and how to get one; and does not make an empty package."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", f"--build-temp={tmp_path}/t", f"--build-lib={tmp_path}/l"],
        cwd=ROOT, env={**os.environ, "CC": str(tmp_path / "no-compiler")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cyrnn: its kernels are compiled when it is installed, and no C compiler works here")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", [None, "https://example.org/cyrnn"])
def test_description_on_an_index(tmp_path, address):
    """No link or picture of README.md is relative there: with an address they lead to the tag, else they are paths."""
    pytest.importorskip("setuptools", minversion="77")
    for name in ("README.md", "pyproject.toml", "setup.py", "LICENSE", "src/cyrnn/_version.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    if address:
        with (tmp_path / "pyproject.toml").open("a") as file:
            file.write(f'\n[project.urls]\nRepository = "{address}"\n')
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "--long-description"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", done.stdout)
    if not address:
        assert links == []
        assert "How fast [docs/speed.md] has" in done.stdout
    else:
        assert len(links) > 30
        tag = f"v{cyrnn.__version__}"
        assert all(link.startswith(f"{address}/{'raw' if picture else 'blob'}/{tag}/") for picture, link in links)
        assert ("!", f"{address}/raw/{tag}/docs/static/speed.svg") in links
        assert ("", f"{address}/blob/{tag}/docs/training.md") in links


def test_every_build_gives_the_same_to_rounding():
    from reference import close, problem

    q = problem("lstm", 7, 33, 5, 6, 20)
    kept = _kernels.build
    results = []
    for name in _kernels.available():
        _kernels.use(name)
        a, _, _, caches = cyrnn.lstm_forward(q.x, q.a0, q.p)
        results.append((a, cyrnn.lstm_backward(q.da, caches)))
    _kernels.use(kept)
    for a, gradients in results[1:]:
        close(a, results[0][0], 1e-14)
        for name, value in gradients.items():
            close(value, results[0][1][name], 1e-13)


def test_no_flag_that_changes_arithmetic():
    """Nor one for this machine alone: in what setup.py passes, and in every script that builds."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    flags = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert "-ffp-contract=off" in flags
    forbidden = re.compile(r"fast-math|-Ofast|=native|unsafe-math|reciprocal-math|finite-math|associative-math|-mdaz")
    assert not {flag for flag in flags if flag.startswith("-") and forbidden.search(flag)}
    for script in [*ROOT.glob("tests/*.sh"), *ROOT.glob(".ci/*"), ROOT / "pyproject.toml"]:
        assert not forbidden.search(script.read_text()), script


def test_subnormals_survive_the_import():
    code = "import cyrnn; x = 5e-324; assert x * 1.0 == 5e-324 and 2.3e-308 / 4 > 0; print('ok')"
    assert python(code).stdout.strip() == "ok"


def test_what_calls_change_that_other_threads_see():
    """All of it is guarded, by the GIL or a lock: docs/reliability.md, "Threads and processes", has the list."""
    changed, kernels = {}, ROOT / "src" / "cyrnn" / "_kernels"
    for source in (path for path in kernels.rglob("*.*") if path.suffix in (".pyx", ".pxd", ".pxi", ".h")):
        text = source.read_text()
        names = {name for line in re.findall(r"^ +global (.*)$", text, re.M) for name in line.split(", ")}
        names |= set(re.findall(r"^cdef [^(=\n]*?(\w+)\[", text, re.M))
        names |= set(re.findall(r"^static (?!.*\bconst\b)[^(=;\n]*?(\w+)(?:\[.*\])? *[=;]", text, re.M))
        if names:
            changed[source.name] = names
    assert changed.pop("parallel.h") == {"never_interrupted"}  # of one thread in a short call: never written
    assert changed == {
        "buffers.pyx": {"pool", "pool_count", "pool_bytes", "nan_first"},
        "threads.pyx": {"flops_per_thread", "setting", "default", "busy", "serial", "forks", "main_thread"}
        | {"first_pause", "pause", "lost_calls", "one_calls", "one_until"},
    }


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_no_module_switches_the_gil_on():
    code = (
        "import importlib, sys; from cyrnn import _kernels\n"
        "names = [name for name in _kernels.modules() if name.split('.')[2] in ('runtime', *_kernels.available())]\n"
        "print(len([importlib.import_module(name) for name in names]) > 20, sys._is_gil_enabled())"
    )
    assert python(code).stdout.split() == ["True", "False"]
