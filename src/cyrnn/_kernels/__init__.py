"""The compiled kernels, and the choice of their build.

Every kernel module is compiled from one source for several instruction sets, one folder each:

- ``baseline``: whatever every processor of the platform has (SSE2 on x86-64, NEON on aarch64)
- ``v3``: x86-64-v3, AVX2 and FMA
- ``v4``: x86-64-v4, AVX-512

The best one that this processor can run is picked at import.  The environment variable ``CYRNN_BUILD`` names another;
one that cannot run here is refused before it is loaded.

The modules, which are the entry points:

- ``rnn``, ``lstm``, ``gru``: the passes over a sequence and over one step, forward and backward
- ``stream``: a network prepared once and stepped many times
- ``dense``, ``losses``, ``optimizers``: the output layer without its softmax, the losses, the updates of the
  parameters
- ``activations``: exp, tanh, sigmoid and softmax over an array
- ``pointwise``: the pointwise functions of the cells by themselves, for tests

Under them lie ``schedule`` (when something is computed), ``cells`` (the equations), ``linalg`` (products, transposes)
and ``runtime`` (threads, buffers, limits; compiled once, for all builds): see docs/design.md.

A kernel takes typed memoryviews and returns new arrays.  It checks every argument before it writes anything, and
refuses what is not a float64 array of the shape that the sizes ask for, with one of the exceptions in
`_checks.MISFIT`; the Python side then finds out what it was.  Any size may be 0.
"""

import importlib
import os
import pkgutil
from typing import TYPE_CHECKING, Any

from .runtime.cpu import features

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Stand for the kernel modules, which `use` makes attributes of this one."""


# What each build needs of the processor, best build first.
NEEDS = {
    "v4": ("avx2", "fma", "bmi2", "avx512"),
    "v3": ("avx2", "fma", "bmi2"),
    "baseline": (),
}

FEATURES = features()

build: str


def installed() -> list[str]:
    """Return the builds that the compiler made, best first."""
    here = os.path.dirname(__file__)
    return [name for name in NEEDS if os.path.isdir(os.path.join(here, name))]


def available() -> list[str]:
    """Return the builds that are installed and that this processor can run, best first."""
    return [name for name in installed() if all(FEATURES[feature] for feature in NEEDS[name])]


def use(name: str) -> None:
    """Load a build and make it the one that the functions of the package call."""
    global build
    if name not in NEEDS:
        raise ImportError(f"CYRNN_BUILD: expected one of {', '.join(NEEDS)}, got {name!r}")
    if name not in installed():
        raise ImportError(f"CYRNN_BUILD: the build {name!r} was not compiled, only {', '.join(installed())}")
    missing = [feature for feature in NEEDS[name] if not FEATURES[feature]]
    if missing:
        raise ImportError(f"CYRNN_BUILD: the build {name!r} needs {', '.join(missing)}, which this CPU lacks")
    folder = os.path.join(os.path.dirname(__file__), name)
    for module in pkgutil.iter_modules([folder]):
        globals()[module.name] = importlib.import_module(f"{__name__}.{name}.{module.name}")
    build = name


use(os.environ.get("CYRNN_BUILD") or available()[0])
