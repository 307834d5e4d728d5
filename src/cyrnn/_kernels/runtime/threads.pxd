"""The number of threads of a call, and its interrupts: see threads.pyx."""

from .buffers cimport buffer_free
from .limits cimport STEP_EXAMPLES
from .parallel cimport parallel_run, region, thread_fn
from .real cimport real


cdef inline double step_flops(Py_ssize_t m, double flops) noexcept nogil:
    """What one step of m examples counts, so many operations each: a few examples wait for the weights to come from
    memory about as long as STEP_EXAMPLES compute."""
    return (max(m, STEP_EXAMPLES) if m else 0) * flops


cdef int threads_for(double flops, Py_ssize_t max_threads) noexcept
cdef int acquire_threads(int threads) noexcept
cdef void release_threads(int threads, const region *state) noexcept
cdef region region_init(double flops) noexcept
cdef int raise_if_cancelled(const region *state) except -1


cdef inline int run_on_threads(
    thread_fn *run, void *problem, int threads, double flops, real *workspace, Py_ssize_t panel_size,
) except -1:
    """Run it on so many threads without the GIL, with interrupts, and free its workspace, which begins with a panel of
    so many values for each thread (see `gemm_unpacked`)."""
    cdef region state = region_init(flops)
    state.panels, state.panel_size = <char *> workspace, panel_size * <Py_ssize_t> sizeof(real)
    threads = acquire_threads(threads)
    with nogil:
        parallel_run(run, problem, threads, &state)
    release_threads(threads, &state)
    buffer_free(workspace)
    return raise_if_cancelled(&state)
