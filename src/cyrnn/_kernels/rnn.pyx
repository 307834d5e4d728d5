"""Basic RNN: forward and backward through all steps.

    a[t+1] = tanh(Wax x[t] + Waa a[t] + ba)                                          (forward)

    dz[t]  = (1 - a[t+1]^2) * (da[t] + Waa' dz[t+1])                                 (backward)
    dx[t]  = Wax' dz[t]
    dWax   = sum_t dz[t] x[t]'      dWaa = sum_t dz[t] a[t]'      dba = sum_t dz[t]

Inside, time comes first and units are innermost: a is (T_x + 1, m, n_a), row 0 the initial state.
Wax x[t] + ba is written where a[t+1] will stand, Waa a[t] is added to it, tanh overwrites it.
Steps are worked on in blocks: a block of x is turned into this order, projected in one product,
stepped through, and its a turned back, all while it is in the cache.

Who owns which buffer, what is checked, and `work`: see `_kernels/__init__.py`.

n_x inputs, n_a hidden units, m examples, T_x steps; index u counts units, j examples, t steps.
"""

from libc.string cimport memset

from .gemm cimport (
    ADD, BIAS, PANEL_ROOM, ZERO, add_rows, multiply, multiply_transposed, outer, pack_columns, pack_rows,
    start, weights, weights_of, weights_room,
)
from .layout cimport (
    aligned, block_of, blocks_of, columns_of, first, fits, fits_matrix, fits_state, load_steps, odd_lines, state_of,
    steps, steps_of, store_steps, take,
)
from .vmath cimport tanh


cdef struct Room:
    # where the pieces of `work` begin
    Py_ssize_t Wax, Waa, x, panel, da, a_prev, a_next, dz, carry, end


cdef Room room(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x, bint backward) noexcept nogil:
    cdef Room r
    cdef Py_ssize_t at = 0, block = block_of(m, T_x), back = block if backward else 0
    r.Wax = take(&at, weights_room(1, n_a, n_x, T_x <= block))
    r.Waa = take(&at, weights_room(1, n_a, n_a, T_x == 1))
    r.x = take(&at, block * m * n_x)
    r.panel = take(&at, PANEL_ROOM if backward else 0)
    r.da = take(&at, back * m * n_a)
    r.a_prev = take(&at, back * m * n_a)
    r.a_next = take(&at, back * m * n_a)
    r.dz = take(&at, back * m * odd_lines(n_a))
    r.carry = take(&at, m * n_a if backward else 0)
    r.end = at + 8
    return r


def forward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `forward` needs."""
    return room(n_x, n_a, m, T_x, False).end


def backward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `backward` needs."""
    return room(n_x, n_a, m, T_x, True).end


def forward(
    const double[:, :, :] x not None,       # IN      (n_x, m, T_x)
    const double[:, :] a0 not None,         # IN      (n_a, m) or (n_a, 1)
    const double[:, ::1] Wax not None,      # IN      (n_a, n_x)
    const double[:, ::1] Waa not None,      # IN      (n_a, n_a)
    const double[:, ::1] ba not None,       # IN      (n_a, 1)
    double[:, :, ::1] a not None,           # OUT     (T_x + 1, m, n_a): the cache
    double[:, :, ::1] a_out not None,       # OUT     (n_a, m, T_x): the same for the user
    double[::1] work not None,              # scratch forward_work(n_x, n_a, m, T_x)
) -> None:
    """a[0] = a0, a[t+1] = tanh(Wax x[t] + Waa a[t] + ba)."""
    cdef Py_ssize_t n_x = x.shape[0], m = x.shape[1], T_x = x.shape[2], n_a = a.shape[2]
    cdef Room r = room(n_x, n_a, m, T_x, False)
    if not (
        fits(x, n_x, m, T_x) and fits_state(a0, n_a, m) and fits_matrix(Wax, n_a, n_x)
        and fits_matrix(Waa, n_a, n_a) and fits_matrix(ba, n_a, 1)
        and fits(a, T_x + 1, m, n_a) and fits(a_out, n_a, m, T_x) and work.shape[0] >= r.end
    ):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, u, count, ldx, row = m * n_a
    cdef double *base = aligned(work)
    cdef double *a_all = steps_of(a).data
    cdef double *z
    cdef const double *xs
    cdef const double *bias = first(ba)
    cdef steps x_in = steps_of(x), a_start = state_of(a0), out = steps_of(a_out)
    cdef weights W_x = weights_of(first(Wax), n_x, n_a, n_x, T_x <= block, base + r.Wax)
    cdef weights W_a = weights_of(first(Waa), n_a, n_a, n_a, T_x == 1, base + r.Waa)

    with nogil:
        pack_rows(&W_x)
        pack_rows(&W_a)
        load_steps(a_all, a_start, n_a, m, 0, 1)
        for b in range(blocks_of(m, T_x)):
            t0 = b * block
            count = min(block, T_x - t0)
            xs = columns_of(x_in, n_x, m, t0, count, base + r.x, &ldx)
            multiply(a_all + (t0 + 1) * row, n_a, &W_x, xs, ldx, count * m, BIAS, bias)
            for t in range(t0, t0 + count):
                z = a_all + (t + 1) * row
                multiply(z, n_a, &W_a, a_all + t * row, n_a, m, ADD, NULL)
                for u in range(row):
                    z[u] = tanh(z[u])
            store_steps(out, a_all + (t0 + 1) * row, n_a, m, t0, count)


cdef void unit_backward(
    const double *restrict a_next, const double *restrict da, const double *restrict carry,   # IN  (n_a)
    double *restrict dz,                                                                      # OUT (n_a)
    Py_ssize_t n_a,
) noexcept nogil:
    cdef Py_ssize_t u
    for u in range(n_a):
        dz[u] = (1.0 - a_next[u] * a_next[u]) * (da[u] + carry[u])


def backward(
    const double[:, :, :] da not None,      # IN      (n_a, m, T_x)
    const double[:, :, :] x not None,       # IN      (n_x, m, T_x)
    const double[:, :, :] a_prev not None,  # IN      (n_a, m or 1, T_x), the state before each step
    const double[:, :, :] a_next not None,  # IN      (n_a, m, T_x), the state after it; may overlap a_prev
    const double[:, ::1] Wax not None,      # IN      (n_a, n_x)
    const double[:, ::1] Waa not None,      # IN      (n_a, n_a)
    double[:, :, ::1] dx not None,          # OUT     (n_x, m, T_x)
    double[:, ::1] da0 not None,            # OUT     (n_a, m)
    double[:, ::1] dWax not None,           # OUT     (n_a, n_x)
    double[:, ::1] dWaa not None,           # OUT     (n_a, n_a)
    double[:, ::1] dba not None,            # OUT     (n_a, 1)
    double[::1] work not None,              # scratch backward_work(n_x, n_a, m, T_x)
) -> None:
    """The gradients, given those of all hidden states, from the last step to the first."""
    cdef Py_ssize_t n_x = dx.shape[0], n_a = da0.shape[0], m = da0.shape[1], T_x = dx.shape[2]
    cdef Room r = room(n_x, n_a, m, T_x, True)
    if not (
        fits(da, n_a, m, T_x) and fits(x, n_x, m, T_x) and fits(a_next, n_a, m, T_x)
        and (fits(a_prev, n_a, m, T_x) or fits(a_prev, n_a, 1, T_x))
        and fits_matrix(Wax, n_a, n_x) and fits_matrix(Waa, n_a, n_a)
        and fits_matrix(dWax, n_a, n_x) and fits_matrix(dWaa, n_a, n_a) and fits_matrix(dba, n_a, 1)
        and work.shape[0] >= r.end
    ):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, k, count, cols, row = m * n_a, ldd, ldx, ldp, ldn
    cdef Py_ssize_t ld = odd_lines(n_a)
    cdef double *base = aligned(work)
    cdef double *dz = base + r.dz
    cdef double *carry = base + r.carry
    cdef double *dxs = base + r.x
    cdef const double *das
    cdef const double *xs
    cdef const double *prev
    cdef const double *next
    cdef steps da_in = steps_of(da), x_in = steps_of(x), prev_in = steps_of(a_prev), next_in = steps_of(a_next)
    cdef steps dx_out = steps_of(dx), da0_out = state_of(da0)
    cdef weights W_x = weights_of(first(Wax), n_x, n_a, n_x, T_x <= block, base + r.Wax)
    cdef weights W_a = weights_of(first(Waa), n_a, n_a, n_a, T_x == 1, base + r.Waa)
    cdef double *dW_x = first(dWax)
    cdef double *dW_a = first(dWaa)
    cdef double *db = first(dba)
    cdef start how = ZERO
    if a_prev.shape[1] == 1:
        prev_in.sj = 0

    with nogil:
        if blocks_of(m, T_x) == 0:
            memset(dW_x, 0, n_a * n_x * sizeof(double))
            memset(dW_a, 0, n_a * n_a * sizeof(double))
        memset(db, 0, n_a * sizeof(double))
        memset(carry, 0, m * n_a * sizeof(double))
        pack_columns(&W_x)
        pack_columns(&W_a)
        for b in range(blocks_of(m, T_x) - 1, -1, -1):
            t0 = b * block
            count = min(block, T_x - t0)
            cols = count * m
            das = columns_of(da_in, n_a, m, t0, count, base + r.da, &ldd)
            next = columns_of(next_in, n_a, m, t0, count, base + r.a_next, &ldn)
            for t in range(count - 1, -1, -1):
                if ldn == n_a and ldd == n_a and ld == n_a:
                    unit_backward(next + t * row, das + t * row, carry, dz + t * row, row)
                else:
                    for k in range(t * m, (t + 1) * m):
                        unit_backward(next + k * ldn, das + k * ldd, carry + (k - t * m) * n_a, dz + k * ld, n_a)
                multiply_transposed(carry, n_a, &W_a, dz + t * m * ld, ld, m)
            multiply_transposed(dxs, n_x, &W_x, dz, ld, cols)
            store_steps(dx_out, dxs, n_x, m, t0, count)
            xs = columns_of(x_in, n_x, m, t0, count, base + r.x, &ldx)
            prev = columns_of(prev_in, n_a, m, t0, count, base + r.a_prev, &ldp)
            outer(dW_x, n_x, dz, ld, n_a, xs, ldx, n_x, cols, how, base + r.panel)
            outer(dW_a, n_a, dz, ld, n_a, prev, ldp, n_a, cols, how, base + r.panel)
            how = ADD
            add_rows(db, dz, ld, n_a, cols)
        store_steps(da0_out, carry, n_a, m, 0, 1)
