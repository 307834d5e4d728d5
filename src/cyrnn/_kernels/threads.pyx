"""How many threads a call takes.  Compiled for the baseline only.

A call asks how many its number of floating-point operations is worth, hires them, and dismisses them at
its end.  It gets no more than the setting allows, than its work is worth, and than
other Python threads have left: eight threads that call at once take the cores once, not eight times.

Everything here runs with the GIL held, which guards the counts.
"""

import os
import threading

from .team cimport watch


cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define CYRNN_OPENMP 1
    #else
    #define CYRNN_OPENMP 0
    #include <time.h>
    static int omp_get_max_threads(void) { return 1; }
    static double omp_get_wtime(void) { return (double)time(NULL); }
    #endif
    """
    const bint CYRNN_OPENMP
    int omp_get_max_threads() nogil
    double omp_get_wtime() nogil


cdef extern from "Python.h":
    int PyErr_CheckSignals()            # leaves the exception set
    unsigned long PyThread_get_thread_ident()


OPENMP: bool = CYRNN_OPENMP

cdef double per_thread = 4e6            # operations for which a thread pays, see docs/design.md
cdef int setting = 0                    # what the user said; 0 for the default
cdef int default = 1                    # the processors that this process may use
cdef int openmp_limit = omp_get_max_threads()
cdef int busy = 0                       # threads that calls are using now
cdef bint serial = not CYRNN_OPENMP     # one thread for good


cdef int limit() noexcept:
    """The most threads that one call may have.  A limit that somebody set in OpenMP since the import
    (threadpoolctl does) holds for the user's setting too."""
    cdef int now = omp_get_max_threads()
    if serial:
        return 1
    if setting and now >= openmp_limit:
        return setting
    return min(setting if setting else default, now)


cdef int worth(double work, Py_ssize_t shares) noexcept:
    """Threads for a call of that many floating-point operations that can be cut into so many shares."""
    if shares < 2 or work < 2 * per_thread:
        return 1
    return <int> max(1, min(min(shares, limit() - busy), <Py_ssize_t> (work / per_thread)))


cdef void hire(int threads) noexcept:
    """Count them as busy."""
    global busy
    busy += threads


cdef void dismiss(int threads) noexcept:
    """Count them as free again."""
    global busy
    busy -= threads


cdef double OPERATIONS = 2e7            # between two looks at the clock: some milliseconds at most
cdef double SECONDS = 0.05              # between two looks for a signal
cdef unsigned long main_thread = threading.main_thread().ident


cdef void look(watch *watching) noexcept nogil:
    """Let Python handle a signal that came, a few times a second; the results are not wanted if it raises."""
    cdef double now = omp_get_wtime()
    if now - watching.last < SECONDS:
        return
    with gil:
        if PyErr_CheckSignals() != 0:
            watching.stop = 1
            watching.look = NULL
    watching.last = omp_get_wtime()


cdef watch watched(double work) noexcept:
    """What watches over a call of so many operations; only the main thread handles signals."""
    cdef watch watching
    watching.stop = watching.halt = watching.waiting = watching.round = 0
    watching.left = watching.operations = OPERATIONS
    watching.look = NULL
    if work > OPERATIONS and PyThread_get_thread_ident() == main_thread:
        watching.look = look
        watching.last = omp_get_wtime()
    return watching


cdef int unless_stopped(const watch *watching) except -1:
    """Raise what a signal's handler raised, when everything has been put in order."""
    return -1 if watching.stop else 0


def configure(int threads, int processors) -> None:
    """Set what the user said (0 for the default) and what the default is."""
    global setting, default
    setting, default = threads, processors


def set_worth(double operations) -> float:
    """Set the operations for which a thread pays; for tests and measurements.  Return those before."""
    global per_thread
    before, per_thread = per_thread, operations
    return before


def get() -> int:
    """The most threads that one call may have now."""
    return limit()


def busy_threads() -> int:
    """How many are hired now."""
    return busy


def _in_child() -> None:
    # GNU OpenMP hangs in a forked child whose parent has used it, for whatever library
    global serial, busy, main_thread
    serial = True
    main_thread = threading.main_thread().ident
    busy = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
