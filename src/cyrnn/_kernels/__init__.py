"""The compiled kernels, and the choice of their build.

Every kernel module is compiled from one source for several instruction sets, one folder each, and in it for two
precisions, ``f64`` and ``f32``:

- ``baseline``: whatever every processor of the platform has (SSE2 on x86-64, NEON on aarch64)
- ``v3``: x86-64-v3, AVX2 and FMA
- ``v4``: x86-64-v4, AVX-512

The best one that this processor can run is picked at import.  The environment variable ``CYRNN_BUILD`` names another;
one that cannot run here is refused before it is loaded.  `f64` and `f32` are its kernels, `of` the ones for a dtype.

The modules, which are the entry points:

- ``recurrent``: the passes of each cell over a sequence and over one step, those of one layer of a network, and a
  network prepared once and stepped many times; one module, so that the time loop is compiled once
- ``dense``, ``losses``, ``optimizers``: the output layer without its softmax, the losses, the updates of the
  parameters
- ``activations``: exp, tanh, sigmoid and softmax over an array

Under them lie ``schedule`` (when something is computed), ``cells`` (the equations), ``linalg`` (products, transposes)
and ``runtime`` (threads, buffers, limits; compiled once, for all builds): see docs/design.md.

A kernel takes typed memoryviews and returns new arrays.  It checks every argument before it writes anything, and
refuses what is not an array of its precision and of the shape that the sizes ask for, with one of the exceptions in
`_checks.MISFIT`; the Python side then finds out what it was.  Any size may be 0.
"""

import importlib
import os
import pkgutil
import sys
from typing import Any

import numpy as np

HERE = os.path.dirname(__file__)


def _no_kernels(reason: str) -> ImportError:
    """Return the error of an import that finds no build, with the ways out."""
    python = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
    return ImportError(
        f"cyrnn: no compiled kernels that {python} and this processor can load in {HERE} ({reason}). Install cyrnn "
        "with this Python (of the sources: pip install .) and import it from another folder than that of the sources; "
        "in a frozen program include every module of cyrnn._kernels (docs/freezing.md)"
    )


try:
    from .runtime.cpu import features
except ImportError as error:
    raise _no_kernels(str(error)) from error

# What each build needs of the processor, best build first.
NEEDS = {
    "v4": ("avx2", "fma", "bmi2", "avx512"),
    "v3": ("avx2", "fma", "bmi2"),
    "baseline": (),
}

FEATURES = features()

FLOAT32 = np.dtype(np.float32)
PRECISIONS: dict[str, np.dtype[Any]] = {"f64": np.dtype(np.float64), "f32": FLOAT32}


class Kernels:
    """The kernels of one build in one precision: its modules are attributes, imported when they are first used."""

    dtype: np.dtype[Any]

    def __init__(self, build: str, precision: str) -> None:
        self.dtype = PRECISIONS[precision]
        self._folder = f"{build}.{precision}"

    def __getattr__(self, module: str) -> Any:
        if module not in _modules(self._folder):
            raise AttributeError(f"no kernel module {module!r}")
        loaded = importlib.import_module(f"{__name__}.{self._folder}.{module}")
        setattr(self, module, loaded)
        return loaded


build: str
f64: Kernels
f32: Kernels


def of(dtype: Any) -> Kernels:
    """Return the kernels for arrays of this dtype."""
    return f32 if dtype == FLOAT32 else f64


def _modules(folder: str) -> list[str]:
    """Return the names of the compiled modules in a folder."""
    return [module.name for module in pkgutil.iter_modules([os.path.join(HERE, *folder.split("."))])]


def modules() -> list[str]:
    """Return the full names of all compiled modules, for tools that do not see what is imported by name."""
    folders = ["runtime", *(f"{build}.{precision}" for build in installed() for precision in PRECISIONS)]
    return [f"{__name__}.{folder}.{name}" for folder in folders for name in _modules(folder)]


def installed() -> list[str]:
    """Return the builds that the compiler made, best first."""
    return [name for name in NEEDS if _modules(name + ".f64")]


def available() -> list[str]:
    """Return the builds that are installed and that this processor can run, best first."""
    return [name for name in installed() if all(FEATURES[feature] for feature in NEEDS[name])]


def use(name: str) -> None:
    """Load a build and make it the one that the functions of the package call."""
    global build, f64, f32
    if name not in NEEDS:
        raise ImportError(f"CYRNN_BUILD: expected one of {', '.join(NEEDS)}, got {name!r}")
    if name not in installed():
        raise ImportError(f"CYRNN_BUILD: the build {name!r} was not compiled, only {', '.join(installed())}")
    missing = [feature for feature in NEEDS[name] if not FEATURES[feature]]
    if missing:
        raise ImportError(f"CYRNN_BUILD: the build {name!r} needs {', '.join(missing)}, which this CPU lacks")
    kernels = Kernels(name, "f64")
    for module in _modules(name + ".f64"):
        getattr(kernels, module)
    build, f64, f32 = name, kernels, Kernels(name, "f32")


if not available():
    raise _no_kernels(f"builds: {', '.join(installed()) or 'none'}")
use(os.environ.get("CYRNN_BUILD") or available()[0])
