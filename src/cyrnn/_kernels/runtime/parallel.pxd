"""The threads of one kernel call, and the floating-point environment: see parallel.h and fpenv.h."""


cdef extern from "runtime/parallel.h" nogil:
    ctypedef struct region:
        int cancelled
        int interrupted
        double flops_left
        double polled_at
        void (*check)(region *region) noexcept
        int arrived
        int phase
        int asleep
        double elapsed
        double busiest
        void *out
        char *panels
        Py_ssize_t panel_size

    ctypedef struct thread:
        int id
        int count
        region *region
        void *panel
        int first

    ctypedef struct index_range:
        Py_ssize_t begin
        Py_ssize_t end

    ctypedef void thread_fn(void *problem, thread thr) noexcept

    const thread serial
    thread one_thread(thread thr)
    bint cancelled(thread thr)
    bint interrupted(thread thr)
    void publish(thread thr)
    void poll_signals(thread thr, double flops)
    index_range thread_range(Py_ssize_t n, Py_ssize_t unit, thread thr)
    bint next_part(index_range *part, index_range own, Py_ssize_t unit, double flops, thread thr)
    index_range full_range(Py_ssize_t n)
    index_range clamp(index_range r, Py_ssize_t n)
    index_range scaled(index_range r, Py_ssize_t n)
    void barrier(thread thr)
    void leave_region(region *region)
    void parallel_run(thread_fn *run, void *problem, int threads, region *region)


cdef extern from "runtime/fpenv.h" nogil:
    ctypedef struct fp_state:
        pass

    const unsigned int FP_PLAIN
    const unsigned int FP_FLUSH
    fp_state fp_enter(unsigned int how)
    void fp_leave(fp_state before)
