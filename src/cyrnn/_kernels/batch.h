/* A batch whose examples have different numbers of steps.
 *
 * A column is one example at one step.  Columns are numbered step by step, those of step t from first_of(t) on.
 * Without lengths every example is in every step.  With lengths the longest come first, so that the examples of a
 * step are the first ones and the columns of a block of steps are adjacent: place j is the caller's example
 * order[j].
 */
#ifndef CYRNN_BATCH_H
#define CYRNN_BATCH_H

#include <stdint.h>
#include "layout.h"

#define SIDE 128    /* columns, and units, whose rows are found together */
#define ALL_ZERO 32 /* steps up to which it takes longer to tell apart what is padding */

typedef struct {
    Py_ssize_t m, T;                /* the caller's examples; steps until the last of them ends */
    Py_ssize_t wide, columns, kept; /* examples that have a step; columns in all; columns of the cache */
    Py_ssize_t block, most;         /* at most so many steps (without lengths) and columns together */
    Py_ssize_t longest;             /* steps of the longest example, T or more */
    Py_ssize_t T_x;                 /* steps of the caller's arrays */
    const Py_ssize_t *lengths;      /* (m), in the caller's order; NULL without lengths */
    Py_ssize_t *order;              /* (m + 1), the caller's example at a place, of those that have a step */
    Py_ssize_t *place;              /* (m), the place of an example, -1 if it has no step */
    Py_ssize_t *first;              /* (longest + 2); T_x if that is more, for the table */
    int at_once;                    /* all columns are one block, the caller's arrays are turned round as a whole,
                                       and threads share what is done for a block by units */
    Py_ssize_t *column;             /* (m, T_x) with at_once: the column of an example at a step, -1 past its length */
} batch;

static inline Py_ssize_t first_of(const batch *b, Py_ssize_t t) { return b->lengths ? b->first[t] : t * b->m; }

static inline Py_ssize_t examples_at(const batch *b, Py_ssize_t t)
{
    return b->lengths ? b->first[t + 1] - b->first[t] : b->m;
}

/* Steps t0 ... t1 - 1 as far as the example at place j goes, which is in the first of them. */
static inline Py_ssize_t steps_of(const batch *b, Py_ssize_t j, Py_ssize_t t0, Py_ssize_t t1)
{
    return (b->lengths && b->lengths[b->order[j]] < t1 ? b->lengths[b->order[j]] : t1) - t0;
}

static inline int has(span mine, Py_ssize_t j) { return j >= mine.lo && j < mine.hi; }

/* Whether the columns of a block that belong to the examples `mine` are adjacent: those of all examples are. */
static inline int adjacent(const batch *b, Py_ssize_t t0, span mine)
{
    return mine.lo == 0 && mine.hi >= examples_at(b, t0);
}

/* How many runs of adjacent columns they are: one, or one of each step. */
static inline Py_ssize_t runs(const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine)
{
    return adjacent(b, t0, mine) ? 1 : t1 - t0;
}

/* The i-th of these runs, counted from the first column of the block. */
static inline span run(const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine, Py_ssize_t i)
{
    Py_ssize_t first = first_of(b, t0 + i) - first_of(b, t0);
    if (adjacent(b, t0, mine)) return whole(first_of(b, t1) - first_of(b, t0));
    mine = clip(mine, examples_at(b, t0 + i));
    return (span){first + mine.lo, first + mine.hi};
}

/* The units of one example (rows) at some steps (cols) from the caller's array, and into it; the column of step i
 * is at[i] - at[0] columns after the first. */
static void example_in(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t units,
                       Py_ssize_t count, const Py_ssize_t *at)
{
    squares(dst, ldd, src, lds, units, count, FAR_SOURCE, at);
}

static void example_out(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t count,
                        Py_ssize_t units, const Py_ssize_t *at)
{
    squares(dst, ldd, src, lds, count, units, FAR_TARGET, at);
}

/* row[i], i < n: the row at[i] of `rows`, or `none` where that is negative.  By arithmetic and not by a branch, since
 * nobody can foretell which examples have a step. */
ALWAYS_INLINE void find_rows(double **row, const double *rows, Py_ssize_t ld, const Py_ssize_t *at, Py_ssize_t n,
                             const double *none)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const uintptr_t there = (uintptr_t)rows + (uintptr_t)(at[i] * ld) * sizeof *rows;
        const uintptr_t all = (uintptr_t)(at[i] < 0) - 1;
        row[i] = (double *)((there & all) | ((uintptr_t)none & ~all));
    }
}

static inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) { return a < b ? a : b; }

/* All columns of an array of the caller's, a sequence or a state, from it and into it: `at` has the row of each in the
 * kernels' order, negative where there is none; then nothing is written, and zero is.  So many columns and units at a
 * time that the rows are found once for several squares. */
static void all_in(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t units,
                   Py_ssize_t columns, const Py_ssize_t *at)
{
    ON_LINES double nowhere[SIDE];
    double *to[SIDE];
    for (; units > 0; units -= SIDE, dst += SIDE, src += SIDE * lds)
        for (Py_ssize_t k = 0; k < columns; k += SIDE) {
            const Py_ssize_t nu = least(units, SIDE), nc = least(columns - k, SIDE);
            find_rows(to, dst, ldd, at + k, nc, nowhere);
            for (Py_ssize_t u = 0; u < nu; u += VLEN)
                for (Py_ssize_t c = 0; c < nc; c += VLEN)
                    TURN(src + (u + i) * lds + k + c, to[c + i] + u, (int)least(nu - u, VLEN),
                         (int)least(nc - c, VLEN));
        }
}

static void all_out(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t columns,
                    Py_ssize_t units, const Py_ssize_t *at)
{
    static const double zeros[SIDE];
    double *from[SIDE];
    for (; units > 0; units -= SIDE, src += SIDE, dst += SIDE * ldd)
        for (Py_ssize_t k = 0; k < columns; k += SIDE) {
            const Py_ssize_t nu = least(units, SIDE), nc = least(columns - k, SIDE);
            find_rows(from, src, lds, at + k, nc, zeros);
            for (Py_ssize_t u = 0; u < nu; u += VLEN)
                for (Py_ssize_t c = 0; c < nc; c += VLEN)
                    TURN(from[c + i] + u, dst + (u + i) * ldd + k + c, (int)least(nc - c, VLEN),
                         (int)least(nu - u, VLEN));
        }
}

/* dst (columns, units) = src[:, :, t0 : t1], row length ld; any strides, fast where the units' or the steps' is 1.
 * Only the units of `mine`, of the examples at the places `of`: with `at_once` of all. */
static inline void load_batch(double *dst, Py_ssize_t ld, steps src, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
                              span mine, span of)
{
    const Py_ssize_t units = mine.hi - mine.lo;
    if (!b->lengths) {
        load_steps(dst, ld, src, b->m, t0, t1 - t0, mine, of);
        return;
    }
    if (units <= 0) return;
    const double *s = src.data + mine.lo * src.su;
    dst += mine.lo;
    if (b->at_once && adjacent(b, t0, of) && src.su != 1 && src.sj == b->T_x && (src.st == 1 || b->T_x == 1)) {
        all_in(dst, ld, s, src.su, units, b->m * b->T_x, b->column);
        return;
    }
    /* in the caller's order, since neighbours share pages and cache lines */
    if (src.su != 1 && src.st == 1 && t1 - t0 > 1) {
        of = clip(of, examples_at(b, t0));
        for (Py_ssize_t i = 0; i < b->m; i++) {
            const Py_ssize_t j = b->place[i];
            if (has(of, j))
                example_in(dst + j * ld, ld, s + i * src.sj + t0, src.su, units, steps_of(b, j, t0, t1), b->first + t0);
        }
        return;
    }
    for (Py_ssize_t t = t0; t < t1; t++) {
        const int all = 4 * examples_at(b, t) >= b->m; /* are looked at, or only those that are left */
        of = clip(of, examples_at(b, t));
        for (Py_ssize_t k = all ? 0 : of.lo; k < (all ? b->m : of.hi); k++) {
            const Py_ssize_t i = all ? k : b->order[k], j = all ? b->place[k] : k;
            if (!has(of, j)) continue;
            const double *column = s + i * src.sj + t * src.st;
            double *d = dst + (b->first[t] - b->first[t0] + j) * ld;
            if (src.su == 1) memcpy(d, column, (size_t)units * sizeof *d);
            else
                for (Py_ssize_t u = 0; u < units; u++) d[u] = column[u * src.su];
        }
    }
}

/* The same block as columns, the first at p and each ld after the one before; in place where `columns_of` is. */
static inline const double *batch_columns(steps s, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
                                          double *room, Py_ssize_t *ld, span mine, span of)
{
    if (!b->lengths) return columns_of(s, n, b->m, t0, t1 - t0, room, ld, mine, of);
    load_batch(room, n, s, b, t0, t1, mine, of);
    *ld = n;
    return room;
}

/* Whether what lies past an example becomes zero when its last step is stored, while the cache line that both share is
 * near.  Where most is padding, in the order of the addresses before everything. */
static inline int zeros_last(const batch *b) { return b->T_x > ALL_ZERO && 4 * b->columns >= b->m * b->T_x; }

/* dst[:, :, t0 : t1] = src (columns, n); dst is C-contiguous, so st is 1.  Only the units of `mine`, of the examples
 * at the places `of`: with `at_once` of all, and zeros where they have no step. */
static inline void store_batch(steps dst, const double *src, Py_ssize_t n, const batch *b, Py_ssize_t t0,
                               Py_ssize_t t1, span mine, span of)
{
    const Py_ssize_t units = mine.hi - mine.lo;
    if (!b->lengths) {
        store_steps(dst, src, n, b->m, t0, t1 - t0, mine, of);
        return;
    }
    if (units <= 0) return;
    if (b->at_once && adjacent(b, t0, of)) {
        all_out(dst.data + mine.lo * dst.su, dst.su, src + mine.lo, n, b->m * b->T_x, units, b->column);
        return;
    }
    of = clip(of, examples_at(b, t0));
    for (Py_ssize_t i = 0; i < b->m; i++) {
        const Py_ssize_t j = b->place[i];
        if (!has(of, j)) continue;
        double *to = dst.data + mine.lo * dst.su + i * dst.sj + t0;
        const Py_ssize_t count = steps_of(b, j, t0, t1);
        example_out(to, dst.su, src + j * n + mine.lo, n, count, units, b->first + t0);
        if (zeros_last(b) && b->lengths[i] < b->T_x && t0 + count == b->lengths[i])
            for (Py_ssize_t u = 0; u < units; u++)
                memset(to + u * dst.su + count, 0, (size_t)(b->T_x - b->lengths[i]) * sizeof(double));
    }
}

/* dst (wide, n) = src (n, m), the state before the first step.  Only the units of `mine`. */
static inline void load_state(double *dst, Py_ssize_t n, steps src, const batch *b, span mine)
{
    if (b->lengths && src.sj == 1 && mine.hi > mine.lo)
        all_in(dst + mine.lo, n, src.data + mine.lo * src.su, src.su, mine.hi - mine.lo, b->m, b->place);
    else load_batch(dst, n, src, b, 0, 1, mine, whole(b->m));
}

/* dst (n, m) = src (wide, n), a state, and zero for an example without steps; dst is C-contiguous.  Only the units of
 * `mine`. */
static inline void store_state(steps dst, const double *src, Py_ssize_t n, const batch *b, span mine)
{
    if (!b->lengths) store_steps(dst, src, n, b->m, 0, 1, mine, whole(b->m));
    else if (mine.hi > mine.lo)
        all_out(dst.data + mine.lo * dst.su, dst.su, src + mine.lo, n, b->m, mine.hi - mine.lo, b->place);
}

/* What lies past the lengths in dst (n, m, T_x), C-contiguous, becomes zero, and what does not may: the values are
 * stored later; with `at_once` zeros too, and with `zeros_last` those of examples that have a step.  Only the units of
 * `mine`. */
static inline void clear_past(steps dst, const batch *b, span mine)
{
    const Py_ssize_t T_x = b->T_x;
    if (!b->lengths || b->at_once) return;
    if (T_x <= ALL_ZERO) {
        memset(dst.data + mine.lo * dst.su, 0, (size_t)((mine.hi - mine.lo) * b->m * T_x) * sizeof(double));
        return;
    }
    for (Py_ssize_t u = mine.lo; u < mine.hi; u++)
        for (Py_ssize_t j = 0; j < b->m; j++)
            if (zeros_last(b) ? b->lengths[j] == 0 : b->lengths[j] < T_x)
                memset(dst.data + u * dst.su + j * dst.sj + b->lengths[j], 0,
                       (size_t)(T_x - b->lengths[j]) * sizeof(double));
}

#endif
