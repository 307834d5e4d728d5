"""Large buffers that are reused: see buffers.pyx."""

from .limits cimport LINE
from .real cimport real

cdef void *array_type                   # numpy.ndarray

cdef void *buffer_alloc(Py_ssize_t bytes) except NULL
cdef void buffer_free(void *data) noexcept
cdef object array_of(tuple shape, Py_ssize_t itemsize)


cdef inline object new_array(tuple shape):
    """An uninitialised C-contiguous array of the precision of the build."""
    return array_of(shape, sizeof(real))


cdef inline real *values_alloc(Py_ssize_t count) except NULL:
    """So many values, uninitialised, aligned to a cache line; to be freed by `buffer_free`."""
    return <real *> buffer_alloc(count * <Py_ssize_t> sizeof(real))


cdef inline real *workspace_alloc(real **next, Py_ssize_t count) noexcept nogil:
    """Reserve `count` values, in whole cache lines, of the workspace that begins at next[0]."""
    cdef real *piece = next[0]
    next[0] = piece + (count + LINE - 1) // LINE * LINE
    return piece


cdef inline Py_ssize_t *index_alloc(real **next, Py_ssize_t count) noexcept nogil:
    """Reserve `count` indices likewise."""
    cdef Py_ssize_t size = sizeof(Py_ssize_t), value = sizeof(real)
    return <Py_ssize_t *> workspace_alloc(next, (count * size + value - 1) // value)
