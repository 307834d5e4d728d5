"""The compiled kernels, and the choice of their build.

Every kernel module is compiled from one source for several instruction sets, one folder each:

- ``baseline``: whatever every processor of the platform has (SSE2 on x86-64, NEON on aarch64)
- ``v3``: x86-64-v3, AVX2 and FMA
- ``v4``: x86-64-v4, AVX-512

The best one that this processor can run is picked at import.  The environment variable
``CYRNN_BUILD`` names another; one that cannot run here is refused before it is loaded.

The modules, and what each is for:

- ``activations``: exp, tanh, sigmoid over an array
- ``rnn``, ``lstm``: the time loops, forward and backward; the equations stand at their top
- ``output``: softmax(Wy a + by) over all steps, and softmax alone
- ``cpu``: the processor's features

Under them lie ``vmath.h`` (the functions), ``gemm.h`` (the packed product), ``layout.h`` (transposes),
``simd.h`` (one vector).  All buffers are float64, time-major, units innermost: x ``(T_x, m, n_x)``,
a and c ``(T_x + 1, m, n_a)`` with the initial state in row 0, gates ``(T_x, m, 4, n_a)`` in the order
f, i, c, o.  The caller owns and allocates every buffer; ``work`` is scratch of the size that a module's
``*_work`` tells, its contents mean nothing between calls.  A kernel's typed signature and its one
expression of shape checks refuse what does not fit before anything is written; the Python layer then
finds out what it was.  Any size may be 0.
"""

import importlib
import os
import pkgutil
from typing import TYPE_CHECKING, Any

from .cpu import features

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
