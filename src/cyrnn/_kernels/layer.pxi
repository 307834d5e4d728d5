"""One layer of a network, in one direction or both: the entry points.  The equations: cells/; the time loop: schedule/.

Between layers the hidden states stay where they are computed, as columns: (columns, n_a), one column an example at one
step.  Columns are numbered step by step; with lengths those of a step are the examples that have it, the longest first
(schedule/batch.h).  A layer reads the columns of the one or two directions below it as its input, side by side.

Weights come in the order of the cell's gates in `recurrent/spec.py`; their number is free, so they are lists.

Typed memoryviews end here: below are addresses and strides.  Every array is checked before anything is written.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps.
"""

from .cells.cell cimport cell
from .cells.table cimport cell_named
from .runtime.buffers cimport new_array
from .runtime.real cimport real
from .runtime.views cimport matrix, new_cube, new_matrix, new_sequence, new_state, refuse, sequence, state
from .schedule.backward cimport run_backward
from .schedule.both cimport DIRECTIONS, run_both_backward, run_both_forward
from .schedule.forward cimport run_forward
from .schedule.layer cimport (
    MAX_INPUTS, bias_slot, layer, layer_init, n_biases, new_cache, parameters, read_cache, recurrent_slot,
    set_input, set_input_weights, set_inputs, set_recurrent_weights,
)
from .schedule.output cimport activation, new_output, output_init


cdef int layer_weights(
    parameters *p,
    list weights,                       # IN  (n_a, n_a + n_x) of each gate; without gates (n_a, n_x), (n_a, n_a)
) except -1:
    cdef Py_ssize_t n_a = p.n_a, n_x = p.n_x, ld = n_a + n_x
    cdef const real[:, ::1] W
    cdef const real *data
    cdef int k
    if p.cell.slot_is_state:
        if len(weights) != 2:
            refuse()
        W = weights[0]
        set_input_weights(p, 0, matrix(W, n_a, n_x), n_x)
        W = weights[1]
        set_recurrent_weights(p, 0, matrix(W, n_a, n_a), n_a)
        return 0
    if len(weights) != p.cell.x_count:
        refuse()
    for k in range(p.cell.x_count):
        W = weights[k]
        data = matrix(W, n_a, ld)
        set_input_weights(p, p.cell.x_first + k, data + n_a, ld)
        set_recurrent_weights(p, recurrent_slot(&p.cell, k), data, ld)
    return 0


cdef int layer_biases(
    parameters *p,
    list biases,                        # IN  (n_a, 1) of each gate, then of a product without an input
) except -1:
    cdef const real[:, ::1] b
    cdef int k
    if len(biases) != n_biases(&p.cell):
        refuse()
    for k in range(n_biases(&p.cell)):
        b = biases[k]
        p.b[bias_slot(&p.cell, k)] = matrix(b, p.n_a, 1)
    return 0


cdef int layer_columns(
    layer *task, tuple below, bint fused,
) except -1:
    """The columns (columns, width) of one or two layers below as the input."""
    cdef const real[:, ::1] columns
    cdef Py_ssize_t widths[MAX_INPUTS]
    cdef int i
    widths[0] = widths[1] = 0
    if not 0 < len(below) <= MAX_INPUTS:
        refuse()
    for i in range(len(below)):
        columns = below[i]
        if columns.shape[0] < task.batch.columns:
            refuse()
        widths[i] = columns.shape[1]
        task.below[i] = matrix(columns, columns.shape[0], widths[i])
    if widths[0] + widths[1] != task.p.n_x:
        refuse()
    set_inputs(&task.p, widths[0], widths[1], fused, False)
    return 0


cdef int layer_input(
    layer *task, str form, bint reverse, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x, const Py_ssize_t[:, :] index, tuple below, list weights, bytes lengths,
) except -1:
    """Sizes, input and weights of a layer."""
    cdef cell c = cell_named(form)
    if not weights:
        refuse()
    cdef const real[:, ::1] W = weights[len(weights) - 1]     # (n_a, n_a + n_x), or (n_a, n_a) beside (n_a, n_x)
    cdef Py_ssize_t n_a = W.shape[0], n_x = W.shape[1] - n_a
    if c.slot_is_state:
        W = weights[0]
        n_x = W.shape[1]
    if n_x < 0:
        refuse()
    layer_init(task, c, n_x, n_a, m, T_x, T_x, lengths)
    task.reverse = reverse
    if below is None:
        if (x is None) == (index is None):
            refuse()
        set_input(task, x, index, T_x)
    else:
        layer_columns(task, below, m == 1)
    layer_weights(&task.p, weights)
    return 0


cdef tuple set_forward(
    layer *task,                        # OUT
    str form, bint reverse, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x, const Py_ssize_t[:, :] index, tuple below, tuple initial, list weights, list biases,
    real[:, :, ::1] a, bint inner, const real[:, ::1] Wy, const real[:, ::1] by, activation f, bytes lengths,
    bint keep,                          # IN  as `forward` has them
):
    """A forward pass that is ready to run; what it will return, as `forward` does."""
    cdef const real[:, :] initial_k
    cdef real[:, ::1] view
    cdef int k
    layer_input(task, form, reverse, m, T_x, x, index, below, weights, lengths)
    layer_biases(&task.p, biases)
    cdef Py_ssize_t n_a = task.p.n_a, n_states = task.p.cell.n_states
    output_init(&task.output, Wy, by, f, n_a)
    if len(initial) != n_states:
        refuse()
    for k in range(n_states):
        initial_k = initial[k]
        task.initial_given[k] = initial_k is not None
        if initial_k is not None:
            state(initial_k, n_a, m, True, &task.initial[k])
    if a is not None:
        if a.shape[0] != n_a or a.shape[1] != m or a.shape[2] != T_x:
            refuse()
        task.states[0] = new_sequence(a)

    y_out = new_output(&task.output, m, T_x)
    last = [new_array((n_a, m)) for _k in range(n_states)]
    for k in range(n_states):
        view = last[k]
        task.last[k] = new_state(view)
    task.keep = keep
    cache = new_cache(task) if keep else None
    hidden = None
    cdef Py_ssize_t first = task.batch.n_active if not reverse else 0
    if inner and (not keep or (reverse and task.batch.lengths != NULL)):
        hidden = new_array((task.batch.columns, n_a))
        view = hidden
        task.hidden, task.hidden_all = new_matrix(view), True
    elif inner:
        hidden = cache[first:first + task.batch.columns]
    return cache, hidden, y_out, last


def layer_forward(
    str form, bint reverse, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x,            # IN  (n_x, m, T_x), or
    const Py_ssize_t[:, :] index,       # IN  (m, T_x), the places of the ones of one-hot columns, or
    tuple below,                        # IN  (columns, width) of one or two layers below; the other two are None
    tuple initial,                      # IN  (n_a, m) or (n_a, 1) of each state; None for zeros
    list weights, list biases,          # IN  as `set_weights` and `set_biases` take them
    real[:, :, ::1] a,                # OUT (n_a, m, T_x), or None
    bint inner,                         # whether a layer above needs the hidden states as columns
    const real[:, ::1] Wy,            # IN  (n_y, n_a); None without an output
    const real[:, ::1] by,            # IN  (n_y, 1); None without an output
    activation f,                       # of the output
    bytes lengths,                      # IN  (m), as `lengths.copy` returns them; None if every example has all steps
    bint keep,                          # whether to return the cache for `backward`
) -> tuple:
    """The forward pass: the cache (cache_rows, n_a) or None, the hidden states as columns (columns, n_a) or None, y
    (n_y, m, T_x) or None, and the states (n_a, m) after the last step of each example (in the cache's memory are the
    columns where they are contiguous there)."""
    cdef layer task
    made = set_forward(
        &task, form, reverse, m, T_x, x, index, below, initial, weights, biases, a, inner, Wy, by, f, lengths, keep,
    )
    run_forward(&task)
    return made


def layer_forward_both(
    str form, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x, const Py_ssize_t[:, :] index, tuple below,
    tuple initial, tuple weights, tuple biases, tuple a,    # of each direction, as `forward` has them
    bint inner, bytes lengths, bint keep,
) -> list:
    """The forward pass of both directions, without an output: of each what `forward` returns."""
    cdef layer tasks[DIRECTIONS]
    cdef int i
    cdef list made = []
    for i in range(DIRECTIONS):
        made.append(set_forward(
            &tasks[i], form, i == 1, m, T_x, x, index, below, initial[i], weights[i], biases[i], a[i], inner, None,
            None, activation.NO_OUTPUT, lengths, keep,
        ))
    run_both_forward(tasks)
    return made


cdef tuple set_backward(
    layer *task,                        # OUT
    str form, bint reverse, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x, const Py_ssize_t[:, :] index, tuple below, list weights, bytes lengths,
    const real[:, ::1] cache, const real[:, :, :] da, const real[:, ::1] d_hidden,
    tuple d_last,                       # IN  as `backward` has them
):
    """A backward pass that is ready to run; what it will return, as `backward` does."""
    cdef const real[:, :] d_last_k
    cdef real[:, ::1] view, dW_view
    cdef real[:, :, ::1] cube
    cdef int k
    layer_input(task, form, reverse, m, T_x, x, index, below, weights, lengths)
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, n_x = task.p.n_x, columns = task.batch.columns
    if cache is None or (da is None) == (d_hidden is None) or len(d_last) != c.n_states:
        refuse()
    if da is not None:
        sequence(da, n_a, m, T_x, &task.d_states[0])
    else:
        task.d_hidden = matrix(d_hidden, columns, n_a)
    for k in range(c.n_states):
        d_last_k = d_last[k]
        if d_last_k is not None:
            state(d_last_k, n_a, m, False, &task.d_last[k])
    read_cache(task, cache)

    dx_out = None
    if x is not None:
        dx_out = new_array((n_x, m, T_x))
        cube = dx_out
        task.dx = new_sequence(cube)
    d_below = None
    if below is not None:
        d_below = tuple([new_array((columns, task.p.widths[k])) for k in range(task.p.n_inputs)])
        for k in range(task.p.n_inputs):
            view = d_below[k]
            task.d_below[k] = <real *> matrix(view, columns, task.p.widths[k])
    d_initial = [new_array((n_a, m)) for _k in range(c.n_states)]
    for k in range(c.n_states):
        view = d_initial[k]
        task.d_initial[k] = new_state(view)
    if c.slot_is_state:
        dW = [new_array((n_a, n_x)), new_array((n_a, n_a))]
        view, dW_view = dW[0], dW[1]
        task.out.dW_x[0], task.out.ld_x = new_matrix(view), n_x
        task.out.dW_h[0], task.out.ld_h = new_matrix(dW_view), n_a
    else:
        dW = [new_array((n_a, n_a + n_x)) for _k in range(c.x_count)]
        task.out.ld_x = task.out.ld_h = n_a + n_x
        for k in range(c.x_count):
            view = dW[k]
            task.out.dW_h[recurrent_slot(c, k)] = new_matrix(view)
            task.out.dW_x[c.x_first + k] = new_matrix(view) + n_a
    db_out = new_array((c.n_slots, n_a, 1))
    cube = db_out
    task.out.db = new_cube(cube)
    return dx_out, d_below, d_initial, dW, [db_out[bias_slot(c, k)] for k in range(n_biases(c))]


def layer_backward(
    str form, bint reverse, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x,            # IN  as `forward` had them
    const Py_ssize_t[:, :] index,
    tuple below,
    list weights,
    bytes lengths,
    const real[:, ::1] cache not None,    # IN  (cache_rows, n_a), as `forward` returned it
    const real[:, :, :] da,           # IN  (n_a, m, T_x), gradient of the hidden states, or
    const real[:, ::1] d_hidden,      # IN  (columns, n_a), the same as columns; one of the two is None
    tuple d_last,                       # IN  (n_a, m) of each state after the last steps; None for zeros
) -> tuple:
    """The backward pass: dx (n_x, m, T_x) or None, the gradients (columns, width) of the layers below or None, those
    (n_a, m) of the initial states, those of the weights in their order, and of the biases (n_slots, n_a, 1) of the
    slots."""
    cdef layer task
    made = set_backward(
        &task, form, reverse, m, T_x, x, index, below, weights, lengths, cache, da, d_hidden, d_last,
    )
    run_backward(&task)
    return made


def layer_backward_both(
    str form, Py_ssize_t m, Py_ssize_t T_x,
    const real[:, :, :] x, const Py_ssize_t[:, :] index, tuple below,
    tuple weights, bytes lengths,
    tuple cache, tuple da, tuple d_hidden, tuple d_last,    # of each direction, as `backward` has them
) -> list:
    """The backward pass of both directions: of each what `backward` returns."""
    cdef layer tasks[DIRECTIONS]
    cdef int i
    cdef list made = []
    for i in range(DIRECTIONS):
        made.append(set_backward(
            &tasks[i], form, i == 1, m, T_x, x, index, below, weights[i], lengths, cache[i], da[i], d_hidden[i],
            d_last[i],
        ))
    run_both_backward(tasks)
    return made
