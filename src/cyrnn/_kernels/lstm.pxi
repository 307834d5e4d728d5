"""LSTM: the entry points.  The equations: cells/lstm.pxd; the time loop: schedule/.

Typed memoryviews end here: below are addresses and strides.  Every array is checked before anything is written.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; gates in the order f, i, c, o.
"""

from .cells.lstm cimport CANDIDATE, FORGET, INPUT, OUTPUT, lstm
from .runtime.buffers cimport new_array
from .runtime.real cimport real
from .runtime.views cimport matrix, new_cube, new_sequence, new_state, sequence, state
from .schedule.backward cimport run_backward
from .schedule.forward cimport run_forward
from .schedule.layer cimport (
    gradients, input_shape, layer, layer_init, new_cache, parameters, parameters_init, read_cache, set_gate,
    set_gradient, set_input,
)
from .schedule.one_step cimport one_step, run_step_backward, run_step_forward, set_step_input, step_examples
from .schedule.output cimport activation, new_output, new_step_output, output_init


cdef inline int lstm_weights(
    parameters *p,
    const real[:, ::1] Wf, const real[:, ::1] Wi,       # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wc, const real[:, ::1] Wo,       # IN  (n_a, n_a + n_x)
) except -1:
    set_gate(p, FORGET, Wf)
    set_gate(p, INPUT, Wi)
    set_gate(p, CANDIDATE, Wc)
    set_gate(p, OUTPUT, Wo)
    return 0


cdef inline int lstm_biases(
    parameters *p,
    const real[:, ::1] bf, const real[:, ::1] bi, const real[:, ::1] bc, const real[:, ::1] bo,          # IN (n_a, 1)
) except -1:
    p.b[FORGET], p.b[INPUT] = matrix(bf, p.n_a, 1), matrix(bi, p.n_a, 1)
    p.b[CANDIDATE], p.b[OUTPUT] = matrix(bc, p.n_a, 1), matrix(bo, p.n_a, 1)
    return 0


cdef inline void lstm_gradients(
    gradients *out,
    real[:, :, ::1] dW,                 # OUT (4, n_a, n_a + n_x)
    real[:, :, ::1] db,                 # OUT (4, n_a, 1)
) noexcept:
    cdef Py_ssize_t n_a = dW.shape[1], ld = dW.shape[2]
    cdef int k
    for k in range(4):
        set_gradient(out, k, new_cube(dW) + k * n_a * ld, n_a, ld)
    out.db = new_cube(db)


def lstm_forward(
    const real[:, :, :] x,              # IN  (n_x, m, T_x), or
    const Py_ssize_t[:, :] index,       # IN  (m, T_x), places of the ones of one-hot columns; one of the two is None
    const real[:, :] a0,                # IN  (n_a, m) or (n_a, 1); None for zeros
    const real[:, :] c0,                # IN  (n_a, m) or (n_a, 1); None for zeros
    const real[:, ::1] Wf not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wi not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wo not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] bf not None,     # IN  (n_a, 1)
    const real[:, ::1] bi not None,     # IN  (n_a, 1)
    const real[:, ::1] bc not None,     # IN  (n_a, 1)
    const real[:, ::1] bo not None,     # IN  (n_a, 1)
    const real[:, ::1] Wy,              # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
    bytes lengths,                      # IN  (m), as `lengths.copy` returns them; None if every example has all steps
    bint keep,                          # whether to return the cache for `backward`
) -> tuple:
    """The forward pass: a (n_a, m, T_x), y (n_y, m, T_x) or None, c (n_a, m, T_x), and the cache (cache_rows, n_a)."""
    cdef Py_ssize_t n_a = Wf.shape[0], n_x = Wf.shape[1] - n_a, m, T_x
    cdef layer task
    input_shape(x, index, &m, &T_x)
    layer_init(&task, lstm(), n_x, n_a, m, T_x, T_x, lengths)
    lstm_weights(&task.p, Wf, Wi, Wc, Wo)
    lstm_biases(&task.p, bf, bi, bc, bo)
    output_init(&task.output, Wy, by, f, n_a)
    set_input(&task, x, index, T_x)
    task.initial_given[0], task.initial_given[1] = a0 is not None, c0 is not None
    if a0 is not None:
        state(a0, n_a, m, True, &task.initial[0])
    if c0 is not None:
        state(c0, n_a, m, True, &task.initial[1])

    a_out, c_out = new_array((n_a, m, T_x)), new_array((n_a, m, T_x))
    y_out = new_output(&task.output, m, T_x)
    cdef real[:, :, ::1] a = a_out, c = c_out
    task.states[0], task.states[1], task.keep = new_sequence(a), new_sequence(c), keep
    cache = new_cache(&task) if keep else None
    run_forward(&task)
    return a_out, y_out, c_out, cache


def lstm_backward(
    const real[:, :, :] da not None,    # IN  (n_a, m, T_x)
    const real[:, :, :] dc,             # IN  (n_a, m, T_x); None for zeros
    const real[:, :, :] x,              # IN  (n_x, m, T_cache), T_cache at least T_x, or
    const Py_ssize_t[:, :] index,       # IN  (m, T_cache); one of the two is None
    bytes lengths,                      # IN  as `forward` had them
    const real[:, ::1] cache not None,      # IN  (cache_rows, n_a), as `forward` returned it
    const real[:, ::1] Wf not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wi not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wo not None,     # IN  (n_a, n_a + n_x)
) -> tuple:
    """The backward pass, over the first T_x steps: dx (n_x, m, T_x) or None, da0, dc0 (n_a, m),
    dW (4, n_a, n_a + n_x), db."""
    cdef Py_ssize_t n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2], n_x = Wf.shape[1] - n_a, m_x, T_cache
    cdef layer task
    input_shape(x, index, &m_x, &T_cache)
    layer_init(&task, lstm(), n_x, n_a, m, T_x, T_cache, lengths)
    lstm_weights(&task.p, Wf, Wi, Wc, Wo)
    sequence(da, n_a, m, T_x, &task.d_states[0])
    task.d_given[0], task.d_given[1] = True, dc is not None
    if dc is not None:
        sequence(dc, n_a, m, T_x, &task.d_states[1])
    set_input(&task, x, index, T_cache)
    read_cache(&task, cache)

    dx_out = None if x is None else new_array((n_x, m, T_x))
    da0_out, dc0_out = new_array((n_a, m)), new_array((n_a, m))
    dW_out, db_out = new_array((4, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef real[:, :, ::1] dx = dx_out, dW = dW_out, db = db_out
    cdef real[:, ::1] da0 = da0_out, dc0 = dc0_out
    task.d_initial[0], task.d_initial[1] = new_state(da0), new_state(dc0)
    if x is not None:
        task.dx = new_sequence(dx)
    lstm_gradients(&task.out, dW, db)
    run_backward(&task)
    return dx_out, da0_out, dc0_out, dW_out, db_out


def lstm_cell_forward(
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m), the places of the ones of one-hot columns; one of the two is None
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1)
    const real[:, :] c_prev not None,       # IN  (n_a, m) or (n_a, 1)
    const real[:, ::1] Wf not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wi not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wo not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] bf not None,     # IN  (n_a, 1)
    const real[:, ::1] bi not None,     # IN  (n_a, 1)
    const real[:, ::1] bc not None,     # IN  (n_a, 1)
    const real[:, ::1] bo not None,     # IN  (n_a, 1)
    const real[:, ::1] Wy,              # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
) -> tuple:
    """One step: a_next, c_next (n_a, m), yt (n_y, m) or None, the gates (4, n_a, m)."""
    cdef Py_ssize_t n_a = Wf.shape[0], n_x = Wf.shape[1] - n_a, m = step_examples(xt, index)
    cdef one_step task
    parameters_init(&task.p, lstm(), n_x, n_a, False, True)
    lstm_weights(&task.p, Wf, Wi, Wc, Wo)
    lstm_biases(&task.p, bf, bi, bc, bo)
    output_init(&task.output, Wy, by, f, n_a)
    task.m = m
    set_step_input(&task, xt, index)
    state(a_prev, n_a, m, True, &task.before[0])
    state(c_prev, n_a, m, True, &task.before[1])

    a_out, c_out, gates_out = new_array((n_a, m)), new_array((n_a, m)), new_array((4, n_a, m))
    y_out = new_step_output(&task.output, m)
    cdef real[:, ::1] a_next = a_out, c_next = c_out
    cdef real[:, :, ::1] gates = gates_out
    task.after[0], task.after[1], task.slots = new_state(a_next), new_state(c_next), new_cube(gates)
    run_step_forward(&task)
    return a_out, c_out, y_out, gates_out


def lstm_cell_backward(
    const real[:, :] da_next not None,      # IN  (n_a, m)
    const real[:, :] dc_next not None,      # IN  (n_a, m)
    const real[:, :] c_next not None,       # IN  (n_a, m), the memory after the step
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1), the hidden state before it
    const real[:, :] c_prev not None,       # IN  (n_a, m) or (n_a, 1), the memory before it
    const real[:, :] ft not None,       # IN  (n_a, m), the gates after their activations
    const real[:, :] it not None,       # IN  (n_a, m)
    const real[:, :] cct not None,      # IN  (n_a, m)
    const real[:, :] ot not None,       # IN  (n_a, m)
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m); one of the two is None
    const real[:, ::1] Wf not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wi not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wo not None,     # IN  (n_a, n_a + n_x)
) -> tuple:
    """The gradients of one step: dxt (n_x, m) or None, da_prev, dc_prev (n_a, m), dW (4, n_a, n_a + n_x),
    db (4, n_a, 1)."""
    cdef Py_ssize_t n_a = c_next.shape[0], n_x = Wf.shape[1] - n_a, m = c_next.shape[1]
    cdef one_step task
    parameters_init(&task.p, lstm(), n_x, n_a, False, True)
    lstm_weights(&task.p, Wf, Wi, Wc, Wo)
    task.m = m
    state(da_next, n_a, m, False, &task.d_after[0])
    state(dc_next, n_a, m, False, &task.d_after[1])
    state(c_next, n_a, m, False, &task.after[1])
    task.after[0] = task.after[1]             # a_next is not read by the backward equations
    state(a_prev, n_a, m, True, &task.before[0])
    state(c_prev, n_a, m, True, &task.before[1])
    state(ft, n_a, m, False, &task.slot[FORGET])
    state(it, n_a, m, False, &task.slot[INPUT])
    state(cct, n_a, m, False, &task.slot[CANDIDATE])
    state(ot, n_a, m, False, &task.slot[OUTPUT])
    set_step_input(&task, xt, index)

    dx_out = None if xt is None else new_array((n_x, m))
    da_out, dc_out = new_array((n_a, m)), new_array((n_a, m))
    dW_out, db_out = new_array((4, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef real[:, ::1] dxt = dx_out, da_prev = da_out, dc_prev = dc_out
    cdef real[:, :, ::1] dW = dW_out, db = db_out
    task.d_before[0], task.d_before[1] = new_state(da_prev), new_state(dc_prev)
    if xt is not None:
        task.dx = new_state(dxt)
    lstm_gradients(&task.out, dW, db)
    run_step_backward(&task)
    return dx_out, da_out, dc_out, dW_out, db_out
