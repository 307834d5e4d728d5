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
from .vmath cimport sigmoid, tanh


cdef struct Room:
    # where the pieces of `work` begin
    Py_ssize_t W_x, W_a, x, bias, panel, da, dgates, tanh_c, end


cdef Room room(Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x, bint backward) noexcept nogil:
    cdef Room r
    cdef Py_ssize_t at = 0, block = block_of(m, T_x)
    r.W_x = take(&at, weights_room(4, n_a, n_x, T_x <= block))
    r.W_a = take(&at, weights_room(4, n_a, n_a, T_x == 1))
    r.x = take(&at, block * m * n_x)
    r.bias = take(&at, 4 * n_a)
    r.panel = take(&at, PANEL_ROOM if backward else 0)
    r.da = take(&at, block * m * n_a if backward else 0)
    r.dgates = take(&at, block * m * odd_lines(4 * n_a) if backward else 0)
    r.tanh_c = take(&at, n_a if backward else 0)
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
    const double[:, :, :] x,            # IN      (n_x, m, T_x), any strides
    const double[:, ::1] Wf,            # IN      (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi,            # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wc,            # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wo,            # IN      (n_a, n_a + n_x)
    const double[:, ::1] bf,            # IN      (n_a, 1)
    const double[:, ::1] bi,            # IN      (n_a, 1)
    const double[:, ::1] bc,            # IN      (n_a, 1)
    const double[:, ::1] bo,            # IN      (n_a, 1)
    double[:, :, ::1] a,                # IN/OUT  (T_x + 1, m, n_a), row 0 set by the caller: a cache
    double[:, :, ::1] c,                # IN/OUT  (T_x + 1, m, n_a), row 0 set by the caller: a cache
    double[:, :, :, ::1] gates,         # OUT     (T_x, m, 4, n_a), f i c o: a cache
    double[:, :, ::1] a_out,            # OUT     (n_a, m, T_x): a for the user
    double[:, :, ::1] c_out,            # OUT     (n_a, m, T_x): c for the user
    double[::1] work,                   # scratch forward_work(n_x, n_a, m, T_x)
) -> None:
    """The forward equations above for all t."""
    cdef Py_ssize_t n_x = x.shape[0], m = x.shape[1], T_x = x.shape[2], n_a = a.shape[2]
    cdef Py_ssize_t ld = n_a + n_x, block = block_of(m, T_x), b, t0, t, u, count, row = m * n_a
    cdef Room r = room(n_x, n_a, m, T_x, False)
    cdef double *base = aligned(work)
    cdef double *xs = base + r.x
    cdef double *bias = base + r.bias
    cdef double *a_all = <double *> first(a[0])
    cdef double *c_all = <double *> first(c[0])
    cdef double *gates_all = <double *> first(gates[0, 0])
    cdef double *gates_t
    cdef const double *b_f = first(bf)
    cdef const double *b_i = first(bi)
    cdef const double *b_c = first(bc)
    cdef const double *b_o = first(bo)
    cdef steps x_in = steps_of(x), a_user = steps_of(a_out), c_user = steps_of(c_out)
    cdef const double *W_f = first(Wf)
    cdef const double *W_i = first(Wi)
    cdef const double *W_c = first(Wc)
    cdef const double *W_o = first(Wo)
    cdef weights W_x = gates_of(
        W_f + n_a, W_i + n_a, W_c + n_a, W_o + n_a, ld, n_a, n_x, T_x <= block, base + r.W_x
    )
    cdef weights W_a = gates_of(W_f, W_i, W_c, W_o, ld, n_a, n_a, T_x == 1, base + r.W_a)

    with nogil:
        pack_rows(&W_x)
        pack_rows(&W_a)
        for u in range(n_a):
            bias[u] = b_f[u]
            bias[n_a + u] = b_i[u]
            bias[2 * n_a + u] = b_c[u]
            bias[3 * n_a + u] = b_o[u]
        for b in range((T_x - 1) // block + 1):
            t0 = b * block
            count = min(block, T_x - t0)
            load_steps(xs, x_in, n_x, m, t0, count)
            multiply(gates_all + 4 * t0 * row, 4 * n_a, &W_x, xs, n_x, count * m, BIAS, bias)
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
    const double[:, :, :] da,           # IN      (n_a, m, T_x), any strides
    const double[:, :, :] x,            # IN      (n_x, m, T_x), any strides
    const double[:, ::1] Wf,            # IN      (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi,            # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wc,            # IN      (n_a, n_a + n_x)
    const double[:, ::1] Wo,            # IN      (n_a, n_a + n_x)
    const double[:, :, ::1] a_prev,     # IN      (T_x, m, n_a), the state before each step
    const double[:, :, ::1] c_prev,     # IN      (T_x, m, n_a), the memory before each step
    const double[:, :, ::1] c_next,     # IN      (T_x, m, n_a), the memory after it; may overlap c_prev
    const double[:, :, :, ::1] gates,   # IN      (T_x, m, 4, n_a), f i c o after their activations
    double[:, ::1] da_carry,            # IN/OUT  (m, n_a), gradient into the last a, out of the first
    double[:, ::1] dc_carry,            # IN/OUT  (m, n_a), gradient into the last c, out of the first
    double[:, :, ::1] dx,               # OUT     (n_x, m, T_x)
    double[:, :, ::1] dW,               # IN/OUT  (4, n_a, n_a + n_x), f i c o, added to
    double[:, ::1] db,                  # IN/OUT  (4, n_a), f i c o, added to
    double[::1] work,                   # scratch backward_work(n_x, n_a, m, T_x)
) -> None:
    """The backward equations above, from the last step to the first."""
    cdef Py_ssize_t n_x = x.shape[0], n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2]
    cdef Py_ssize_t block = block_of(m, T_x), b, t0, t, j, u, count, cols, row = m * n_a
    cdef Py_ssize_t ld = n_a + n_x, ldg = odd_lines(4 * n_a)
    cdef Room r = room(n_x, n_a, m, T_x, True)
    cdef double *base = aligned(work)
    cdef double *xs = base + r.x
    cdef double *das = base + r.da
    cdef double *dgates = base + r.dgates
    cdef double *tanh_c = base + r.tanh_c
    cdef double *da_next = <double *> first(da_carry)
    cdef double *dc_next = <double *> first(dc_carry)
    cdef const double *a_before = first(a_prev[0])
    cdef const double *c_before = first(c_prev[0])
    cdef const double *c_after = first(c_next[0])
    cdef const double *gates_all = first(gates[0, 0])
    cdef const double *g
    cdef double *dg
    cdef const double *W_f = first(Wf)
    cdef const double *W_i = first(Wi)
    cdef const double *W_c = first(Wc)
    cdef const double *W_o = first(Wo)
    cdef weights W_x = gates_of(
        W_f + n_a, W_i + n_a, W_c + n_a, W_o + n_a, ld, n_a, n_x, T_x <= block, base + r.W_x
    )
    cdef weights W_a = gates_of(W_f, W_i, W_c, W_o, ld, n_a, n_a, T_x == 1, base + r.W_a)
    cdef steps da_in = steps_of(da), x_in = steps_of(x), dx_out = steps_of(dx)
    cdef double *dW_all = <double *> first(dW[0])
    cdef double *db_all = <double *> first(db)

    with nogil:
        pack_columns(&W_x)
        pack_columns(&W_a)
        for b in range((T_x - 1) // block, -1, -1):
            t0 = b * block
            count = min(block, T_x - t0)
            cols = count * m
            load_steps(das, da_in, n_a, m, t0, count)
            for t in range(t0 + count - 1, t0 - 1, -1):
                for j in range(m):
                    g = gates_all + 4 * (t * row + j * n_a)
                    dg = dgates + ((t - t0) * m + j) * ldg
                    for u in range(n_a):
                        tanh_c[u] = tanh(c_after[t * row + j * n_a + u])
                    unit_backward(
                        g, g + n_a, g + 2 * n_a, g + 3 * n_a, c_before + t * row + j * n_a,
                        tanh_c, das + (t - t0) * row + j * n_a, da_next + j * n_a, dc_next + j * n_a,
                        dg, dg + n_a, dg + 2 * n_a, dg + 3 * n_a, n_a,
                    )
                multiply_transposed(da_next, n_a, &W_a, dgates + (t - t0) * m * ldg, ldg, m)
            multiply_transposed(xs, n_x, &W_x, dgates, ldg, cols)
            store_steps(dx_out, xs, n_x, m, t0, count)
            load_steps(xs, x_in, n_x, m, t0, count)
            add_outer(dW_all, ld, dgates, ldg, 4 * n_a, a_before + t0 * row, n_a, n_a, cols, base + r.panel)
            add_outer(dW_all + n_a, ld, dgates, ldg, 4 * n_a, xs, n_x, n_x, cols, base + r.panel)
            add_rows(db_all, dgates, ldg, 4 * n_a, cols)
