"""The linear output layer of a sequence or of one step, forward and backward.

    z = W a + b                                                                      (forward)
    da = W' dz      dW = sum dz a'      db = sum dz                                  (backward)

No step depends on another one, so everything stays in the caller's order: the m T_x examples and steps are the
columns of one wide step, and the products are those of a cell (`step_multiply` and its relatives, gemm.h).  Each z is
summed as in `predict` (output.pxd): softmax(z) is bit for bit what the forward passes return.
"""

from .arguments cimport matrix, sequence
from .flat cimport columns_of_sequence, flat, flat_room
from .gemm cimport step_multiply, step_multiply_transposed, step_outer, weights, weights_of
from .layout cimport steps
from .memory cimport give, take
from .output cimport fill_rows, row_sum


def forward(
    Py_ssize_t n_y, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    a,              # IN   (n_a, m, T_x)
    W,              # IN   (n_y, n_a)
    b,              # IN   (n_y, 1)
    z,              # OUT  (n_y, m, T_x)
) -> None:
    """z = W a + b."""
    cdef const double *W_y = matrix(W, n_y, n_a)
    cdef const double *b_y = matrix(b, n_y, 1)
    cdef Py_ssize_t columns = m * T_x
    cdef steps a_in, out
    columns_of_sequence(a, n_a, m, T_x, &a_in)
    sequence(z, n_y, m, T_x, True, &out)

    cdef double *scratch = take(flat_room(a_in, n_a, columns))
    with nogil:
        fill_rows(out.data, b_y, n_y, columns)
        step_multiply(out.data, n_y, columns, W_y, n_a, n_a, flat(a_in, n_a, columns, scratch))
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
    cdef weights W_y = weights_of(matrix(W, n_y, n_a), n_a, n_y, n_a, True)
    cdef double *dW_y = matrix(dW, n_y, n_a)
    cdef double *db_y = matrix(db, n_y, 1)
    cdef Py_ssize_t columns = m * T_x, u
    cdef steps dz_in, a_in, out
    columns_of_sequence(dz, n_y, m, T_x, &dz_in)
    columns_of_sequence(a, n_a, m, T_x, &a_in)
    sequence(da, n_a, m, T_x, True, &out)

    cdef Py_ssize_t room_dz = flat_room(dz_in, n_y, columns), room_a = flat_room(a_in, n_a, columns)
    cdef double *scratch = take(room_dz + room_a + n_a * columns)
    cdef const double *dz_y
    with nogil:
        dz_y = flat(dz_in, n_y, columns, scratch)
        step_multiply_transposed(out.data, n_a, columns, &W_y, dz_y, scratch + room_dz + room_a)
        step_outer(dW_y, n_a, n_y, n_a, dz_y, flat(a_in, n_a, columns, scratch + room_dz), columns)
        for u in range(n_y):
            db_y[u] = row_sum(dz_y + u * columns, columns)
    give(scratch)
