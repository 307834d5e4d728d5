"""How many threads a call takes: see threads.pyx."""

from .memory cimport give
from .team cimport run_team, team_fn, watch

cdef inline double step_work(Py_ssize_t m, double operations) noexcept nogil:
    """What one step of m examples is worth, so many operations each: a few wait for the weights to come from memory
    about as long as eight take."""
    return (max(m, 8) if m else 0) * operations

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
