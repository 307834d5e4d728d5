"""How many threads a call takes.  Compiled for the baseline only.

A call asks how many threads its number of floating-point operations pays for, acquires them, and releases them at
its end.  It gets no more than the setting allows, and than the calls of other Python threads have left: eight threads
that call at once take the cores once, not eight times.

On processors that are busy with other work a call on several threads waits at every barrier for the one that does not
run.  What a call lost is the time in which not even the thread with the most work was running.  If that is more than
the threads gained, in two calls one after the other, the next calls take one thread: so many calls, and so many times
what was lost.  Then two try again.  The pause doubles when they lose too, and halves with every call that gains.

Everything here runs with the GIL held, which guards the counts; without a GIL a lock does.
"""

import os
import threading

from .guard cimport guard, guard_lock, guard_unlock
from .limits cimport (
    FLOPS_PER_THREAD, LOST_CALLS, LOST_PAUSE, LOST_PAUSE_MOST, LOST_PAUSE_SECONDS, LOST_SECONDS, POLL_FLOPS,
    POLL_SECONDS, THREADS_GAIN,
)
from .parallel cimport leave_region, region


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
    void PyErr_SetString(object type, const char *message)
    unsigned long PyThread_get_thread_ident()


OPENMP: bool = CYRNN_OPENMP

cdef guard counts                       # guards what follows
cdef double flops_per_thread = FLOPS_PER_THREAD
cdef int setting = 0                    # of the user; 0 for the default
cdef int default = 1                    # the processors that this process may use
cdef int openmp_limit = omp_get_max_threads()
cdef int busy = 0                       # threads that calls are using now
cdef double first_pause = LOST_PAUSE
cdef double pause = LOST_PAUSE          # the next one: calls, and times what a call lost
cdef int lost_calls = 0                 # one after the other
cdef double one_calls = 0.0             # so many calls still have one thread,
cdef double one_until = 0.0             # and those that begin before
cdef bint serial = not CYRNN_OPENMP     # every call has one thread
cdef int forks = 0                      # of this process and those that it was forked from


cdef int limit() noexcept:
    """The most threads that one call may have; `counts` is locked.  A limit set in OpenMP since the import
    (threadpoolctl does so) holds for the user's setting too."""
    cdef int now = omp_get_max_threads()
    if serial:
        return 1
    if setting and now >= openmp_limit:
        return setting
    return min(setting if setting else default, now)


cdef bint pausing() noexcept:           # `counts` is locked
    return one_calls > 0.0 or omp_get_wtime() < one_until


cpdef bint paused() noexcept:
    """Whether calls take one thread because others have lost time."""
    guard_lock(&counts)
    cdef bint now = pausing()
    guard_unlock(&counts)
    return now


cdef int threads_for(double flops, Py_ssize_t max_threads) noexcept:
    """Threads for a call of that many floating-point operations that can be split between so many at most."""
    global one_calls
    if max_threads < 2 or flops < 2 * flops_per_thread:
        return 1
    guard_lock(&counts)
    cdef int threads = <int> max(1, min(min(max_threads, limit() - busy), <Py_ssize_t> (flops / flops_per_thread)))
    if threads > 1 and pausing():
        one_calls -= 1.0
        threads = 1
    guard_unlock(&counts)
    return threads


cdef int acquire_threads(int threads) noexcept:
    """Count them as busy; fewer if other calls have taken some since `threads_for`, as happens without a GIL."""
    global busy
    guard_lock(&counts)
    if threads > 1:
        threads = max(1, min(threads, limit() - busy))
    busy += threads
    guard_unlock(&counts)
    return threads


cdef void note_lost(int threads, const region *state) noexcept:
    """If they lost too much time, the next calls have one thread; `counts` is locked."""
    global lost_calls, one_calls, one_until, pause
    cdef double lost = state.elapsed - state.busiest
    if lost < LOST_SECONDS or state.elapsed < THREADS_GAIN * threads * state.busiest:
        lost_calls, pause = 0, max(first_pause, pause / 2)
        return
    lost_calls += 1
    if lost_calls >= LOST_CALLS:
        lost_calls, one_calls = 0, pause
        one_until = max(one_until, omp_get_wtime() + min(pause * lost, LOST_PAUSE_SECONDS))
        pause = min(2 * pause, max(first_pause, LOST_PAUSE_MOST))


cdef void release_threads(int threads, const region *state) noexcept:
    """Count them as free again, and what they lost."""
    global busy
    guard_lock(&counts)
    busy = max(busy - threads, 0)       # none are in a child that was forked during the call
    if threads > 1 and state.busiest > 0.0:
        note_lost(threads, state)
    guard_unlock(&counts)


cdef unsigned long main_thread = threading.main_thread().ident


cdef void check_signals(region *state) noexcept nogil:
    """Let Python handle a signal that came, a few times a second; if its handler raises, the call is cancelled."""
    cdef double now = omp_get_wtime()
    cdef int before
    if now - state.polled_at < POLL_SECONDS:
        return
    with gil:
        before = forks
        if PyErr_CheckSignals() != 0:
            state.cancelled = 1
            state.check = NULL
        elif forks != before and state.out != NULL:
            PyErr_SetString(
                RuntimeError, "a signal's handler forked during a call on several threads; the child cannot finish it",
            )
            state.cancelled = 1
    if forks != before:         # the other threads are not in the child
        leave_region(state)
    state.polled_at = omp_get_wtime()


cdef region region_init(double flops) noexcept:
    """The shared state of a call of so many operations; signals are handled by the main thread only."""
    cdef region state
    state.cancelled = state.interrupted = state.arrived = state.phase = state.asleep = 0
    state.elapsed = state.busiest = 0.0
    state.flops_left = POLL_FLOPS
    state.out, state.panels, state.panel_size = NULL, NULL, 0
    state.check = NULL
    if flops > POLL_FLOPS and PyThread_get_thread_ident() == main_thread:
        state.check = check_signals
        state.polled_at = omp_get_wtime()
    return state


cdef int raise_if_cancelled(const region *state) except -1:
    """Raise what a signal's handler raised, when everything has been put in order."""
    return -1 if state.cancelled else 0


def configure(int threads, int processors) -> None:
    """Set the user's number of threads (0 for the default) and the default."""
    global setting, default
    guard_lock(&counts)
    setting, default = threads, processors
    guard_unlock(&counts)


def set_flops_per_thread(double flops) -> float:
    """Set the operations that pay for one more thread; for tests and measurements.  Return the value before."""
    global flops_per_thread
    before, flops_per_thread = flops_per_thread, flops
    return before


def set_pause(times: float) -> float:
    """Set for how many calls, and times what was lost, the next ones take one thread at first, 0 for never; for tests
    and measurements.  Return the value before."""
    global pause, first_pause, one_calls, one_until
    guard_lock(&counts)
    cdef double before = first_pause
    pause, first_pause, one_calls, one_until = times, times, 0.0, 0.0
    guard_unlock(&counts)
    return before


def get() -> int:
    """The most threads that one call may have now."""
    guard_lock(&counts)
    cdef int most = limit()
    guard_unlock(&counts)
    return most


def busy_threads() -> int:
    """The threads that calls use now."""
    guard_lock(&counts)
    cdef int now = busy
    guard_unlock(&counts)
    return now


def _in_child() -> None:
    # GNU OpenMP hangs in a forked child whose parent has used it, for whatever library
    global serial, busy, forks, main_thread
    serial = True
    forks += 1
    main_thread = threading.main_thread().ident
    busy = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
