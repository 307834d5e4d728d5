"""The output layer: y = f(Wy a + by), of a block of a sequence and of one step; f is softmax, sigmoid or nothing.

A layer without an output is one of n_y = 0.
"""

from libc.string cimport memcpy

from ..linalg.linalg cimport BIAS, matmul_shared, matmul_unpacked, sigmoid, thread_rows, weights, weights_init
from ..linalg.softmax cimport softmax_rows, softmax_step
from ..runtime.buffers cimport new_array
from ..runtime.limits cimport LINE, MR
from ..runtime.parallel cimport barrier, cancelled, index_range, next_part, thread, thread_range
from ..runtime.real cimport real
from ..runtime.views cimport matrix, new_sequence, new_state, refuse, strided
from .batch cimport batch, n_segments, segment, unpack_batch


cdef enum activation:                   # as recurrent/spec.py counts them
    SOFTMAX
    SIGMOID
    LINEAR
    NO_OUTPUT


cdef struct output:
    Py_ssize_t n_y
    activation f
    weights Wy
    const real *by                      # (n_y)
    real *z                             # workspace (columns of a block, n_y), or (n_y, m) of one step
    strided y                           # (n_y, m, T_x)


cdef inline int output_init(
    output *o,
    const real[:, ::1] Wy,              # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,
    Py_ssize_t n_a,
) except -1:
    o.n_y, o.f = 0 if Wy is None else Wy.shape[0], f
    o.Wy = weights_init(1, n_a, o.n_y, n_a, False, False)
    if f == NO_OUTPUT and Wy is None and by is None:
        return 0
    if Wy is None or by is None or not SOFTMAX <= f <= LINEAR:
        refuse()
    o.Wy.gate[0] = matrix(Wy, o.n_y, n_a)
    o.by = matrix(by, o.n_y, 1)
    return 0


cdef inline object new_output(output *o, Py_ssize_t m, Py_ssize_t T_x):
    """A new array (n_y, m, T_x) for y; None where there is no output."""
    cdef real[:, :, ::1] view
    if o.f == NO_OUTPUT:
        return None
    y = new_array((o.n_y, m, T_x))
    view = y
    o.y = new_sequence(view)
    return y


cdef inline object new_step_output(output *o, Py_ssize_t m):
    """A new array (n_y, m) for y of one step; None where there is no output."""
    cdef real[:, ::1] view
    if o.f == NO_OUTPUT:
        return None
    y = new_array((o.n_y, m))
    view = y
    o.y = new_state(view)
    return y


cdef inline void activate_rows(activation f, real *z, Py_ssize_t rows, Py_ssize_t n_y) noexcept nogil:
    """z (rows, n_y) becomes f(z)."""
    cdef Py_ssize_t i
    if f == SOFTMAX:
        softmax_rows(z, rows, n_y)
    elif f == SIGMOID:
        for i in range(rows * n_y):
            z[i] = sigmoid(z[i])


cdef inline void output_block(
    output *o,
    const real *a,                      # IN  (columns of the block, n_a)
    Py_ssize_t n_a, const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own, thread thr,
) noexcept nogil:
    """y at steps t0 ... t1 - 1 of the examples `own`: all of them by all threads together, some by one thread."""
    cdef Py_ssize_t i, n_y = o.n_y
    cdef index_range columns, rows
    cdef real *z
    if n_y == 0:
        return
    for i in range(n_segments(b, t0, t1, own)):
        columns = segment(b, t0, t1, own, i)
        rows = thread_range(columns.end - columns.begin, 1, thr)
        z = o.z + columns.begin * n_y
        matmul_shared(
            z, 0, n_y, &o.Wy, a + columns.begin * n_a, n_a, columns.end - columns.begin, BIAS, o.by, thr,
        )
        barrier(thr)
        activate_rows(o.f, z + rows.begin * n_y, rows.end - rows.begin, n_y)
    barrier(thr)
    unpack_batch(o.y, o.z, n_y, b, t0, t1, thread_range(n_y, LINE, thr), own)


cdef inline void fill_rows(real *z, const real *bias, Py_ssize_t m, index_range own) noexcept nogil:
    """Every example of z (n, m) becomes the bias, for the units of `own`."""
    cdef Py_ssize_t u, j
    if m == 1:
        memcpy(z + own.begin, bias + own.begin, (own.end - own.begin) * sizeof(real))
        return
    for u in range(own.begin, own.end):
        for j in range(m):
            z[u * m + j] = bias[u]


cdef inline void output_step(
    output *o,
    const real *a,                      # IN  (n_a, m), complete: a barrier is behind it
    Py_ssize_t n_a, Py_ssize_t m, thread thr,
) noexcept nogil:
    """y of one step in the caller's order."""
    cdef index_range own = thread_rows(o.n_y, m, thr)
    cdef index_range part = own
    cdef real *z = o.z if o.f == SOFTMAX else o.y.data
    part.end = own.begin
    while next_part(&part, own, MR, 2.0 * n_a * m, thr):
        fill_rows(z, o.by, m, part)
        matmul_unpacked(z, m, o.Wy.gate[0], n_a, n_a, a, part, thr)
    if o.f != SOFTMAX:
        activate_rows(o.f, z + own.begin * m, own.end - own.begin, m)
        return
    barrier(thr)
    if thr.id == 0 and not cancelled(thr):
        softmax_step(z, o.y.data, o.n_y, m)
