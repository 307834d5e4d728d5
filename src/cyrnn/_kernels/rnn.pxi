"""Basic RNN: the entry points.  The equations: cells/rnn.pxd; the time loop: schedule/.

Typed memoryviews end here: below are addresses and strides.  Every array is checked before anything is written.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps.
"""

from .cells.rnn cimport rnn
from .runtime.buffers cimport new_array
from .runtime.real cimport real
from .runtime.views cimport matrix, new_matrix, new_sequence, new_state, sequence, state
from .schedule.backward cimport run_backward
from .schedule.forward cimport run_forward
from .schedule.layer cimport (
    gradients, input_shape, layer, layer_init, new_cache, parameters, parameters_init, read_cache, set_input,
    set_input_weights, set_recurrent_weights,
)
from .schedule.one_step cimport one_step, run_step_backward, run_step_forward, set_step_input, step_examples
from .schedule.output cimport activation, new_output, new_step_output, output_init


cdef inline int rnn_weights(
    parameters *p,
    const real[:, ::1] Wax,             # IN  (n_a, n_x)
    const real[:, ::1] Waa,             # IN  (n_a, n_a)
) except -1:
    set_input_weights(p, 0, matrix(Wax, p.n_a, p.n_x), p.n_x)
    set_recurrent_weights(p, 0, matrix(Waa, p.n_a, p.n_a), p.n_a)
    return 0


cdef inline void rnn_gradients(
    gradients *out,
    real[:, ::1] dWax, real[:, ::1] dWaa, real[:, ::1] dba,
) noexcept:
    out.dW_x[0], out.ld_x = new_matrix(dWax), dWax.shape[1]
    out.dW_h[0], out.ld_h = new_matrix(dWaa), dWaa.shape[1]
    out.db = new_matrix(dba)


def rnn_forward(
    const real[:, :, :] x,              # IN  (n_x, m, T_x), or
    const Py_ssize_t[:, :] index,       # IN  (m, T_x), places of the ones of one-hot columns; one of the two is None
    const real[:, :] a0,                # IN  (n_a, m) or (n_a, 1); None for zeros
    const real[:, ::1] Wax not None,    # IN  (n_a, n_x)
    const real[:, ::1] Waa not None,    # IN  (n_a, n_a)
    const real[:, ::1] ba not None,     # IN  (n_a, 1)
    const real[:, ::1] Wya,             # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
    bytes lengths,                      # IN  (m), as `lengths.copy` returns them; None if every example has all steps
    bint keep,                          # whether to return the cache for `backward`
) -> tuple:
    """The forward pass: a (n_a, m, T_x), y (n_y, m, T_x) or None, the cache (cache_rows, n_a) or None."""
    cdef Py_ssize_t n_x = Wax.shape[1], m, T_x, n_a = Waa.shape[0]
    cdef layer task
    input_shape(x, index, &m, &T_x)
    layer_init(&task, rnn(), n_x, n_a, m, T_x, T_x, lengths)
    rnn_weights(&task.p, Wax, Waa)
    task.p.b[0] = matrix(ba, n_a, 1)
    output_init(&task.output, Wya, by, f, n_a)
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


def rnn_backward(
    const real[:, :, :] da not None,    # IN  (n_a, m, T_x)
    const real[:, :, :] x,              # IN  (n_x, m, T_cache), T_cache at least T_x, or
    const Py_ssize_t[:, :] index,       # IN  (m, T_cache); one of the two is None
    bytes lengths,                      # IN  as `forward` had them
    const real[:, ::1] cache not None,      # IN  (cache_rows, n_a), as `forward` returned it
    const real[:, ::1] Wax not None,    # IN  (n_a, n_x)
    const real[:, ::1] Waa not None,    # IN  (n_a, n_a)
) -> tuple:
    """The backward pass, over the first T_x steps: dx (n_x, m, T_x) or None, da0 (n_a, m), dWax, dWaa,
    dba."""
    cdef Py_ssize_t n_a = da.shape[0], m = da.shape[1], T_x = da.shape[2], n_x = Wax.shape[1], m_x, T_cache
    cdef layer task
    input_shape(x, index, &m_x, &T_cache)
    layer_init(&task, rnn(), n_x, n_a, m, T_x, T_cache, lengths)
    rnn_weights(&task.p, Wax, Waa)
    sequence(da, n_a, m, T_x, &task.d_states[0])
    set_input(&task, x, index, T_cache)
    read_cache(&task, cache)

    dx_out, da0_out = None if x is None else new_array((n_x, m, T_x)), new_array((n_a, m))
    dWax_out, dWaa_out, dba_out = new_array((n_a, n_x)), new_array((n_a, n_a)), new_array((n_a, 1))
    cdef real[:, :, ::1] dx = dx_out
    cdef real[:, ::1] da0 = da0_out, dWax = dWax_out, dWaa = dWaa_out, dba = dba_out
    task.d_initial[0] = new_state(da0)
    if x is not None:
        task.dx = new_sequence(dx)
    rnn_gradients(&task.out, dWax, dWaa, dba)
    run_backward(&task)
    return dx_out, da0_out, dWax_out, dWaa_out, dba_out


def rnn_cell_forward(
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m), the places of the ones of one-hot columns; one of the two is None
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1)
    const real[:, ::1] Wax not None,    # IN  (n_a, n_x)
    const real[:, ::1] Waa not None,    # IN  (n_a, n_a)
    const real[:, ::1] ba not None,     # IN  (n_a, 1)
    const real[:, ::1] Wya,             # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,              # IN  (n_y, 1); None without an output
    activation f,                       # of the output
) -> tuple:
    """One step: a_next (n_a, m), yt (n_y, m) or None."""
    cdef Py_ssize_t n_x = Wax.shape[1], m = step_examples(xt, index), n_a = Waa.shape[0]
    cdef one_step task
    parameters_init(&task.p, rnn(), n_x, n_a, False, True)
    rnn_weights(&task.p, Wax, Waa)
    task.p.b[0] = matrix(ba, n_a, 1)
    output_init(&task.output, Wya, by, f, n_a)
    task.m = m
    set_step_input(&task, xt, index)
    state(a_prev, n_a, m, True, &task.before[0])

    a_out, y_out = new_array((n_a, m)), new_step_output(&task.output, m)
    cdef real[:, ::1] a_next = a_out
    task.after[0], task.slots = new_state(a_next), new_matrix(a_next)
    run_step_forward(&task)
    return a_out, y_out


def rnn_cell_backward(
    const real[:, :] da_next not None,      # IN  (n_a, m)
    const real[:, :] a_next not None,       # IN  (n_a, m)
    const real[:, :] a_prev not None,       # IN  (n_a, m) or (n_a, 1)
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m); one of the two is None
    const real[:, ::1] Wax not None,    # IN  (n_a, n_x)
    const real[:, ::1] Waa not None,    # IN  (n_a, n_a)
) -> tuple:
    """The gradients of one step: dxt (n_x, m) or None, da_prev (n_a, m), dWax, dWaa, dba."""
    cdef Py_ssize_t n_x = Wax.shape[1], n_a = a_next.shape[0], m = a_next.shape[1]
    cdef one_step task
    parameters_init(&task.p, rnn(), n_x, n_a, False, True)
    rnn_weights(&task.p, Wax, Waa)
    task.m = m
    state(da_next, n_a, m, False, &task.d_after[0])
    state(a_next, n_a, m, False, &task.after[0])
    state(a_prev, n_a, m, True, &task.before[0])
    set_step_input(&task, xt, index)

    dx_out, da_out = None if xt is None else new_array((n_x, m)), new_array((n_a, m))
    dWax_out, dWaa_out, dba_out = new_array((n_a, n_x)), new_array((n_a, n_a)), new_array((n_a, 1))
    cdef real[:, ::1] dxt = dx_out, da_prev = da_out, dWax = dWax_out, dWaa = dWaa_out, dba = dba_out
    task.d_before[0] = new_state(da_prev)
    if xt is not None:
        task.dx = new_state(dxt)
    rnn_gradients(&task.out, dWax, dWaa, dba)
    run_step_backward(&task)
    return dx_out, da_out, dWax_out, dWaa_out, dba_out
