"""Large buffers that are used again: see memory.pyx."""

cdef double *take(Py_ssize_t count) except NULL
cdef void give(double *data) noexcept
