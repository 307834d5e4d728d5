"""LSTM: the entry points.  The equations: cells/lstm.pxd; the time loop: schedule/.

Typed memoryviews end here: below are addresses and strides.  Every array is checked before anything is written.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; gates in the order f, i, c, o.
"""

from .cells.lstm cimport F, G, I, O, lstm
from .runtime.buffers cimport new_array
from .runtime.views cimport matrix, new_cube, new_matrix, new_sequence, new_state, sequence, state
from .schedule.backward cimport run_backward
from .schedule.forward cimport run_forward
from .schedule.layer cimport (
    cache_rows, gradients, layer, layer_init, parameters, parameters_init, set_cache, set_gate,
)
from .schedule.one_step cimport one_step, run_step_backward, run_step_forward
from .schedule.output cimport output_init


cdef inline int set_weights(
    parameters *p,
    const double[:, ::1] Wf, const double[:, ::1] Wi,   # IN  (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wc, const double[:, ::1] Wo,   # IN  (n_a, n_a + n_x)
) except -1:
    set_gate(p, F, Wf)
    set_gate(p, I, Wi)
    set_gate(p, G, Wc)
    set_gate(p, O, Wo)
    return 0


cdef inline int set_biases(
    parameters *p,
    const double[:, ::1] bf, const double[:, ::1] bi, const double[:, ::1] bc, const double[:, ::1] bo,  # IN (n_a, 1)
) except -1:
    p.b[F], p.b[I] = matrix(bf, p.n_a, 1), matrix(bi, p.n_a, 1)
    p.b[G], p.b[O] = matrix(bc, p.n_a, 1), matrix(bo, p.n_a, 1)
    return 0


cdef inline void set_gradients(
    gradients *out,
    double[:, :, ::1] dW,               # OUT (4, n_a, n_a + n_x)
    double[:, :, ::1] db,               # OUT (4, n_a, 1)
) noexcept:
    out.dW_h[0], out.ld_h, out.ld_x = new_cube(dW), dW.shape[2], dW.shape[2]
    out.dW_x = out.dW_h[0] + dW.shape[1]
    out.db = new_cube(db)


def forward(
    const double[:, :, :] x not None,   # IN  (n_x, m, T_x)
    const double[:, :] a0 not None,     # IN  (n_a, m) or (n_a, 1)
    const double[:, :] c0,              # IN  (n_a, m) or (n_a, 1); None for zeros
    const double[:, ::1] Wf not None,   # IN  (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] bf not None,   # IN  (n_a, 1)
    const double[:, ::1] bi not None,   # IN  (n_a, 1)
    const double[:, ::1] bc not None,   # IN  (n_a, 1)
    const double[:, ::1] bo not None,   # IN  (n_a, 1)
    const double[:, ::1] Wy not None,   # IN  (n_y, n_a)
    const double[:, ::1] by not None,   # IN  (n_y, 1)
    bytes lengths,                      # IN  (m), as `lengths.copy` returns them; None if every example has all steps
    bint keep,                          # whether to return the cache for `backward`
) -> tuple:
    """The forward pass: a (n_a, m, T_x), y (n_y, m, T_x), c (n_a, m, T_x), the cache (cache_rows, n_a) or None."""
    cdef Py_ssize_t n_x = x.shape[0], m = x.shape[1], T_x = x.shape[2], n_a = Wf.shape[0]
    cdef layer l
    layer_init(&l, lstm(), n_x, n_a, m, T_x, T_x, lengths)
    set_weights(&l.p, Wf, Wi, Wc, Wo)
    set_biases(&l.p, bf, bi, bc, bo)
    output_init(&l.output, Wy, by, n_a)
    sequence(x, n_x, m, T_x, &l.x)
    l.initial_given[0], l.initial_given[1] = True, c0 is not None
    state(a0, n_a, m, True, &l.initial[0])
    if c0 is not None:
        state(c0, n_a, m, True, &l.initial[1])

    a_out, y_out, c_out = new_array((n_a, m, T_x)), new_array((l.output.n_y, m, T_x)), new_array((n_a, m, T_x))
    cache_out = None
    cdef double[:, :, ::1] a = a_out, y = y_out, c = c_out
    cdef double[:, ::1] cache
    l.states[0], l.states[1], l.output.y, l.keep = new_sequence(a), new_sequence(c), new_sequence(y), keep
    if keep:
        cache = cache_out = new_array((cache_rows(&l.p.cell, &l.batch, l.batch.cached_columns), n_a))
        set_cache(&l, new_matrix(cache), l.batch.cached_columns)
    run_forward(&l)
    return a_out, y_out, c_out, cache_out


def backward(
    const double[:, :, :] da not None,  # IN  (n_a, m, T_x)
    const double[:, :, :] dc,           # IN  (n_a, m, T_x); None for zeros
    const double[:, :, :] x not None,   # IN  (n_x, m, T_cache), T_cache at least T_x
    bytes lengths,                      # IN  as `forward` had them
    const double[:, ::1] cache not None,    # IN  (cache_rows, n_a), as `forward` returned it
    const double[:, ::1] Wf not None,   # IN  (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,   # IN  (n_a, n_a + n_x)
) -> tuple:
    """The backward pass, over the first T_x steps: dx (n_x, m, T_x), da0, dc0 (n_a, m), dW (4, n_a, n_a + n_x), db."""
    cdef Py_ssize_t n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2], n_x = x.shape[0], T_cache = x.shape[2]
    cdef layer l
    layer_init(&l, lstm(), n_x, n_a, m, T_x, T_cache, lengths)
    set_weights(&l.p, Wf, Wi, Wc, Wo)
    sequence(da, n_a, m, T_x, &l.d_states[0])
    l.d_given[0], l.d_given[1] = True, dc is not None
    if dc is not None:
        sequence(dc, n_a, m, T_x, &l.d_states[1])
    sequence(x, n_x, m, T_cache, &l.x)
    set_cache(
        &l, <double *> matrix(cache, cache_rows(&l.p.cell, &l.batch, l.batch.cached_columns), n_a),
        l.batch.cached_columns,
    )

    dx_out, da0_out, dc0_out = new_array((n_x, m, T_x)), new_array((n_a, m)), new_array((n_a, m))
    dW_out, db_out = new_array((4, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef double[:, :, ::1] dx = dx_out, dW = dW_out, db = db_out
    cdef double[:, ::1] da0 = da0_out, dc0 = dc0_out
    l.dx, l.d_initial[0], l.d_initial[1] = new_sequence(dx), new_state(da0), new_state(dc0)
    set_gradients(&l.out, dW, db)
    run_backward(&l)
    return dx_out, da0_out, dc0_out, dW_out, db_out


def cell_forward(
    const double[:, :] xt not None,     # IN  (n_x, m)
    const double[:, :] a_prev not None,     # IN  (n_a, m) or (n_a, 1)
    const double[:, :] c_prev not None,     # IN  (n_a, m) or (n_a, 1)
    const double[:, ::1] Wf not None,   # IN  (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] bf not None,   # IN  (n_a, 1)
    const double[:, ::1] bi not None,   # IN  (n_a, 1)
    const double[:, ::1] bc not None,   # IN  (n_a, 1)
    const double[:, ::1] bo not None,   # IN  (n_a, 1)
    const double[:, ::1] Wy not None,   # IN  (n_y, n_a)
    const double[:, ::1] by not None,   # IN  (n_y, 1)
) -> tuple:
    """One step: a_next, c_next (n_a, m), yt (n_y, m), the gates (4, n_a, m)."""
    cdef Py_ssize_t n_x = xt.shape[0], m = xt.shape[1], n_a = Wf.shape[0]
    cdef one_step l
    parameters_init(&l.p, lstm(), n_x, n_a, False, True)
    set_weights(&l.p, Wf, Wi, Wc, Wo)
    set_biases(&l.p, bf, bi, bc, bo)
    output_init(&l.output, Wy, by, n_a)
    l.m = m
    state(xt, n_x, m, False, &l.x)
    state(a_prev, n_a, m, True, &l.before[0])
    state(c_prev, n_a, m, True, &l.before[1])

    a_out, c_out, y_out = new_array((n_a, m)), new_array((n_a, m)), new_array((l.output.n_y, m))
    gates_out = new_array((4, n_a, m))
    cdef double[:, ::1] a_next = a_out, c_next = c_out, yt = y_out
    cdef double[:, :, ::1] gates = gates_out
    l.after[0], l.after[1], l.output.y = new_state(a_next), new_state(c_next), new_state(yt)
    l.slots = new_cube(gates)
    run_step_forward(&l)
    return a_out, c_out, y_out, gates_out


def cell_backward(
    const double[:, :] da_next not None,    # IN  (n_a, m)
    const double[:, :] dc_next not None,    # IN  (n_a, m)
    const double[:, :] c_next not None,     # IN  (n_a, m), the memory after the step
    const double[:, :] a_prev not None,     # IN  (n_a, m) or (n_a, 1), the hidden state before it
    const double[:, :] c_prev not None,     # IN  (n_a, m) or (n_a, 1), the memory before it
    const double[:, :] ft not None,     # IN  (n_a, m), the gates after their activations
    const double[:, :] it not None,     # IN  (n_a, m)
    const double[:, :] cct not None,    # IN  (n_a, m)
    const double[:, :] ot not None,     # IN  (n_a, m)
    const double[:, :] xt not None,     # IN  (n_x, m)
    const double[:, ::1] Wf not None,   # IN  (n_a, n_a + n_x), columns of a before columns of x
    const double[:, ::1] Wi not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wc not None,   # IN  (n_a, n_a + n_x)
    const double[:, ::1] Wo not None,   # IN  (n_a, n_a + n_x)
) -> tuple:
    """The gradients of one step: dxt (n_x, m), da_prev, dc_prev (n_a, m), dW (4, n_a, n_a + n_x), db (4, n_a, 1)."""
    cdef Py_ssize_t n_x = xt.shape[0], n_a = c_next.shape[0], m = c_next.shape[1]
    cdef one_step l
    parameters_init(&l.p, lstm(), n_x, n_a, False, True)
    set_weights(&l.p, Wf, Wi, Wc, Wo)
    l.m = m
    state(da_next, n_a, m, False, &l.d_after[0])
    state(dc_next, n_a, m, False, &l.d_after[1])
    state(c_next, n_a, m, False, &l.after[1])
    l.after[0] = l.after[1]             # a_next is not read by the backward equations
    state(a_prev, n_a, m, True, &l.before[0])
    state(c_prev, n_a, m, True, &l.before[1])
    state(ft, n_a, m, False, &l.slot[F])
    state(it, n_a, m, False, &l.slot[I])
    state(cct, n_a, m, False, &l.slot[G])
    state(ot, n_a, m, False, &l.slot[O])
    state(xt, n_x, m, False, &l.x)

    dx_out, da_out, dc_out = new_array((n_x, m)), new_array((n_a, m)), new_array((n_a, m))
    dW_out, db_out = new_array((4, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef double[:, ::1] dxt = dx_out, da_prev = da_out, dc_prev = dc_out
    cdef double[:, :, ::1] dW = dW_out, db = db_out
    l.dx, l.d_before[0], l.d_before[1] = new_state(dxt), new_state(da_prev), new_state(dc_prev)
    set_gradients(&l.out, dW, db)
    run_step_backward(&l)
    return dx_out, da_out, dc_out, dW_out, db_out
