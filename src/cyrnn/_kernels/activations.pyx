"""exp, tanh and sigmoid over an array, in place, and softmax: the entry points.  See linalg/vmath.h and softmax.pxd."""

from .linalg cimport linalg
from .linalg.linalg cimport columns_to_steps, steps_to_columns
from .linalg.softmax cimport softmax_columns, softmax_rows
from .runtime.buffers cimport buffer_free, values_alloc
from .runtime.limits cimport ELEMENTWISE_FLOPS, FORWARD_COLUMNS, SOFTMAX_FEW
from .runtime.parallel cimport (
    FP_PLAIN, cancelled, fp_enter, fp_leave, fp_state, full_range, poll_signals, region, serial, thread,
)
from .runtime.real cimport real
from .runtime.threads cimport raise_if_cancelled, region_init
from .runtime.views cimport sequence, strided
from .schedule.blocks cimport block_after, steps_of_block


def exp(real[::1] x not None) -> None:           # IN/OUT
    """x = exp(x)."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = linalg.exp(x[u])
        fp_leave(before)


def tanh(real[::1] x not None) -> None:          # IN/OUT
    """x = tanh(x)."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = linalg.tanh(x[u])
        fp_leave(before)


def sigmoid(real[::1] x not None) -> None:       # IN/OUT
    """x = 1 / (1 + exp(-x))."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = linalg.sigmoid(x[u])
        fp_leave(before)


def softmax(
    const real[:, :, :] x not None,         # IN   (n, m, T_x), any strides
    real[:, :, ::1] y not None,             # OUT  (n, m, T_x)
) -> None:
    """Softmax over the first axis."""
    cdef Py_ssize_t n = x.shape[0], m = x.shape[1], T_x = x.shape[2], t0 = 0, count
    cdef strided x_in, out
    sequence(x, n, m, T_x, &x_in)
    sequence(y, n, m, T_x, &out)

    cdef Py_ssize_t block = steps_of_block(m, T_x, n, <double> n * m * T_x, FORWARD_COLUMNS)
    cdef real *z = values_alloc(block * m * n)
    cdef region state = region_init(ELEMENTWISE_FLOPS * n * m * T_x)
    cdef thread thr = serial
    thr.region = &state

    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        if 0 < n < SOFTMAX_FEW and x_in.s_unit == m * T_x and (x_in.s_example == T_x or m == 1) and (
            x_in.s_step == 1 or T_x == 1
        ):
            softmax_columns(x_in.data, out.data, n, m * T_x)
        else:
            while m and t0 < T_x:
                count = block_after(t0, T_x, block) - t0
                poll_signals(thr, ELEMENTWISE_FLOPS * n * m * count)
                if cancelled(thr):
                    break
                steps_to_columns(z, n, x_in, m, t0, count, full_range(n), full_range(m))
                softmax_rows(z, count * m, n)
                columns_to_steps(out, z, n, m, t0, count, full_range(n), full_range(m))
                t0 += count
        fp_leave(before)
    buffer_free(z)
    raise_if_cancelled(&state)
