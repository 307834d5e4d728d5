"""GRU: the entry points.  The equations: cells/gru.pxd; the time loop: schedule/.

With `bca` the reset gate acts after the product Wca a + bca, without it before the product.

Typed memoryviews end here: below are addresses and strides.  Every array is checked before anything is written.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; slots in the order cct, ut, rt, hct, where hct is what
the hidden state contributes to the candidate: rt * a_prev, or Wca a_prev + bca.
"""

from .cells.cell cimport cell
from .cells.gru cimport CANDIDATE as GRU_CANDIDATE, HIDDEN_PART, RESET, UPDATE, gru_after, gru_before
from .runtime.buffers cimport new_array
from .runtime.real cimport real
from .runtime.views cimport matrix, new_cube, new_sequence, new_state, sequence, state
from .schedule.backward cimport run_backward
from .schedule.forward cimport run_forward
from .schedule.layer cimport (
    gradients, input_shape, layer, layer_init, new_cache, parameters, parameters_init, read_cache, set_gate,
    set_gradient, set_input, set_input_weights, set_recurrent_weights,
)
from .schedule.one_step cimport one_step, run_step_backward, run_step_forward, set_step_input, step_examples
from .schedule.output cimport activation, new_output, new_step_output, output_init


cdef inline cell gru(bint after) noexcept:
    return gru_after() if after else gru_before()


cdef inline int gru_weights(
    parameters *p, bint after,
    const real[:, ::1] Wu, const real[:, ::1] Wr,       # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wc,                              # IN  (n_a, n_a + n_x)
) except -1:
    cdef Py_ssize_t ld = p.n_a + p.n_x
    cdef const real *candidate = matrix(Wc, p.n_a, ld)
    set_gate(p, UPDATE, Wu)
    set_gate(p, RESET, Wr)
    set_recurrent_weights(p, HIDDEN_PART if after else GRU_CANDIDATE, candidate, ld)
    set_input_weights(p, GRU_CANDIDATE, candidate + p.n_a, ld)
    return 0


cdef inline int gru_biases(
    parameters *p,
    const real[:, ::1] bu, const real[:, ::1] br, const real[:, ::1] bc,            # IN  (n_a, 1)
    const real[:, ::1] bca,                                                         # IN  (n_a, 1) or None
) except -1:
    p.b[UPDATE], p.b[RESET], p.b[GRU_CANDIDATE] = matrix(bu, p.n_a, 1), matrix(br, p.n_a, 1), matrix(bc, p.n_a, 1)
    if bca is not None:
        p.b[HIDDEN_PART] = matrix(bca, p.n_a, 1)
    return 0


cdef inline void gru_gradients(
    gradients *out, bint after,
    real[:, :, ::1] dW,                 # OUT (3, n_a, n_a + n_x), of the candidate, the update gate, the reset gate
    real[:, :, ::1] db,                 # OUT (4, n_a, 1), of the slots
) noexcept:
    cdef Py_ssize_t n_a = dW.shape[1], ld = dW.shape[2]
    cdef real *data = new_cube(dW)
    set_gradient(out, GRU_CANDIDATE, data, n_a, ld)
    set_gradient(out, UPDATE, data + n_a * ld, n_a, ld)
    set_gradient(out, RESET, data + 2 * n_a * ld, n_a, ld)
    if after:
        out.dW_h[HIDDEN_PART] = data
    out.db = new_cube(db)


def gru_forward(
    const real[:, :, :] x,              # IN  (n_x, m, T_x), or
    const Py_ssize_t[:, :] index,       # IN  (m, T_x), places of the ones of one-hot columns; one of the two is None
    const real[:, :] a0,                # IN  (n_a, m) or (n_a, 1); None for zeros
    const real[:, ::1] Wu not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wr not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] bu not None,     # IN  (n_a, 1)
    const real[:, ::1] br not None,     # IN  (n_a, 1)
    const real[:, ::1] bc not None,     # IN  (n_a, 1)
    const real[:, ::1] bca,             # IN  (n_a, 1); None: reset before the product
    const real[:, ::1] Wy,              # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
    bytes lengths,                      # IN  (m), as `lengths.copy` returns them; None if every example has all steps
    bint keep,                          # whether to return the cache for `backward`
) -> tuple:
    """The forward pass: a (n_a, m, T_x), y (n_y, m, T_x) or None, the cache (cache_rows, n_a) or None."""
    cdef Py_ssize_t n_a = Wu.shape[0], n_x = Wu.shape[1] - n_a, m, T_x
    cdef bint after = bca is not None
    cdef layer task
    input_shape(x, index, &m, &T_x)
    layer_init(&task, gru(after), n_x, n_a, m, T_x, T_x, lengths)
    gru_weights(&task.p, after, Wu, Wr, Wc)
    gru_biases(&task.p, bu, br, bc, bca)
    output_init(&task.output, Wy, by, f, n_a)
    set_input(&task, x, index, T_x)
    task.initial_given[0] = a0 is not None
    if a0 is not None:
        state(a0, n_a, m, True, &task.initial[0])

    a_out, y_out = new_array((n_a, m, T_x)), new_output(&task.output, m, T_x)
    cdef real[:, :, ::1] a = a_out
    task.states[0], task.keep = new_sequence(a), keep
    cache = new_cache(&task) if keep else None
    run_forward(&task)
    return a_out, y_out, cache


def gru_backward(
    const real[:, :, :] da not None,    # IN  (n_a, m, T_x)
    const real[:, :, :] x,              # IN  (n_x, m, T_cache), T_cache at least T_x, or
    const Py_ssize_t[:, :] index,       # IN  (m, T_cache); one of the two is None
    bytes lengths,                      # IN  as `forward` had them
    const real[:, ::1] cache not None,      # IN  (cache_rows, n_a), as `forward` returned it
    bint after,                         # whether the reset gate acts after the product
    const real[:, ::1] Wu not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wr not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
) -> tuple:
    """The backward pass, over the first T_x steps: dx (n_x, m, T_x) or None, da0 (n_a, m),
    dW (3, n_a, n_a + n_x) of cct, ut, rt, db (4, n_a, 1) of the slots."""
    cdef Py_ssize_t n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2], n_x = Wu.shape[1] - n_a, m_x, T_cache
    cdef layer task
    input_shape(x, index, &m_x, &T_cache)
    layer_init(&task, gru(after), n_x, n_a, m, T_x, T_cache, lengths)
    gru_weights(&task.p, after, Wu, Wr, Wc)
    sequence(da, n_a, m, T_x, &task.d_states[0])
    set_input(&task, x, index, T_cache)
    read_cache(&task, cache)

    dx_out, da0_out = None if x is None else new_array((n_x, m, T_x)), new_array((n_a, m))
    dW_out, db_out = new_array((3, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef real[:, :, ::1] dx = dx_out, dW = dW_out, db = db_out
    cdef real[:, ::1] da0 = da0_out
    task.d_initial[0] = new_state(da0)
    if x is not None:
        task.dx = new_sequence(dx)
    gru_gradients(&task.out, after, dW, db)
    run_backward(&task)
    return dx_out, da0_out, dW_out, db_out


def gru_cell_forward(
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m), the places of the ones of one-hot columns; one of the two is None
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1)
    const real[:, ::1] Wu not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wr not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] bu not None,     # IN  (n_a, 1)
    const real[:, ::1] br not None,     # IN  (n_a, 1)
    const real[:, ::1] bc not None,     # IN  (n_a, 1)
    const real[:, ::1] bca,             # IN  (n_a, 1); None: reset before the product
    const real[:, ::1] Wy,              # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
) -> tuple:
    """One step: a_next (n_a, m), yt (n_y, m) or None, the slots (4, n_a, m)."""
    cdef Py_ssize_t n_a = Wu.shape[0], n_x = Wu.shape[1] - n_a, m = step_examples(xt, index)
    cdef bint after = bca is not None
    cdef one_step task
    parameters_init(&task.p, gru(after), n_x, n_a, False, True)
    gru_weights(&task.p, after, Wu, Wr, Wc)
    gru_biases(&task.p, bu, br, bc, bca)
    output_init(&task.output, Wy, by, f, n_a)
    task.m = m
    set_step_input(&task, xt, index)
    state(a_prev, n_a, m, True, &task.before[0])

    a_out, slots_out, y_out = new_array((n_a, m)), new_array((4, n_a, m)), new_step_output(&task.output, m)
    cdef real[:, ::1] a_next = a_out
    cdef real[:, :, ::1] slots = slots_out
    task.after[0], task.slots = new_state(a_next), new_cube(slots)
    run_step_forward(&task)
    return a_out, y_out, slots_out


def gru_cell_backward(
    const real[:, :] da_next not None,      # IN  (n_a, m)
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1), the hidden state before the step
    const real[:, :] cct not None,      # IN  (n_a, m), the slots after their activations
    const real[:, :] ut not None,       # IN  (n_a, m)
    const real[:, :] rt not None,       # IN  (n_a, m)
    const real[:, :] hct not None,      # IN  (n_a, m)
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m); one of the two is None
    bint after,                         # whether the reset gate acts after the product
    const real[:, ::1] Wu not None,     # IN  (n_a, n_a + n_x), columns of a before columns of x
    const real[:, ::1] Wr not None,     # IN  (n_a, n_a + n_x)
    const real[:, ::1] Wc not None,     # IN  (n_a, n_a + n_x)
) -> tuple:
    """The gradients of one step: dxt (n_x, m) or None, da_prev (n_a, m), dW (3, n_a, n_a + n_x), db (4, n_a, 1)."""
    cdef Py_ssize_t n_a = cct.shape[0], n_x = Wu.shape[1] - n_a, m = cct.shape[1]
    cdef one_step task
    step_examples(xt, index)
    parameters_init(&task.p, gru(after), n_x, n_a, False, True)
    gru_weights(&task.p, after, Wu, Wr, Wc)
    task.m = m
    state(da_next, n_a, m, False, &task.d_after[0])
    task.after[0] = task.d_after[0]     # a_next is not read by the backward equations
    state(a_prev, n_a, m, True, &task.before[0])
    state(cct, n_a, m, False, &task.slot[GRU_CANDIDATE])
    state(ut, n_a, m, False, &task.slot[UPDATE])
    state(rt, n_a, m, False, &task.slot[RESET])
    state(hct, n_a, m, False, &task.slot[HIDDEN_PART])
    set_step_input(&task, xt, index)

    dx_out, da_out = None if xt is None else new_array((n_x, m)), new_array((n_a, m))
    dW_out, db_out = new_array((3, n_a, n_a + n_x)), new_array((4, n_a, 1))
    cdef real[:, ::1] dxt = dx_out, da_prev = da_out
    cdef real[:, :, ::1] dW = dW_out, db = db_out
    task.d_before[0] = new_state(da_prev)
    if xt is not None:
        task.dx = new_state(dxt)
    gru_gradients(&task.out, after, dW, db)
    run_step_backward(&task)
    return dx_out, da_out, dW_out, db_out
