"""The output layer that every cell shares, and its softmax.

    y[t] = softmax(Wy a[t] + by),    softmax(z)_u = exp(z_u - max z) / sum_v exp(z_v - max z)

The maximum and the sum are those of one example at one step.  What each addition of a sum loses is
summed beside it (sum.h), so that the probabilities of 10,000 classes add up to 1 within 4 ulp whatever the
logits: without, 255 small ones beside a large one were 14 ulp off.  A sum of fewer than FEW is taken in order,
whether a class or an example fills the vectors, so that both ways give the same bits.
"""

from libc.string cimport memcpy

from .arguments cimport matrix, sequence
from .batch cimport batch, run, runs, store_batch
from .gemm cimport BIAS, carve_weights, multiply_shared, weights, weights_of
from .layout cimport carve, steps, transpose
from .step cimport rows_of, step_multiply
from .team cimport barrier, share, span, team
from .vmath cimport exp


cdef extern from "sum.h" nogil:
    double sum_of_lanes(const double *z, Py_ssize_t n)


cdef enum:
    FEW = 16
    COLUMNS = 64    # examples that softmax_columns works on together


cdef inline double row_sum(const double *z, Py_ssize_t n) noexcept nogil:
    """Sum of the exponentials of one example."""
    cdef double total = 1.0, lost = 0.0, next
    cdef Py_ssize_t u
    if n >= FEW:
        return sum_of_lanes(z, n)
    for u in range(n):
        next = total + z[u]
        lost += z[u] - (next - total)
        total = next
    return (total - 1.0) + lost


cdef inline double row_max(const double *z, Py_ssize_t n) noexcept nogil:
    """The largest value; a NaN may be passed over, since exp(NaN - max) makes the sum NaN."""
    cdef double lane[8]
    cdef Py_ssize_t u, v
    lane[0] = z[0]
    if n < FEW:
        for u in range(1, n):
            lane[0] = z[u] if z[u] > lane[0] else lane[0]
        return lane[0]
    for v in range(1, 8):
        lane[v] = z[v]
    for u in range(0, n - 7, 8):
        for v in range(8):
            lane[v] = z[u + v] if z[u + v] > lane[v] else lane[v]
    for u in range(n - n % 8, n):
        lane[0] = z[u] if z[u] > lane[0] else lane[0]
    for v in range(1, 8):
        lane[0] = lane[v] if lane[v] > lane[0] else lane[0]
    return lane[0]


cdef inline void softmax_rows(double *z, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Each row of z (rows, n) becomes its softmax."""
    cdef Py_ssize_t j, u
    cdef double largest, total
    for j in range(rows if n else 0):
        largest = row_max(z + j * n, n)
        for u in range(j * n, j * n + n):
            z[u] -= largest
    for u in range(rows * n):
        z[u] = exp(z[u])
    for j in range(rows if n else 0):
        total = row_sum(z + j * n, n)
        for u in range(j * n, j * n + n):
            z[u] /= total


cdef inline void softmax_columns(
    const double *restrict x,           # IN  (n, m)
    double *restrict y,                 # OUT (n, m)
    Py_ssize_t n, Py_ssize_t m,
) noexcept nogil:
    """Softmax of every column, for n < FEW: a row of examples, not of classes, fills the vectors."""
    cdef double largest[COLUMNS]
    cdef double total[COLUMNS]
    cdef double lost[COLUMNS]
    cdef double next
    cdef const double *x_u
    cdef double *y_u
    cdef Py_ssize_t b, first_j, u, j, count
    for b in range((m + COLUMNS - 1) // COLUMNS):
        first_j = b * COLUMNS
        count = min(COLUMNS, m - first_j)
        for j in range(count):
            largest[j] = x[first_j + j]
            total[j] = 1.0
            lost[j] = 0.0
        for u in range(1, n):
            x_u = x + u * m + first_j
            for j in range(count):
                largest[j] = x_u[j] if x_u[j] > largest[j] else largest[j]
        for u in range(n):
            x_u = x + u * m + first_j
            y_u = y + u * m + first_j
            for j in range(count):
                y_u[j] = exp(x_u[j] - largest[j])
            for j in range(count):
                next = total[j] + y_u[j]
                lost[j] += y_u[j] - (next - total[j])
                total[j] = next
        for j in range(count):
            total[j] = (total[j] - 1.0) + lost[j]
        for u in range(n):
            y_u = y + u * m + first_j
            for j in range(count):
                y_u[j] /= total[j]


cdef struct output:
    # y = softmax(Wy a + by) of a sequence, a block of steps at a time
    weights Wy
    const double *by                    # (n_y)
    double *z                           # scratch (columns of a block, n_y), the caller's
    steps y                             # (n_y, m, T_x)
    Py_ssize_t n_y


cdef inline int output_of(
    output *o,
    Wy,                                 # IN   (n_y, n_a)
    by,                                 # IN   (n_y, 1)
    y,                                  # OUT  (n_y, m, T_x)
    Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x,
) except -1:
    o.Wy = weights_of(matrix(Wy, n_y, n_a), n_a, n_y, n_a, False)
    o.by = matrix(by, n_y, 1)
    o.n_y = n_y
    return sequence(y, n_y, m, T_x, True, &o.y)


cdef inline void predict(
    output *o, const double *a, Py_ssize_t n_a, const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine, team me,
) noexcept nogil:
    """Steps t0 ... t1 - 1 of y from their hidden states a (columns, n_a), for the examples `mine`:
    of all of them by the whole team, of some by one thread."""
    cdef Py_ssize_t i, n_y = o.n_y
    cdef span columns, rows
    cdef double *z
    for i in range(runs(b, t0, t1, mine)):
        columns = run(b, t0, t1, mine, i)
        rows = share(columns.hi - columns.lo, 1, me)
        z = o.z + columns.lo * n_y
        multiply_shared(z, 0, n_y, &o.Wy, a + columns.lo * n_a, n_a, columns.hi - columns.lo, BIAS, o.by, me)
        barrier(me)
        softmax_rows(z + rows.lo * n_y, rows.hi - rows.lo, n_y)
    barrier(me)
    store_batch(o.y, o.z, n_y, b, t0, t1, share(n_y, 8, me), mine)


cdef inline void fill_rows(double *z, const double *bias, Py_ssize_t m, span mine) noexcept nogil:
    """Every example of z (n, m) becomes the bias, for the units of `mine`."""
    cdef Py_ssize_t u, j
    for u in range(mine.lo, mine.hi):
        for j in range(m):
            z[u * m + j] = bias[u]


cdef inline void softmax_step(double *z, double *y, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """y (n, m) = softmax of every column of z (n, m), which is used up."""
    if n == 0:
        return
    if n < FEW:
        softmax_columns(z, y, n, m)
        return
    transpose(y, n, z, m, n, m)
    softmax_rows(y, m, n)
    transpose(z, m, y, n, m, n)
    memcpy(y, z, n * m * sizeof(double))


cdef inline void predict_step(
    const double *Wy,                   # IN  (n_y, n_a)
    const double *by,                   # IN  (n_y)
    const double *a,                    # IN  (n_a, m)
    double *z,                          # scratch (n_y, m)
    double *y,                          # OUT (n_y, m)
    Py_ssize_t n_y, Py_ssize_t n_a, Py_ssize_t m, team me,
) noexcept nogil:
    """y of one step from its hidden state, when every thread has written its part of it."""
    cdef span mine = rows_of(n_y, m, me)
    fill_rows(z, by, m, mine)
    step_multiply(z, m, Wy, n_a, n_a, a, mine)
    barrier(me)
    if me.thread == 0:
        softmax_step(z, y, n_y, m)
