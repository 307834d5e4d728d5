/* One kernel call on several threads, by OpenMP where the compiler has it.
 *
 * Every thread runs the same function on the same problem and takes its range of each loop; a barrier stands
 * between a loop that writes and one that reads what other threads wrote.  Ranges split examples, units or
 * columns, never a sum: the results are the same bits for every number of threads.
 *
 * Interrupts.  In a long call the first thread, the caller's own, polls for signals (threads.pyx).  When one
 * came, no thread returns at once, since others would wait at a barrier for ever: what takes time (the
 * products) is skipped, and all threads return together at the end of the block of steps.
 *
 * A handler may fork.  The child has the first thread only, which would wait at every barrier for ever, at OpenMP's own
 * too: there it leaves the parallel region by a jump (`leave_region`), and the call raises an error.
 */
#ifndef CYRNN_PARALLEL_H
#define CYRNN_PARALLEL_H

#include <setjmp.h>
#include <stddef.h>
#include "fpenv.h"
#include "limits.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_OPENMP) && defined(__GNUC__)
#include <sched.h>
#include <time.h>
#define OWN_BARRIER
#ifdef CPU_CLR
#define HAS_AFFINITY
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#ifdef SYS_futex
#define HAS_FUTEX
#endif
#endif
#endif

/* What the threads of one call share. */
typedef struct region {
    volatile int cancelled;              /* results are no longer wanted: products are skipped */
    int interrupted;                     /* the same, published to all threads: the loop over the blocks ends */
    double flops_left;                   /* until the first thread looks at the clock again */
    double polled_at;                    /* when it checked for signals, in seconds */
    void (*check)(struct region *region); /* checks for signals; NULL in a short call */
    int arrived, phase, asleep;          /* of the barrier */
    double elapsed, busiest;             /* seconds that it took; that the thread with the most work was running */
    jmp_buf *out;                        /* of the parallel region; NULL in a call on one thread */
    char *panels;                        /* workspace of each thread, see gemm_unpacked; NULL if no product needs it */
    Py_ssize_t panel_size;               /* bytes of it */
} region;

typedef struct {
    int id, count;
    region *region;
    void *panel; /* this thread's of the region */
    int first;     /* whether it is the first thread of the region, the caller's own, which polls for signals */
} thread;

typedef struct {
    Py_ssize_t begin, end; /* end is not in it */
} index_range;

typedef void thread_fn(void *problem, thread thr);

static region never_interrupted = {0, 0, 0.0, 0.0, NULL, 0, 0, 0, 0.0, 0.0, NULL, NULL, 0};
static const thread serial = {0, 1, &never_interrupted, NULL, 1};

/* The same thread on its own for a while: it shares nothing with the others. */
static inline thread one_thread(thread thr) { return (thread){0, 1, thr.region, thr.panel, thr.first}; }

static inline int cancelled(thread thr) { return thr.region->cancelled; }

/* Called by every thread again and again, after so many floating-point operations. */
static inline void poll_signals(thread thr, double flops)
{
    if (thr.first && thr.region->check && (thr.region->flops_left -= flops) <= 0.0) {
        thr.region->flops_left = POLL_FLOPS;
        thr.region->check(thr.region);
    }
}

/* Between two barriers of all threads; after the second one all get the same answer from `interrupted`. */
static inline void publish(thread thr)
{
    if (thr.id == 0 && thr.region->cancelled) thr.region->interrupted = 1;
}

static inline int interrupted(thread thr) { return thr.region->interrupted; }

/* This thread's range of 0 ... n - 1, split at multiples of `unit`. */
static inline index_range thread_range(Py_ssize_t n, Py_ssize_t unit, thread thr)
{
    if (thr.count == 1) return (index_range){0, n};
    Py_ssize_t units = (n + unit - 1) / unit;
    index_range own = {units * thr.id / thr.count * unit, units * (thr.id + 1) / thr.count * unit};
    if (own.end > n) own.end = n;
    return own;
}

/* The next part of `own`, in units of `unit` rows of so many operations each, between two polls: to be called with an
 * empty part at the beginning.  Whether there is one; none in a call that is cancelled. */
static inline int next_part(index_range *part, index_range own, Py_ssize_t unit, double flops, thread thr)
{
    Py_ssize_t rows = own.end - part->end;
    part->begin = part->end;
    if (rows <= 0 || cancelled(thr)) return 0;
    if (flops * (double)rows > POLL_FLOPS) {
        Py_ssize_t some = (Py_ssize_t)(POLL_FLOPS / flops) / unit * unit;
        if (some < unit) some = unit;
        if (some < rows) rows = some;
    }
    part->end = part->begin + rows;
    poll_signals(thr, flops * (double)rows);
    return 1;
}

static inline index_range full_range(Py_ssize_t n) { return (index_range){0, n}; }

/* The part of it below n. */
static inline index_range clamp(index_range r, Py_ssize_t n)
{
    return (index_range){r.begin < n ? r.begin : n, r.end < n ? r.end : n};
}

/* The values of these columns, n of each. */
static inline index_range scaled(index_range r, Py_ssize_t n) { return (index_range){r.begin * n, r.end * n}; }

/* Sleep until the barrier's phase is another one.  A thread that yields instead gives up its share of the processor,
 * and waits for a time slice of everything else that runs there when it could go on. */
static inline void barrier_sleep(region *region, int phase)
{
#ifdef HAS_FUTEX
    const struct timespec most = {0, (long)(1e9 * POLL_SECONDS)}; /* the first thread polls for signals again */
    __atomic_add_fetch(&region->asleep, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &region->phase, 128 /* FUTEX_WAIT_PRIVATE */, phase, &most, NULL, 0); /* not if it has changed */
    __atomic_sub_fetch(&region->asleep, 1, __ATOMIC_SEQ_CST);
#elif defined(OWN_BARRIER)
    (void)region, (void)phase;
    sched_yield();
#endif
}

static inline void barrier_wake(region *region, int count)
{
#ifdef HAS_FUTEX
    if (__atomic_load_n(&region->asleep, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &region->phase, 129 /* FUTEX_WAKE_PRIVATE */, count, NULL, NULL, 0);
#else
    (void)region, (void)count;
#endif
}

/* OpenMP's own barrier spins for milliseconds: two threads that the system has put on one processor then wait
 * for the end of each other's time slice. */
static inline void barrier(thread thr)
{
#ifdef OWN_BARRIER
    if (thr.count == 1) return;
    int phase = __atomic_load_n(&thr.region->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&thr.region->arrived, 1, __ATOMIC_ACQ_REL) == thr.count) {
        __atomic_store_n(&thr.region->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&thr.region->phase, phase + 1, __ATOMIC_SEQ_CST);
        barrier_wake(thr.region, thr.count);
        return;
    }
    double until = 0.0;
    for (int spins = 0; __atomic_load_n(&thr.region->phase, __ATOMIC_ACQUIRE) == phase;) {
        if (spins < SPINS) {
            if (++spins == SPINS) until = omp_get_wtime() + SPIN_SECONDS;
#if defined(__SSE2__)
            _mm_pause();
#endif
        } else if (omp_get_wtime() > until) {
            if (thr.first && thr.region->check) thr.region->check(thr.region);
            barrier_sleep(thr.region, phase);
        }
    }
#elif defined(_OPENMP)
    if (thr.count > 1) {
#pragma omp barrier
    }
#else
    (void)thr;
#endif
}

/* The processor of the first thread, for the others; -1 where the system does not tell. */
static inline int current_cpu(void)
{
#ifdef HAS_AFFINITY
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Linux may wake a worker on the processor of the thread that wakes it, although others are idle, and leaves both
 * there for some milliseconds, longer than many a call takes.  So the first thread yields once, and a worker that
 * runs on its processor, `first_cpu`, migrates by setting its CPU affinity temporarily, if there are processors
 * enough for all threads. */
static inline void leave_first_cpu(thread thr, int first_cpu)
{
#ifdef HAS_AFFINITY
    cpu_set_t allowed, others;
    if (thr.id == 0) sched_yield();
    else if (first_cpu >= 0 && sched_getcpu() == first_cpu && sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        others = allowed;
        CPU_CLR(first_cpu, &others);
        if (CPU_COUNT(&others) + 1 < thr.count) return;
        sched_setaffinity(0, sizeof others, &others);
        sched_setaffinity(0, sizeof allowed, &allowed);
    }
#else
    (void)thr, (void)first_cpu;
#endif
}

/* The seconds for which this thread has been running on a processor; 0 where the system does not tell. */
static inline double thread_seconds(void)
{
#if defined(OWN_BARRIER) && defined(CLOCK_THREAD_CPUTIME_ID) && !defined(_WIN32)
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0) return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
    return 0.0;
}

/* The first thread out of a parallel region whose other threads do not exist any more; it returns where there is none. */
static inline void leave_region(region *region)
{
    if (region->out) longjmp(*region->out, 1);
}

#ifdef _OPENMP
/* `parallel_run` on several threads.  (A function of its own: with setjmp in it, it is not inlined.) */
static void parallel_region(thread_fn *run, void *problem, int threads, region *region)
{
    jmp_buf out;
    const fp_state before_all = fp_enter(FP_FLUSH);
    fp_leave(before_all); /* only read: new threads begin with the state of the one that makes them */
    const int first_cpu = current_cpu();
    const double start = omp_get_wtime();
    region->out = &out;
    if (setjmp(out) == 0) {
#pragma omp parallel num_threads(threads)
        {
            int id = omp_get_thread_num();
            thread thr = {id, omp_get_num_threads(), region, region->panels + id * region->panel_size, id == 0};
            double ran = thread_seconds();
            leave_first_cpu(thr, first_cpu);
            fp_state before = fp_enter(FP_FLUSH);
            run(problem, thr);
            fp_leave(before);
            ran = thread_seconds() - ran;
#pragma omp critical(cyrnn_busiest)
            if (ran > region->busiest) region->busiest = ran;
            barrier(thr);
#ifdef OWN_BARRIER
            if (thr.id == 0) sched_yield(); /* the workers are on their way to the end of the region */
#endif
        }
        region->elapsed = omp_get_wtime() - start;
    }
    region->out = NULL;
    fp_leave(before_all);
}
#endif

/* run(problem, thr) on at most `threads` threads, each in the floating-point environment of a pass. */
static inline void parallel_run(thread_fn *run, void *problem, int threads, region *region)
{
#ifdef _OPENMP
    if (threads > 1) {
        parallel_region(run, problem, threads, region);
        return;
    }
#endif
    (void)threads;
    fp_state before = fp_enter(FP_FLUSH);
    run(problem, (thread){0, 1, region, region->panels, 1});
    fp_leave(before);
}

#endif
