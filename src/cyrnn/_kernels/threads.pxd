"""How many threads a call takes: see threads.pyx."""

from .team cimport watch

cdef inline double rare(double work) noexcept nogil:
    """What a single step is worth beside a sequence: threads that sleep between the steps may need 4 ms to wake."""
    return work / 20

cdef int worth(double work, Py_ssize_t shares) noexcept
cdef void hire(int threads) noexcept
cdef void dismiss(int threads) noexcept
cdef watch watched(double work) noexcept
cdef int unless_stopped(const watch *watching) except -1
