"""Basic RNN: forward and backward through all steps.

    a[t+1] = tanh(Wax x[t] + Waa a[t] + ba)                                          (forward)

    dz[t]  = (1 - a[t+1]^2) * (da[t] + Waa' dz[t+1])                                 (backward)
    dx[t]  = Wax' dz[t]
    dWax   = sum_t dz[t] x[t]'      dWaa = sum_t dz[t] a[t]'      dba = sum_t dz[t]

Inside, time comes first and units are innermost: a is (T_x + 1, m, n_a), row 0 the initial state.
Wax x[t] + ba is written where a[t+1] will stand, Waa a[t] is added to it, tanh overwrites it.
Steps are worked on in blocks: a block of x is turned into this order, projected in one product,
stepped through, and its a turned back, all while it is in the cache.

The caller owns and allocates every buffer; `work` is scratch of the size that *_work tells, its
contents mean nothing between calls.  Sizes are at least 1, but n_x and n_a may be 0.

n_x inputs, n_a hidden units, m examples, T_x steps; index u counts units, j examples, t steps.
"""

from .gemm cimport (
    ADD, BIAS, PANEL_ROOM, add_outer, add_rows, multiply, multiply_transposed, pack_columns, pack_rows,
    weights, weights_of, weights_room,
)
from .layout cimport (
    aligned, block_of, first, load_steps, odd_lines, steps, steps_of, store_steps, take,
)
from .vmath cimport tanh


cdef struct Room:
    # where the pieces of `work` begin
    Py_ssize_t Wax, Waa, x, panel, da, dz, end


cdef Room room(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x, bint backward) noexcept nogil:
    cdef Room r
    cdef Py_ssize_t at = 0, block = block_of(m, T_x)
    r.Wax = take(&at, weights_room(1, n_a, n_x, T_x <= block))
    r.Waa = take(&at, weights_room(1, n_a, n_a, T_x == 1))
    r.x = take(&at, block * m * n_x)
    r.panel = take(&at, PANEL_ROOM if backward else 0)
    r.da = take(&at, block * m * n_a if backward else 0)
    r.dz = take(&at, block * m * odd_lines(n_a) if backward else 0)
    r.end = at + 8
    return r


def forward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `forward` needs."""
    return room(n_x, n_a, m, T_x, False).end


def backward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `backward` needs."""
    return room(n_x, n_a, m, T_x, True).end


def forward(
    const double[:, :, :] x,            # IN      (n_x, m, T_x), any strides
    const double[:, ::1] Wax,           # IN      (n_a, n_x)
    const double[:, ::1] Waa,           # IN      (n_a, n_a)
    const double[:, ::1] ba,            # IN      (n_a, 1)
    double[:, :, ::1] a,                # IN/OUT  (T_x + 1, m, n_a), row 0 set by the caller: the cache
    double[:, :, ::1] a_out,            # OUT     (n_a, m, T_x): the same for the user
    double[::1] work,                   # scratch forward_work(n_x, n_a, m, T_x)
) -> None:
    """a[t+1] = tanh(Wax x[t] + Waa a[t] + ba) for all t."""
    cdef Py_ssize_t n_x = x.shape[0], m = x.shape[1], T_x = x.shape[2], n_a = a.shape[2]
    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, u, count, row = m * n_a
    cdef Room r = room(n_x, n_a, m, T_x, False)
    cdef double *base = aligned(work)
    cdef double *a_all = <double *> first(a[0])
    cdef double *xs = base + r.x
    cdef double *z
    cdef const double *bias = first(ba)
    cdef steps x_in = steps_of(x), out = steps_of(a_out)
    cdef weights W_x = weights_of(first(Wax), n_x, n_a, n_x, T_x <= block, base + r.Wax)
    cdef weights W_a = weights_of(first(Waa), n_a, n_a, n_a, T_x == 1, base + r.Waa)

    with nogil:
        pack_rows(&W_x)
        pack_rows(&W_a)
        for b in range((T_x - 1) // block + 1):
            t0 = b * block
            count = min(block, T_x - t0)
            load_steps(xs, x_in, n_x, m, t0, count)
            multiply(a_all + (t0 + 1) * row, n_a, &W_x, xs, n_x, count * m, BIAS, bias)
            for t in range(t0, t0 + count):
                z = a_all + (t + 1) * row
                multiply(z, n_a, &W_a, a_all + t * row, n_a, m, ADD, NULL)
                for u in range(row):
                    z[u] = tanh(z[u])
            store_steps(out, a_all + (t0 + 1) * row, n_a, m, t0, count)


cdef void step_backward(
    const double *restrict a_next,      # IN      (m, n_a)
    const double *restrict da,          # IN      (m, n_a)
    const double *restrict carry,       # IN      (m, n_a), Waa' dz of the step after
    double *restrict dz,                # OUT     (m, ld)
    Py_ssize_t m, Py_ssize_t n_a, Py_ssize_t ld,
) noexcept nogil:
    """dz = (1 - a_next^2) * (da + carry)."""
    cdef Py_ssize_t j, u
    for j in range(m):
        for u in range(n_a):
            dz[j * ld + u] = (1.0 - a_next[j * n_a + u] * a_next[j * n_a + u]) * (
                da[j * n_a + u] + carry[j * n_a + u]
            )


def backward(
    const double[:, :, :] da,           # IN      (n_a, m, T_x), any strides
    const double[:, :, :] x,            # IN      (n_x, m, T_x), any strides
    const double[:, ::1] Wax,           # IN      (n_a, n_x)
    const double[:, ::1] Waa,           # IN      (n_a, n_a)
    const double[:, :, ::1] a_prev,     # IN      (T_x, m, n_a), the state before each step
    const double[:, :, ::1] a_next,     # IN      (T_x, m, n_a), the state after it; may overlap a_prev
    double[:, ::1] carry,               # IN/OUT  (m, n_a), gradient into the last state, out of the first
    double[:, :, ::1] dx,               # OUT     (n_x, m, T_x)
    double[:, ::1] dWax,                # IN/OUT  (n_a, n_x), added to
    double[:, ::1] dWaa,                # IN/OUT  (n_a, n_a), added to
    double[:, ::1] dba,                 # IN/OUT  (n_a, 1), added to
    double[::1] work,                   # scratch backward_work(n_x, n_a, m, T_x)
) -> None:
    """The gradients from those of all hidden states, from the last step to the first."""
    cdef Py_ssize_t n_x = x.shape[0], n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2]
    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, count, cols, row = m * n_a, ld = odd_lines(n_a)
    cdef Room r = room(n_x, n_a, m, T_x, True)
    cdef double *base = aligned(work)
    cdef double *xs = base + r.x
    cdef double *das = base + r.da
    cdef double *dz = base + r.dz
    cdef double *da_carry = <double *> first(carry)
    cdef const double *prev = first(a_prev[0])
    cdef const double *next = first(a_next[0])
    cdef steps da_in = steps_of(da), x_in = steps_of(x), dx_out = steps_of(dx)
    cdef weights W_x = weights_of(first(Wax), n_x, n_a, n_x, T_x <= block, base + r.Wax)
    cdef weights W_a = weights_of(first(Waa), n_a, n_a, n_a, T_x == 1, base + r.Waa)
    cdef double *dW_x = <double *> first(dWax)
    cdef double *dW_a = <double *> first(dWaa)
    cdef double *db = <double *> first(dba)

    with nogil:
        pack_columns(&W_x)
        pack_columns(&W_a)
        for b in range((T_x - 1) // block, -1, -1):
            t0 = b * block
            count = min(block, T_x - t0)
            cols = count * m
            load_steps(das, da_in, n_a, m, t0, count)
            for t in range(count - 1, -1, -1):
                step_backward(next + (t0 + t) * row, das + t * row, da_carry, dz + t * m * ld, m, n_a, ld)
                multiply_transposed(da_carry, n_a, &W_a, dz + t * m * ld, ld, m)
            multiply_transposed(xs, n_x, &W_x, dz, ld, cols)
            store_steps(dx_out, xs, n_x, m, t0, count)
            load_steps(xs, x_in, n_x, m, t0, count)
            add_outer(dW_x, n_x, dz, ld, n_a, xs, n_x, n_x, cols, base + r.panel)
            add_outer(dW_a, n_a, dz, ld, n_a, prev + t0 * row, n_a, n_a, cols, base + r.panel)
            add_rows(db, dz, ld, n_a, cols)
