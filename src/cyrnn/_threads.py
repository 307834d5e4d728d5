"""How many threads a call may use: the setting, the environment, the processors of this process."""

import math
import os
from pathlib import Path

from ._kernels import threads

__all__ = ["get_num_threads", "set_num_threads"]


def quota(root: str = "/sys/fs/cgroup") -> float:
    """Return the processors that a container's limit allows, infinite without a limit (Linux cgroups)."""
    try:
        limit, period = Path(root, "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            limit = Path(root, "cpu/cpu.cfs_quota_us").read_text()  # version 1
            period = Path(root, "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return math.inf
    return math.inf if limit.strip() in ("max", "-1") else int(limit) / int(period)


def processors() -> int:
    """Return the number of processors that this process may use: affinity and cgroup."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        count = os.cpu_count() or 1
    return max(1, math.ceil(min(count, quota())))


def checked(name: str, n: object) -> int:
    """Return a number of threads, or raise the error that names the setting."""
    try:
        count = int(n)  # type: ignore[call-overload]
        if count != n and not isinstance(n, str):
            raise ValueError
    except (TypeError, ValueError):
        kind = TypeError if not isinstance(n, (str, float)) else ValueError
        raise kind(f"{name}: expected a whole number of threads, got {n!r}") from None
    if not 1 <= count <= 1024:
        raise ValueError(f"{name}: expected 1 to 1024 threads, got {n!r}")
    return count


def set_num_threads(n: int | None) -> None:
    """Set the most threads that one call may use.

    A call takes as many as its size is worth and other calls leave: small ones run on one.  The results
    are the same bits for every number.

    Parameters
    ----------
    n : int or None
        1 to 1024, more than there are processors if you like; None for the default, which is
        ``CYRNN_NUM_THREADS`` from the environment at import, else the processors that this process may
        use (its affinity and its container's limit) and OpenMP's own limit (``OMP_NUM_THREADS``).

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

    Parameters
    ----------
    None

    Returns
    -------
    int
        What was set, or the default; 1 where the compiler had no OpenMP and in the forked child of a
        process that has used several; never more than a limit set meanwhile with `threadpoolctl`.

    Raises
    ------
    Nothing

    Examples
    --------
    >>> import cyrnn
    >>> cyrnn.get_num_threads() >= 1
    True
    """
    return threads.get()


FROM_ENVIRONMENT = os.environ.get("CYRNN_NUM_THREADS", "").strip()
DEFAULT = checked("CYRNN_NUM_THREADS", FROM_ENVIRONMENT) if FROM_ENVIRONMENT else 0
set_num_threads(None)
