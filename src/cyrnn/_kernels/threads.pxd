"""How many threads a call takes: see threads.pyx."""

cdef int worth(double work, Py_ssize_t shares) noexcept
cdef void hire(int threads) noexcept
cdef void dismiss(int threads) noexcept
