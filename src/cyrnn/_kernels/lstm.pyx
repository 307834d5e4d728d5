"""LSTM: forward and backward through all steps.

    f   = sigmoid(Wf [a[t], x[t]] + bf)         forget gate      ft               (forward)
    i   = sigmoid(Wi [a[t], x[t]] + bi)         update gate      it
    cct = tanh   (Wc [a[t], x[t]] + bc)         candidate        cct
    o   = sigmoid(Wo [a[t], x[t]] + bo)         output gate      ot
    c[t+1] = f * c[t] + i * cct
    a[t+1] = o * tanh(c[t+1])

    da   = da[t] + (Wf' df + Wi' di + Wc' dcct + Wo' do of step t+1, rows of a)   (backward)
    dc   = dc + da * o * (1 - tanh(c[t+1])^2)
    do   = da * tanh(c[t+1])  * o * (1 - o)
    df   = dc * c[t]          * f * (1 - f)
    di   = dc * cct           * i * (1 - i)
    dcct = dc * i             * (1 - cct^2)
    dc   = dc * f             (carried to step t-1)
    dx[t] = the same products as da, rows of x
    dWg  = sum_t dg[t] [a[t], x[t]]'     dbg = sum_t dg[t]     for each gate g

Here df, di, dcct, do are gradients before the activation.  Inside, time comes first and units are
innermost: a and c are (T_x + 1, m, n_a), row 0 the initial state; gates are (T_x, m, 4, n_a) in the
order f, i, c, o.  The gate buffer first holds the projection of x with the bias, then the product
with a[t] is added, then the activations overwrite it: it is the cache of the backward pass.  Steps
are worked on in blocks: a block of x is turned into this order, projected in one product, stepped
through, and its a and c turned back, all while it is in the cache.

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
from .vmath cimport sigmoid, tanh


cdef struct Room:
    # where the pieces of `work` begin
    Py_ssize_t W_x, W_a, x, bias, panel, da, a_prev, c_prev, c_next, gates, dgates, tanh_c, da_carry, dc_carry, end


cdef Room room(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x, bint backward) noexcept nogil:
    cdef Room r
    cdef Py_ssize_t at = 0, block = block_of(m, T_x), back = block if backward else 0
    r.W_x = take(&at, weights_room(4, n_a, n_x, T_x <= block))
    r.W_a = take(&at, weights_room(4, n_a, n_a, T_x == 1))
    r.x = take(&at, block * m * n_x)
    r.bias = take(&at, 4 * n_a)
    r.panel = take(&at, PANEL_ROOM if backward else 0)
    r.da = take(&at, back * m * n_a)
    r.a_prev = take(&at, back * m * n_a)
    r.c_prev = take(&at, back * m * n_a)
    r.c_next = take(&at, back * m * n_a)
    r.gates = take(&at, 4 * back * m * n_a)
    r.dgates = take(&at, back * m * odd_lines(4 * n_a))
    r.tanh_c = take(&at, n_a if backward else 0)
    r.da_carry = take(&at, m * n_a if backward else 0)
    r.dc_carry = take(&at, m * n_a if backward else 0)
    r.end = at + 8
    return r


def forward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `forward` needs."""
    return room(n_x, n_a, m, T_x, False).end


def backward_work(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x) -> int:
    """Doubles of scratch that `backward` needs."""
    return room(n_x, n_a, m, T_x, True).end


cdef weights gates_of(
    const double *Wf, const double *Wi, const double *Wc, const double *Wo,
    Py_ssize_t ld, Py_ssize_t n_a, Py_ssize_t K, bint once, double *room,
) noexcept nogil:
    """K columns of the four weight matrices as one of 4 n_a rows, in gate order."""
    cdef weights W = weights_of(Wf, ld, n_a, K, once, room)
    W.parts = 4
    W.part[1] = Wi
    W.part[2] = Wc
    W.part[3] = Wo
    return W


cdef void update_state(
    const double *restrict f, const double *restrict i, const double *restrict cct,
    const double *restrict o, const double *restrict c_prev,        # IN  (n_a)
    double *restrict c_next, double *restrict a_next,               # OUT (n_a)
    Py_ssize_t n_a,
) noexcept nogil:
    cdef Py_ssize_t u
    for u in range(n_a):
        c_next[u] = f[u] * c_prev[u] + i[u] * cct[u]
    for u in range(n_a):
        a_next[u] = o[u] * tanh(c_next[u])


cdef void step_forward(
    double *gates,                      # IN/OUT  (m, 4, n_a), sums in, activations out
    const double *c_prev,               # IN      (m, n_a)
    double *c_next,                     # OUT     (m, n_a)
    double *a_next,                     # OUT     (m, n_a)
    Py_ssize_t m, Py_ssize_t n_a,
) noexcept nogil:
    cdef Py_ssize_t j, u
    cdef double *f
    cdef double *cct
    cdef double *o
    for j in range(m):
        f = gates + 4 * j * n_a
        cct = f + 2 * n_a
        o = f + 3 * n_a
        for u in range(2 * n_a):        # f and i
            f[u] = sigmoid(f[u])
        for u in range(n_a):
            cct[u] = tanh(cct[u])
        for u in range(n_a):
            o[u] = sigmoid(o[u])
        update_state(f, f + n_a, cct, o, c_prev + j * n_a, c_next + j * n_a, a_next + j * n_a, n_a)


def forward(
    const double[:, :, :] x not None,       # IN      (n_x, m, T_x)
    const double[:, :] a0 not None,         # IN      (n_a, m) or (n_a, 1)
    const double[:, :] c0,              # IN      (n_a, m) or (n_a, 1); None for zeros
    const double[:, ::1] Wf not None,       # IN      (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,       # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,       # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,       # IN      (n_a, n_a + n_x)
    const double[:, ::1] bf not None,       # IN      (n_a, 1)
    const double[:, ::1] bi not None,       # IN      (n_a, 1)
    const double[:, ::1] bc not None,       # IN      (n_a, 1)
    const double[:, ::1] bo not None,       # IN      (n_a, 1)
    double[:, :, ::1] a not None,           # OUT     (T_x + 1, m, n_a): a cache
    double[:, :, ::1] c not None,           # OUT     (T_x + 1, m, n_a): a cache
    double[:, :, :, ::1] gates not None,    # OUT     (T_x, m, 4, n_a), f i c o: a cache
    double[:, :, ::1] a_out not None,       # OUT     (n_a, m, T_x): a for the user
    double[:, :, ::1] c_out not None,       # OUT     (n_a, m, T_x): c for the user
    double[::1] work not None,              # scratch forward_work(n_x, n_a, m, T_x)
) -> None:
    """a[0] = a0, c[0] = c0, then the forward equations above for all t."""
    cdef Py_ssize_t n_x = x.shape[0], m = x.shape[1], T_x = x.shape[2], n_a = a.shape[2], ld = n_a + n_x
    cdef Room r = room(n_x, n_a, m, T_x, False)
    if not (
        fits(x, n_x, m, T_x) and fits_state(a0, n_a, m) and (c0 is None or fits_state(c0, n_a, m))
        and fits_matrix(Wf, n_a, ld) and fits_matrix(Wi, n_a, ld)
        and fits_matrix(Wc, n_a, ld) and fits_matrix(Wo, n_a, ld)
        and fits_matrix(bf, n_a, 1) and fits_matrix(bi, n_a, 1)
        and fits_matrix(bc, n_a, 1) and fits_matrix(bo, n_a, 1)
        and fits(a, T_x + 1, m, n_a) and fits(c, T_x + 1, m, n_a)
        and gates.shape[0] == T_x and gates.shape[1] == m and gates.shape[2] == 4 and gates.shape[3] == n_a
        and fits(a_out, n_a, m, T_x) and fits(c_out, n_a, m, T_x) and work.shape[0] >= r.end
    ):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, u, count, ldx, row = m * n_a
    cdef double *base = aligned(work)
    cdef double *bias = base + r.bias
    cdef double *a_all = steps_of(a).data
    cdef double *c_all = steps_of(c).data
    cdef double *gates_all = &gates[0, 0, 0, 0] if T_x and m and n_a else NULL
    cdef double *gates_t
    cdef const double *xs
    cdef const double *b_f = first(bf)
    cdef const double *b_i = first(bi)
    cdef const double *b_c = first(bc)
    cdef const double *b_o = first(bo)
    cdef const double *W_f = first(Wf)
    cdef const double *W_i = first(Wi)
    cdef const double *W_c = first(Wc)
    cdef const double *W_o = first(Wo)
    cdef steps x_in = steps_of(x), a_start = state_of(a0), c_start = a_start
    cdef steps a_user = steps_of(a_out), c_user = steps_of(c_out)
    cdef bint c_given = c0 is not None
    cdef weights W_x = gates_of(
        W_f + n_a, W_i + n_a, W_c + n_a, W_o + n_a, ld, n_a, n_x, T_x <= block, base + r.W_x
    )
    cdef weights W_a = gates_of(W_f, W_i, W_c, W_o, ld, n_a, n_a, T_x == 1, base + r.W_a)
    if c_given:
        c_start = state_of(c0)

    with nogil:
        pack_rows(&W_x)
        pack_rows(&W_a)
        for u in range(n_a):
            bias[u] = b_f[u]
            bias[n_a + u] = b_i[u]
            bias[2 * n_a + u] = b_c[u]
            bias[3 * n_a + u] = b_o[u]
        load_steps(a_all, a_start, n_a, m, 0, 1)
        if c_given:
            load_steps(c_all, c_start, n_a, m, 0, 1)
        else:
            memset(c_all, 0, row * sizeof(double))
        for b in range(blocks_of(m, T_x)):
            t0 = b * block
            count = min(block, T_x - t0)
            xs = columns_of(x_in, n_x, m, t0, count, base + r.x, &ldx)
            multiply(gates_all + 4 * t0 * row, 4 * n_a, &W_x, xs, ldx, count * m, BIAS, bias)
            for t in range(t0, t0 + count):
                gates_t = gates_all + 4 * t * row
                multiply(gates_t, 4 * n_a, &W_a, a_all + t * row, n_a, m, ADD, NULL)
                step_forward(gates_t, c_all + t * row, c_all + (t + 1) * row, a_all + (t + 1) * row, m, n_a)
            store_steps(a_user, a_all + (t0 + 1) * row, n_a, m, t0, count)
            store_steps(c_user, c_all + (t0 + 1) * row, n_a, m, t0, count)


cdef void unit_backward(
    const double *restrict f, const double *restrict i, const double *restrict cct,
    const double *restrict o, const double *restrict c_prev,        # IN      (n_a)
    const double *restrict tanh_c, const double *restrict da,       # IN      (n_a)
    const double *restrict da_carry, double *restrict dc_carry,     # IN, IN/OUT (n_a)
    double *restrict df, double *restrict di, double *restrict dcct,
    double *restrict do_,                                           # OUT     (n_a)
    Py_ssize_t n_a,
) noexcept nogil:
    """The backward equations above for the units of one example."""
    cdef Py_ssize_t u
    cdef double da_u, dc
    for u in range(n_a):
        da_u = da[u] + da_carry[u]
        dc = dc_carry[u] + da_u * o[u] * (1.0 - tanh_c[u] * tanh_c[u])
        do_[u] = da_u * tanh_c[u] * o[u] * (1.0 - o[u])
        df[u] = dc * c_prev[u] * f[u] * (1.0 - f[u])
        di[u] = dc * cct[u] * i[u] * (1.0 - i[u])
        dcct[u] = dc * i[u] * (1.0 - cct[u] * cct[u])
        dc_carry[u] = dc * f[u]


def backward(
    const double[:, :, :] da not None,      # IN      (n_a, m, T_x)
    const double[:, :] dc,              # IN      (n_a, m), gradient of the last c; None for zeros
    const double[:, :, :] x not None,       # IN      (n_x, m, T_x)
    const double[:, :, :] a_prev not None,  # IN      (n_a, m or 1, T_x), the state before each step
    const double[:, :, :] c_prev not None,  # IN      (n_a, m or 1, T_x), the memory before each step
    const double[:, :, :] c_next not None,  # IN      (n_a, m, T_x), the memory after it; may overlap c_prev
    const double[:, :, :] ft not None,      # IN      (n_a, m, T_x), the gates after their activations
    const double[:, :, :] it not None,      # IN      (n_a, m, T_x)
    const double[:, :, :] cct not None,     # IN      (n_a, m, T_x)
    const double[:, :, :] ot not None,      # IN      (n_a, m, T_x)
    const double[:, ::1] Wf not None,       # IN      (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,       # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,       # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,       # IN      (n_a, n_a + n_x)
    double[:, :, ::1] dx not None,          # OUT     (n_x, m, T_x)
    double[:, ::1] da0 not None,            # OUT     (n_a, m)
    double[:, ::1] dc0 not None,            # OUT     (n_a, m)
    double[:, :, ::1] dW not None,          # OUT     (4, n_a, n_a + n_x), f i c o
    double[:, ::1] db not None,             # OUT     (4, n_a), f i c o
    double[::1] work not None,              # scratch backward_work(n_x, n_a, m, T_x)
) -> None:
    """The backward equations above, from the last step to the first."""
    cdef Py_ssize_t n_x = dx.shape[0], n_a = da0.shape[0], m = da0.shape[1], T_x = dx.shape[2], ld = n_a + n_x
    cdef Room r = room(n_x, n_a, m, T_x, True)
    if not (
        fits(da, n_a, m, T_x) and (dc is None or (fits_state(dc, n_a, m) and dc.shape[1] == m)) and fits(x, n_x, m, T_x)
        and (fits(a_prev, n_a, m, T_x) or fits(a_prev, n_a, 1, T_x))
        and (fits(c_prev, n_a, m, T_x) or fits(c_prev, n_a, 1, T_x)) and fits(c_next, n_a, m, T_x)
        and fits(ft, n_a, m, T_x) and fits(it, n_a, m, T_x)
        and fits(cct, n_a, m, T_x) and fits(ot, n_a, m, T_x)
        and fits_matrix(Wf, n_a, ld) and fits_matrix(Wi, n_a, ld)
        and fits_matrix(Wc, n_a, ld) and fits_matrix(Wo, n_a, ld)
        and fits_matrix(dc0, n_a, m) and fits(dW, 4, n_a, ld) and fits_matrix(db, 4, n_a)
        and work.shape[0] >= r.end
    ):
        raise ValueError("the shapes do not fit")

    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, k, u, count, cols, row = m * n_a
    cdef Py_ssize_t ldd, ldx, ldp, ldc, ldn, ldf, ldi, ldg, ldo, ldz = odd_lines(4 * n_a)
    cdef double *base = aligned(work)
    cdef double *dgates = base + r.dgates
    cdef double *tanh_c = base + r.tanh_c
    cdef double *da_carry = base + r.da_carry
    cdef double *dc_carry = base + r.dc_carry
    cdef double *dxs = base + r.x
    cdef double *room_of_gates = base + r.gates
    cdef double *dz
    cdef const double *das
    cdef const double *xs
    cdef const double *a_before
    cdef const double *c_before
    cdef const double *c_after
    cdef const double *f
    cdef const double *i
    cdef const double *g
    cdef const double *o
    cdef steps da_in = steps_of(da), x_in = steps_of(x), a_in = steps_of(a_prev), c_in = steps_of(c_prev)
    cdef steps next_in = steps_of(c_next), f_in = steps_of(ft), i_in = steps_of(it), g_in = steps_of(cct)
    cdef steps o_in = steps_of(ot), dc_in = da_in
    cdef steps dx_out = steps_of(dx), da0_out = state_of(da0), dc0_out = state_of(dc0)
    cdef bint dc_given = dc is not None
    cdef const double *W_f = first(Wf)
    cdef const double *W_i = first(Wi)
    cdef const double *W_c = first(Wc)
    cdef const double *W_o = first(Wo)
    cdef weights W_x = gates_of(
        W_f + n_a, W_i + n_a, W_c + n_a, W_o + n_a, ld, n_a, n_x, T_x <= block, base + r.W_x
    )
    cdef weights W_a = gates_of(W_f, W_i, W_c, W_o, ld, n_a, n_a, T_x == 1, base + r.W_a)
    cdef double *dW_all = steps_of(dW).data
    cdef double *db_all = first(db)
    cdef start how = ZERO
    if dc_given:
        dc_in = state_of(dc)
    if a_prev.shape[1] == 1:
        a_in.sj = 0
    if c_prev.shape[1] == 1:
        c_in.sj = 0

    with nogil:
        if blocks_of(m, T_x) == 0:
            memset(dW_all, 0, 4 * n_a * ld * sizeof(double))
        memset(db_all, 0, 4 * n_a * sizeof(double))
        memset(da_carry, 0, row * sizeof(double))
        if dc_given:
            load_steps(dc_carry, dc_in, n_a, m, 0, 1)
        else:
            memset(dc_carry, 0, row * sizeof(double))
        pack_columns(&W_x)
        pack_columns(&W_a)
        for b in range(blocks_of(m, T_x) - 1, -1, -1):
            t0 = b * block
            count = min(block, T_x - t0)
            cols = count * m
            das = columns_of(da_in, n_a, m, t0, count, base + r.da, &ldd)
            c_before = columns_of(c_in, n_a, m, t0, count, base + r.c_prev, &ldc)
            c_after = columns_of(next_in, n_a, m, t0, count, base + r.c_next, &ldn)
            f = columns_of(f_in, n_a, m, t0, count, room_of_gates, &ldf)
            i = columns_of(i_in, n_a, m, t0, count, room_of_gates + cols * n_a, &ldi)
            g = columns_of(g_in, n_a, m, t0, count, room_of_gates + 2 * cols * n_a, &ldg)
            o = columns_of(o_in, n_a, m, t0, count, room_of_gates + 3 * cols * n_a, &ldo)
            for t in range(count - 1, -1, -1):
                for k in range(t * m, (t + 1) * m):
                    for u in range(n_a):
                        tanh_c[u] = tanh(c_after[k * ldn + u])
                    dz = dgates + k * ldz
                    unit_backward(
                        f + k * ldf, i + k * ldi, g + k * ldg, o + k * ldo, c_before + k * ldc, tanh_c,
                        das + k * ldd, da_carry + (k - t * m) * n_a, dc_carry + (k - t * m) * n_a,
                        dz, dz + n_a, dz + 2 * n_a, dz + 3 * n_a, n_a,
                    )
                multiply_transposed(da_carry, n_a, &W_a, dgates + t * m * ldz, ldz, m)
            multiply_transposed(dxs, n_x, &W_x, dgates, ldz, cols)
            store_steps(dx_out, dxs, n_x, m, t0, count)
            xs = columns_of(x_in, n_x, m, t0, count, base + r.x, &ldx)
            a_before = columns_of(a_in, n_a, m, t0, count, base + r.a_prev, &ldp)
            outer(dW_all, ld, dgates, ldz, 4 * n_a, a_before, ldp, n_a, cols, how, base + r.panel)
            outer(dW_all + n_a, ld, dgates, ldz, 4 * n_a, xs, ldx, n_x, cols, how, base + r.panel)
            how = ADD
            add_rows(db_all, dgates, ldz, 4 * n_a, cols)
        store_steps(da0_out, da_carry, n_a, m, 0, 1)
        store_steps(dc0_out, dc_carry, n_a, m, 0, 1)
