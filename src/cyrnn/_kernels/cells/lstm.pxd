"""LSTM: the equations.

    f = sigmoid(Wf [a<t-1>, x<t>] + bf)         forget gate                          (forward)
    i = sigmoid(Wi [a<t-1>, x<t>] + bi)         input gate (the notebook's update gate)
    g = tanh   (Wc [a<t-1>, x<t>] + bc)         candidate (the notebook's cct)
    o = sigmoid(Wo [a<t-1>, x<t>] + bo)         output gate
    c<t> = f * c<t-1> + i * g
    a<t> = o * tanh(c<t>)

    da = da<t> + (Wf' df + Wi' di + Wc' dg + Wo' do of step t+1, first n_a rows)     (backward)
    dc = dc<t> + dc_prev of step t+1 + da * o * (1 - tanh(c<t>)^2)
    do = da * tanh(c<t>) * o * (1 - o)
    df = dc * c<t-1>     * f * (1 - f)
    di = dc * g          * i * (1 - i)
    dg = dc * i          * (1 - g^2)
    dc_prev = dc * f     goes to step t-1; that of the first step is dc0
    dx<t> = Wf' df + Wi' di + Wc' dg + Wo' do, last n_x rows
    dW  = sum_t d<t> [a<t-1>, x<t>]'     db = sum_t d<t>     for each gate, d = df, di, dg, do

df, di, dg, do are gradients of the sums, before the activation.  Slots in the order f, i, g, o; the states are a, c.
The gradients from outside come in in slots: da<t> in that of do, where `d_gates` adds it, and dc<t> in that of df, from
which `backward_pointwise` (schedule/backward.pxd) has added it to dc_next before.
"""

from libc.string cimport memset

from ..linalg.linalg cimport sigmoid, tanh
from ..runtime.limits cimport POINTWISE_CHUNK
from ..runtime.real cimport one, real
from .cell cimport HIDDEN, cell, step


cdef enum:
    FORGET = 0
    INPUT = 1
    CANDIDATE = 2
    OUTPUT = 3


cdef inline void gates(
    real *restrict f, real *restrict i, real *restrict g, real *restrict o,             # IN/OUT (n), sums, activations
    const real *restrict c_before,                                                      # IN     (n)
    real *restrict c, real *restrict a,                                                 # OUT    (n)
    Py_ssize_t n,
) noexcept nogil:
    """The forward equations of n units: one simple loop a line, which the compiler vectorises."""
    cdef Py_ssize_t k, start, end, u
    for k in range((n + POINTWISE_CHUNK - 1) // POINTWISE_CHUNK):
        start = k * POINTWISE_CHUNK
        end = min(start + POINTWISE_CHUNK, n)
        for u in range(start, end):
            f[u] = sigmoid(f[u])
        for u in range(start, end):
            i[u] = sigmoid(i[u])
        for u in range(start, end):
            g[u] = tanh(g[u])
        for u in range(start, end):
            o[u] = sigmoid(o[u])
        for u in range(start, end):
            c[u] = f[u] * c_before[u] + i[u] * g[u]
        for u in range(start, end):
            a[u] = o[u] * tanh(c[u])


cdef inline void d_gates(
    const real *restrict f, const real *restrict i,                         # IN     (n), activations
    const real *restrict g, const real *restrict o,                         # IN     (n)
    const real *restrict c_before, const real *restrict c,                  # IN     (n)
    const real *restrict da_next,                                           # IN     (n), of a from step t+1
    real *restrict dc,                                                      # IN/OUT (n), dc_next + dc<t>; dc_prev
    real *restrict df, real *restrict di, real *restrict dg,                # OUT    (n)
    real *restrict do,                                                      # IN/OUT (n), da<t>; do
    Py_ssize_t n,
) noexcept nogil:
    """The backward equations of n units, without the products."""
    cdef real tanh_c[POINTWISE_CHUNK]
    cdef Py_ssize_t k, start, u
    cdef real da_u, dc_u
    for k in range((n + POINTWISE_CHUNK - 1) // POINTWISE_CHUNK):
        start = k * POINTWISE_CHUNK
        for u in range(min(POINTWISE_CHUNK, n - start)):
            tanh_c[u] = tanh(c[start + u])
        for u in range(start, min(start + POINTWISE_CHUNK, n)):
            da_u = do[u] + da_next[u]
            dc_u = dc[u] + da_u * o[u] * (one - tanh_c[u - start] * tanh_c[u - start])
            do[u] = da_u * tanh_c[u - start] * o[u] * (one - o[u])
            df[u] = dc_u * c_before[u] * f[u] * (one - f[u])
            di[u] = dc_u * g[u] * i[u] * (one - i[u])
            dg[u] = dc_u * i[u] * (one - g[u] * g[u])
            dc[u] = dc_u * f[u]


cdef inline void lstm_forward(const step *s, Py_ssize_t n) noexcept nogil:
    """The sums of the gates become activations, and the states after the step."""
    gates(
        s.slot[FORGET], s.slot[INPUT], s.slot[CANDIDATE], s.slot[OUTPUT], s.before[1], s.after[1], s.after[0], n,
    )


cdef inline void lstm_backward(const step *s, Py_ssize_t n) noexcept nogil:
    """The gradients of the sums, and of c before the step."""
    d_gates(
        s.slot[FORGET], s.slot[INPUT], s.slot[CANDIDATE], s.slot[OUTPUT], s.before[1], s.after[1],
        s.d_state[0], s.d_state[1],
        s.d_slot[FORGET], s.d_slot[INPUT], s.d_slot[CANDIDATE], s.d_slot[OUTPUT], n,
    )


cdef inline cell lstm() noexcept nogil:
    cdef cell c
    memset(&c, 0, sizeof(c))
    c.n_slots, c.n_states, c.n_stages = 4, 2, 1
    c.x_first, c.x_count = FORGET, 4
    c.products[0].first, c.products[0].count, c.products[0].source = FORGET, 4, HIDDEN
    c.forward[0], c.backward[0] = lstm_forward, lstm_backward
    c.da_slot, c.dc_slot = OUTPUT, FORGET
    c.slot_is_state, c.keeps_da = False, False
    return c
