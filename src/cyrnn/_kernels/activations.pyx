"""exp, tanh and sigmoid over an array, in place: see vmath.h for the mathematics."""

from . cimport vmath


def exp(double[::1] x not None) -> None:         # IN/OUT
    """x = exp(x)."""
    cdef Py_ssize_t u
    with nogil:
        for u in range(x.shape[0]):
            x[u] = vmath.exp(x[u])


def tanh(double[::1] x not None) -> None:        # IN/OUT
    """x = tanh(x)."""
    cdef Py_ssize_t u
    with nogil:
        for u in range(x.shape[0]):
            x[u] = vmath.tanh(x[u])


def sigmoid(double[::1] x not None) -> None:     # IN/OUT
    """x = 1 / (1 + exp(-x))."""
    cdef Py_ssize_t u
    with nogil:
        for u in range(x.shape[0]):
            x[u] = vmath.sigmoid(x[u])
