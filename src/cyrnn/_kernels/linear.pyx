"""The linear output layer of a sequence or of one step, forward and backward.

    z = W a + b                                                                      (forward)
    da = W' dz      dW = sum dz a'      db = sum dz                                  (backward)

No step depends on another one, so everything stays in the caller's order: the m T_x examples and steps are the
columns of one wide step, and the products are those of a cell (step.h), whose rows threads share.  Each z is
summed as in `predict` (output.pxd): softmax(z) is bit for bit what the forward passes return.
"""

from .arguments cimport matrix, sequence
from .flat cimport columns_of_sequence, flat, flat_room
from .gemm cimport weights, weights_of
from .layout cimport steps
from .memory cimport give, take
from .output cimport fill_rows, row_sum
from .step cimport rows_of, step_multiply, step_multiply_transposed, step_outer
from .team cimport run_team, span, team, watch
from .threads cimport dismiss, hire, watched, worth


cdef struct Output:
    Py_ssize_t n_y, n_a, columns
    weights W                   # (n_y, n_a)
    const double *b             # (n_y)
    const double *a             # (n_a, columns)
    double *z                   # (n_y, columns); of the backward pass:
    const double *dz            # (n_y, columns)
    double *da                  # (n_a, columns)
    double *dW                  # (n_y, n_a)
    double *db                  # (n_y)
    double *room                # scratch (n_a, columns)


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of z."""
    cdef Output *r = <Output *> problem
    cdef span mine = rows_of(r.n_y, r.columns, me)
    fill_rows(r.z, r.b, r.columns, mine)
    step_multiply(r.z, r.columns, r.W.part[0], r.n_a, r.n_a, r.a, mine)


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the gradients."""
    cdef Output *r = <Output *> problem
    cdef span mine = rows_of(r.n_y, r.columns, me)
    cdef Py_ssize_t u
    step_multiply_transposed(r.da, r.n_a, r.columns, &r.W, r.dz, r.room, me)
    step_outer(r.dW, r.n_a, r.n_a, r.dz, r.a, r.columns, mine)
    for u in range(mine.lo, mine.hi):
        r.db[u] = row_sum(r.dz + u * r.columns, r.columns)


def forward(
    Py_ssize_t n_y, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    a,              # IN   (n_a, m, T_x)
    W,              # IN   (n_y, n_a)
    b,              # IN   (n_y, 1)
    z,              # OUT  (n_y, m, T_x)
) -> None:
    """z = W a + b."""
    cdef Output r
    cdef steps a_in, out
    r.n_y, r.n_a, r.columns = n_y, n_a, m * T_x
    r.W, r.b = weights_of(matrix(W, n_y, n_a), n_a, n_y, n_a, True), matrix(b, n_y, 1)
    columns_of_sequence(a, n_a, m, T_x, &a_in)
    sequence(z, n_y, m, T_x, True, &out)
    r.z = out.data

    cdef int threads = worth(2.0 * r.columns * n_y * n_a, (n_y + 5) // 6)
    cdef double *scratch = take(flat_room(a_in, n_a, r.columns))
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        r.a = flat(a_in, n_a, r.columns, scratch)
        run_team(run_forward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)


def backward(
    Py_ssize_t n_y, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    dz,             # IN   (n_y, m, T_x)
    a,              # IN   (n_a, m, T_x)
    W,              # IN   (n_y, n_a)
    da,             # OUT  (n_a, m, T_x)
    dW,             # OUT  (n_y, n_a)
    db,             # OUT  (n_y, 1)
) -> None:
    """The gradients, given that of z."""
    cdef Output r
    cdef steps dz_in, a_in, out
    r.n_y, r.n_a, r.columns = n_y, n_a, m * T_x
    r.W = weights_of(matrix(W, n_y, n_a), n_a, n_y, n_a, True)
    r.dW, r.db = matrix(dW, n_y, n_a), matrix(db, n_y, 1)
    columns_of_sequence(dz, n_y, m, T_x, &dz_in)
    columns_of_sequence(a, n_a, m, T_x, &a_in)
    sequence(da, n_a, m, T_x, True, &out)
    r.da = out.data

    cdef Py_ssize_t room_dz = flat_room(dz_in, n_y, r.columns), room_a = flat_room(a_in, n_a, r.columns)
    cdef int threads = worth(4.0 * r.columns * n_y * n_a, (n_y + 5) // 6)
    cdef double *scratch = take(room_dz + room_a + n_a * r.columns)
    r.room = scratch + room_dz + room_a
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        r.dz = flat(dz_in, n_y, r.columns, scratch)
        r.a = flat(a_in, n_a, r.columns, scratch + room_dz)
        run_team(run_backward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)
