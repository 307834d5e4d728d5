"""Output layer over all steps, and softmax alone.

    y[t] = softmax(Wy a[t] + by),    softmax(z)_u = exp(z_u - max z) / sum_v exp(z_v - max z)

The maximum and the sum are those of one example at one step.  Sums are taken in 8 lanes over
pieces of 256 values, the pieces added with Neumaier's compensation (ZAMM 54, 1974), so that the
probabilities of 10,000 classes still add up to 1 within a few ulp.

The caller owns and allocates every buffer; `work` is scratch of the size that *_work tells.  Any size may
be 0.
"""

from .gemm cimport BIAS, multiply, pack_rows, weights, weights_of, weights_room
from .layout cimport (
    aligned, block_of, blocks_of, first, fits, fits_matrix, load_steps, steps, steps_of, store_steps, take,
)
from .vmath cimport exp

from libc.math cimport fabs


cdef enum:
    FEW = 16        # below, a sum is taken in order: the same in softmax_rows and softmax_columns
    COLUMNS = 64    # examples that softmax_columns works on together


cdef double lanes_sum(const double *z, Py_ssize_t n) noexcept nogil:
    cdef double lane[8]
    cdef Py_ssize_t u, v
    lane[0] = 0.0
    if n < FEW:
        for u in range(n):
            lane[0] += z[u]
        return lane[0]
    for v in range(1, 8):
        lane[v] = 0.0
    for u in range(0, n - 7, 8):
        for v in range(8):
            lane[v] += z[u + v]
    for v in range(n % 8):
        lane[v] += z[n - n % 8 + v]
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]))


cdef double row_sum(const double *z, Py_ssize_t n) noexcept nogil:
    cdef double total = lanes_sum(z, min(n, 256)), lost = 0.0, piece, next
    cdef Py_ssize_t u
    for u in range(256, n, 256):
        piece = lanes_sum(z + u, min(n - u, 256))
        next = total + piece
        lost += (total - next) + piece if fabs(total) >= fabs(piece) else (piece - next) + total
        total = next
    return total + lost


cdef double row_max(const double *z, Py_ssize_t n) noexcept nogil:
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


cdef void softmax_rows(double *z, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
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


cdef void softmax_columns(
    const double *restrict x,           # IN      (n, m)
    double *restrict y,                 # OUT     (n, m)
    Py_ssize_t n, Py_ssize_t m,
) noexcept nogil:
    """Softmax of every column, for n < FEW: a row of examples, not of classes, fills the vectors."""
    cdef double largest[COLUMNS]
    cdef double total[COLUMNS]
    cdef const double *x_u
    cdef double *y_u
    cdef Py_ssize_t b, first_j, u, j, count
    for b in range((m + COLUMNS - 1) // COLUMNS):
        first_j = b * COLUMNS
        count = min(COLUMNS, m - first_j)
        for j in range(count):
            largest[j] = x[first_j + j]
            total[j] = 0.0
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
                total[j] += y_u[j]
        for u in range(n):
            y_u = y + u * m + first_j
            for j in range(count):
                y_u[j] /= total[j]


cdef struct Room:
    # where the pieces of `work` begin
    Py_ssize_t Wy, z, end


cdef Room room(Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x) noexcept nogil:
    cdef Room r
    cdef Py_ssize_t at = 0, block = block_of(m, T_x)
    r.Wy = take(&at, weights_room(1, n_y, n_a, T_x <= block))
    r.z = take(&at, block * m * n_y)
    r.end = at + 8
    return r


def forward_work(Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `forward` needs."""
    return room(n_a, n_y, m, T_x).end


def softmax_work(Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `softmax` needs."""
    return block_of(m, T_x) * m * n + 8


def forward(
    const double[:, :, ::1] a not None,     # IN      (T_x + 1, m, n_a), row 0 the initial state
    const double[:, ::1] Wy not None,       # IN      (n_y, n_a)
    const double[:, ::1] by not None,       # IN      (n_y, 1)
    double[:, :, ::1] y not None,           # OUT     (n_y, m, T_x)
    double[::1] work not None,              # scratch forward_work(n_a, n_y, m, T_x)
) -> None:
    """y = softmax(Wy a + by) for every example at every step."""
    cdef Py_ssize_t T_x = y.shape[2], m = a.shape[1], n_a = a.shape[2], n_y = y.shape[0]
    cdef Room r = room(n_a, n_y, m, T_x)
    if not (
        fits(a, T_x + 1, m, n_a) and fits_matrix(Wy, n_y, n_a) and fits_matrix(by, n_y, 1)
        and y.shape[1] == m and work.shape[0] >= r.end
    ):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, count
    cdef double *base = aligned(work)
    cdef double *z = base + r.z
    cdef const double *a_all = steps_of(a).data + m * n_a
    cdef const double *bias = first(by)
    cdef weights W = weights_of(first(Wy), n_a, n_y, n_a, T_x <= block, base + r.Wy)
    cdef steps out = steps_of(y)

    with nogil:
        pack_rows(&W)
        for b in range(blocks_of(m, T_x)):
            t0 = b * block
            count = min(block, T_x - t0)
            multiply(z, n_y, &W, a_all + t0 * m * n_a, n_a, count * m, BIAS, bias)
            softmax_rows(z, count * m, n_y)
            store_steps(out, z, n_y, m, t0, count)


def softmax(
    const double[:, :, :] x not None,       # IN      (n, m, T_x), any strides
    double[:, :, ::1] y not None,           # OUT     (n, m, T_x)
    double[::1] work not None,              # scratch softmax_work(n, m, T_x)
) -> None:
    """Softmax over the first axis."""
    cdef Py_ssize_t n = x.shape[0], m = x.shape[1], T_x = x.shape[2]
    if not (fits(x, n, m, T_x) and fits(y, n, m, T_x) and work.shape[0] >= softmax_work(n, m, T_x)):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, count
    cdef double *z = aligned(work)
    cdef steps x_in = steps_of(x), out = steps_of(y)

    with nogil:
        if 0 < n < FEW and x_in.su == m * T_x and (x_in.sj == T_x or m == 1) and (x_in.st == 1 or T_x == 1):
            softmax_columns(x_in.data, out.data, n, m * T_x)
        else:
            for b in range(blocks_of(m, T_x)):
                t0 = b * block
                count = min(block, T_x - t0)
                load_steps(z, x_in, n, m, t0, count)
                softmax_rows(z, count * m, n)
                store_steps(out, z, n, m, t0, count)
