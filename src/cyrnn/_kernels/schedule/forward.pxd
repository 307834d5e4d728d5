"""The forward pass of a layer: the one time loop, forward.

Steps are computed in blocks.  A block of x becomes columns and is projected in one product (or one a step, where each
thread has its own examples); then come its steps, one after the other; its states and outputs are transposed back into
the caller's arrays while they are in a cache.
"""

from libc.string cimport memcpy, memset

from ..cells.cell cimport cell, gets_input, product, slots_kept, step
from ..linalg.linalg cimport ADD, BIAS, matmul, matmul_one_hot, matmul_shared, weights_alloc, weights_pack
from ..runtime.buffers cimport buffer_alloc, workspace_alloc
from ..runtime.limits cimport FORWARD_COLUMNS, LINE
from ..runtime.parallel cimport (
    barrier, clamp, full_range, index_range, interrupted, one_thread, poll_signals, publish, scaled, thread,
    thread_range,
)
from ..runtime.threads cimport run_on_threads, threads_for
from .batch cimport (
    batch, batch_alloc, batch_as_columns, batch_size_at, clear_padding, column_before, n_segments, offset_at,
    pack_indices, pack_state, segment, sort_batch, thread_examples, unpack_batch,
)
from .blocks cimport block_end, set_block
from .layer cimport cache_rows, forward_flops, input_size, layer, projected_once, set_cache, split_work
from .output cimport output_block


cdef inline void step_arrays(
    step *s,                                    # OUT
    const layer *task, Py_ssize_t before, Py_ssize_t after, Py_ssize_t begin,
) noexcept nogil:
    """What the pointwise functions of a step get, from value `begin` on; the columns are those of `forward_step`."""
    cdef Py_ssize_t n_a = task.p.n_a
    cdef double *slots = task.slots + (after - task.batch.n_active) * task.slot_ld + begin
    cdef int k
    for k in range(task.p.cell.n_slots):
        s.slot[k] = slots + k * task.slot_stride
    for k in range(task.p.cell.n_states):
        s.before[k] = task.state[k] + before * n_a + begin
        s.after[k] = task.state[k] + after * n_a + begin


cdef inline void forward_step(
    const layer *task,
    Py_ssize_t before, Py_ssize_t after,        # the first columns of the states before and after the step
    index_range columns,                        # of the step: this thread's for the products
    index_range values,                         # and, in values, for the pointwise part
    thread thr,
) noexcept nogil:
    """One step of the cell: for each stage its product, then its pointwise function."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.slot_ld, sc = task.slot_stride, first = after - task.batch.n_active
    cdef const product *p
    cdef const double *source
    cdef double *z = task.slots + first * ld + columns.begin * ld
    cdef step s
    cdef int k
    step_arrays(&s, task, before, after, values.begin)
    for k in range(c.n_stages):
        p = &c.products[k]
        if p.source < 0:
            source = task.state[0] + (before + columns.begin) * n_a
        else:
            source = z + p.source * sc
        matmul(
            z + p.first * sc, sc, ld, &task.p.W_h[k], source, n_a if p.source < 0 else ld, columns.end - columns.begin,
            ADD, NULL, thr,
        )
        barrier(thr)
        c.forward[k](&s, values.end - values.begin)
        barrier(thr)


cdef inline void project_block(
    const layer *task,
    const double *x, Py_ssize_t ldx,            # the block as columns; not read if they are one-hot
    Py_ssize_t first, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """Every slot of the block, whose columns begin at `first`, becomes its bias and the projection of the input."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.slot_ld, i, j
    cdef index_range columns, own
    cdef double *z
    cdef int k
    for i in range(n_segments(&task.batch, t0, t1, of)):
        columns = segment(&task.batch, t0, t1, of, i)
        z = task.slots + (first + columns.begin) * ld
        if task.p.one_hot:
            matmul_one_hot(
                z + c.x_first * task.slot_stride, task.slot_stride, ld, &task.p.W_x, task.x_picked + columns.begin,
                columns.end - columns.begin, task.bias + c.x_first * n_a, thr,
            )
        else:
            matmul_shared(
                z + c.x_first * task.slot_stride, task.slot_stride, ld, &task.p.W_x, x + columns.begin * ldx, ldx,
                columns.end - columns.begin, BIAS, task.bias + c.x_first * n_a, thr,
            )
        for k in range(c.n_slots):
            if not gets_input(c, k) and task.p.b[k] != NULL:
                own = thread_range(columns.end - columns.begin, 1, thr)
                for j in range(own.begin, own.end):
                    memcpy(z + k * task.slot_stride + j * ld, task.bias + k * n_a, n_a * sizeof(double))


cdef inline void prepare_forward(layer *task, thread thr) noexcept nogil:
    """One thread's part of what comes before the first step: packed weights, biases, initial states."""
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a
    cdef index_range units = thread_range(n_a, LINE, thr), values = thread_range(b.n_active * n_a, LINE, thr)
    cdef int k
    weights_pack(&task.p.W_x, thr)
    for k in range(c.n_stages):
        weights_pack(&task.p.W_h[k], thr)
    weights_pack(&task.output.Wy, thr)
    if thr.id == 0:
        for k in range(c.n_slots):
            if task.p.b[k] != NULL:
                memcpy(task.bias + k * n_a, task.p.b[k], n_a * sizeof(double))
    clear_padding(task.output.y, b, thread_range(task.output.n_y, LINE, thr))
    for k in range(c.n_states):
        clear_padding(task.states[k], b, units)
        if task.initial_given[k]:
            pack_state(task.state[k], n_a, task.initial[k], b, units)
        else:
            memset(task.state[k] + values.begin, 0, (values.end - values.begin) * sizeof(double))
    barrier(thr)


cdef inline void forward_steps(layer *task, thread thr) noexcept nogil:
    """One thread's part of all steps, block by block."""
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, t0 = 0, t1, t, n, before, after, first_column, ldx = 0
    cdef const double *x = NULL
    cdef index_range values = full_range(b.n_active * n_a), own, of, columns
    cdef thread step_threads = thr if task.split_units else one_thread(thr)
    cdef thread block_threads = thr if task.joint_projection else step_threads
    cdef int k
    while t0 < b.T and not interrupted(thr):
        t1 = block_end(b, t0)
        before = column_before(b, t0) if task.keep else 0
        after = first_column = b.n_active + (offset_at(b, t0) if task.keep else 0)
        own = full_range(b.m) if task.split_units else thread_examples(b, t0, t1, thr)
        of = full_range(b.m) if task.joint_projection else own
        if task.p.one_hot:
            pack_indices(task.x_picked, task.x_indices, task.p.n_x, b, t0, t1, of, block_threads)
        else:
            x = batch_as_columns(
                task.x, task.p.n_x, b, t0, t1, task.x_columns, &ldx, thread_range(task.p.n_x, LINE, block_threads), of,
            )
        barrier(block_threads)
        project_block(task, x, ldx, first_column - b.n_active, t0, t1, of, block_threads)
        barrier(thr)            # the output of a block has the place of x_columns; `publish` is between two barriers
        for t in range(t0, t1):
            n = batch_size_at(b, t)
            poll_signals(thr, task.flops * n)
            columns = clamp(own, n)
            values = thread_range(n * n_a, LINE, thr) if task.split_units else scaled(columns, n_a)
            forward_step(task, before, after, columns, values, step_threads)
            before = after
            after += n
        barrier(block_threads)
        publish(thr)
        for k in range(c.n_states):
            if task.states[k].data != NULL:
                unpack_batch(
                    task.states[k], task.state[k] + first_column * n_a, n_a, b, t0, t1,
                    thread_range(n_a, LINE, block_threads), of,
                )
            if not task.keep:      # the last states become the ones before the next block
                memcpy(
                    task.state[k] + values.begin, task.state[k] + before * n_a + values.begin,
                    (values.end - values.begin) * sizeof(double),
                )
        output_block(&task.output, task.state[0] + first_column * n_a, n_a, b, t0, t1, of, block_threads)
        barrier(thr)
        t0 = t1


cdef inline void forward_pass(void *problem, thread thr) noexcept nogil:
    """One thread's part of a layer."""
    cdef layer *task = <layer *> problem
    prepare_forward(task, thr)
    forward_steps(task, thr)


cdef inline double *forward_alloc(layer *task, double *workspace) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = task.batch.max_columns, rows
    cdef int k
    weights_alloc(&task.p.W_x, &workspace)
    for k in range(task.p.cell.n_stages):
        weights_alloc(&task.p.W_h[k], &workspace)
    weights_alloc(&task.output.Wy, &workspace)
    batch_alloc(&task.batch, &workspace)
    task.bias = workspace_alloc(&workspace, task.p.cell.n_slots * task.p.n_a)
    task.x_columns = task.output.z = workspace_alloc(&workspace, columns * max(input_size(&task.p), task.output.n_y))
    task.x_picked = <Py_ssize_t *> workspace_alloc(&workspace, columns if task.p.one_hot else 0)
    if not task.keep:
        rows = cache_rows(&task.p.cell, &task.batch, columns)
        set_cache(task, workspace_alloc(&workspace, rows * task.p.n_a), columns)
    return workspace


cdef inline void forward_blocks(layer *task) noexcept nogil:
    """The size of a block."""
    cdef double n_a = task.p.n_a, n_y = task.output.n_y, cached = slots_kept(&task.p.cell) * n_a
    cdef double column = max(input_size(&task.p), task.output.n_y)
    cdef double returned = (task.p.cell.n_states * n_a + n_y) * task.batch.m * task.batch.T_x
    if task.keep:
        returned += cached * task.batch.columns
    else:
        column += cached
    set_block(&task.batch, column, returned, FORWARD_COLUMNS)


cdef inline int run_forward(layer *task) except -1:
    """Run the forward pass of a layer whose parameters and arrays are set."""
    if task.p.n_a == 0 and task.output.n_y == 0:
        return 0                        # nothing to compute, for however many steps
    forward_blocks(task)
    cdef int max_threads = split_work(task, &task.output.Wy)
    task.flops = forward_flops(&task.p, task.output.n_y)
    cdef int threads = threads_for(task.flops * task.batch.columns, max_threads)
    task.output.Wy.unpacked = projected_once(task, threads)
    task.p.W_x.unpacked = task.output.Wy.unpacked or task.p.one_hot
    cdef double *workspace = buffer_alloc(forward_alloc(task, NULL) - <double *> NULL)
    forward_alloc(task, workspace)
    sort_batch(&task.batch)
    return run_on_threads(forward_pass, task, threads, task.flops * task.batch.columns, workspace)
