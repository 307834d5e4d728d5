"""How many threads a call takes: see threads.pyx."""

from .memory cimport give
from .team cimport run_team, team_fn, watch

cdef inline double rare(double work) noexcept nogil:
    """What a single step is worth beside a sequence: threads that sleep between the steps may need 4 ms to wake."""
    return work / 20

cdef int worth(double work, Py_ssize_t shares) noexcept
cdef void hire(int threads) noexcept
cdef void dismiss(int threads) noexcept
cdef watch watched(double work) noexcept
cdef int unless_stopped(const watch *watching) except -1


cdef inline int on_threads(
    team_fn *run, void *problem, int threads, double work, double *scratch,
) except -1:
    """Run it on so many threads without the GIL, watched for signals, and give its scratch back."""
    cdef watch watching = watched(work)
    hire(threads)
    with nogil:
        run_team(run, problem, threads, &watching)
    dismiss(threads)
    give(scratch)
    return unless_stopped(&watching)
