"""GRU: the equations, in both forms.

    u = sigmoid(Wu [a<t-1>, x<t>] + bu)         update gate                          (forward)
    r = sigmoid(Wr [a<t-1>, x<t>] + br)         reset gate

reset before the product                        reset after the product

    s = r * a<t-1>                                  q = Wca a<t-1> + bca
    g = tanh(Wca s + Wcx x<t> + bc)                 g = tanh(Wcx x<t> + bc + r * q)

    a<t> = u * g + (1 - u) * a<t-1>

g is the candidate (cct), Wc = [Wca, Wcx].

    da = da<t> + d_a of step t+1                                                     (backward)
    du = da * (g - a<t-1>) * u * (1 - u)
    dg = da * u * (1 - g^2)

    ds = Wca' dg                                    dq = dg * r
    dr = ds * a<t-1> * r * (1 - r)                  dr = dg * q * r * (1 - r)
    d_a = da * (1 - u) + ds * r                     d_a = da * (1 - u) + Wca' dq
          + (Wu' du + Wr' dr, first n_a rows)             + (Wu' du + Wr' dr, first n_a rows)
    dWca = sum_t dg s'                              dWca = sum_t dq a<t-1>'     dbca = sum_t dq

    dx<t> = Wu' du + Wr' dr, last n_x rows, + Wcx' dg        dWcx = sum_t dg x<t>'
    dW  = sum_t d<t> [a<t-1>, x<t>]'  for u, r               db   = sum_t d<t>  for u, r, g

du, dr, dg are gradients of the sums, before the activation.  Slots in the order g, u, r, then s or q; the state is a.
The gradient of a from outside comes in in the slot of dg.
"""

from libc.string cimport memset

from ..linalg.linalg cimport sigmoid, tanh
from ..runtime.limits cimport POINTWISE_CHUNK
from ..runtime.real cimport one, real
from .cell cimport HIDDEN, NO_SLOT, cell, step


cdef enum:
    CANDIDATE = 0
    UPDATE = 1
    RESET = 2
    HIDDEN_PART = 3     # of the candidate: s, or q


cdef inline void update(
    const real *restrict g, const real *restrict u,         # IN  (n), activations
    const real *restrict before,                            # IN  (n), the state
    real *restrict after,                                   # OUT (n)
    Py_ssize_t begin, Py_ssize_t end,
) noexcept nogil:
    """The state after the step."""
    cdef Py_ssize_t k
    for k in range(begin, end):
        after[k] = u[k] * g[k] + (one - u[k]) * before[k]


cdef inline void gates_after(
    real *restrict g, real *restrict u, real *restrict r,           # IN/OUT (n), sums, activations
    const real *restrict q,                                         # IN     (n)
    const real *restrict before,                                    # IN     (n), the state
    real *restrict after,                                           # OUT    (n)
    Py_ssize_t n,
) noexcept nogil:
    """The forward equations of n units, reset after the product: one simple loop a line, which the compiler
    vectorises."""
    cdef Py_ssize_t chunk, begin, end, k
    for chunk in range((n + POINTWISE_CHUNK - 1) // POINTWISE_CHUNK):
        begin = chunk * POINTWISE_CHUNK
        end = min(begin + POINTWISE_CHUNK, n)
        for k in range(begin, end):
            u[k] = sigmoid(u[k])
        for k in range(begin, end):
            r[k] = sigmoid(r[k])
        for k in range(begin, end):
            g[k] = tanh(g[k] + r[k] * q[k])
        update(g, u, before, after, begin, end)


cdef inline void gates_before(
    real *restrict u, real *restrict r,         # IN/OUT (n), sums, activations
    real *restrict s,                           # OUT    (n)
    const real *restrict before,                # IN     (n), the state
    Py_ssize_t n,
) noexcept nogil:
    """The gates of n units, reset before the product, and the source of that product."""
    cdef Py_ssize_t chunk, begin, end, k
    for chunk in range((n + POINTWISE_CHUNK - 1) // POINTWISE_CHUNK):
        begin = chunk * POINTWISE_CHUNK
        end = min(begin + POINTWISE_CHUNK, n)
        for k in range(begin, end):
            u[k] = sigmoid(u[k])
        for k in range(begin, end):
            r[k] = sigmoid(r[k])
        for k in range(begin, end):
            s[k] = r[k] * before[k]


cdef inline void candidate_before(
    real *restrict g,                           # IN/OUT (n), sum, activation
    const real *restrict u,                     # IN     (n)
    const real *restrict before,                # IN     (n), the state
    real *restrict after,                       # OUT    (n)
    Py_ssize_t n,
) noexcept nogil:
    """The candidate of n units, reset before the product, and the state after the step."""
    cdef Py_ssize_t chunk, begin, end, k
    for chunk in range((n + POINTWISE_CHUNK - 1) // POINTWISE_CHUNK):
        begin = chunk * POINTWISE_CHUNK
        end = min(begin + POINTWISE_CHUNK, n)
        for k in range(begin, end):
            g[k] = tanh(g[k])
        update(g, u, before, after, begin, end)


cdef inline void d_update(
    const real *restrict g, const real *restrict u,         # IN     (n), activations
    const real *restrict before,                            # IN     (n), the state
    real *restrict d_a,                                     # IN/OUT (n), from the next step; da * (1 - u)
    real *restrict dg,                                      # IN/OUT (n), da from outside comes in
    real *restrict du,                                      # OUT    (n)
    Py_ssize_t n,
) noexcept nogil:
    """The backward equations that both forms share."""
    cdef Py_ssize_t k
    cdef real da
    for k in range(n):
        da = dg[k] + d_a[k]
        du[k] = da * (g[k] - before[k]) * u[k] * (one - u[k])
        dg[k] = da * u[k] * (one - g[k] * g[k])
        d_a[k] = da * (one - u[k])


cdef inline void d_reset_after(
    const real *restrict r, const real *restrict q,         # IN  (n), activations
    const real *restrict dg,                                # IN  (n)
    real *restrict dr, real *restrict dq,                   # OUT (n)
    Py_ssize_t n,
) noexcept nogil:
    """The gradients of the reset gate and of q, reset after the product."""
    cdef Py_ssize_t k
    for k in range(n):
        dr[k] = dg[k] * q[k] * r[k] * (one - r[k])
        dq[k] = dg[k] * r[k]


cdef inline void d_reset_before(
    const real *restrict r, const real *restrict before,        # IN     (n), activation, state
    const real *restrict ds,                                    # IN     (n), Wca' dg
    real *restrict d_a,                                         # IN/OUT (n), da * (1 - u); ds * r is added
    real *restrict dr,                                          # OUT    (n)
    Py_ssize_t n,
) noexcept nogil:
    """The gradient of the reset gate, reset before the product."""
    cdef Py_ssize_t k
    for k in range(n):
        dr[k] = ds[k] * before[k] * r[k] * (one - r[k])
        d_a[k] += ds[k] * r[k]


cdef inline void after_forward(const step *s, Py_ssize_t n) noexcept nogil:
    """The sums become activations, and the state after the step."""
    gates_after(
        s.slot[CANDIDATE], s.slot[UPDATE], s.slot[RESET], s.slot[HIDDEN_PART], s.before[0], s.after[0], n,
    )


cdef inline void after_backward(const step *s, Py_ssize_t n) noexcept nogil:
    """The gradients of the sums, and what the product adds to in d_state."""
    d_update(
        s.slot[CANDIDATE], s.slot[UPDATE], s.before[0], s.d_state[0], s.d_slot[CANDIDATE], s.d_slot[UPDATE], n,
    )
    d_reset_after(
        s.slot[RESET], s.slot[HIDDEN_PART], s.d_slot[CANDIDATE], s.d_slot[RESET], s.d_slot[HIDDEN_PART], n,
    )


cdef inline void before_forward_gates(const step *s, Py_ssize_t n) noexcept nogil:
    """The first stage: the gates, and the source of the second product."""
    gates_before(s.slot[UPDATE], s.slot[RESET], s.slot[HIDDEN_PART], s.before[0], n)


cdef inline void before_forward_state(const step *s, Py_ssize_t n) noexcept nogil:
    """The second stage: the candidate, and the state after the step."""
    candidate_before(s.slot[CANDIDATE], s.slot[UPDATE], s.before[0], s.after[0], n)


cdef inline void before_backward_state(const step *s, Py_ssize_t n) noexcept nogil:
    """The second stage, which comes first."""
    d_update(
        s.slot[CANDIDATE], s.slot[UPDATE], s.before[0], s.d_state[0], s.d_slot[CANDIDATE], s.d_slot[UPDATE], n,
    )


cdef inline void before_backward_gates(const step *s, Py_ssize_t n) noexcept nogil:
    """The first stage; the product adds to what is in d_state."""
    d_reset_before(s.slot[RESET], s.before[0], s.d_slot[HIDDEN_PART], s.d_state[0], s.d_slot[RESET], n)


cdef inline cell gru_after() noexcept nogil:
    """Reset after the product: one stage, the input into g, u, r, the hidden state into u, r, q."""
    cdef cell c
    memset(&c, 0, sizeof(c))
    c.n_slots, c.n_states, c.n_stages = 4, 1, 1
    c.x_first, c.x_count = CANDIDATE, 3
    c.products[0].first, c.products[0].count, c.products[0].source = UPDATE, 3, HIDDEN
    c.forward[0], c.backward[0] = after_forward, after_backward
    c.da_slot, c.dc_slot = CANDIDATE, NO_SLOT
    c.slot_is_state, c.keeps_da = False, True
    return c


cdef inline cell gru_before() noexcept nogil:
    """Reset before the product: two stages, the hidden state into u, r, then s into g."""
    cdef cell c
    memset(&c, 0, sizeof(c))
    c.n_slots, c.n_states, c.n_stages = 4, 1, 2
    c.x_first, c.x_count = CANDIDATE, 3
    c.products[0].first, c.products[0].count, c.products[0].source = UPDATE, 2, HIDDEN
    c.products[1].first, c.products[1].count, c.products[1].source = CANDIDATE, 1, HIDDEN_PART
    c.forward[0], c.backward[0] = before_forward_gates, before_backward_gates
    c.forward[1], c.backward[1] = before_forward_state, before_backward_state
    c.da_slot, c.dc_slot = CANDIDATE, NO_SLOT
    c.slot_is_state, c.keeps_da = False, True
    return c
