"""The floors of the code: nothing below imports anything above; equations know no schedule; limits have one place."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cyrnn"
KERNELS = PACKAGE / "_kernels"

# From the bottom to the top.  Two names on one floor may import each other.
KERNEL_FLOORS = [{"runtime"}, {"linalg"}, {"cells"}, {"schedule"}, {"entry points"}]
PYTHON_FLOORS = [
    {"_version", "_kernels"}, {"_checks", "_pyinstaller", "_threads", "_updates"}, {"_config"},
    {"recurrent"}, {"training"}, {"interop", "plots"}, {"demo", "estimators"}, {"__init__", "__main__"},
]  # fmt: skip


def floor_of(name, floors):
    return next(k for k, floor in enumerate(floors) if name in floor)


def kernel_sources():
    return sorted(path for path in KERNELS.rglob("*.*") if path.suffix in (".pyx", ".pxd", ".pxi", ".h"))


def kernel_floor(path):
    folder = path.relative_to(KERNELS).parts[0]
    return floor_of(folder if folder in ("runtime", "linalg", "cells", "schedule") else "entry points", KERNEL_FLOORS)


def kernel_imports(path):
    """The files of the house that a kernel source includes or cimports."""
    text = path.read_text()
    for name in re.findall(r'^\s*(?:#include|cdef extern from) "([^"]+)"', text, re.M):
        found = [folder / name for folder in (path.parent, KERNELS) if (folder / name).exists()]
        assert found or name == "Python.h", f"{path.name}: {name}"
        yield from found[:1]
    for dots, module, names in re.findall(r"^from (\.+)([\w.]*) cimport \(?([^)\n]*)", text, re.M):
        folder = path.parents[len(dots) - 1]
        parts = folder.joinpath(*module.split(".")) if module else folder
        if parts.is_dir():  # a module of a folder: `from .linalg cimport linalg`
            parts = parts / names.split(",")[0].strip()
        yield parts.with_suffix(".pxd")
    assert not re.search(r"^cimport cyrnn|^from cyrnn", text, re.M), path


def test_no_kernel_imports_from_a_floor_above():
    edges = 0
    for path in kernel_sources():
        for other in kernel_imports(path):
            assert other.exists(), f"{path.name}: {other}"
            edges += 1
            assert kernel_floor(other) <= kernel_floor(path), f"{path.relative_to(KERNELS)} imports {other.name}"
            if kernel_floor(path) == len(KERNEL_FLOORS) - 1:
                assert other.suffix == ".pxd", f"{path.name} includes {other.name}"
                assert kernel_floor(other) < kernel_floor(path), f"{path.name} imports the entry point {other.name}"
    assert edges > 80


def test_what_one_module_includes_has_no_two_meanings_of_a_name():
    """The included files share their names: of two constants of the same name the later one would hold for both."""
    origins = {}
    for path in KERNELS.glob("*.pxi"):
        text = path.read_text()
        for module, names in re.findall(r"^from ([\w.]+) cimport (\([^)]*\)|[^\n(]*)", text, re.M):
            for name in re.findall(r"(\w+)\s*(?:,|\)|$)", names):
                origins.setdefault(name, set()).add(module)
        for name in re.findall(r"^(?:def|cdef)\b[^(=\n:]*?(\w+)[(:]", text, re.M):
            origins.setdefault(name, set()).add(path.name)
    assert len(origins) > 100
    assert not {name: where for name, where in origins.items() if len(where) > 1}


def test_no_python_module_imports_from_a_floor_above():
    edges = 0
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] == "_kernels":
            continue
        here = floor_of(parts[0], PYTHON_FLOORS)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            inside = [*parts[: len(parts) - node.level], *(node.module or "").split(".")]
            names = [inside[0]] if inside[0] else [alias.name for alias in node.names]
            for name in names:
                edges += 1
                assert floor_of(name, PYTHON_FLOORS) <= here, f"{'/'.join(parts)} imports {name}"
    assert edges > 50


@pytest.mark.parametrize("path", sorted((KERNELS / "cells").glob("*.pxd")), ids=lambda path: path.name)
def test_a_cell_knows_no_schedule(path):
    assert not re.search(r"\b(thread|block|length|batch)", path.read_text())


def test_no_kernel_reads_the_buffer_protocol():
    """Typed memoryviews do; a class that exports a buffer fills one in."""
    for path in kernel_sources():
        assert "PyObject_GetBuffer" not in path.read_text(), path.name


def signatures(path):
    """The names of a kernel module's functions and their arguments, without comments."""
    text = re.sub(r"#.*", "", path.read_text())
    for found in re.finditer(r"^ *def (\w+)\(", text, re.M):
        end, depth = found.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        arguments = re.split(r",(?![^\[]*\])", text[found.end() : end - 1])
        yield found[1], [argument.strip() for argument in arguments if argument.strip() not in ("", "self")]


def test_every_array_that_python_passes_is_a_typed_memoryview():
    """The arguments of the entry points: memoryviews, numbers, flags, an activation, a cell's name, copied lengths;
    lists and a tuple of arrays where their number is free, each of which becomes a memoryview at once."""
    view = r"(const )?(real|int64_t|Py_ssize_t)\[[:, 1]+\]"
    types = rf"({view}|Py_ssize_t|double|int|bint|activation|bytes|str|list|tuple)"
    functions = arrays = 0
    for path in [*KERNELS.glob("*.pyx"), *KERNELS.glob("*.pxi"), KERNELS / "runtime" / "lengths.pyx"]:
        for name, arguments in signatures(path):
            functions += 1
            for argument in arguments:
                known = re.fullmatch(rf"{types} \w+( not None|=None)?", argument)
                assert known, f"{path.name}, {name}: {argument!r}"
                arrays += re.match(view, argument) is not None
    assert functions > 25
    assert arrays > 100


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_an_entry_point_is_short(name):
    assert len((KERNELS / f"{name}.pxi").read_text().splitlines()) <= 225


def test_limits_have_one_place():
    """No other header or kernel defines a number by a macro or an anonymous enum, but what is no limit."""
    allowed = {"VLEN", "VREGS", "LANES", "MAX_GATES", "LOG2_E", "LN2_HI", "LN2_LO", "ROUND_MAGIC"}
    allowed |= {"FP_PLAIN", "FP_FLUSH", "TRACEMALLOC_DOMAIN", "NUMPY_BYTES", "KINDS"}
    allowed |= {"MAX_SLOTS", "MAX_STATES", "MAX_STAGES", "MAX_INPUTS", "DIRECTIONS"}
    allowed |= {"HIDDEN", "NO_SLOT", "FORGET", "INPUT", "CANDIDATE", "OUTPUT", "LARGEST"}
    allowed |= {"UPDATE", "RESET", "HIDDEN_PART"}
    for path in kernel_sources():
        if path.name != "limits.h":
            text = path.read_text()
            found = set(re.findall(r"^#define (\w+) +\(?[-\d]", text, re.M))
            found |= set(re.findall(r"^    ([A-Z]\w*) = -?[\dx]", text, re.M))
            assert not found - allowed, f"{path.name}: {found - allowed}"
