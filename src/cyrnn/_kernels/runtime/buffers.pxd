"""Large buffers that are reused: see buffers.pyx."""

cdef void *array_type                   # numpy.ndarray

cdef double *buffer_alloc(Py_ssize_t count) except NULL
cdef void buffer_free(double *data) noexcept
cdef object new_array(tuple shape)


cdef inline double *workspace_alloc(double **next, Py_ssize_t count) noexcept nogil:
    """Reserve `count` doubles, in whole cache lines, of the workspace that begins at next[0]."""
    cdef double *piece = next[0]
    next[0] = piece + (count + 7) // 8 * 8
    return piece
