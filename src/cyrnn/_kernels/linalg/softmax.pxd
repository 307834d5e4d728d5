"""softmax, by rows and by columns, and the compensated sum under it.

    softmax(z)_u = exp(z_u - max z) / sum_v exp(z_v - max z)

The maximum and the sum are those of one example at one step.  The rounding error of each addition is summed too
(sum.h), so that the probabilities of 10,000 classes add up to 1 within 4 ulp whatever the logits: without it, 255 small
ones beside a large one were 14 ulp off.  A sum of fewer than SOFTMAX_FEW terms is taken in order, whether a class or an
example fills the vectors, so that both ways give the same bits.
"""

from libc.string cimport memcpy

from ..runtime.limits cimport SOFTMAX_COLUMNS, SOFTMAX_FEW
from ..runtime.real cimport one, real, zero
from .linalg cimport exp, sum_of_lanes, transpose


cdef inline real row_sum(const real *z, Py_ssize_t n) noexcept nogil:
    """Sum of the exponentials of one example."""
    cdef real total = one, lost = zero, next
    cdef Py_ssize_t u
    if n >= SOFTMAX_FEW:
        return sum_of_lanes(z, n)
    for u in range(n):
        next = total + z[u]
        lost += z[u] - (next - total)
        total = next
    return (total - one) + lost


cdef inline real row_max(const real *z, Py_ssize_t n) noexcept nogil:
    """The largest value; a NaN may be passed over, since exp(NaN - max) makes the sum NaN."""
    cdef real lane[8]
    cdef Py_ssize_t u, v
    lane[0] = z[0]
    if n < SOFTMAX_FEW:
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


cdef inline void softmax_rows(real *z, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Each row of z (rows, n) becomes its softmax."""
    cdef Py_ssize_t j, u
    cdef real largest, total
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
    const real *restrict x,             # IN  (n, m)
    real *restrict y,                   # OUT (n, m)
    Py_ssize_t n, Py_ssize_t m,
) noexcept nogil:
    """Softmax of every column, for n < SOFTMAX_FEW: a row of examples, not of classes, fills the vectors."""
    cdef real largest[SOFTMAX_COLUMNS]
    cdef real total[SOFTMAX_COLUMNS]
    cdef real lost[SOFTMAX_COLUMNS]
    cdef real next
    cdef const real *x_u
    cdef real *y_u
    cdef Py_ssize_t b, first_j, u, j, count
    for b in range((m + SOFTMAX_COLUMNS - 1) // SOFTMAX_COLUMNS):
        first_j = b * SOFTMAX_COLUMNS
        count = min(SOFTMAX_COLUMNS, m - first_j)
        for j in range(count):
            largest[j] = x[first_j + j]
            total[j] = one
            lost[j] = zero
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
            total[j] = (total[j] - one) + lost[j]
        for u in range(n):
            y_u = y + u * m + first_j
            for j in range(count):
                y_u[j] /= total[j]


cdef inline void softmax_step(real *z, real *y, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """y (n, m) = softmax of every column of z (n, m), which is overwritten."""
    if n == 0:
        return
    if n < SOFTMAX_FEW:
        softmax_columns(z, y, n, m)
        return
    transpose(y, n, z, m, n, m)
    softmax_rows(y, m, n)
    transpose(z, m, y, n, m, n)
    memcpy(y, z, n * m * sizeof(real))
