"""The pointwise functions of the cells by themselves, for tests: the entry points.  The equations: cells/."""

from .cells.cell cimport cell, step
from .cells.table cimport cell_named
from .runtime.parallel cimport FP_FLUSH, fp_enter, fp_leave, fp_state
from .runtime.real cimport real
from .runtime.views cimport matrix, new_matrix, refuse


def pointwise_forward(
    str name, int stage,
    real[:, ::1] slots not None,            # IN/OUT (n_slots, n), sums, activations; not used where a slot is a state
    const real[:, ::1] before not None,     # IN     (n_states, n)
    real[:, ::1] after not None,            # OUT    (n_states, n); IN/OUT where a slot is a state
) -> None:
    """One stage of a step."""
    cdef cell c = cell_named(name)
    cdef Py_ssize_t n = after.shape[1]
    cdef step s
    cdef int k
    if stage < 0 or stage >= c.n_stages:
        refuse()
    matrix(before, c.n_states, n)
    matrix(after, c.n_states, n)
    matrix(slots, c.n_slots, n)
    for k in range(c.n_states):
        s.before[k], s.after[k] = matrix(before, c.n_states, n) + k * n, new_matrix(after) + k * n
    for k in range(c.n_slots):
        s.slot[k] = s.after[0] if c.slot_is_state else new_matrix(slots) + k * n
    cdef fp_state state = fp_enter(FP_FLUSH)
    c.forward[stage](&s, n)
    fp_leave(state)


def pointwise_backward(
    str name, int stage,
    real[:, ::1] slots not None,            # IN     (n_slots, n), activations
    const real[:, ::1] before not None,     # IN     (n_states, n)
    real[:, ::1] after not None,            # IN     (n_states, n)
    real[:, ::1] d_slots not None,          # IN/OUT (n_slots, n), the gradient of a from outside in `da_slot`
    real[:, ::1] d_states not None,         # IN/OUT (n_states, n), gradients from the next step, to the one before
) -> int:
    """One stage of a step, backward; returns da_slot, the slot in which the gradient of a comes in."""
    cdef cell c = cell_named(name)
    cdef Py_ssize_t n = after.shape[1]
    cdef step s
    cdef int k
    if stage < 0 or stage >= c.n_stages:
        refuse()
    matrix(after, c.n_states, n)
    matrix(slots, c.n_slots, n)
    matrix(d_slots, c.n_slots, n)
    matrix(d_states, c.n_states, n)
    for k in range(c.n_states):
        s.before[k], s.after[k] = matrix(before, c.n_states, n) + k * n, new_matrix(after) + k * n
        s.d_state[k] = new_matrix(d_states) + k * n
    for k in range(c.n_slots):
        s.slot[k] = s.after[0] if c.slot_is_state else new_matrix(slots) + k * n
        s.d_slot[k] = new_matrix(d_slots) + k * n
    cdef fp_state state = fp_enter(FP_FLUSH)
    c.backward[stage](&s, n)
    fp_leave(state)
    return c.da_slot
