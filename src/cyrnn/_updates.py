"""Which arrays were updated in place, and when: a backward pass whose caches are older is refused.

Updates are counted.  A forward pass notes the count; only if updates came since does its backward pass ask whether one
of its arrays was among them, so that in a usual training loop it costs nothing.
"""

import os
import threading
from typing import Any

count = 0
_last: dict[int, int] = {}  # id of an array -> the count at its last update
_lock = threading.Lock()  # two updates at once must not have one count
MOST = 4096  # arrays; those noted first are forgotten, until their next update


def note(arrays: list[Any]) -> None:
    """Remember that these arrays are updated now.

    An id may be reused after an array is gone.  Then the remembered count is older than any cache of the new array.
    """
    global count
    with _lock:
        for array in arrays:
            _last[id(array)] = count + 1
        count += 1
        while len(_last) > MOST:
            del _last[next(iter(_last))]


def check(made: int, arrays: dict[str, Any]) -> None:
    """Refuse caches that were made before an update of one of their arrays.

    Raises
    ------
    RuntimeError
        If there was one; the message names the array.
    """
    if made == count:
        return
    for name, array in arrays.items():
        if _last.get(id(array), 0) > made:
            raise RuntimeError(
                f"caches: {name} was updated in place after the forward pass that made them; the gradients would be "
                "those of neither network: run the forward pass again, or update after the backward pass"
            )


def _in_child() -> None:
    # the thread that held the lock is not in a forked child
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
