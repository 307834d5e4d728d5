"""The linear output layer of a sequence or of one step, forward and backward: the entry points.

    z = W a + b                                                                      (forward)
    da = W' dz      dW = sum dz a'      db = sum dz                                  (backward)

No step depends on another one, so everything stays in the caller's order: the m T_x examples and steps are the columns
of one wide step, and the products are those of a cell (linalg/unpacked.h), whose rows threads split.  Each z is summed
in the order of schedule/output.pxd.

n_y outputs, n_a hidden units, columns: m T_x.  One step is a sequence with T_x = 1.
"""

from .linalg.linalg cimport (
    as_matrix, matmul_t_unpacked, matmul_unpacked, outer_unpacked, thread_rows, weights, weights_init,
)
from .linalg.softmax cimport row_sum
from .runtime.buffers cimport buffer_alloc, buffer_free, new_array, workspace_alloc
from .runtime.limits cimport NR
from .runtime.parallel cimport index_range, parallel_run, region, thread
from .runtime.threads cimport acquire_threads, region_init, release_threads, threads_for
from .runtime.views cimport as_columns_view, column_copy, matrix, new_cube, new_matrix, strided
from .schedule.output cimport fill_rows


cdef struct dense:
    Py_ssize_t n_y, n_a, columns
    weights W                           # (n_y, n_a)
    const double *b                     # (n_y)
    strided a                           # IN  (n_a, columns)
    double *z                           # OUT (n_y, columns)
    # backward
    strided dz                          # IN  (n_y, columns)
    double *da                          # OUT (n_a, columns)
    double *dW                          # OUT (n_y, n_a)
    double *db                          # OUT (n_y)
    double *transposed                  # workspace (n_a, columns)


cdef void dense_forward(void *problem, thread thr) noexcept nogil:
    """One thread's rows of z."""
    cdef dense *l = <dense *> problem
    cdef index_range own = thread_rows(l.n_y, l.columns, thr)
    fill_rows(l.z, l.b, l.columns, own)
    matmul_unpacked(l.z, l.columns, l.W.gate[0], l.n_a, l.n_a, l.a.data, own)


cdef void dense_backward(void *problem, thread thr) noexcept nogil:
    """One thread's rows of the gradients."""
    cdef dense *l = <dense *> problem
    cdef index_range own = thread_rows(l.n_y, l.columns, thr)
    cdef Py_ssize_t u
    matmul_t_unpacked(l.da, l.n_a, l.columns, &l.W, l.dz.data, l.transposed, thr)
    outer_unpacked(l.dW, l.n_a, l.n_a, l.dz.data, l.a.data, l.columns, own)
    for u in range(own.begin, own.end):
        l.db[u] = row_sum(l.dz.data + u * l.columns, l.columns)


cdef int dense_init(
    dense *l,
    const double[:, :, :] a,            # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const double[:, ::1] W,             # IN  (n_y, n_a)
) except -1:
    l.n_y, l.n_a, l.columns = W.shape[0], W.shape[1], a.shape[1] * a.shape[2]
    l.W = weights_init(1, l.n_a, l.n_y, l.n_a, False, True)
    l.W.gate[0] = matrix(W, l.n_y, l.n_a)
    return as_columns_view(a, l.n_a, a.shape[1], a.shape[2], &l.a)


def forward(
    const double[:, :, :] a not None,   # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const double[:, ::1] W not None,    # IN  (n_y, n_a)
    const double[:, ::1] b not None,    # IN  (n_y, 1)
) -> object:
    """z = W a + b, (n_y, m, T_x)."""
    cdef dense l
    dense_init(&l, a, W)
    l.b = matrix(b, l.n_y, 1)
    z_out = new_array((l.n_y, a.shape[1], a.shape[2]))
    cdef double[:, :, ::1] z = z_out
    l.z = new_cube(z)

    cdef int threads = threads_for(2.0 * l.columns * l.n_y * l.n_a, (l.n_y + NR - 1) // NR)
    cdef double *workspace = buffer_alloc(column_copy(l.a, l.n_a, l.columns))
    cdef region state = region_init(0.0)
    acquire_threads(threads)
    with nogil:
        l.a.data = <double *> as_matrix(l.a, l.n_a, l.columns, workspace)
        parallel_run(dense_forward, &l, threads, &state)
    release_threads(threads)
    buffer_free(workspace)
    return z_out


def backward(
    const double[:, :, :] dz not None,  # IN  (n_y, m, T_x), C-contiguous, or one step of any strides
    const double[:, :, :] a not None,   # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const double[:, ::1] W not None,    # IN  (n_y, n_a)
) -> tuple:
    """The gradients, given that of z: da (n_a, m, T_x), dW (n_y, n_a), db (n_y, 1)."""
    cdef dense l
    dense_init(&l, a, W)
    as_columns_view(dz, l.n_y, a.shape[1], a.shape[2], &l.dz)
    da_out = new_array((l.n_a, a.shape[1], a.shape[2]))
    dW_out, db_out = new_array((l.n_y, l.n_a)), new_array((l.n_y, 1))
    cdef double[:, :, ::1] da = da_out
    cdef double[:, ::1] dW = dW_out, db = db_out
    l.da, l.dW, l.db = new_cube(da), new_matrix(dW), new_matrix(db)

    cdef Py_ssize_t dz_copy = column_copy(l.dz, l.n_y, l.columns), a_copy = column_copy(l.a, l.n_a, l.columns)
    cdef int threads = threads_for(4.0 * l.columns * l.n_y * l.n_a, (l.n_y + NR - 1) // NR)
    cdef double *workspace = buffer_alloc(dz_copy + a_copy + l.n_a * l.columns + 24)
    cdef double *rest = workspace
    cdef region state = region_init(0.0)
    acquire_threads(threads)
    with nogil:
        l.dz.data = <double *> as_matrix(l.dz, l.n_y, l.columns, workspace_alloc(&rest, dz_copy))
        l.a.data = <double *> as_matrix(l.a, l.n_a, l.columns, workspace_alloc(&rest, a_copy))
        l.transposed = workspace_alloc(&rest, l.n_a * l.columns)
        parallel_run(dense_backward, &l, threads, &state)
    release_threads(threads)
    buffer_free(workspace)
    return da_out, dW_out, db_out
