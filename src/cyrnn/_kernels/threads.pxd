"""How many threads a call takes: see threads.pyx."""

from .team cimport watch

cdef int worth(double work, Py_ssize_t shares) noexcept
cdef void hire(int threads) noexcept
cdef void dismiss(int threads) noexcept
cdef watch watched(double work) noexcept
cdef int unless_stopped(const watch *watching) except -1
