"""Both directions of a layer side by side, each on a thread of its own: without a barrier, but that at the end.

Each direction is computed as on one thread, which is the same bits.
"""

from ..runtime.buffers cimport values_alloc, workspace_alloc
from ..runtime.parallel cimport one_thread, thread, thread_fn
from ..runtime.real cimport real
from ..runtime.threads cimport run_on_threads, threads_for
from .backward cimport backward_alloc, backward_pass, backward_plan, backward_products, run_backward
from .batch cimport sort_batch
from .forward cimport forward_alloc, forward_pass, forward_plan, forward_products, run_forward
from .layer cimport layer


cdef enum:
    DIRECTIONS = 2


cdef struct layer_pass:                 # forward or backward
    int (*plan)(layer *task) noexcept nogil
    void (*products)(layer *task, int threads) noexcept nogil
    real *(*alloc)(layer *task, real *workspace, int threads) noexcept nogil
    thread_fn *run
    int (*run_alone)(layer *task) except -1


cdef struct directions:
    layer *tasks                        # DIRECTIONS of them
    thread_fn *run


cdef inline void own_direction(void *problem, thread thr) noexcept nogil:
    """One thread's part: whole directions."""
    cdef directions *both = <directions *> problem
    cdef int i
    for i in range(DIRECTIONS):
        if i % thr.count == thr.id:
            both.run(&both.tasks[i], one_thread(thr))


cdef inline int run_both(layer *tasks, layer_pass p) except -1:
    """Run a pass over both directions, which have the same sizes: side by side if there are two threads for them; with
    more of them, or one, one direction after the other."""
    cdef directions both
    cdef double flops
    cdef real *workspace
    cdef real *end = NULL
    cdef Py_ssize_t panel
    cdef int max_threads = p.plan(&tasks[0]), i
    p.plan(&tasks[1])
    flops = DIRECTIONS * tasks[0].flops * tasks[0].batch.columns
    if tasks[0].p.n_a == 0 or threads_for(flops, max(max_threads, DIRECTIONS)) != DIRECTIONS:
        for i in range(DIRECTIONS):
            p.run_alone(&tasks[i])
        return 0
    for i in range(DIRECTIONS):
        p.products(&tasks[i], 1)
    panel = tasks[0].panel_size
    workspace_alloc(&end, DIRECTIONS * panel)   # the panels of the threads, before the workspace of the directions
    for i in range(DIRECTIONS):
        tasks[i].panel_size = 0
        end = p.alloc(&tasks[i], end, 1)
    workspace = values_alloc(end - <real *> NULL)
    end = workspace
    workspace_alloc(&end, DIRECTIONS * panel)
    for i in range(DIRECTIONS):
        end = p.alloc(&tasks[i], end, 1)
        sort_batch(&tasks[i].batch)
    both.tasks, both.run = tasks, p.run
    return run_on_threads(own_direction, &both, DIRECTIONS, flops, workspace, panel)


cdef inline int run_both_forward(layer *tasks) except -1:
    return run_both(tasks, layer_pass(forward_plan, forward_products, forward_alloc, forward_pass, run_forward))


cdef inline int run_both_backward(layer *tasks) except -1:
    return run_both(tasks, layer_pass(backward_plan, backward_products, backward_alloc, backward_pass, run_backward))
