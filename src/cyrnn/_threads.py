"""How many threads a call may use: the setting, the environment, the processors of this process."""

import math
import os
import warnings
from pathlib import Path, PurePosixPath

import numpy as np

from ._kernels.runtime import threads

__all__ = ["get_num_threads", "set_num_threads"]


def cpu_groups(proc: str = "/proc/self") -> list[Path]:
    """Return the folders of this process's Linux control groups that may limit its processor time, parents included."""
    mounted, groups = [], []
    for line in Path(proc, "mountinfo").read_text().splitlines():
        mount, filesystem = line.split(" - ")
        root, point = (word.replace("\\040", " ") for word in mount.split()[3:5])
        kind, _, options = filesystem.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            mounted.append((kind, root, Path(point)))  # version, what of the hierarchy is there, where
    for line in Path(proc, "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for version, top, folder in mounted:
            if (version == "cgroup2") == (not controllers):
                # a container may see its own group as the root, or paths of the system outside
                seen = PurePosixPath(path)
                group = folder / seen.relative_to(top) if seen.is_relative_to(top) else folder
                groups += [above for above in (group, *group.parents) if above.is_relative_to(folder)]
    return groups


def quota(proc: str = "/proc/self") -> float:
    """Return the processors that the process's control groups allow, infinite without a limit."""
    least = math.inf
    try:
        groups = cpu_groups(proc)
    except (OSError, ValueError):
        return least  # no such system, or nothing that can be read
    for group in groups:
        for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # versions 2 and 1
            try:
                limit, period = " ".join((group / name).read_text() for name in names).split()
                least = min(least, int(limit) / int(period) if int(limit) > 0 else math.inf)
            except (OSError, ValueError, ZeroDivisionError):
                continue  # no such file, "max", or nothing that can be read
    return least


def processors() -> int:
    """Return the number of processors that this process may use: affinity and cgroup."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        count = os.cpu_count() or 1
    return max(1, math.ceil(min(count, quota())))


def checked(name: str, n: object) -> int:
    """Return a number of threads, or raise the error that names the setting."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{name}: expected a whole number of threads, got {n!r}")
    if not 1 <= n <= 1024:
        raise ValueError(f"{name}: expected 1 to 1024 threads, got {n!r}")
    return int(n)


def set_num_threads(n: int | None) -> None:
    """Set the most threads that one call may use.

    The number of a call is chosen from the amount of work, up to this limit and to what other calls have left: small
    calls run on one thread.  While the processors are busy with other work, so that several threads are slower than
    one, most calls take one.  The results are the same bits for every number.

    Parameters
    ----------
    n : int or None
        1 to 1024, also more than there are processors; None for the default, which is
        ``CYRNN_NUM_THREADS`` from the environment at import, else the processors that this process may
        use (its affinity and the limits of its control groups) and OpenMP's own limit (``OMP_NUM_THREADS``).

    Returns
    -------
    None

    Raises
    ------
    TypeError, ValueError
        If `n` is not such a number.

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.set_num_threads(1)
    >>> cyrnn.get_num_threads()
    1
    >>> cyrnn.set_num_threads(None)
    """
    threads.configure(DEFAULT if n is None else checked("n", n), processors())


def get_num_threads() -> int:
    """Get the most threads that one call may use now.

    Returns
    -------
    int
        What was set, or the default; 1 where the compiler had no OpenMP and in a forked child (GNU
        OpenMP could hang there); never more than a limit set meanwhile with `threadpoolctl`.

    Raises
    ------
    Nothing

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.get_num_threads() >= 1
    True
    """
    count: int = threads.get()
    return count


def from_environment() -> int:
    """Return what ``CYRNN_NUM_THREADS`` says, 0 if it says nothing."""
    text = os.environ.get("CYRNN_NUM_THREADS", "").strip()
    if text == "0":  # the default, for other libraries
        message = "CYRNN_NUM_THREADS: expected 1 to 1024 threads, got '0', which is ignored"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return 0
    try:
        return checked("CYRNN_NUM_THREADS", int(text)) if text else 0
    except ValueError:
        raise ImportError(f"CYRNN_NUM_THREADS: expected 1 to 1024 threads, got {text!r}") from None


DEFAULT = from_environment()
set_num_threads(None)
