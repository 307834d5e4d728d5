"""The forward pass of a layer: the one time loop, forward.

Steps are computed in blocks.  A block of x becomes columns and is projected in one product (or one a step, where each
thread has its own examples); then come its steps, one after the other; its states and outputs are transposed back into
the caller's arrays while they are in a cache.
"""

from libc.string cimport memcpy, memset

from ..cells.cell cimport cell, gets_input, product, slots_kept, step
from ..linalg.linalg cimport ADD, BIAS, matmul, matmul_one_hot, matmul_shared, panel_size, weights_alloc, weights_pack
from ..runtime.buffers cimport index_alloc, values_alloc, workspace_alloc
from ..runtime.limits cimport FORWARD_COLUMNS, LINE
from ..runtime.parallel cimport (
    barrier, clamp, full_range, index_range, interrupted, one_thread, poll_signals, publish, scaled, thread,
    thread_range,
)
from ..runtime.real cimport real
from ..runtime.threads cimport run_on_threads, threads_for
from .batch cimport (
    batch, batch_alloc, batch_size_at, clear_padding, n_segments, offset_at, pack_indices, pack_state,
    segment, sort_batch, thread_examples, unpack_batch, unpack_state,
)
from .blocks cimport next_block, set_block
from .layer cimport (
    MAX_INPUTS, cache_rows, forward_flops, input_columns, layer, packed_size, projected_once, set_cache, split_work,
    state_column,
)
from .output cimport output_block


cdef inline void step_arrays(
    step *s,                                    # OUT
    const layer *task, Py_ssize_t before, Py_ssize_t after, Py_ssize_t first, Py_ssize_t begin,
) noexcept nogil:
    """What the pointwise functions of a step get, from value `begin` on; the columns are those of `forward_step`."""
    cdef Py_ssize_t n_a = task.p.n_a
    cdef real *slots = task.slots + first * task.slot_ld + begin
    cdef int k
    for k in range(task.p.cell.n_slots):
        s.slot[k] = slots + k * task.slot_stride
    for k in range(task.p.cell.n_states):
        s.before[k] = task.state[k] + before * n_a + begin
        s.after[k] = task.state[k] + after * n_a + begin


cdef inline void forward_step(
    const layer *task,
    Py_ssize_t before, Py_ssize_t after,        # the first columns of the states before and after the step
    Py_ssize_t first,                           # the first column of the slots
    index_range columns,                        # of the step: this thread's for the products
    index_range values,                         # and, in values, for the pointwise part
    thread thr,
) noexcept nogil:
    """One step of the cell: for each stage its product, then its pointwise function."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.slot_ld, sc = task.slot_stride
    cdef const product *p
    cdef const real *source
    cdef real *z = task.slots + first * ld + columns.begin * ld
    cdef step s
    cdef int k
    step_arrays(&s, task, before, after, first, values.begin)
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
    const real **x, const Py_ssize_t *ldx,      # the block as columns, of each input; not read if they are one-hot
    Py_ssize_t first, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """Every slot of the block, whose columns begin at `first`, becomes its bias and the projection of the input."""
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, ld = task.slot_ld, i, j
    cdef index_range columns, own
    cdef real *z
    cdef int k
    for i in range(n_segments(&task.batch, t0, t1, of)):
        columns = segment(&task.batch, t0, t1, of, i)
        z = task.slots + (first + columns.begin) * ld
        if task.p.one_hot:
            matmul_one_hot(
                z + c.x_first * task.slot_stride, task.slot_stride, ld, &task.p.W_x[0], task.x_picked + columns.begin,
                columns.end - columns.begin, task.bias + c.x_first * n_a, thr,
            )
        else:
            for k in range(task.p.n_inputs):
                matmul_shared(
                    z + c.x_first * task.slot_stride, task.slot_stride, ld, &task.p.W_x[k],
                    x[k] + columns.begin * ldx[k], ldx[k], columns.end - columns.begin,
                    ADD if k else BIAS, task.bias + c.x_first * n_a, thr,
                )
        for k in range(c.n_slots):
            if not gets_input(c, k) and task.p.b[k] != NULL:
                own = thread_range(columns.end - columns.begin, 1, thr)
                for j in range(own.begin, own.end):
                    memcpy(z + k * task.slot_stride + j * ld, task.bias + k * n_a, n_a * sizeof(real))


cdef inline void prepare_forward(layer *task, thread thr) noexcept nogil:
    """One thread's part of what comes before the first step: packed weights, biases, initial states."""
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a
    cdef index_range units = thread_range(n_a, LINE, thr), values = thread_range(b.n_active * n_a, LINE, thr)
    cdef real *initial
    cdef int k
    for k in range(task.p.n_inputs):
        weights_pack(&task.p.W_x[k], thr)
    for k in range(c.n_stages):
        weights_pack(&task.p.W_h[k], thr)
    weights_pack(&task.output.Wy, thr)
    if thr.id == 0:
        for k in range(c.n_slots):
            if task.p.b[k] != NULL:
                memcpy(task.bias + k * n_a, task.p.b[k], n_a * sizeof(real))
    clear_padding(task.output.y, b, thread_range(task.output.n_y, LINE, thr))
    for k in range(c.n_states):
        if task.states[k].data != NULL:
            clear_padding(task.states[k], b, units)
        initial = task.carry[k] if task.reverse else task.state[k]
        if task.initial_given[k]:
            pack_state(initial, n_a, task.initial[k], b, units)
        else:
            memset(initial + values.begin, 0, (values.end - values.begin) * sizeof(real))
    barrier(thr)


cdef inline void carry_rows(
    layer *task, Py_ssize_t s, Py_ssize_t base, Py_ssize_t begin, Py_ssize_t end, bint to_state, thread thr,
) noexcept nogil:
    """Copy the states of the examples begin ... end - 1 between steps s - 1 and s from `carry`, or to it.  A thread has
    the same examples in every call."""
    cdef Py_ssize_t n_a = task.p.n_a
    cdef index_range rows = thread_range(task.batch.n_active, 1, thr)
    cdef real *state
    cdef real *carry
    cdef int k
    begin, end = max(begin, rows.begin), min(end, rows.end)
    for k in range(task.p.cell.n_states if begin < end else 0):
        state = task.state[k] + (state_column(task, s, base) + begin) * n_a
        carry = task.carry[k] + begin * n_a
        if to_state:
            memcpy(state, carry, (end - begin) * n_a * sizeof(real))
        else:
            memcpy(carry, state, (end - begin) * n_a * sizeof(real))


cdef inline void enter_block(layer *task, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t base, thread thr) noexcept nogil:
    """With `reverse`: the states before the last step of a block, and the initial states of examples that end in it."""
    cdef const batch *b = &task.batch
    cdef Py_ssize_t s
    for s in range(t0 + 1, t1 + 1):
        carry_rows(task, s, base, batch_size_at(b, s) if s < t1 else 0, batch_size_at(b, s - 1), True, thr)


cdef inline void leave_block(layer *task, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t base, thread thr) noexcept nogil:
    """Keep the last states of examples that end in a block; with `reverse` the states after its first step."""
    cdef const batch *b = &task.batch
    cdef Py_ssize_t s
    if task.reverse:
        carry_rows(task, t0, base, 0, batch_size_at(b, t0), False, thr)
        return
    for s in range(t0 + 1, t1 + 1):
        carry_rows(task, s, base, batch_size_at(b, s) if s < b.T else 0, batch_size_at(b, s - 1), False, thr)


cdef inline const real *block_states(
    layer *task, int k, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t base, index_range of, thread thr,
) noexcept nogil:
    """The states after the steps of a block as columns: where they are, or as copies where they are not contiguous."""
    cdef const batch *b = &task.batch
    cdef Py_ssize_t n_a = task.p.n_a, t
    cdef index_range own, rows
    cdef real *copy
    if k == 0 and task.hidden != NULL:
        copy = task.hidden + (offset_at(b, t0) if task.hidden_all else 0) * n_a
        own = thread_range(t1 - t0, 1, thr)
        for t in range(t0 + own.begin, t0 + own.end):
            rows = clamp(of, batch_size_at(b, t))
            memcpy(
                copy + (offset_at(b, t) - offset_at(b, t0) + rows.begin) * n_a,
                task.state[0] + (state_column(task, t if task.reverse else t + 1, base) + rows.begin) * n_a,
                max(rows.end - rows.begin, 0) * n_a * sizeof(real),
            )
        barrier(thr)
        return copy
    return task.state[k] + state_column(task, t0 if task.reverse else t0 + 1, base) * n_a


cdef inline void forward_steps(layer *task, thread thr) noexcept nogil:
    """One thread's part of all steps, block by block."""
    cdef const batch *b = &task.batch
    cdef const cell *c = &task.p.cell
    cdef bint reverse = task.reverse
    cdef Py_ssize_t n_a = task.p.n_a, t0 = b.T if reverse else 0, t1 = t0, base, slot_base, first, i, t, n
    cdef Py_ssize_t ldx[MAX_INPUTS]
    cdef const real *x[MAX_INPUTS]
    cdef const real *a
    cdef index_range values = full_range(b.n_active * n_a), own, of, columns    # own, of: see batch.h
    cdef thread step_threads = thr if task.split_units else one_thread(thr)
    cdef thread block_threads = thr if task.joint_projection else step_threads
    cdef int k
    while next_block(b, reverse, &t0, &t1) and not interrupted(thr):
        base = 0 if task.keep else t0
        slot_base = t0 if task.slots_apart else base
        first = offset_at(b, t0) - offset_at(b, slot_base)
        own = full_range(b.m) if task.split_units else thread_examples(b, t0, t1, thr)
        of = full_range(b.m) if task.joint_projection else own
        if task.p.one_hot:
            pack_indices(task.x_picked, task.x_indices, task.p.n_x, b, t0, t1, of, block_threads)
        else:
            for k in range(task.p.n_inputs):
                x[k] = input_columns(task, k, t0, t1, &ldx[k], of, block_threads)
        if reverse:
            enter_block(task, t0, t1, base, thr)
        barrier(block_threads)
        project_block(task, x, ldx, first, t0, t1, of, block_threads)
        barrier(thr)            # the output of a block has the place of x_columns; `publish` is between two barriers
        for i in range(t1 - t0):
            t = t1 - 1 - i if reverse else t0 + i
            n = batch_size_at(b, t)
            poll_signals(thr, task.flops * n)
            columns = clamp(own, n)
            values = thread_range(n * n_a, LINE, thr) if task.split_units else scaled(columns, n_a)
            forward_step(
                task, state_column(task, t + reverse, base), state_column(task, t + 1 - reverse, base),
                offset_at(b, t) - offset_at(b, slot_base), columns, values, step_threads,
            )
        barrier(block_threads)
        publish(thr)
        a = block_states(task, 0, t0, t1, base, of, block_threads)
        for k in range(c.n_states):
            if task.states[k].data != NULL:
                unpack_batch(
                    task.states[k], a if k == 0 else block_states(task, k, t0, t1, base, of, block_threads), n_a, b,
                    t0, t1, thread_range(n_a, LINE, block_threads), of,
                )
        output_block(&task.output, a, n_a, b, t0, t1, of, block_threads)
        for k in range(0 if task.keep or reverse else c.n_states):  # the last states become those before the next block
            memcpy(
                task.state[k] + values.begin, task.state[k] + state_column(task, t1, base) * n_a + values.begin,
                (values.end - values.begin) * sizeof(real),
            )
        barrier(thr)
        if task.carry[0] != NULL:
            leave_block(task, t0, t1, base, thr)
    if task.last[0].data != NULL:
        barrier(thr)
        for k in range(c.n_states):
            unpack_state(task.last[k], task.carry[k], n_a, b, thread_range(n_a, LINE, thr))


cdef inline void forward_pass(void *problem, thread thr) noexcept nogil:
    """One thread's part of a layer."""
    cdef layer *task = <layer *> problem
    prepare_forward(task, thr)
    forward_steps(task, thr)


cdef inline real *forward_alloc(layer *task, real *workspace, int threads) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = task.batch.max_columns, rows
    cdef int k
    workspace_alloc(&workspace, threads * task.panel_size)
    for k in range(task.p.n_inputs):
        weights_alloc(&task.p.W_x[k], &workspace)
    for k in range(task.p.cell.n_stages):
        weights_alloc(&task.p.W_h[k], &workspace)
    weights_alloc(&task.output.Wy, &workspace)
    batch_alloc(&task.batch, &workspace)
    task.bias = workspace_alloc(&workspace, task.p.cell.n_slots * task.p.n_a)
    task.x_columns = task.output.z = workspace_alloc(&workspace, columns * max(packed_size(task), task.output.n_y))
    if task.reverse or task.last[0].data != NULL:
        for k in range(task.p.cell.n_states):
            task.carry[k] = workspace_alloc(&workspace, task.batch.n_active * task.p.n_a)
    if task.reverse and task.batch.lengths != NULL and not task.hidden_all:
        task.hidden = workspace_alloc(&workspace, columns * task.p.n_a)
    task.x_picked = index_alloc(&workspace, columns if task.p.one_hot else 0)
    if not task.keep:
        rows = cache_rows(&task.p.cell, &task.batch, columns)
        set_cache(task, workspace_alloc(&workspace, rows * task.p.n_a), columns)
    task.slots_apart = task.reverse and task.p.cell.slot_is_state
    if task.slots_apart:
        task.slots = workspace_alloc(&workspace, columns * task.p.n_a)
    return workspace


cdef inline void forward_blocks(layer *task) noexcept nogil:
    """The size of a block."""
    cdef double n_a = task.p.n_a, n_y = task.output.n_y, cached = slots_kept(&task.p.cell) * n_a
    cdef double column = max(packed_size(task), task.output.n_y)
    cdef double returned = (task.p.cell.n_states * n_a + n_y) * task.batch.m * task.batch.T_x
    if task.keep:
        returned += cached * task.batch.columns
    else:
        column += cached
    set_block(&task.batch, column, returned, FORWARD_COLUMNS)


cdef inline int forward_plan(layer *task) noexcept nogil:
    """The size of a block; how many threads can share the work."""
    forward_blocks(task)
    task.flops = forward_flops(&task.p, task.output.n_y)
    return split_work(task, &task.output.Wy)


cdef inline void forward_products(layer *task, int threads) noexcept nogil:
    """Which matrices are packed."""
    cdef int k
    task.output.Wy.unpacked = projected_once(task, threads)
    for k in range(task.p.n_inputs):
        task.p.W_x[k].unpacked = task.output.Wy.unpacked or task.p.one_hot
    if task.output.Wy.unpacked or task.p.W_h[0].unpacked:
        task.panel_size = panel_size(max(task.p.n_x, task.p.n_a))


cdef inline int run_forward(layer *task) except -1:
    """Run the forward pass of a layer whose parameters and arrays are set."""
    if task.p.n_a == 0 and task.output.n_y == 0:
        return 0                        # nothing to compute, for however many steps
    cdef int max_threads = forward_plan(task)
    cdef int threads = threads_for(task.flops * task.batch.columns, max_threads)
    forward_products(task, threads)
    cdef real *workspace = values_alloc(forward_alloc(task, NULL, threads) - <real *> NULL)
    forward_alloc(task, workspace, threads)
    sort_batch(&task.batch)
    return run_on_threads(forward_pass, task, threads, task.flops * task.batch.columns, workspace, task.panel_size)
