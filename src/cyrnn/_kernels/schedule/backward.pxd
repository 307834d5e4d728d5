"""The backward pass of a layer: the one time loop, from the last step to the first.

Steps are computed in blocks.  The gradients of a block's states become columns in the slots that the cell names; then
come its steps, the last one first; then the sums over all its columns: the gradients of the weights, and dx.
"""

from libc.string cimport memset

from ..cells.cell cimport adds_to, cell, gets_input, product, step
from ..linalg.linalg cimport (
    ADD, ZERO, add_outer, add_outer_workspace, add_rows, matmul_t, padded_ld, start, weights_alloc, weights_pack_t,
)
from ..runtime.buffers cimport buffer_alloc, workspace_alloc
from ..runtime.limits cimport BACKWARD_COLUMNS, MR, NR
from ..runtime.parallel cimport (
    barrier, clamp, full_range, index_range, interrupted, one_thread, poll_signals, publish, thread, thread_range,
)
from ..runtime.threads cimport run_on_threads, threads_for
from .batch cimport (
    batch, batch_alloc, batch_as_columns, batch_size_at, clear_padding, column_before, columns_before, n_segments,
    offset_at, pack_batch, segment, sort_batch, thread_examples, unpack_batch, unpack_state,
)
from .blocks cimport block_start, set_block
from .layer cimport LINE, backward_flops, layer, projected_once, split_work


cdef inline void backward_pointwise(
    const layer *l, int stage,
    Py_ssize_t before, Py_ssize_t after,        # the first columns of the states before and after the step
    double *d,                                  # the first column of d_slots at this step
    index_range columns,
) noexcept nogil:
    """The pointwise function of a stage for some columns of a step: in one go where their units are contiguous."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, ld = l.d_ld, first = after - l.batch.n_active, j = columns.begin, u
    cdef Py_ssize_t together = columns.end - columns.begin if ld == n_a else 1
    cdef step s
    cdef int k
    while j < columns.end:
        for k in range(c.n_slots):
            s.slot[k] = l.slots + (first + j) * l.slot_ld + k * l.slot_stride
            s.d_slot[k] = d + j * ld + k * l.d_stride
        for k in range(c.n_states):
            s.before[k] = l.state[k] + (before + j) * n_a
            s.after[k] = l.state[k] + (after + j) * n_a
            s.d_state[k] = l.d_state[k] + j * n_a
        if stage == c.n_stages - 1 and c.dc_slot >= 0 and l.d_given[1]:
            for u in range(together * n_a):
                s.d_state[1][u] += s.d_slot[c.dc_slot][u]
        c.backward[stage](&s, together * n_a)
        j += together


cdef inline void backward_step(
    const layer *l,
    Py_ssize_t before, Py_ssize_t after, double *d,     # as `backward_pointwise`
    index_range pointwise_columns, index_range columns, # this thread's for the pointwise part, and for the products
    thread thr,
) noexcept nogil:
    """One step of the cell: the stages, the last one first, each its pointwise function, then its product."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t count = columns.end - columns.begin, n_a = l.p.n_a, ld = l.d_ld
    cdef const product *p
    cdef double *d_own = d + columns.begin * ld
    cdef int k
    for k in range(c.n_stages - 1, -1, -1):
        p = &c.products[k]
        backward_pointwise(l, k, before, after, d, pointwise_columns)
        barrier(thr)
        if p.source < 0:
            matmul_t(
                l.d_state[0] + columns.begin * n_a, n_a, &l.p.W_h[k], d_own + p.first * l.d_stride, l.d_stride, ld, count,
                ADD if c.keeps_da else ZERO, thr,
            )
        else:
            matmul_t(
                d_own + p.source * l.d_stride, ld, &l.p.W_h[k], d_own + p.first * l.d_stride, l.d_stride, ld, count,
                ZERO, thr,
            )
        barrier(thr)


cdef inline void add_weight_gradients(
    const layer *l,
    const double *x, Py_ssize_t ldx,            # the block as columns
    const double *before, const Py_ssize_t *at, # the hidden states before the first column, and where the others are
    Py_ssize_t first, Py_ssize_t columns, start how, thread thr,
) noexcept nogil:
    """dW (+)= sum d x', sum d a' and db += sum d over the columns of a block, which begin at `first`."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, n_x = l.p.n_x, ld = l.d_ld, rows, row
    cdef index_range units = thread_range(n_a, NR, thr)
    cdef double *workspace = l.outer_workspace + thr.id * l.outer_size
    cdef const product *p
    cdef double *d
    cdef double *dW
    cdef int k, stage
    rows = units.end - units.begin
    for k in range(c.n_slots):
        d = l.d_slots + k * l.d_stride + units.begin
        for stage in range(c.n_stages):
            p = &c.products[stage]
            if adds_to(p, k):
                row = (k - p.first) * n_a + units.begin
                dW = l.out.dW_h[stage] + row * l.out.ld_h
                if p.source < 0:
                    add_outer(dW, l.out.ld_h, d, ld, rows, before, n_a, at, n_a, columns, how, workspace, thr)
                else:
                    add_outer(
                        dW, l.out.ld_h, d, ld, rows, l.slots + p.source * l.slot_stride + first * l.slot_ld, l.slot_ld,
                        NULL, n_a, columns, how, workspace, thr,
                    )
        if gets_input(c, k):
            row = (k - c.x_first) * n_a + units.begin
            add_outer(
                l.out.dW_x + row * l.out.ld_x, l.out.ld_x, d, ld, rows, x, ldx, NULL, n_x, columns, how, workspace, thr,
            )
        add_rows(l.out.db + k * n_a + units.begin, d, ld, rows, columns)


cdef inline void clear_gradients(const layer *l) noexcept nogil:
    """Zeros, where there is no step."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, row
    cdef int stage
    for row in range(c.x_count * n_a):
        memset(l.out.dW_x + row * l.out.ld_x, 0, l.p.n_x * sizeof(double))
    for stage in range(c.n_stages):
        for row in range(c.products[stage].count * n_a):
            memset(l.out.dW_h[stage] + row * l.out.ld_h, 0, n_a * sizeof(double))


cdef inline void backward_pass(void *problem, thread thr) noexcept nogil:
    """One thread's part of a layer."""
    cdef layer *l = <layer *> problem
    cdef const batch *b = &l.batch
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_x = l.p.n_x, n_a = l.p.n_a, ld = l.d_ld, t0, t1 = b.T, t, n, i, first, ldx
    cdef const double *x
    cdef const Py_ssize_t *at
    cdef index_range units = thread_range(n_a, NR, thr), values = thread_range(b.n_active * n_a, LINE, thr)
    cdef index_range own, of, columns
    cdef thread step_threads = thr if l.split_units else one_thread(thr)
    cdef thread block_threads = thr if l.joint_projection else step_threads
    cdef start how = ZERO
    cdef int k

    if b.T == 0 and thr.id == 0:
        clear_gradients(l)
    for k in range(c.n_slots):
        memset(l.out.db + k * n_a + units.begin, 0, (units.end - units.begin) * sizeof(double))
    for k in range(c.n_states):
        memset(l.d_state[k] + values.begin, 0, (values.end - values.begin) * sizeof(double))
    clear_padding(l.dx, b, thread_range(n_x, LINE, thr))
    weights_pack_t(&l.p.W_x, thr)
    for k in range(c.n_stages):
        weights_pack_t(&l.p.W_h[k], thr)
    barrier(thr)
    while t1 > 0 and not interrupted(thr):
        t0 = block_start(b, t1)
        first = offset_at(b, t0)
        own = full_range(b.m) if l.split_units else thread_examples(b, t0, t1, thr)
        of = full_range(b.m) if l.joint_projection else own
        columns = thread_range(n_a, LINE, block_threads)
        pack_batch(l.d_slots + c.da_slot * l.d_stride, ld, l.d_states[0], b, t0, t1, columns, of)
        if c.dc_slot >= 0 and l.d_given[1]:
            pack_batch(l.d_slots + c.dc_slot * l.d_stride, ld, l.d_states[1], b, t0, t1, columns, of)
        x = batch_as_columns(l.x, n_x, b, t0, t1, l.x_columns, &ldx, thread_range(n_x, LINE, block_threads), of)
        at = columns_before(b, t0, t1, l.columns_before, thr)
        barrier(block_threads)
        for t in range(t1 - 1, t0 - 1, -1):
            n = batch_size_at(b, t)
            poll_signals(thr, l.flops * n)
            columns = clamp(own, n)
            backward_step(
                l, column_before(b, t), b.n_active + offset_at(b, t), l.d_slots + (offset_at(b, t) - first) * ld,
                thread_range(n, 1, thr) if l.split_units else columns, columns, step_threads,
            )
        barrier(thr)
        n = offset_at(b, t1) - first
        add_weight_gradients(l, x, ldx, l.state[0] + column_before(b, t0) * n_a, at, first, n, how, thr)
        how = ADD
        barrier(thr)
        publish(thr)
        for i in range(n_segments(b, t0, t1, of)):
            columns = segment(b, t0, t1, of, i)
            matmul_t(
                l.x_columns + columns.begin * n_x, n_x, &l.p.W_x,
                l.d_slots + c.x_first * l.d_stride + columns.begin * ld, l.d_stride, ld, columns.end - columns.begin,
                ZERO, block_threads,
            )
        unpack_batch(l.dx, l.x_columns, n_x, b, t0, t1, thread_range(n_x, MR, block_threads), of)
        barrier(thr)
        t1 = t0
    for k in range(c.n_states):
        unpack_state(l.d_initial[k], l.d_state[k], n_a, b, units)


cdef inline double *backward_alloc(layer *l, double *workspace, int threads) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = l.batch.max_columns
    cdef int k
    weights_alloc(&l.p.W_x, &workspace)
    for k in range(l.p.cell.n_stages):
        weights_alloc(&l.p.W_h[k], &workspace)
    batch_alloc(&l.batch, &workspace)
    l.x_columns = workspace_alloc(&workspace, columns * l.p.n_x)
    l.d_slots = workspace_alloc(&workspace, columns * l.d_ld * (1 if l.batch.m == 1 else l.p.cell.n_slots))
    l.columns_before = <Py_ssize_t *> workspace_alloc(&workspace, 0 if l.batch.lengths == NULL else columns)
    for k in range(l.p.cell.n_states):
        l.d_state[k] = workspace_alloc(&workspace, l.batch.n_active * l.p.n_a)
    l.outer_size = add_outer_workspace(max(l.p.n_x, l.p.n_a), columns)
    l.outer_workspace = workspace_alloc(&workspace, threads * l.outer_size)
    return workspace


cdef inline void backward_blocks(layer *l) noexcept nogil:
    """The size of a block, and the strides of d_slots."""
    cdef Py_ssize_t n_a = l.p.n_a, n_slots = l.p.cell.n_slots, column
    cdef double d_weights = l.p.W_x.n_gates * <double> n_a * (n_a + l.p.n_x)
    l.d_ld = padded_ld(n_slots * n_a if l.batch.m == 1 else n_a)
    column = l.p.n_x + (l.d_ld if l.batch.m == 1 else n_slots * l.d_ld) + (0 if l.batch.lengths == NULL else 1)
    set_block(&l.batch, column, l.p.n_x * <double> l.batch.m * l.batch.T_x + d_weights, BACKWARD_COLUMNS)
    l.d_stride = n_a if l.batch.m == 1 else l.batch.max_columns * l.d_ld


cdef inline int run_backward(layer *l) except -1:
    """Run the backward pass of a layer whose parameters, cache and arrays are set."""
    backward_blocks(l)
    cdef int max_threads = split_work(l, NULL)
    l.flops = backward_flops(&l.p)
    cdef int threads = threads_for(l.flops * l.batch.columns, max_threads)
    l.p.W_x.unpacked = projected_once(l, threads)
    cdef double *workspace = buffer_alloc(backward_alloc(l, NULL, threads) - <double *> NULL)
    backward_alloc(l, workspace, threads)
    sort_batch(&l.batch)
    return run_on_threads(backward_pass, l, threads, l.flops * l.batch.columns, workspace)
