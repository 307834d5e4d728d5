"""exp, tanh and sigmoid over an array, in place, and softmax: see vmath.h and output.pxd for the mathematics."""

from . cimport vmath
from .arguments cimport sequence
from .layout cimport block_after, block_of, load_steps, steps, store_steps
from .memory cimport give, take
from .output cimport FEW, softmax_columns, softmax_rows
from .team cimport FP_PLAIN, fp_enter, fp_leave, fp_state, whole


def exp(double[::1] x not None) -> None:         # IN/OUT
    """x = exp(x)."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = vmath.exp(x[u])
        fp_leave(before)


def tanh(double[::1] x not None) -> None:        # IN/OUT
    """x = tanh(x)."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = vmath.tanh(x[u])
        fp_leave(before)


def sigmoid(double[::1] x not None) -> None:     # IN/OUT
    """x = 1 / (1 + exp(-x))."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = vmath.sigmoid(x[u])
        fp_leave(before)


def softmax(
    Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x,
    x,              # IN   (n, m, T_x), any strides
    y,              # OUT  (n, m, T_x)
) -> None:
    """Softmax over the first axis."""
    cdef steps x_in, out
    sequence(x, n, m, T_x, False, &x_in)
    sequence(y, n, m, T_x, True, &out)

    cdef Py_ssize_t block = block_of(m, T_x, n, <double> n * m * T_x, 16), t0 = 0, count
    cdef double *z = take(block * m * n)

    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        if 0 < n < FEW and x_in.su == m * T_x and (x_in.sj == T_x or m == 1) and (x_in.st == 1 or T_x == 1):
            softmax_columns(x_in.data, out.data, n, m * T_x)
        else:
            while m and t0 < T_x:
                count = block_after(t0, T_x, block) - t0
                load_steps(z, n, x_in, m, t0, count, whole(n), whole(m))
                softmax_rows(z, count * m, n)
                store_steps(out, z, n, m, t0, count, whole(n), whole(m))
                t0 += count
        fp_leave(before)
    give(z)
