"""What is installed and what it runs on."""

import platform

import numpy as np

from . import _kernels
from ._kernels.runtime import buffers, threads
from ._threads import get_num_threads
from ._version import __version__


def show_config() -> None:
    """Print the version, the environment, the CPU's features and the builds of the kernels.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.show_config()  # doctest: +SKIP
    """
    found = [name for name, there in _kernels.FEATURES.items() if there]
    lines = {
        "cyrnn": __version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "CPU features": " ".join(found) or "none beyond the baseline",
        "build in use": _kernels.build,
        "builds available": " ".join(_kernels.available()),
        "builds installed": " ".join(_kernels.installed()),
        "threads": f"up to {get_num_threads()} for a call, {'with' if threads.OPENMP else 'without'} OpenMP",
    }
    width = max(map(len, lines))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines.items()))


def release_memory() -> None:
    """Return the memory of freed results, which is kept for reuse, to the system.

    Freed buffers larger than 64 kB go into a pool of at most 256 MB and are reused by the next calls.  Arrays that are
    still referenced keep their memory.

    Returns
    -------
    None

    Raises
    ------
    Nothing

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.release_memory()
    """
    buffers.release_pool()
