/* One kernel call on several threads, by OpenMP where the compiler has it.
 *
 * Every thread runs the same function on the same problem and takes its share of each loop; a
 * barrier stands between a loop that writes and one that reads what others wrote.  Shares cut
 * examples, units or columns, never a sum: so the results are the same bits for every number.
 */
#ifndef CYRNN_TEAM_H
#define CYRNN_TEAM_H

#include <stddef.h>

#ifdef _OPENMP
#include <omp.h>
#endif

typedef struct {
    int thread, threads;
} team;

typedef struct {
    Py_ssize_t lo, hi; /* from lo up to, not including, hi */
} span;

typedef void team_fn(void *problem, team me);

static const team alone = {0, 1};

/* The share of n things, cut at multiples of `unit`. */
static inline span share(Py_ssize_t n, Py_ssize_t unit, team me)
{
    if (me.threads == 1) return (span){0, n};
    Py_ssize_t units = (n + unit - 1) / unit;
    span mine = {units * me.thread / me.threads * unit, units * (me.thread + 1) / me.threads * unit};
    if (mine.hi > n) mine.hi = n;
    return mine;
}

static inline void barrier(team me)
{
#ifdef _OPENMP
    if (me.threads > 1) {
#pragma omp barrier
    }
#else
    (void)me;
#endif
}

/* run(problem, me) on at most `threads` threads. */
static inline void run_team(team_fn *run, void *problem, int threads)
{
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            team me = {omp_get_thread_num(), omp_get_num_threads()};
            run(problem, me);
        }
        return;
    }
#endif
    (void)threads;
    run(problem, alone);
}

#endif
