"""Basic RNN: the equations.

    z<t> = Wax x<t> + Waa a<t-1> + ba                                                (forward)
    a<t> = tanh(z<t>)

    dz<t>   = (1 - a<t>^2) * (da<t> + Waa' dz<t+1>)                                  (backward)
    dx<t>   = Wax' dz<t>
    dWax    = sum_t dz<t> x<t>'      dWaa = sum_t dz<t> a<t-1>'      dba = sum_t dz<t>

One slot, z, in the place of the state a: tanh overwrites the sum.
"""

from libc.string cimport memcpy, memset

from ..linalg.linalg cimport tanh
from ..runtime.real cimport one, real
from .cell cimport HIDDEN, NO_SLOT, cell, step


cdef inline void rnn_forward(const step *s, Py_ssize_t n) noexcept nogil:
    """The sum becomes the hidden state after the step."""
    cdef real *z = s.slot[0]
    cdef Py_ssize_t u
    for u in range(n):
        z[u] = tanh(z[u])
    if s.after[0] != z:                 # from the last step to the first
        memcpy(s.after[0], z, n * sizeof(real))


cdef inline void gradient_of_sum(
    const real *restrict a,             # IN      (n), the state after the step
    const real *restrict da_next,       # IN      (n), the gradient of a from the next step
    real *restrict dz,                  # IN/OUT  (n), the gradient of a from outside comes in
    Py_ssize_t n,
) noexcept nogil:
    """dz<t>, without the product: through tanh, whose derivative is 1 - a^2."""
    cdef Py_ssize_t u
    for u in range(n):
        dz[u] = (one - a[u] * a[u]) * (dz[u] + da_next[u])


cdef inline void rnn_backward(const step *s, Py_ssize_t n) noexcept nogil:
    """The gradient of the sum."""
    gradient_of_sum(s.after[0], s.d_state[0], s.d_slot[0], n)


cdef inline cell rnn() noexcept nogil:
    cdef cell c
    memset(&c, 0, sizeof(c))
    c.n_slots, c.n_states, c.n_stages = 1, 1, 1
    c.x_first, c.x_count = 0, 1
    c.products[0].first, c.products[0].count, c.products[0].source = 0, 1, HIDDEN
    c.forward[0], c.backward[0] = rnn_forward, rnn_backward
    c.da_slot, c.dc_slot = 0, NO_SLOT
    c.slot_is_state, c.keeps_da = True, False
    return c
