/* One kernel call on several threads, by OpenMP where the compiler has it.
 *
 * Every thread runs the same function on the same problem and takes its share of each loop; a
 * barrier stands between a loop that writes and one that reads what others wrote.  Shares cut
 * examples, units or columns, never a sum: so the results are the same bits for every number.
 *
 * A long call is watched: now and then its first thread, the caller's own, looks whether a signal came
 * (threads.pyx).  When one has, nobody leaves at once, which would let others wait at a barrier for ever: what
 * costs time (the products) is skipped, and all leave together at the end of the block of steps.
 */
#ifndef CYRNN_TEAM_H
#define CYRNN_TEAM_H

#include <stddef.h>
#include "fpenv.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_OPENMP) && defined(__GNUC__)
#include <sched.h>
#define SPINS 2000 /* looks before a thread lets others have its processor */
#ifdef CPU_CLR
#define PARTING
#endif
#endif

typedef struct watch {
    volatile int stop;                      /* results are no longer wanted: products are skipped */
    int halt;                               /* the same, known to all: the loop over the blocks ends */
    double left, operations;                /* until the next look, and from one to the next */
    double last;                            /* when it was */
    void (*look)(struct watch *watch);      /* NULL: nobody looks */
    int waiting, round;                     /* of the barriers */
} watch;

typedef struct {
    int thread, threads;
    watch *watch;
} team;

typedef struct {
    Py_ssize_t lo, hi; /* from lo up to, not including, hi */
} span;

typedef void team_fn(void *problem, team me);

static watch unwatched = {0, 0, 0.0, 0.0, 0.0, NULL, 0, 0};
static const team alone = {0, 1, &unwatched};

/* One of the team that works by itself for a while. */
static inline team by_itself(team me) { return (team){0, 1, me.watch}; }

static inline int stopped(team me) { return me.watch->stop; }

/* To be called by every thread again and again, after so many operations. */
static inline void look_up(team me, double operations)
{
    if (me.thread == 0 && me.watch->look && (me.watch->left -= operations) <= 0.0) {
        me.watch->left = me.watch->operations;
        me.watch->look(me.watch);
    }
}

/* Between two barriers of the whole team; after the second all find the same answer in `halted`. */
static inline void settle(team me)
{
    if (me.thread == 0 && me.watch->stop) me.watch->halt = 1;
}

static inline int halted(team me) { return me.watch->halt; }

/* The share of n things, cut at multiples of `unit`. */
static inline span share(Py_ssize_t n, Py_ssize_t unit, team me)
{
    if (me.threads == 1) return (span){0, n};
    Py_ssize_t units = (n + unit - 1) / unit;
    span mine = {units * me.thread / me.threads * unit, units * (me.thread + 1) / me.threads * unit};
    if (mine.hi > n) mine.hi = n;
    return mine;
}

static inline span whole(Py_ssize_t n) { return (span){0, n}; }

/* As far as there are n. */
static inline span clip(span mine, Py_ssize_t n) { return (span){mine.lo < n ? mine.lo : n, mine.hi < n ? mine.hi : n}; }

/* OpenMP's own barrier spins for milliseconds; two threads that the system has put on one processor then
 * wait for the end of each other's time slice: 12 ms for a call of 0.4. */
static inline void barrier(team me)
{
#ifdef SPINS
    if (me.threads == 1) return;
    int round = __atomic_load_n(&me.watch->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&me.watch->waiting, 1, __ATOMIC_ACQ_REL) == me.threads) {
        __atomic_store_n(&me.watch->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&me.watch->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&me.watch->round, __ATOMIC_ACQUIRE) == round; spins++) {
        if (spins >= SPINS) sched_yield();
#if defined(__SSE2__)
        else _mm_pause();
#endif
    }
#elif defined(_OPENMP)
    if (me.threads > 1) {
#pragma omp barrier
    }
#else
    (void)me;
#endif
}

/* The processor of the first thread, to be told to the others; -1 where that helps nobody. */
static inline int processor(void)
{
#ifdef PARTING
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Linux may wake a thread that has slept on the processor of the one that wakes it, even if others are idle, and
 * leaves both there for some milliseconds, longer than many a call takes; sleeping for a moment does not help.  So the
 * first thread lets the others run at once, and who finds itself on the first one's processor `theirs` leaves it, if
 * there are enough for all.  (Others that share a processor with each other stay: nobody has seen them.) */
static inline void part(team me, int theirs)
{
#ifdef PARTING
    cpu_set_t allowed, others;
    if (me.thread == 0) sched_yield();
    else if (theirs >= 0 && sched_getcpu() == theirs && sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        others = allowed;
        CPU_CLR(theirs, &others);
        if (CPU_COUNT(&others) + 1 < me.threads) return;
        sched_setaffinity(0, sizeof others, &others);
        sched_setaffinity(0, sizeof allowed, &allowed);
    }
#else
    (void)me, (void)theirs;
#endif
}

/* run(problem, me) on at most `threads` threads, in their own floating-point environment. */
static inline void run_team(team_fn *run, void *problem, int threads, watch *watch)
{
#ifdef _OPENMP
    if (threads > 1) {
        int first = processor();
#pragma omp parallel num_threads(threads)
        {
            team me = {omp_get_thread_num(), omp_get_num_threads(), watch};
            part(me, first);
            fp_state before = fp_enter(FP_FLUSH);
            run(problem, me);
            fp_leave(before);
            barrier(me);
#ifdef SPINS
            if (me.thread == 0) sched_yield(); /* the others are on their way to the end of the region */
#endif
        }
        return;
    }
#endif
    (void)threads;
    fp_state before = fp_enter(FP_FLUSH);
    run(problem, (team){0, 1, watch});
    fp_leave(before);
}

#endif
