"""The equations of the LSTM that the sequence (`lstm.pyx`, where they stand in full) and one step
(`lstm_step.pyx`) have in common: from the sums of the gates to the new state, and back."""

from .arguments cimport matrix
from .gemm cimport weights, weights_of
from .vmath cimport sigmoid, tanh


cdef enum:
    CHUNK = 256     # values of a gate worked on together, so that all gates stay in L1


cdef inline int gates_of(
    Wf, Wi, Wc, Wo,                         # IN  (n_a, n_a + n_x)
    Py_ssize_t n_a, Py_ssize_t n_x, bint joined,
    weights *W_a, weights *W_x,
) except -1:
    """The four weight matrices as one of 4 n_a rows in gate order: the columns of a, those of x."""
    cdef Py_ssize_t ld = n_a + n_x, g
    W_a[0] = weights_of(matrix(Wf, n_a, ld), ld, n_a, n_a, False)
    W_a.part[1], W_a.part[2], W_a.part[3] = matrix(Wi, n_a, ld), matrix(Wc, n_a, ld), matrix(Wo, n_a, ld)
    W_a.parts = 4
    W_a.joined = joined
    W_x[0] = W_a[0]
    W_x.K = n_x
    for g in range(4):
        W_x.part[g] += n_a
    return 0


cdef inline void step_forward(
    double *restrict f, double *restrict i, double *restrict cct, double *restrict o,   # IN/OUT  (n)
    const double *restrict c_prev,                                                      # IN      (n)
    double *restrict c_next, double *restrict a_next,                                   # OUT     (n)
    Py_ssize_t n,
) noexcept nogil:
    """Sums of the gates in, activations and the new state out, for n units."""
    cdef Py_ssize_t b, u0, u, end
    for b in range((n + CHUNK - 1) // CHUNK):
        u0 = b * CHUNK
        end = min(u0 + CHUNK, n)
        for u in range(u0, end):
            f[u] = sigmoid(f[u])
        for u in range(u0, end):
            i[u] = sigmoid(i[u])
        for u in range(u0, end):
            cct[u] = tanh(cct[u])
        for u in range(u0, end):
            o[u] = sigmoid(o[u])
        for u in range(u0, end):
            c_next[u] = f[u] * c_prev[u] + i[u] * cct[u]
        for u in range(u0, end):
            a_next[u] = o[u] * tanh(c_next[u])


cdef inline void unit_backward(
    const double *restrict f, const double *restrict i, const double *restrict cct,
    const double *restrict o, const double *restrict c_prev,        # IN      (n)
    const double *restrict c_next, const double *restrict da_carry,     # IN      (n)
    double *restrict dc_carry,                                      # IN/OUT  (n)
    double *restrict df, double *restrict di, double *restrict dcct,    # OUT (n)
    double *restrict do_,                                           # IN/OUT  (n), da comes in
    Py_ssize_t n,
) noexcept nogil:
    """The backward equations for n units, the products left out."""
    cdef double tanh_c[CHUNK]
    cdef Py_ssize_t b, u0, u
    cdef double da_u, dc
    for b in range((n + CHUNK - 1) // CHUNK):
        u0 = b * CHUNK
        for u in range(min(CHUNK, n - u0)):
            tanh_c[u] = tanh(c_next[u0 + u])
        for u in range(u0, min(u0 + CHUNK, n)):
            da_u = do_[u] + da_carry[u]
            dc = dc_carry[u] + da_u * o[u] * (1.0 - tanh_c[u - u0] * tanh_c[u - u0])
            do_[u] = da_u * tanh_c[u - u0] * o[u] * (1.0 - o[u])
            df[u] = dc * c_prev[u] * f[u] * (1.0 - f[u])
            di[u] = dc * cct[u] * i[u] * (1.0 - i[u])
            dcct[u] = dc * i[u] * (1.0 - cct[u] * cct[u])
            dc_carry[u] = dc * f[u]
