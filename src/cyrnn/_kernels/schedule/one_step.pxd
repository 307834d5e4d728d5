"""One step of a cell, forward and backward, without a sequence around it.

Everything stays in the caller's order, units by examples: slots are (n_slots, n_a, m).  The weights are used once and
not packed (linalg/unpacked.h).  Threads split the units.
"""

from libc.string cimport memcpy, memset

from ..cells.cell cimport MAX_SLOTS, MAX_STATES, adds_to, cell, gets_input, product, step
from ..linalg.linalg cimport (
    ADD, ZERO, as_matrix, matmul_one_hot_unpacked, matmul_t_unpacked, matmul_unpacked, outer_one_hot_unpacked,
    outer_unpacked, outer_unpacked_workspace, panel_size, sum_rows, thread_rows,
)
from ..runtime.buffers cimport buffer_free, index_alloc, values_alloc, workspace_alloc
from ..runtime.limits cimport LINE, MR
from ..runtime.parallel cimport barrier, index_range, parallel_run, region, thread
from ..runtime.real cimport real
from ..runtime.threads cimport (
    acquire_threads, raise_if_cancelled, region_init, release_threads, step_flops, threads_for,
)
from ..runtime.views cimport index_state, indices, refuse, safe_index, state, strided
from .layer cimport backward_flops, forward_flops, gradients, input_size, parameters
from .output cimport fill_rows, output, output_step


cdef struct one_step:
    # arrays of any strides are replaced by C-contiguous copies where they are not C-contiguous, see `flatten`
    parameters p
    Py_ssize_t m
    strided x                           # IN  (n_x, m), or
    indices x_indices                   # IN  (m, 1)
    Py_ssize_t *x_picked                # workspace (m), the same
    strided before[MAX_STATES]          # IN  (n_a, m), the states before the step
    strided after[MAX_STATES]           # forward: OUT, backward: IN (n_a, m), the states after it
    real *slots                         # forward: OUT (n_slots, n_a, m), unless the slot is the state
    output output                       # forward
    # backward
    strided slot[MAX_SLOTS]             # IN  (n_a, m), activations, unless the slot is the state
    strided d_after[MAX_STATES]         # IN  (n_a, m), gradients of the states after the step
    strided dx                          # OUT (n_x, m)
    strided d_before[MAX_STATES]        # OUT (n_a, m), gradients of the states before it
    gradients out
    real *d_slots                       # workspace (n_slots, n_a, m)
    real *transposed                    # workspace (max(n_x, n_a), m)
    real *outer                         # workspace of each thread
    Py_ssize_t outer_size


cdef inline Py_ssize_t step_examples(const real[:, :] xt, const Py_ssize_t[:] index) except -1:
    """The examples of the input, (n_x, m) or (m)."""
    if xt is None and index is None:
        refuse()
    return index.shape[0] if xt is None else xt.shape[1]


cdef inline int set_step_input(
    one_step *task,
    const real[:, :] xt,                # IN  (n_x, m), or
    const Py_ssize_t[:] index,          # IN  (m)
) except -1:
    """The input of a step that has its sizes: one of the two is None."""
    if (xt is None) == (index is None):
        refuse()
    if xt is not None:
        return state(xt, task.p.n_x, task.m, False, &task.x)
    task.p.one_hot = True
    return index_state(index, task.p.n_x, task.m, &task.x_indices)


cdef inline void flatten(strided *s, Py_ssize_t n, Py_ssize_t m, real **workspace) noexcept nogil:
    """Make a step (n, m) C-contiguous: in place where it is, else by a copy in the workspace."""
    s.data = <real *> as_matrix(s[0], n, m, workspace_alloc(workspace, n * m))


cdef inline void flatten_input(one_step *task, real **workspace) noexcept nogil:
    """The same for the input."""
    cdef Py_ssize_t j
    if not task.p.one_hot:
        flatten(&task.x, task.p.n_x, task.m, workspace)
        return
    task.x_picked = index_alloc(workspace, task.m)
    for j in range(task.m):
        task.x_picked[j] = safe_index(task.x_indices, j, 0, task.p.n_x)


cdef inline void step_forward(void *problem, thread thr) noexcept nogil:
    """One thread's part of the forward equations."""
    cdef one_step *task = <one_step *> problem
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_a = task.p.n_a, m = task.m, row = n_a * m
    cdef index_range own = thread_rows(n_a, m, thr)
    cdef Py_ssize_t begin = own.begin * m
    cdef const product *p
    cdef const real *W_x
    cdef step s
    cdef int k, stage
    for k in range(c.n_slots):
        s.slot[k] = task.slots + k * row + begin
        if task.p.b[k] != NULL:
            fill_rows(task.slots + k * row, task.p.b[k], m, own)
        if gets_input(c, k):
            W_x = task.p.W_x[0].gate[k - c.x_first]
            if task.p.one_hot:
                matmul_one_hot_unpacked(
                    task.slots + k * row, m, W_x, task.p.W_x[0].ld, task.p.n_x, task.x_picked, own, thr,
                )
            else:
                matmul_unpacked(task.slots + k * row, m, W_x, task.p.W_x[0].ld, task.p.n_x, task.x.data, own, thr)
        p = &c.products[0]      # at once, while this slot's rows of the weights are in a cache
        if adds_to(p, k):
            matmul_unpacked(
                task.slots + k * row, m, task.p.W_h[0].gate[k - p.first], task.p.W_h[0].ld, n_a,
                task.before[0].data, own, thr,
            )
    for k in range(c.n_states):
        s.before[k], s.after[k] = task.before[k].data + begin, task.after[k].data + begin
    c.forward[0](&s, (own.end - own.begin) * m)
    for stage in range(1, c.n_stages):
        p = &c.products[stage]
        barrier(thr)            # the source is a slot, of which every thread has written a part
        for k in range(p.count):
            matmul_unpacked(
                task.slots + (p.first + k) * row, m, task.p.W_h[stage].gate[k], task.p.W_h[stage].ld, n_a,
                task.slots + p.source * row, own, thr,
            )
        c.forward[stage](&s, (own.end - own.begin) * m)
    barrier(thr)
    output_step(&task.output, task.after[0].data, n_a, m, thr)


cdef inline void step_backward(void *problem, thread thr) noexcept nogil:
    """One thread's part of the backward equations."""
    cdef one_step *task = <one_step *> problem
    cdef real *outer = task.outer + thr.id * task.outer_size
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t n_x = task.p.n_x, n_a = task.p.n_a, m = task.m, row = n_a * m
    cdef index_range own = thread_rows(n_a, m, thr)
    cdef Py_ssize_t begin = own.begin * m
    cdef const product *p
    cdef real *d
    cdef step s
    cdef int k, stage
    for k in range(c.n_slots):
        s.slot[k] = task.slot[k].data + begin
        s.d_slot[k] = task.d_slots + k * row + begin
    for k in range(c.n_states):
        s.before[k], s.after[k] = task.before[k].data + begin, task.after[k].data + begin
        s.d_state[k] = (task.d_after[k] if k == 0 and not c.keeps_da else task.d_before[k]).data + begin
    for stage in range(c.n_stages - 1, -1, -1):
        p = &c.products[stage]
        c.backward[stage](&s, (own.end - own.begin) * m)
        if stage > 0:           # the gradient of the slot that is its source; that of the state comes last
            barrier(thr)
            matmul_t_unpacked(
                task.d_slots + p.source * row, n_a, m, &task.p.W_h[stage], task.d_slots + p.first * row,
                ZERO, task.transposed, thr,
            )
            barrier(thr)
    for k in range(c.n_slots):
        d = task.d_slots + k * row
        sum_rows(task.out.db + k * n_a, d, m, own)
        for stage in range(c.n_stages):
            p = &c.products[stage]
            if adds_to(p, k):
                outer_unpacked(
                    task.out.dW_h[k], task.out.ld_h, n_a, d,
                    task.before[0].data if stage == 0 else task.slot[p.source].data, m, own,
                    outer, thr,
                )
        if gets_input(c, k):
            if task.p.one_hot:
                outer_one_hot_unpacked(
                    task.out.dW_x[k], task.out.ld_x, n_x, d, task.x_picked, m, own, outer, thr,
                )
            else:
                outer_unpacked(task.out.dW_x[k], task.out.ld_x, n_x, d, task.x.data, m, own, outer, thr)
    barrier(thr)
    if not task.p.one_hot:
        matmul_t_unpacked(
            task.dx.data, n_x, m, &task.p.W_x[0], task.d_slots + c.x_first * row, ZERO, task.transposed, thr,
        )
        barrier(thr)
    p = &c.products[0]
    matmul_t_unpacked(
        task.d_before[0].data, n_a, m, &task.p.W_h[0], task.d_slots + p.first * row, ADD if c.keeps_da else ZERO,
        task.transposed, thr,
    )


cdef inline int run_step_forward(one_step *task) except -1:
    """One step of a cell whose parameters and arrays are set."""
    cdef Py_ssize_t n_x = input_size(&task.p), n_a = task.p.n_a, m = task.m, n_states = task.p.cell.n_states, k
    cdef double flops = forward_flops(&task.p, task.output.n_y)
    cdef int threads = threads_for(step_flops(m, flops), n_a // MR)
    cdef Py_ssize_t panel = panel_size(max(n_x, n_a)) if m > 1 else 0
    cdef real *workspace = values_alloc(
        threads * panel + (n_x + 1 + task.output.n_y + n_states * n_a) * m + LINE * (3 + n_states)
    )
    cdef real *rest = workspace
    cdef region call = region_init(m * flops)
    call.panels = <char *> workspace_alloc(&rest, threads * panel)
    call.panel_size = panel * <Py_ssize_t> sizeof(real)
    threads = acquire_threads(threads)
    with nogil:
        task.output.z = workspace_alloc(&rest, task.output.n_y * m)
        flatten_input(task, &rest)
        for k in range(n_states):
            flatten(&task.before[k], n_a, m, &rest)
        parallel_run(step_forward, task, threads, &call)
    release_threads(threads, &call)
    buffer_free(workspace)
    return raise_if_cancelled(&call)


cdef inline int run_step_backward(one_step *task) except -1:
    """The gradients of one step of a cell whose parameters and arrays are set."""
    cdef Py_ssize_t n_x = input_size(&task.p), n_a = task.p.n_a, m = task.m, row = n_a * m, k
    cdef const cell *c = &task.p.cell
    cdef Py_ssize_t arrays = 3 * c.n_states + 2 * c.n_slots
    cdef double flops = backward_flops(&task.p)
    cdef int threads = threads_for(step_flops(m, flops), n_a // MR)
    cdef Py_ssize_t panel = panel_size(max(n_a, m)) if m > 1 else 0
    task.outer_size = outer_unpacked_workspace(n_a, max(n_x, n_a), m)
    cdef real *workspace = values_alloc(
        threads * (panel + task.outer_size) + arrays * (row + LINE) + (n_x + 1 + max(n_x, n_a)) * m + 4 * LINE
    )
    cdef real *rest = workspace
    cdef region call = region_init(m * flops)
    call.panels = <char *> workspace_alloc(&rest, threads * panel)
    call.panel_size = panel * <Py_ssize_t> sizeof(real)
    threads = acquire_threads(threads)
    with nogil:
        task.d_slots = workspace_alloc(&rest, c.n_slots * row)
        task.transposed = workspace_alloc(&rest, max(n_x, n_a) * m)
        task.outer = workspace_alloc(&rest, threads * task.outer_size)
        flatten_input(task, &rest)
        for k in range(c.n_states):
            flatten(&task.before[k], n_a, m, &rest)
            flatten(&task.after[k], n_a, m, &rest)
            flatten(&task.d_after[k], n_a, m, &rest)
        for k in range(0 if c.slot_is_state else c.n_slots):
            flatten(&task.slot[k], n_a, m, &rest)
        if c.slot_is_state:
            task.slot[0] = task.after[0]
        # da comes in as from a next step, and none from outside
        memset(task.d_slots + c.da_slot * row, 0, row * sizeof(real))
        if c.keeps_da:
            memcpy(task.d_before[0].data, task.d_after[0].data, row * sizeof(real))
        for k in range(1, c.n_states):
            memcpy(task.d_before[k].data, task.d_after[k].data, row * sizeof(real))
        parallel_run(step_backward, task, threads, &call)
    release_threads(threads, &call)
    buffer_free(workspace)
    return raise_if_cancelled(&call)
