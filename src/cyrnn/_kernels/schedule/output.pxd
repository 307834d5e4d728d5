"""The output layer: y = softmax(Wy a + by), of a block of a sequence and of one step."""

from libc.string cimport memcpy

from ..linalg.linalg cimport BIAS, matmul_shared, matmul_unpacked, thread_rows, weights, weights_init
from ..linalg.softmax cimport softmax_rows, softmax_step
from ..runtime.limits cimport LINE, MR
from ..runtime.parallel cimport barrier, cancelled, index_range, next_part, thread, thread_range
from ..runtime.views cimport matrix, strided
from .batch cimport batch, n_segments, segment, unpack_batch


cdef struct output:
    Py_ssize_t n_y
    weights Wy
    const double *by                    # (n_y)
    double *z                           # workspace (columns of a block, n_y), or (n_y, m) of one step
    strided y                           # (n_y, m, T_x)


cdef inline int output_init(
    output *o,
    const double[:, ::1] Wy,            # IN  (n_y, n_a)
    const double[:, ::1] by,            # IN  (n_y, 1)
    Py_ssize_t n_a,
) except -1:
    o.n_y = Wy.shape[0]
    o.Wy = weights_init(1, n_a, o.n_y, n_a, False, False)
    o.Wy.gate[0] = matrix(Wy, o.n_y, n_a)
    o.by = matrix(by, o.n_y, 1)
    return 0


cdef inline void output_block(
    output *o,
    const double *a,                    # IN  (columns of the block, n_a)
    Py_ssize_t n_a, const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own, thread thr,
) noexcept nogil:
    """y at steps t0 ... t1 - 1 of the examples `own`: all of them by all threads together, some by one thread."""
    cdef Py_ssize_t i, n_y = o.n_y
    cdef index_range columns, rows
    cdef double *z
    for i in range(n_segments(b, t0, t1, own)):
        columns = segment(b, t0, t1, own, i)
        rows = thread_range(columns.end - columns.begin, 1, thr)
        z = o.z + columns.begin * n_y
        matmul_shared(
            z, 0, n_y, &o.Wy, a + columns.begin * n_a, n_a, columns.end - columns.begin, BIAS, o.by, thr,
        )
        barrier(thr)
        softmax_rows(z + rows.begin * n_y, rows.end - rows.begin, n_y)
    barrier(thr)
    unpack_batch(o.y, o.z, n_y, b, t0, t1, thread_range(n_y, LINE, thr), own)


cdef inline void fill_rows(double *z, const double *bias, Py_ssize_t m, index_range own) noexcept nogil:
    """Every example of z (n, m) becomes the bias, for the units of `own`."""
    cdef Py_ssize_t u, j
    if m == 1:
        memcpy(z + own.begin, bias + own.begin, (own.end - own.begin) * sizeof(double))
        return
    for u in range(own.begin, own.end):
        for j in range(m):
            z[u * m + j] = bias[u]


cdef inline void output_step(
    output *o,
    const double *a,                    # IN  (n_a, m), complete: a barrier is behind it
    Py_ssize_t n_a, Py_ssize_t m, thread thr,
) noexcept nogil:
    """y of one step in the caller's order."""
    cdef index_range own = thread_rows(o.n_y, m, thr)
    cdef index_range part = own
    part.end = own.begin
    while next_part(&part, own, MR, 2.0 * n_a * m, thr):
        fill_rows(o.z, o.by, m, part)
        matmul_unpacked(o.z, m, o.Wy.gate[0], n_a, n_a, a, part, thr)
    barrier(thr)
    if thr.id == 0 and not cancelled(thr):
        softmax_step(o.z, o.y.data, o.n_y, m)
