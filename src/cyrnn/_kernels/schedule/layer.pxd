"""One layer of one call: a cell, its parameters, its arrays, its workspace.

The caller's arrays are (n, m, T_x), or (n, m) for a state.  Inside, a column is one example at one step; columns are
numbered step by step (batch.h) and have their n_a units side by side:

    state k   (n_active + columns, n_a), the initial states first; state 0 is a, state 1 is c
    slots     (n_slots, columns, n_a); with m = 1 (columns, n_slots, n_a), so that a product has one long row

In a forward pass that keeps them, states and slots are the cache of the backward pass: one after the other in one
array of `cache_rows` rows.  Where the cell's slot is its state there are no slots beside it.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; index u counts units, j examples, t steps, k slots
or states.
"""

from libc.string cimport memset

from ..cells.cell cimport MAX_SLOTS, MAX_STAGES, MAX_STATES, adds_to, cell, gets_input, slots_kept
from ..linalg.linalg cimport exceeds_cache, split_by_units, weights, weights_init
from ..runtime.buffers cimport new_array
from ..runtime.limits cimport LINE
from ..runtime.views cimport index_sequence, indices, matrix, new_matrix, refuse, sequence, strided
from ..runtime.parallel cimport index_range, thread, thread_range
from ..runtime.real cimport real
from .batch cimport batch, batch_as_columns, batch_init, mean_batch_size, offset_at
from .output cimport output


cdef enum:
    MAX_INPUTS = 2


cdef struct parameters:
    cell cell
    Py_ssize_t n_x, n_a
    bint one_hot                        # the input is one-hot and given by indices: a column of W_x is picked
    int n_inputs                        # 1, or 2 where the input is the columns of two layers
    Py_ssize_t widths[MAX_INPUTS]       # their sizes, n_x together
    weights W_x[MAX_INPUTS]             # of the slots that get the input
    weights W_h[MAX_STAGES]             # of the recurrent product of each stage
    const real *b[MAX_SLOTS]            # (n_a) of each slot; NULL for a slot that is no sum


cdef struct gradients:
    real *dW_x[MAX_SLOTS]               # (n_a, n_x) of each slot that gets the input
    real *dW_h[MAX_SLOTS]               # (n_a, n_a) of each slot that a product is added to
    Py_ssize_t ld_x, ld_h               # their row lengths
    real *db                            # (n_slots, n_a)


cdef struct layer:
    parameters p
    batch batch
    double flops                        # of a column
    bint split_units                    # threads split the units of every step, else the examples of a block
    bint joint_projection               # and project a block together, else each thread its own examples
    bint reverse                        # from the last step of each example to the first
    strided x                           # IN  (n_x, m, T_x), or
    indices x_indices                   # IN  (m, T_x), or
    const real *below[MAX_INPUTS]       # IN  (columns, widths[i]), the hidden states of the layers below; else NULL
    Py_ssize_t *x_picked                # workspace (columns of a block), the indices of its columns
    real *x_columns                     # workspace (columns of a block, n_x); backward: dx, when x is done with
    real *state[MAX_STATES]             # as at the top
    real *slots                         # as at the top
    Py_ssize_t slot_stride, slot_ld     # from slot to slot, from column to column
    bint slots_apart                    # slots that are states have a place of their own, for one block at a time
    Py_ssize_t panel_size               # values of workspace of each thread for products with unpacked matrices
    # forward
    bint keep                           # states and slots of all steps, else of one block at a time
    bint initial_given[MAX_STATES]      # else zeros
    strided initial[MAX_STATES]         # IN  (n_a, m)
    strided states[MAX_STATES]          # OUT (n_a, m, T_x); no address: not wanted
    strided last[MAX_STATES]            # OUT (n_a, m), after the last step of each example; no address: not wanted
    real *carry[MAX_STATES]             # workspace (n_active, n_a), with `reverse` or `last`
    real *hidden                        # OUT (columns, n_a), the hidden states as the layer above reads them, or NULL
    bint hidden_all                     # else workspace, of one block at a time
    output output
    real *bias                          # workspace (n_slots, n_a)
    # backward
    bint d_given[MAX_STATES]            # else zeros
    strided d_states[MAX_STATES]        # IN  (n_a, m, T_x)
    const real *d_hidden                # IN  (columns, n_a), in place of d_states[0], or NULL
    strided d_last[MAX_STATES]          # IN  (n_a, m), of the last states; no address: zeros
    strided dx                          # OUT (n_x, m, T_x), or
    real *d_below[MAX_INPUTS]           # OUT (columns, widths[i])
    strided d_initial[MAX_STATES]       # OUT (n_a, m)
    gradients out
    real *d_slots                       # workspace, as slots; the gradients of the states come in there
    Py_ssize_t d_stride, d_ld           # from slot to slot, from column to column
    real *d_state[MAX_STATES]           # workspace (n_active, n_a), from the next step
    Py_ssize_t *columns_before          # workspace (columns of a block), with lengths
    bint compensated                    # sums over the columns keep what they round off, of each slot:
    real *lost_x[MAX_SLOTS]             # workspace (n_a, n_x)
    real *lost_h[MAX_SLOTS]             # workspace (n_a, n_a)
    real *lost_b                        # workspace (n_slots, n_a)
    real *outer_workspace               # workspace of each thread
    Py_ssize_t outer_size


cdef inline void set_inputs(
    parameters *p, Py_ssize_t first, Py_ssize_t second, bint fused, bint unpacked,
) noexcept nogil:
    """One input, or two of which the second is not empty."""
    cdef int i, gates = p.cell.x_count
    p.n_inputs, p.widths[0], p.widths[1] = 2 if second else 1, first, second
    for i in range(MAX_INPUTS):
        p.W_x[i] = weights_init(gates, 0, p.n_a, p.widths[i], fused and gates > 1, unpacked)


cdef inline void parameters_init(
    parameters *p, cell c, Py_ssize_t n_x, Py_ssize_t n_a, bint fused, bint unpacked,
) noexcept nogil:
    """The sizes of the weight matrices; the matrices are still to come."""
    cdef int k
    p.cell, p.n_x, p.n_a, p.one_hot = c, n_x, n_a, False
    for k in range(MAX_SLOTS):
        p.b[k] = NULL
    set_inputs(p, n_x, 0, fused, unpacked)
    for k in range(c.n_stages):
        p.W_h[k] = weights_init(c.products[k].count, 0, n_a, n_a, fused and c.products[k].count > 1, unpacked)


cdef inline void set_input_weights(parameters *p, int slot, const real *W, Py_ssize_t ld) noexcept nogil:
    """The weights (n_a, n_x) between the input and a slot."""
    cdef int i
    for i in range(p.n_inputs):
        p.W_x[i].gate[slot - p.cell.x_first] = W
        p.W_x[i].ld = ld
        W += p.widths[i]


cdef inline void set_recurrent_weights(parameters *p, int slot, const real *W, Py_ssize_t ld) noexcept nogil:
    """The weights (n_a, n_a) between the hidden state, or another slot, and a slot."""
    cdef int k
    for k in range(p.cell.n_stages):
        if adds_to(&p.cell.products[k], slot):
            p.W_h[k].gate[slot - p.cell.products[k].first] = W
            p.W_h[k].ld = ld


cdef inline int set_gate(
    parameters *p, int slot,
    const real[:, ::1] W,               # IN  (n_a, n_a + n_x), columns of the hidden state before columns of the input
) except -1:
    """Both weights of a slot."""
    cdef Py_ssize_t ld = p.n_a + p.n_x
    cdef const real *data = matrix(W, p.n_a, ld)
    set_recurrent_weights(p, slot, data, ld)
    set_input_weights(p, slot, data + p.n_a, ld)
    return 0


cdef inline void set_gradient(gradients *out, int slot, real *dW, Py_ssize_t n_a, Py_ssize_t ld) noexcept nogil:
    """The gradient (n_a, n_a + n_x) of both weights of a slot."""
    out.dW_h[slot], out.dW_x[slot], out.ld_h, out.ld_x = dW, dW + n_a, ld, ld


cdef inline bint in_product(const cell *c, int slot) noexcept nogil:
    """Whether a recurrent product is added to a slot."""
    cdef int k
    for k in range(c.n_stages):
        if adds_to(&c.products[k], slot):
            return True
    return False


cdef inline int recurrent_slot(const cell *c, int gate) noexcept nogil:
    """The slot that the recurrent weights of a gate belong to: its own, or that of a product without an input."""
    cdef int slot = c.x_first + gate, k
    if in_product(c, slot):
        return slot
    for k in range(c.n_slots):
        if in_product(c, k) and not gets_input(c, k):
            return k
    return slot


cdef inline int n_biases(const cell *c) noexcept nogil:
    """Slots that are sums: those of the gates, and then those of a product alone."""
    cdef int count = c.x_count, k
    for k in range(c.n_slots):
        count += in_product(c, k) and not gets_input(c, k)
    return count


cdef inline int bias_slot(const cell *c, int k) noexcept nogil:
    """The slot of bias k, see `n_biases`: the gates' slots come first in every cell."""
    return c.x_first + k


cdef inline double recurrent_gates(const cell *c) noexcept nogil:
    """Recurrent weight matrices (n_a, n_a)."""
    cdef double count = 0.0
    cdef int k
    for k in range(c.n_stages):
        count += c.products[k].count
    return count


cdef inline Py_ssize_t input_size(const parameters *p) noexcept nogil:
    """The values of a column of the input that are read and multiplied."""
    return 1 if p.one_hot else p.n_x


cdef inline Py_ssize_t packed_size(const layer *task) noexcept nogil:
    """The values of a column of the input that are packed into the workspace: none where it is a layer below."""
    return 0 if task.below[0] != NULL else input_size(&task.p)


cdef inline double forward_flops(const parameters *p, Py_ssize_t n_y) noexcept nogil:
    """Floating-point operations of a column."""
    return 2.0 * p.n_a * (p.cell.x_count * <double> input_size(p) + recurrent_gates(&p.cell) * p.n_a + n_y)


cdef inline double backward_flops(const parameters *p) noexcept nogil:
    """Floating-point operations of a column."""
    return 4.0 * p.n_a * (p.cell.x_count * <double> input_size(p) + recurrent_gates(&p.cell) * p.n_a)


cdef inline int layer_init(
    layer *task, cell c, Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x, Py_ssize_t T_cache,
    bytes lengths,                      # as `batch_init` reads them
) except -1:
    """A layer of which the weights and arrays are still to come."""
    if T_cache < T_x:
        raise ValueError("the cache has too few steps")
    memset(task, 0, sizeof(layer))
    batch_init(&task.batch, lengths, m, T_x, T_cache)
    parameters_init(&task.p, c, n_x, n_a, m == 1, False)
    cdef int k
    for k in range(c.n_stages):
        task.p.W_h[k].unpacked = task.batch.T == 1
    return 0


cdef inline int input_shape(
    const real[:, :, :] x, const Py_ssize_t[:, :] index, Py_ssize_t *m, Py_ssize_t *T_x,
) except -1:
    """The examples and steps of the input, (n_x, m, T_x) or (m, T_x): one of the two is None."""
    if (x is None) == (index is None):
        refuse()
    if x is None:
        m[0], T_x[0] = index.shape[0], index.shape[1]
    else:
        m[0], T_x[0] = x.shape[1], x.shape[2]
    return 0


cdef inline int set_input(
    layer *task,
    const real[:, :, :] x,              # IN  (n_x, m, T_cache), or
    const Py_ssize_t[:, :] index,       # IN  (m, T_cache)
    Py_ssize_t T_cache,
) except -1:
    """The input of a layer that has its sizes and lengths."""
    cdef const batch *b = &task.batch
    if x is not None:
        return sequence(x, task.p.n_x, b.m, T_cache, &task.x)
    task.p.one_hot = task.p.W_x[0].unpacked = True
    return index_sequence(index, task.p.n_x, b.m, T_cache, b.lengths, b.T_x, &task.x_indices)


cdef inline Py_ssize_t cache_rows(const cell *c, const batch *b, Py_ssize_t columns) noexcept nogil:
    """Rows (of n_a values) of states and slots for so many columns."""
    return c.n_states * b.n_active + slots_kept(c) * columns


cdef inline void set_cache(layer *task, real *cache, Py_ssize_t columns) noexcept nogil:
    """Give states and slots of so many columns their places in an array (cache_rows, n_a)."""
    cdef Py_ssize_t n_a = task.p.n_a, rows = task.batch.n_active + columns
    cdef int k
    for k in range(task.p.cell.n_states):
        task.state[k] = cache + k * rows * n_a
    if task.p.cell.slot_is_state:
        task.slots, task.slot_stride, task.slot_ld = cache + task.batch.n_active * n_a, 0, n_a
        return
    task.slots = cache + task.p.cell.n_states * rows * n_a
    task.slot_stride, task.slot_ld = columns * n_a, n_a
    if task.batch.m == 1:
        task.slot_stride, task.slot_ld = n_a, task.p.cell.n_slots * n_a


cdef inline Py_ssize_t state_column(const layer *task, Py_ssize_t s, Py_ssize_t t0) noexcept nogil:
    """The column of a state where the states between steps s - 1 and s begin, if the first ones are those before t0.

    With lengths fewer examples have step s than step s - 1.  Going forward those that end are the rows behind it;
    with `reverse` they are the ones that begin, with their initial states."""
    if s == t0:
        return 0
    return task.batch.n_active + offset_at(&task.batch, s - 1) - offset_at(&task.batch, t0)


cdef inline const real *input_columns(
    layer *task, int i, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t *ld, index_range of, thread thr,
) noexcept nogil:
    """A block of input i as columns: where they are, or in the workspace, of which each thread writes a part."""
    cdef Py_ssize_t n = task.p.widths[i]
    if task.below[i] != NULL:
        ld[0] = n
        return task.below[i] + offset_at(&task.batch, t0) * n
    return batch_as_columns(task.x, n, &task.batch, t0, t1, task.x_columns, ld, thread_range(n, LINE, thr), of)


cdef inline object new_cache(layer *task):
    """A new array for states and slots of all steps, which the forward pass fills."""
    rows = new_array((cache_rows(&task.p.cell, &task.batch, task.batch.cached_columns), task.p.n_a))
    cdef real[:, ::1] view = rows
    set_cache(task, new_matrix(view), task.batch.cached_columns)
    return rows


cdef inline int read_cache(
    layer *task,
    const real[:, ::1] cache,           # IN  (cache_rows, n_a), as the forward pass returned it
) except -1:
    """States and slots of all steps, for the backward pass."""
    cdef Py_ssize_t rows = cache_rows(&task.p.cell, &task.batch, task.batch.cached_columns)
    set_cache(task, <real *> matrix(cache, rows, task.p.n_a), task.batch.cached_columns)
    return 0


cdef inline int split_work(layer *task, const weights *Wy) noexcept nogil:
    """What threads split; how many can share the work."""
    cdef Py_ssize_t max_threads
    task.split_units = split_by_units(&task.p.W_h[0], mean_batch_size(&task.batch), &max_threads)
    task.joint_projection = task.split_units or task.batch.single_block
    if not task.p.one_hot:
        task.joint_projection = task.joint_projection or exceeds_cache(&task.p.W_x[0])
    if Wy != NULL:
        task.joint_projection = task.joint_projection or exceeds_cache(Wy)
    return max_threads


cdef inline bint projected_once(const layer *task, int threads) noexcept nogil:
    """Whether the input weights are used for one product only, so that it does not pay to pack them."""
    return task.batch.columns <= task.batch.max_columns and (task.joint_projection or threads == 1)
