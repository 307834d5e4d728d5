"""The linear output layer of a sequence or of one step, forward and backward: the entry points.

    z = W a + b                                                                      (forward)
    da = W' dz      dW = sum dz a'      db = sum dz                                  (backward)

No step depends on another one, so everything stays in the caller's order: the m T_x examples and steps are the columns
of one wide step, and the products are those of a cell (linalg/unpacked.h), whose rows threads split.  Each z is summed
in the order of schedule/output.pxd.

n_y outputs, n_a hidden units, columns: m T_x.  One step is a sequence with T_x = 1.
"""

from .linalg.linalg cimport (
    ZERO, as_matrix, matmul_t_unpacked, matmul_unpacked, outer_unpacked, outer_unpacked_workspace, panel_size,
    thread_rows, weights, weights_init,
)
from .linalg.softmax cimport row_sum
from .runtime.buffers cimport buffer_free, new_array, values_alloc, workspace_alloc
from .runtime.limits cimport LINE, MR, NR
from .runtime.parallel cimport index_range, next_part, parallel_run, region, thread
from .runtime.real cimport real
from .runtime.threads cimport acquire_threads, raise_if_cancelled, region_init, release_threads, threads_for
from .runtime.views cimport as_columns_view, column_copy, matrix, new_cube, new_matrix, strided
from .schedule.output cimport fill_rows


cdef struct dense:
    Py_ssize_t n_y, n_a, columns
    weights W                           # (n_y, n_a)
    const real *b                       # (n_y)
    strided a                           # IN  (n_a, columns)
    real *z                             # OUT (n_y, columns)
    # backward
    strided dz                          # IN  (n_y, columns)
    real *da                            # OUT (n_a, columns)
    real *dW                            # OUT (n_y, n_a)
    real *db                            # OUT (n_y)
    real *transposed                    # workspace (n_a, columns)
    real *outer                         # workspace of each thread
    Py_ssize_t outer_size


cdef void dense_forward(void *problem, thread thr) noexcept nogil:
    """One thread's rows of z."""
    cdef dense *task = <dense *> problem
    cdef index_range own = thread_rows(task.n_y, task.columns, thr)
    cdef index_range part = own
    part.end = own.begin
    while next_part(&part, own, MR, 2.0 * task.n_a * task.columns, thr):
        fill_rows(task.z, task.b, task.columns, part)
        matmul_unpacked(task.z, task.columns, task.W.gate[0], task.n_a, task.n_a, task.a.data, part, thr)


cdef void dense_backward(void *problem, thread thr) noexcept nogil:
    """One thread's rows of the gradients."""
    cdef dense *task = <dense *> problem
    cdef index_range own = thread_rows(task.n_y, task.columns, thr)
    cdef Py_ssize_t u
    matmul_t_unpacked(task.da, task.n_a, task.columns, &task.W, task.dz.data, ZERO, task.transposed, thr)
    outer_unpacked(
        task.dW, task.n_a, task.n_a, task.dz.data, task.a.data, task.columns, own,
        task.outer + thr.id * task.outer_size, thr,
    )
    for u in range(own.begin, own.end):
        task.db[u] = row_sum(task.dz.data + u * task.columns, task.columns)


cdef int dense_init(
    dense *task,
    const real[:, :, :] a,              # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const real[:, ::1] W,               # IN  (n_y, n_a)
) except -1:
    task.n_y, task.n_a, task.columns = W.shape[0], W.shape[1], a.shape[1] * a.shape[2]
    task.W = weights_init(1, task.n_a, task.n_y, task.n_a, False, True)
    task.W.gate[0] = matrix(W, task.n_y, task.n_a)
    return as_columns_view(a, task.n_a, a.shape[1], a.shape[2], &task.a)


def forward(
    const real[:, :, :] a not None,     # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const real[:, ::1] W not None,      # IN  (n_y, n_a)
    const real[:, ::1] b not None,      # IN  (n_y, 1)
) -> object:
    """z = W a + b, (n_y, m, T_x)."""
    cdef dense task
    dense_init(&task, a, W)
    task.b = matrix(b, task.n_y, 1)
    z_out = new_array((task.n_y, a.shape[1], a.shape[2]))
    cdef real[:, :, ::1] z = z_out
    task.z = new_cube(z)

    cdef double flops = 2.0 * task.columns * task.n_y * task.n_a
    cdef int threads = threads_for(flops, (task.n_y + NR - 1) // NR)
    cdef Py_ssize_t panel = panel_size(task.n_a) if task.columns > 1 else 0
    cdef real *workspace = values_alloc(threads * panel + column_copy(task.a, task.n_a, task.columns) + LINE)
    cdef real *rest = workspace
    cdef region state = region_init(flops)
    state.panels = <char *> workspace_alloc(&rest, threads * panel)
    state.panel_size = panel * <Py_ssize_t> sizeof(real)
    threads = acquire_threads(threads)
    with nogil:
        task.a.data = <real *> as_matrix(task.a, task.n_a, task.columns, rest)
        parallel_run(dense_forward, &task, threads, &state)
    release_threads(threads, &state)
    buffer_free(workspace)
    raise_if_cancelled(&state)
    return z_out


def backward(
    const real[:, :, :] dz not None,    # IN  (n_y, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] a not None,     # IN  (n_a, m, T_x), C-contiguous, or one step of any strides
    const real[:, ::1] W not None,      # IN  (n_y, n_a)
) -> tuple:
    """The gradients, given that of z: da (n_a, m, T_x), dW (n_y, n_a), db (n_y, 1)."""
    cdef dense task
    dense_init(&task, a, W)
    as_columns_view(dz, task.n_y, a.shape[1], a.shape[2], &task.dz)
    da_out = new_array((task.n_a, a.shape[1], a.shape[2]))
    dW_out, db_out = new_array((task.n_y, task.n_a)), new_array((task.n_y, 1))
    cdef real[:, :, ::1] da = da_out
    cdef real[:, ::1] dW = dW_out, db = db_out
    task.da, task.dW, task.db = new_cube(da), new_matrix(dW), new_matrix(db)

    cdef Py_ssize_t dz_copy = column_copy(task.dz, task.n_y, task.columns)
    cdef Py_ssize_t a_copy = column_copy(task.a, task.n_a, task.columns)
    cdef double flops = 4.0 * task.columns * task.n_y * task.n_a
    cdef int threads = threads_for(flops, (task.n_y + NR - 1) // NR)
    cdef Py_ssize_t panel = panel_size(max(task.n_y, task.columns)) if task.columns > 1 else 0
    task.outer_size = outer_unpacked_workspace(task.n_y, task.n_a, task.columns)
    cdef real *workspace = values_alloc(
        threads * (panel + task.outer_size) + dz_copy + a_copy + task.n_a * task.columns + 5 * LINE
    )
    cdef real *rest = workspace
    cdef region state = region_init(flops)
    state.panels = <char *> workspace_alloc(&rest, threads * panel)
    state.panel_size = panel * <Py_ssize_t> sizeof(real)
    threads = acquire_threads(threads)
    with nogil:
        task.dz.data = <real *> as_matrix(task.dz, task.n_y, task.columns, workspace_alloc(&rest, dz_copy))
        task.a.data = <real *> as_matrix(task.a, task.n_a, task.columns, workspace_alloc(&rest, a_copy))
        task.transposed = workspace_alloc(&rest, task.n_a * task.columns)
        task.outer = workspace_alloc(&rest, threads * task.outer_size)
        parallel_run(dense_backward, &task, threads, &state)
    release_threads(threads, &state)
    buffer_free(workspace)
    raise_if_cancelled(&state)
    return da_out, dW_out, db_out
