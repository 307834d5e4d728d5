"""A caller's arrays as a kernel sees them: see arguments.pyx."""

from .layout cimport steps

cdef double *matrix(object value, Py_ssize_t rows, Py_ssize_t cols, bint of_caller=*) except? NULL
cdef double *box(object value, Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t n2) except? NULL
cdef const Py_ssize_t *kept_lengths(bytes copy, Py_ssize_t m) except? NULL
cdef int state(object value, Py_ssize_t n, Py_ssize_t m, bint whole, steps *out) except -1
cdef int sequence(
    object value, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T, bint contiguous, steps *out
) except -1
