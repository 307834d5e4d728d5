"""The forward pass of a layer: the one time loop, forward.

Steps are computed in blocks.  A block of x becomes columns and is projected in one product (or one a step, where each
thread has its own examples); then come its steps, one after the other; its states and outputs are transposed back into
the caller's arrays while they are in a cache.
"""

from libc.string cimport memcpy, memset

from ..cells.cell cimport cell, gets_input, product, slots_kept, step
from ..linalg.linalg cimport ADD, BIAS, matmul, matmul_shared, weights_alloc, weights_pack
from ..runtime.buffers cimport buffer_alloc, workspace_alloc
from ..runtime.limits cimport FORWARD_COLUMNS
from ..runtime.parallel cimport (
    barrier, clamp, full_range, index_range, interrupted, one_thread, poll_signals, publish, scaled, thread,
    thread_range,
)
from ..runtime.threads cimport run_on_threads, threads_for
from .batch cimport (
    batch, batch_alloc, batch_as_columns, batch_size_at, clear_padding, column_before, n_segments, offset_at, pack_state,
    segment, sort_batch, thread_examples, unpack_batch,
)
from .blocks cimport block_end, set_block
from .layer cimport LINE, cache_rows, forward_flops, layer, projected_once, set_cache, split_work
from .output cimport output_block


cdef inline void forward_step(
    const layer *l,
    Py_ssize_t before, Py_ssize_t after,        # the first columns of the states before and after the step
    index_range columns, index_range values,    # of the step: this thread's for the products, and for the pointwise part
    thread thr,
) noexcept nogil:
    """One step of the cell: for each stage its product, then its pointwise function."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, ld = l.slot_ld, sc = l.slot_stride, first = after - l.batch.n_active
    cdef const product *p
    cdef const double *source
    cdef double *z = l.slots + first * ld + columns.begin * ld
    cdef step s
    cdef int k
    for k in range(c.n_slots):
        s.slot[k] = l.slots + first * ld + k * sc + values.begin
    for k in range(c.n_states):
        s.before[k] = l.state[k] + before * n_a + values.begin
        s.after[k] = l.state[k] + after * n_a + values.begin
    for k in range(c.n_stages):
        p = &c.products[k]
        if p.source < 0:
            source = l.state[0] + (before + columns.begin) * n_a
        else:
            source = z + p.source * sc
        matmul(
            z + p.first * sc, sc, ld, &l.p.W_h[k], source, n_a if p.source < 0 else ld, columns.end - columns.begin,
            ADD, NULL, thr,
        )
        barrier(thr)
        c.forward[k](&s, values.end - values.begin)
        barrier(thr)


cdef inline void project_block(
    const layer *l,
    const double *x, Py_ssize_t ldx,            # the block as columns
    Py_ssize_t first, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """Every slot of the block, whose columns begin at `first`, becomes its bias and the projection of the input."""
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, ld = l.slot_ld, i, j
    cdef index_range columns, own
    cdef double *z
    cdef int k
    for i in range(n_segments(&l.batch, t0, t1, of)):
        columns = segment(&l.batch, t0, t1, of, i)
        z = l.slots + (first + columns.begin) * ld
        matmul_shared(
            z + c.x_first * l.slot_stride, l.slot_stride, ld, &l.p.W_x, x + columns.begin * ldx, ldx,
            columns.end - columns.begin, BIAS, l.bias + c.x_first * n_a, thr,
        )
        for k in range(c.n_slots):
            if not gets_input(c, k):
                own = thread_range(columns.end - columns.begin, 1, thr)
                for j in range(own.begin, own.end):
                    memcpy(z + k * l.slot_stride + j * ld, l.bias + k * n_a, n_a * sizeof(double))


cdef inline void forward_pass(void *problem, thread thr) noexcept nogil:
    """One thread's part of a layer."""
    cdef layer *l = <layer *> problem
    cdef const batch *b = &l.batch
    cdef const cell *c = &l.p.cell
    cdef Py_ssize_t n_a = l.p.n_a, t0 = 0, t1, t, n, before, after, first_column, ldx
    cdef const double *x
    cdef index_range units = thread_range(n_a, LINE, thr), values = thread_range(b.n_active * n_a, LINE, thr)
    cdef index_range own, of, columns
    cdef thread step_threads = thr if l.split_units else one_thread(thr)
    cdef thread block_threads = thr if l.joint_projection else step_threads
    cdef int k

    weights_pack(&l.p.W_x, thr)
    for k in range(c.n_stages):
        weights_pack(&l.p.W_h[k], thr)
    weights_pack(&l.output.Wy, thr)
    if thr.id == 0:
        for k in range(c.n_slots):
            memcpy(l.bias + k * n_a, l.p.b[k], n_a * sizeof(double))
    clear_padding(l.output.y, b, thread_range(l.output.n_y, LINE, thr))
    for k in range(c.n_states):
        clear_padding(l.states[k], b, units)
        if l.initial_given[k]:
            pack_state(l.state[k], n_a, l.initial[k], b, units)
        else:
            memset(l.state[k] + values.begin, 0, (values.end - values.begin) * sizeof(double))
    barrier(thr)
    while t0 < b.T and not interrupted(thr):
        t1 = block_end(b, t0)
        before = column_before(b, t0) if l.keep else 0
        after = first_column = b.n_active + (offset_at(b, t0) if l.keep else 0)
        own = full_range(b.m) if l.split_units else thread_examples(b, t0, t1, thr)
        of = full_range(b.m) if l.joint_projection else own
        x = batch_as_columns(
            l.x, l.p.n_x, b, t0, t1, l.x_columns, &ldx, thread_range(l.p.n_x, LINE, block_threads), of,
        )
        barrier(block_threads)
        project_block(l, x, ldx, first_column - b.n_active, t0, t1, of, block_threads)
        barrier(thr)            # the output of a block has the place of x_columns; `publish` is between two barriers
        for t in range(t0, t1):
            n = batch_size_at(b, t)
            poll_signals(thr, l.flops * n)
            columns = clamp(own, n)
            values = thread_range(n * n_a, LINE, thr) if l.split_units else scaled(columns, n_a)
            forward_step(l, before, after, columns, values, step_threads)
            before = after
            after += n
        barrier(block_threads)
        publish(thr)
        for k in range(c.n_states):
            unpack_batch(
                l.states[k], l.state[k] + first_column * n_a, n_a, b, t0, t1, thread_range(n_a, LINE, block_threads), of,
            )
            if not l.keep:      # the last states become the ones before the next block
                memcpy(
                    l.state[k] + values.begin, l.state[k] + before * n_a + values.begin,
                    (values.end - values.begin) * sizeof(double),
                )
        output_block(&l.output, l.state[0] + first_column * n_a, n_a, b, t0, t1, of, block_threads)
        barrier(thr)
        t0 = t1


cdef inline double *forward_alloc(layer *l, double *workspace) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = l.batch.max_columns
    cdef int k
    weights_alloc(&l.p.W_x, &workspace)
    for k in range(l.p.cell.n_stages):
        weights_alloc(&l.p.W_h[k], &workspace)
    weights_alloc(&l.output.Wy, &workspace)
    batch_alloc(&l.batch, &workspace)
    l.bias = workspace_alloc(&workspace, l.p.cell.n_slots * l.p.n_a)
    l.x_columns = l.output.z = workspace_alloc(&workspace, columns * max(l.p.n_x, l.output.n_y))
    if not l.keep:
        set_cache(l, workspace_alloc(&workspace, cache_rows(&l.p.cell, &l.batch, columns) * l.p.n_a), columns)
    return workspace


cdef inline void forward_blocks(layer *l) noexcept nogil:
    """The size of a block."""
    cdef double columns = l.batch.columns, n_a = l.p.n_a, n_y = l.output.n_y
    cdef double kept = slots_kept(&l.p.cell) * n_a
    set_block(
        &l.batch, max(l.p.n_x, l.output.n_y) + (0 if l.keep else kept),
        (l.p.cell.n_states * n_a + n_y) * l.batch.m * l.batch.T_x + (kept * columns if l.keep else 0), FORWARD_COLUMNS,
    )


cdef inline int run_forward(layer *l) except -1:
    """Run the forward pass of a layer whose parameters and arrays are set."""
    forward_blocks(l)
    cdef int max_threads = split_work(l, &l.output.Wy)
    l.flops = forward_flops(&l.p, l.output.n_y)
    cdef int threads = threads_for(l.flops * l.batch.columns, max_threads)
    l.p.W_x.unpacked = l.output.Wy.unpacked = projected_once(l, threads)
    cdef double *workspace = buffer_alloc(forward_alloc(l, NULL) - <double *> NULL)
    forward_alloc(l, workspace)
    sort_batch(&l.batch)
    return run_on_threads(forward_pass, l, threads, l.flops * l.batch.columns, workspace)
