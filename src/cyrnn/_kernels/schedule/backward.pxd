"""The backward pass of a layer: the one time loop, from the last step to the first.

Steps are computed in blocks.  The gradients of a block's states become columns in the slots that the cell names; then
come its steps, the last one first; then the sums over all its columns: the gradients of the weights, and dx.
"""

from libc.string cimport memcpy, memset

from ..cells.cell cimport adds_to, cell, gets_input, product, step
from ..linalg.linalg cimport (
    ADD, ZERO, accumulator, add_lost, add_outer, add_outer_one_hot, add_outer_workspace, add_rows, matmul_t, padded_ld,
    panel_size, rows_from, start, weights_alloc, weights_pack_t,
)
from ..runtime.buffers cimport index_alloc, values_alloc, workspace_alloc
from ..runtime.limits cimport BACKWARD_COLUMNS, COMPENSATED, LINE, MR, NR, SUM_COLUMNS
from ..runtime.parallel cimport (
    barrier, clamp, full_range, index_range, interrupted, one_thread, poll_signals, publish, thread, thread_range,
)
from ..runtime.real cimport real
from ..runtime.threads cimport run_on_threads, threads_for
from .batch cimport (
    batch, batch_alloc, batch_size_at, clear_padding, columns_before, n_segments, offset_at, pack_batch, pack_indices,
    pack_state, segment, sort_batch, thread_examples, unpack_batch, unpack_state,
)
from .blocks cimport next_block, set_block
from .layer cimport (
    MAX_INPUTS, backward_flops, in_product, input_columns, input_size, layer, packed_size, projected_once, split_work,
    state_column,
)


cdef inline void backward_pointwise(
    const layer *task, int stage,
    Py_ssize_t before, Py_ssize_t after,        # the first columns of the states before and after the step
    Py_ssize_t first,                           # the first column of the slots
    real *d,                                    # the first column of d_slots at this step
    index_range columns,
) noexcept nogil:
    """The pointwise function of a stage for some columns of a step: one call for all of them where the rows of d_slots
    have no padding, else one call a column."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.d_ld, j = columns.begin, u
    cdef Py_ssize_t together = columns.end - columns.begin if ld == n_a else 1
    cdef step s
    cdef int k
    while j < columns.end:
        for k in range(c.n_slots):
            s.slot[k] = task.slots + (first + j) * task.slot_ld + k * task.slot_stride
            s.d_slot[k] = d + j * ld + k * task.d_stride
        for k in range(c.n_states):
            s.before[k] = task.state[k] + (before + j) * n_a
            s.after[k] = task.state[k] + (after + j) * n_a
            s.d_state[k] = task.d_state[k] + j * n_a
        # the gradient of c from outside, before its slot is overwritten
        if stage == c.n_stages - 1 and c.dc_slot >= 0 and task.d_given[1]:
            for u in range(together * n_a):
                s.d_state[1][u] += s.d_slot[c.dc_slot][u]
        c.backward[stage](&s, together * n_a)
        j += together


cdef inline void backward_step(
    const layer *task,
    Py_ssize_t before, Py_ssize_t after, Py_ssize_t first, real *d,     # as `backward_pointwise`
    index_range pointwise_columns,              # this thread's for the pointwise part
    index_range columns,                        # and for the products
    thread thr,
) noexcept nogil:
    """One step of the cell: the stages, the last one first, each its pointwise function, then its product."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t count = columns.end - columns.begin, n_a = task.p.n_a, ld = task.d_ld
    cdef const product *p
    cdef real *d_own = d + columns.begin * ld
    cdef Py_ssize_t sd = task.d_stride
    cdef int k
    for k in range(c.n_stages - 1, -1, -1):
        p = &c.products[k]
        backward_pointwise(task, k, before, after, first, d, pointwise_columns)
        barrier(thr)
        if p.source < 0:
            matmul_t(
                task.d_state[0] + columns.begin * n_a, n_a, &task.p.W_h[k], d_own + p.first * sd, sd, ld, count,
                ADD if c.keeps_da else ZERO, thr,
            )
        else:
            matmul_t(
                d_own + p.source * sd, ld, &task.p.W_h[k], d_own + p.first * sd, sd, ld, count, ZERO, thr,
            )
        barrier(thr)


cdef inline accumulator dW_h_of(const layer *task, int slot) noexcept nogil:
    """The gradient of the recurrent weights of a slot."""
    cdef accumulator found
    found.sum, found.ld = task.out.dW_h[slot], task.out.ld_h
    found.lost, found.ld_lost = task.lost_h[slot], task.p.n_a
    return found


cdef inline accumulator dW_x_of(const layer *task, int slot) noexcept nogil:
    """The gradient of the weights of the input of a slot."""
    cdef accumulator found
    found.sum, found.ld = task.out.dW_x[slot], task.out.ld_x
    found.lost, found.ld_lost = task.lost_x[slot], task.p.n_x
    return found


cdef inline accumulator db_of(const layer *task, int slot) noexcept nogil:
    """The gradient of the bias of a slot: a value a row."""
    cdef accumulator found
    cdef Py_ssize_t first = slot * task.p.n_a
    found.sum, found.lost, found.ld, found.ld_lost = task.out.db + first, NULL, 1, 1
    if task.lost_b != NULL:
        found.lost = task.lost_b + first
    return found


cdef inline void add_weight_gradients(
    const layer *task,
    const real **x, const Py_ssize_t *ldx,      # the block as columns, of each input
    const real *before,                         # the hidden states before the first column
    const Py_ssize_t *at,                       # and where the others are, counted from there
    Py_ssize_t first, Py_ssize_t columns, start how, thread thr,
) noexcept nogil:
    """dW (+)= sum d x', sum d a' and db += sum d over the columns of a block, which begin at `first`."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.d_ld, rows
    cdef index_range units = thread_range(n_a, NR, thr)
    cdef real *workspace = task.outer_workspace + thr.id * task.outer_size
    cdef const product *p
    cdef const real *source
    cdef real *d
    cdef accumulator dW
    cdef int k, stage, i
    rows = units.end - units.begin
    for k in range(c.n_slots):
        d = task.d_slots + k * task.d_stride + units.begin
        for stage in range(c.n_stages):
            p = &c.products[stage]
            if adds_to(p, k):
                dW = rows_from(dW_h_of(task, k), units.begin)
                if p.source < 0:
                    add_outer(dW, d, ld, rows, before, n_a, at, n_a, columns, how, workspace, thr)
                else:
                    source = task.slots + p.source * task.slot_stride + first * task.slot_ld
                    add_outer(dW, d, ld, rows, source, task.slot_ld, NULL, n_a, columns, how, workspace, thr)
        if gets_input(c, k):
            dW = rows_from(dW_x_of(task, k), units.begin)
            if task.p.one_hot:
                add_outer_one_hot(dW, d, ld, rows, task.x_picked, task.p.n_x, columns, how, workspace, thr)
            for i in range(0 if task.p.one_hot else task.p.n_inputs):
                add_outer(dW, d, ld, rows, x[i], ldx[i], NULL, task.p.widths[i], columns, how, workspace, thr)
                dW.sum += task.p.widths[i]
                if dW.lost != NULL:
                    dW.lost += task.p.widths[i]
        add_rows(rows_from(db_of(task, k), units.begin), d, ld, rows, columns)


cdef inline void end_sums(const layer *task, index_range units) noexcept nogil:
    """Add to the sums over all columns what they rounded off."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t rows = units.end - units.begin
    cdef int k
    for k in range(c.n_slots):
        if in_product(c, k):
            add_lost(rows_from(dW_h_of(task, k), units.begin), rows, task.p.n_a)
        if gets_input(c, k):
            add_lost(rows_from(dW_x_of(task, k), units.begin), rows, task.p.n_x)
        add_lost(rows_from(db_of(task, k), units.begin), rows, 1)


cdef inline void clear_gradients(const layer *task) noexcept nogil:
    """Zeros, where there is no step."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, row
    cdef int k, stage
    for k in range(c.n_slots):
        for row in range(n_a if gets_input(c, k) else 0):
            memset(task.out.dW_x[k] + row * task.out.ld_x, 0, task.p.n_x * sizeof(real))
        for stage in range(c.n_stages):
            for row in range(n_a if adds_to(&c.products[stage], k) else 0):
                memset(task.out.dW_h[k] + row * task.out.ld_h, 0, n_a * sizeof(real))


cdef inline void load_gradients(
    layer *task, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """The gradients of the states of a block from outside, into the slots that the cell names."""
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.d_ld, first = offset_at(b, t0), t, j
    cdef index_range units = thread_range(n_a, LINE, thr), own, rows
    cdef real *d = task.d_slots + c.da_slot * task.d_stride
    if task.d_hidden != NULL:
        own = thread_range(t1 - t0, 1, thr)
        for t in range(t0 + own.begin, t0 + own.end):
            rows = clamp(of, batch_size_at(b, t))
            for j in range(offset_at(b, t) + rows.begin, offset_at(b, t) + rows.end):
                memcpy(d + (j - first) * ld, task.d_hidden + j * n_a, n_a * sizeof(real))
    else:
        pack_batch(d, ld, task.d_states[0], b, t0, t1, units, of)
    if c.dc_slot >= 0 and task.d_given[1]:
        pack_batch(task.d_slots + c.dc_slot * task.d_stride, ld, task.d_states[1], b, t0, t1, units, of)


cdef inline void input_gradients(
    layer *task, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """dx of a block, or the gradients of the hidden states of the layers below."""
    cdef const batch *b = &task.batch
    cdef Py_ssize_t ld = task.d_ld, n, i
    cdef index_range columns
    cdef real *to
    cdef int k
    for k in range(task.p.n_inputs):
        n = task.p.widths[k]
        to = task.x_columns if task.below[k] == NULL else task.d_below[k] + offset_at(b, t0) * n
        # no barrier before `unpack_batch`: both split n_x by MR, so that a thread stores what it computed
        for i in range(n_segments(b, t0, t1, of)):
            columns = segment(b, t0, t1, of, i)
            matmul_t(
                to + columns.begin * n, n, &task.p.W_x[k],
                task.d_slots + task.p.cell.x_first * task.d_stride + columns.begin * ld, task.d_stride, ld,
                columns.end - columns.begin, ZERO, thr,
            )
        if task.below[k] == NULL:
            unpack_batch(task.dx, task.x_columns, n, b, t0, t1, thread_range(n, MR, thr), of)


cdef inline void backward_pass(void *problem, thread thr) noexcept nogil:
    """One thread's part of a layer."""
    cdef layer *task = <layer *> problem
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef bint reverse = task.reverse
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.d_ld, t0 = 0 if reverse else b.T, t1 = t0, t, n, i, first
    cdef Py_ssize_t ldx[MAX_INPUTS]
    cdef const real *x[MAX_INPUTS]
    cdef const Py_ssize_t *at
    cdef index_range units = thread_range(n_a, NR, thr), values = thread_range(b.n_active * n_a, LINE, thr)
    cdef index_range own, of, columns           # own, of: see batch.h
    cdef thread step_threads = thr if task.split_units else one_thread(thr)
    cdef thread block_threads = thr if task.joint_projection else step_threads
    cdef start how = ZERO
    cdef int k

    if b.T == 0 and thr.id == 0:
        clear_gradients(task)
    for k in range(c.n_slots):
        memset(task.out.db + k * n_a + units.begin, 0, (units.end - units.begin) * sizeof(real))
        if task.compensated:
            memset(task.lost_b + k * n_a + units.begin, 0, (units.end - units.begin) * sizeof(real))
    for k in range(c.n_states):
        if task.d_last[k].data != NULL:
            pack_state(task.d_state[k], n_a, task.d_last[k], b, thread_range(n_a, LINE, thr))
        else:
            memset(task.d_state[k] + values.begin, 0, (values.end - values.begin) * sizeof(real))
    if task.dx.data != NULL:
        clear_padding(task.dx, b, thread_range(task.p.n_x, LINE, thr))
    for k in range(task.p.n_inputs):
        weights_pack_t(&task.p.W_x[k], thr)
    for k in range(c.n_stages):
        weights_pack_t(&task.p.W_h[k], thr)
    barrier(thr)
    while next_block(b, not reverse, &t0, &t1) and not interrupted(thr):
        first = offset_at(b, t0)
        own = full_range(b.m) if task.split_units else thread_examples(b, t0, t1, thr)
        of = full_range(b.m) if task.joint_projection else own
        load_gradients(task, t0, t1, of, block_threads)
        if task.p.one_hot:
            pack_indices(task.x_picked, task.x_indices, task.p.n_x, b, t0, t1, of, block_threads)
        else:
            for k in range(task.p.n_inputs):
                x[k] = input_columns(task, k, t0, t1, &ldx[k], of, block_threads)
        at = NULL if reverse else columns_before(b, t0, t1, task.columns_before, thr)
        barrier(block_threads)
        for i in range(t1 - t0):
            t = t0 + i if reverse else t1 - 1 - i
            n = batch_size_at(b, t)
            poll_signals(thr, task.flops * n)
            columns = clamp(own, n)
            backward_step(
                task, state_column(task, t + reverse, 0), state_column(task, t + 1 - reverse, 0), offset_at(b, t),
                task.d_slots + (offset_at(b, t) - first) * ld,
                thread_range(n, 1, thr) if task.split_units else columns, columns, step_threads,
            )
        barrier(thr)
        n = offset_at(b, t1) - first
        add_weight_gradients(
            task, x, ldx, task.state[0] + state_column(task, t0 + reverse, 0) * n_a, at, first, n, how, thr,
        )
        how = ADD
        barrier(thr)
        publish(thr)
        if not task.p.one_hot:      # indices have no gradient
            input_gradients(task, t0, t1, of, block_threads)
        barrier(thr)
    if task.compensated:
        end_sums(task, units)
    for k in range(c.n_states):
        unpack_state(task.d_initial[k], task.d_state[k], n_a, b, units)


cdef inline real *backward_alloc(layer *task, real *workspace, int threads) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = task.batch.max_columns
    cdef int k
    workspace_alloc(&workspace, threads * task.panel_size)
    for k in range(task.p.n_inputs):
        weights_alloc(&task.p.W_x[k], &workspace)
    for k in range(task.p.cell.n_stages):
        weights_alloc(&task.p.W_h[k], &workspace)
    batch_alloc(&task.batch, &workspace)
    task.x_columns = workspace_alloc(&workspace, 0 if task.p.one_hot else columns * packed_size(task))
    task.x_picked = index_alloc(&workspace, columns if task.p.one_hot else 0)
    task.d_slots = workspace_alloc(&workspace, columns * task.d_ld * (1 if task.batch.m == 1 else task.p.cell.n_slots))
    task.columns_before = index_alloc(&workspace, 0 if task.batch.lengths == NULL else columns)
    for k in range(task.p.cell.n_states):
        task.d_state[k] = workspace_alloc(&workspace, task.batch.n_active * task.p.n_a)
    task.compensated = COMPENSATED and task.batch.columns > SUM_COLUMNS
    task.outer_size = add_outer_workspace(
        task.p.n_a, max(task.p.n_x if task.compensated else input_size(&task.p), task.p.n_a), columns, task.compensated
    )
    task.outer_workspace = workspace_alloc(&workspace, threads * task.outer_size)
    for k in range(task.p.cell.n_slots if task.compensated else 0):
        if in_product(&task.p.cell, k):
            task.lost_h[k] = workspace_alloc(&workspace, task.p.n_a * task.p.n_a)
        if gets_input(&task.p.cell, k):
            task.lost_x[k] = workspace_alloc(&workspace, task.p.n_a * task.p.n_x)
    if task.compensated:
        task.lost_b = workspace_alloc(&workspace, task.p.cell.n_slots * task.p.n_a)
    return workspace


cdef inline void backward_blocks(layer *task) noexcept nogil:
    """The size of a block, and the strides of d_slots."""
    cdef Py_ssize_t n_a = task.p.n_a, n_slots = task.p.cell.n_slots, column
    cdef double d_weights = task.p.W_x[0].n_gates * <double> n_a * (n_a + task.p.n_x)
    task.d_ld = padded_ld(n_slots * n_a if task.batch.m == 1 else n_a)
    column = task.p.n_x + (task.d_ld if task.batch.m == 1 else n_slots * task.d_ld)
    if task.batch.lengths != NULL:
        column += sizeof(Py_ssize_t) // sizeof(real)    # of columns_before
    set_block(&task.batch, column, task.p.n_x * <double> task.batch.m * task.batch.T_x + d_weights, BACKWARD_COLUMNS)
    task.d_stride = n_a if task.batch.m == 1 else task.batch.max_columns * task.d_ld


cdef inline int backward_plan(layer *task) noexcept nogil:
    """The size of a block; how many threads can share the work."""
    backward_blocks(task)
    task.flops = backward_flops(&task.p)
    return split_work(task, NULL)


cdef inline void backward_products(layer *task, int threads) noexcept nogil:
    """Which matrices are packed."""
    cdef int k
    for k in range(task.p.n_inputs):
        task.p.W_x[k].unpacked = projected_once(task, threads) or task.p.one_hot
    task.panel_size = panel_size(max(task.batch.max_columns, task.p.n_a))


cdef inline int run_backward(layer *task) except -1:
    """Run the backward pass of a layer whose parameters, cache and arrays are set."""
    cdef int k
    if task.p.n_a == 0:                 # nothing depends on x
        if task.dx.data != NULL:
            memset(task.dx.data, 0, task.p.n_x * task.batch.m * task.batch.T_x * sizeof(real))
        for k in range(0 if task.below[0] == NULL else task.p.n_inputs):
            memset(task.d_below[k], 0, task.batch.columns * task.p.widths[k] * sizeof(real))
        return 0
    cdef int max_threads = backward_plan(task)
    cdef int threads = threads_for(task.flops * task.batch.columns, max_threads)
    backward_products(task, threads)
    cdef real *workspace = values_alloc(backward_alloc(task, NULL, threads) - <real *> NULL)
    backward_alloc(task, workspace, threads)
    sort_batch(&task.batch)
    return run_on_threads(backward_pass, task, threads, task.flops * task.batch.columns, workspace, task.panel_size)
