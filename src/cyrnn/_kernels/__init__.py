"""The compiled kernels, and the choice of their build.

Every kernel module is compiled from one source for several instruction sets, one folder each:

- ``baseline``: whatever every processor of the platform has (SSE2 on x86-64, NEON on aarch64)
- ``v3``: x86-64-v3, AVX2 and FMA
- ``v4``: x86-64-v4, AVX-512

The best one that this processor can run is picked at import.  The environment variable
``CYRNN_BUILD`` names another; one that cannot run here is refused before it is loaded.

The modules, and what each is for:

- ``activations``: exp, tanh, sigmoid and softmax over an array
- ``rnn``, ``lstm``: the time loops, forward and backward; the equations stand at their top
- ``rnn_step``, ``lstm_step``: one step, forward and backward
- ``linear``, ``loss``, ``update``: the output layer without its softmax, the losses, the updates of the parameters
- ``stream``: a prepared network that is stepped, with weights, state and scratch in memory of its own

and compiled once, for all builds:

- ``cpu``: the processor's features
- ``arguments``: a caller's arrays as addresses and strides
- ``memory``: arrays and scratch whose memory is used again
- ``threads``: how many threads a call takes

Under them lie ``vmath.h`` (the functions), ``gemm.h`` (the packed product), ``output.pxd`` (the output
layer), ``sum.h`` (its sums), ``step.h`` (the products of one step), ``flat.pxd`` (a sequence as a matrix),
``layout.h`` (transposes), ``batch.h`` and ``batch.pxd`` (examples of different lengths), ``team.h``
(threads), ``fpenv.h`` (the floating-point environment), ``simd.h`` (one vector).  In a sequence all buffers
are float64, time-major, units innermost: x ``(T_x, m, n_x)``, a and c ``(T_x + 1, m, n_a)`` with the initial
state in row 0, gates ``(4, T_x, m, n_a)`` in the order f, i, c, o; ``lstm.pyx`` has the case m = 1.  With
lengths the examples of a step are those that have it, the longest first: such buffers are ``(columns, n_a)``,
those of a and c with the initial states before the first.  The Python layer owns what goes in and
comes out; a kernel takes its scratch from ``memory`` and gives it back.  A kernel looks at every argument
before it writes anything, and refuses what is no float64 array of the shape that the sizes ask for; the
Python layer then finds out what
it was.  Any size may be 0.
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
