/* Packed batches: examples with different numbers of steps.
 *
 * A column is one example at one step.  Columns are numbered step by step, those of step t from offset_at(t) on.
 * Without lengths every example is in every step.  With lengths the longest examples come first, so that those of a
 * step are the first ones and the columns of a block of steps are contiguous: packed example j is the caller's example
 * sorted_indices[j].
 *
 * A thread has two ranges of examples in a block.  `own` are those that it takes through the steps.  `of` are those in
 * whose packing, projection and unpacking it has a part: its own ones again, or all of them, of which each thread then
 * takes a range of the units.  (In the functions below, which pack and unpack, `own` is that range of units.)
 */
#ifndef CYRNN_BATCH_H
#define CYRNN_BATCH_H

#include <stdint.h>
#include "linalg/transpose.h"

typedef struct {
    Py_ssize_t m;                   /* examples of the caller's arrays */
    Py_ssize_t T_x;                 /* steps of the caller's arrays */
    Py_ssize_t T;                   /* steps until the last example ends */
    Py_ssize_t longest;             /* steps of the longest example in the cache, T or more */
    Py_ssize_t n_active;            /* examples that have a step */
    Py_ssize_t columns;             /* of the pass */
    Py_ssize_t cached_columns;      /* of its cache, as many or more */
    Py_ssize_t block_steps;         /* steps of a block at most, without lengths */
    Py_ssize_t max_columns;         /* columns of a block at most */
    const Py_ssize_t *lengths;      /* (m), in the caller's order; NULL without lengths */
    Py_ssize_t *sorted_indices;     /* (m + 1), the caller's number of a packed example */
    Py_ssize_t *unsorted_indices;   /* (m), the packed number of an example, -1 if it has no step */
    Py_ssize_t *offsets;            /* (longest + 2), the first column of a step; (T_x) if that is more */
    int single_block;               /* all columns are one block: the caller's arrays are transposed as a whole, and
                                       threads split by units what is done once a block */
    Py_ssize_t *column_at;          /* (m, T_x) if single_block: the column of an example at a step, -1 in the padding */
} batch;

static inline Py_ssize_t offset_at(const batch *b, Py_ssize_t t) { return b->lengths ? b->offsets[t] : t * b->m; }

static inline Py_ssize_t batch_size_at(const batch *b, Py_ssize_t t)
{
    return b->lengths ? b->offsets[t + 1] - b->offsets[t] : b->m;
}

/* Steps t0 ... t1 - 1 that packed example j has; it has the first of them. */
static inline Py_ssize_t steps_in_block(const batch *b, Py_ssize_t j, Py_ssize_t t0, Py_ssize_t t1)
{
    return (b->lengths && b->lengths[b->sorted_indices[j]] < t1 ? b->lengths[b->sorted_indices[j]] : t1) - t0;
}

static inline int contains(index_range own, Py_ssize_t j) { return j >= own.begin && j < own.end; }

/* Whether the columns of the examples `own` in a block are contiguous: those of all examples are. */
static inline int is_contiguous(const batch *b, Py_ssize_t t0, index_range own)
{
    return own.begin == 0 && own.end >= batch_size_at(b, t0);
}

/* The number of contiguous segments that they form: one, or one a step. */
static inline Py_ssize_t n_segments(const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own)
{
    return is_contiguous(b, t0, own) ? 1 : t1 - t0;
}

/* Segment i of them, counted from the first column of the block. */
static inline index_range segment(const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own, Py_ssize_t i)
{
    const Py_ssize_t first = offset_at(b, t0 + i) - offset_at(b, t0);
    if (is_contiguous(b, t0, own)) return full_range(offset_at(b, t1) - offset_at(b, t0));
    own = clamp(own, batch_size_at(b, t0 + i));
    return (index_range){first + own.begin, first + own.end};
}

/* The units of one example (rows) at some steps (columns) from the caller's array, and back; the column of step i is
 * at[i] - at[0] columns after the first. */
static void pack_example(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t units,
                         Py_ssize_t count, const Py_ssize_t *at)
{
    transpose_tiles(dst, ldd, src, lds, units, count, SOURCE_SIDE, at);
}

static void unpack_example(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t count,
                           Py_ssize_t units, const Py_ssize_t *at)
{
    transpose_tiles(dst, ldd, src, lds, count, units, TARGET_SIDE, at);
}

/* row[i], i < n: the address of row at[i] of `rows`, or `none` where that is negative.  By arithmetic, not by a branch,
 * which the processor could not predict. */
ALWAYS_INLINE void row_addresses(real **row, const real *rows, Py_ssize_t ld, const Py_ssize_t *at, Py_ssize_t n,
                                 const real *none)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const uintptr_t there = (uintptr_t)rows + (uintptr_t)(at[i] * ld) * sizeof *rows;
        const uintptr_t all = (uintptr_t)(at[i] < 0) - 1;
        row[i] = (real *)((there & all) | ((uintptr_t)none & ~all));
    }
}

static inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) { return a < b ? a : b; }

/* All columns of a sequence or state of the caller's to packed columns (gather) and back (scatter).  `at` has the packed
 * column of each; where it is negative, gather writes nothing and scatter writes zeros.  GATHER_TILE columns and units
 * at a time: addresses are computed once for several transposed tiles. */
static void gather(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t units,
                   Py_ssize_t columns, const Py_ssize_t *at)
{
    CACHE_ALIGNED real nowhere[GATHER_TILE];
    real *to[GATHER_TILE];
    for (; units > 0; units -= GATHER_TILE, dst += GATHER_TILE, src += GATHER_TILE * lds)
        for (Py_ssize_t k = 0; k < columns; k += GATHER_TILE) {
            const Py_ssize_t nu = smaller(units, GATHER_TILE), nc = smaller(columns - k, GATHER_TILE);
            row_addresses(to, dst, ldd, at + k, nc, nowhere);
            for (Py_ssize_t u = 0; u < nu; u += VLEN)
                for (Py_ssize_t c = 0; c < nc; c += VLEN)
                    TRANSPOSE_TILE(src + (u + i) * lds + k + c, to[c + i] + u, (int)smaller(nu - u, VLEN),
                                   (int)smaller(nc - c, VLEN));
        }
}

static void scatter(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t columns,
                    Py_ssize_t units, const Py_ssize_t *at)
{
    static const real zeros[GATHER_TILE];
    real *from[GATHER_TILE];
    for (; units > 0; units -= GATHER_TILE, src += GATHER_TILE, dst += GATHER_TILE * ldd)
        for (Py_ssize_t k = 0; k < columns; k += GATHER_TILE) {
            const Py_ssize_t nu = smaller(units, GATHER_TILE), nc = smaller(columns - k, GATHER_TILE);
            row_addresses(from, src, lds, at + k, nc, zeros);
            for (Py_ssize_t u = 0; u < nu; u += VLEN)
                for (Py_ssize_t c = 0; c < nc; c += VLEN)
                    TRANSPOSE_TILE(from[c + i] + u, dst + (u + i) * ldd + k + c, (int)smaller(nc - c, VLEN),
                                   (int)smaller(nu - u, VLEN));
        }
}

/* dst (columns, units) = src[:, :, t0 : t1], row length ld; any strides, fast where that of units or steps is 1.  Only
 * the units of `own`, of the packed examples `of`: of all in a single block. */
static inline void pack_batch(real *dst, Py_ssize_t ld, strided src, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
                              index_range own, index_range of)
{
    const Py_ssize_t units = own.end - own.begin;
    if (!b->lengths) {
        steps_to_columns(dst, ld, src, b->m, t0, t1 - t0, own, of);
        return;
    }
    if (units <= 0) return;
    const real *s = src.data + own.begin * src.s_unit;
    dst += own.begin;
    const int rows_of_columns = src.s_unit != 1 && src.s_example == b->T_x && (src.s_step == 1 || b->T_x == 1);
    if (b->single_block && is_contiguous(b, t0, of) && rows_of_columns) {
        gather(dst, ld, s, src.s_unit, units, b->m * b->T_x, b->column_at);
        return;
    }
    /* in the caller's order: neighbours share pages and cache lines */
    if (src.s_unit != 1 && src.s_step == 1 && t1 - t0 > 1) {
        of = clamp(of, batch_size_at(b, t0));
        for (Py_ssize_t i = 0; i < b->m; i++) {
            const Py_ssize_t j = b->unsorted_indices[i];
            if (contains(of, j))
                pack_example(dst + j * ld, ld, s + i * src.s_example + t0, src.s_unit, units,
                             steps_in_block(b, j, t0, t1), b->offsets + t0);
        }
        return;
    }
    for (Py_ssize_t t = t0; t < t1; t++) {
        const int all = MANY_COLUMNS * batch_size_at(b, t) >= b->m; /* all examples are visited, else only those of the step */
        of = clamp(of, batch_size_at(b, t));
        for (Py_ssize_t k = all ? 0 : of.begin; k < (all ? b->m : of.end); k++) {
            const Py_ssize_t i = all ? k : b->sorted_indices[k], j = all ? b->unsorted_indices[k] : k;
            if (!contains(of, j)) continue;
            const real *column = s + i * src.s_example + t * src.s_step;
            real *d = dst + (b->offsets[t] - b->offsets[t0] + j) * ld;
            if (src.s_unit == 1) memcpy(d, column, (size_t)units * sizeof *d);
            else
                for (Py_ssize_t u = 0; u < units; u++) d[u] = column[u * src.s_unit];
        }
    }
}

/* The same block as columns, each ld after the one before; in place where `as_columns` is. */
static inline const real *batch_as_columns(strided s, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
                                             real *workspace, Py_ssize_t *ld, index_range own, index_range of)
{
    if (!b->lengths) return as_columns(s, n, b->m, t0, t1 - t0, workspace, ld, own, of);
    pack_batch(workspace, n, s, b, t0, t1, own, of);
    *ld = n;
    return workspace;
}

/* Whether the padding of an example is cleared when its last step is stored, while the cache line that both share is in
 * a cache.  Where most is padding it is cleared before, in the order of the addresses. */
static inline int clears_last(const batch *b) { return b->T_x > CLEAR_STEPS && MANY_COLUMNS * b->columns >= b->m * b->T_x; }

/* dst[:, :, t0 : t1] = src (columns, n); dst is C-contiguous, so s_step is 1.  Only the units of `own`, of the packed
 * examples `of`: of all in a single block, and zeros in the padding. */
static inline void unpack_batch(strided dst, const real *src, Py_ssize_t n, const batch *b, Py_ssize_t t0,
                                Py_ssize_t t1, index_range own, index_range of)
{
    const Py_ssize_t units = own.end - own.begin;
    if (!b->lengths) {
        columns_to_steps(dst, src, n, b->m, t0, t1 - t0, own, of);
        return;
    }
    if (units <= 0) return;
    if (b->single_block && is_contiguous(b, t0, of)) {
        scatter(dst.data + own.begin * dst.s_unit, dst.s_unit, src + own.begin, n, b->m * b->T_x, units, b->column_at);
        return;
    }
    of = clamp(of, batch_size_at(b, t0));
    for (Py_ssize_t i = 0; i < b->m; i++) {
        const Py_ssize_t j = b->unsorted_indices[i];
        if (!contains(of, j)) continue;
        real *to = dst.data + own.begin * dst.s_unit + i * dst.s_example + t0;
        const Py_ssize_t count = steps_in_block(b, j, t0, t1);
        unpack_example(to, dst.s_unit, src + j * n + own.begin, n, count, units, b->offsets + t0);
        if (clears_last(b) && b->lengths[i] < b->T_x && t0 + count == b->lengths[i])
            for (Py_ssize_t u = 0; u < units; u++)
                memset(to + u * dst.s_unit + count, 0, (size_t)(b->T_x - b->lengths[i]) * sizeof(real));
    }
}

/* dst (n_active, n) = src (n, m), the state before the first step.  Only the units of `own`. */
static inline void pack_state(real *dst, Py_ssize_t n, strided src, const batch *b, index_range own)
{
    if (b->lengths && src.s_example == 1 && own.end > own.begin)
        gather(dst + own.begin, n, src.data + own.begin * src.s_unit, src.s_unit, own.end - own.begin, b->m,
               b->unsorted_indices);
    else pack_batch(dst, n, src, b, 0, 1, own, full_range(b->m));
}

/* dst (n, m) = src (n_active, n), a state, and zero for an example without steps; dst is C-contiguous.  Only the units of
 * `own`. */
static inline void unpack_state(strided dst, const real *src, Py_ssize_t n, const batch *b, index_range own)
{
    if (!b->lengths) columns_to_steps(dst, src, n, b->m, 0, 1, own, full_range(b->m));
    else if (own.end > own.begin)
        scatter(dst.data + own.begin * dst.s_unit, dst.s_unit, src + own.begin, n, b->m, own.end - own.begin,
                b->unsorted_indices);
}

/* Clear the padding of dst (n, m, T_x), C-contiguous, before the values are stored.  Nothing to do here in a single
 * block, and with `clears_last` only examples without steps.  Only the units of `own`. */
static inline void clear_padding(strided dst, const batch *b, index_range own)
{
    const Py_ssize_t T_x = b->T_x;
    if (!b->lengths || b->single_block || own.begin >= own.end) return; /* without an output there is no array */
    if (T_x <= CLEAR_STEPS) {
        memset(dst.data + own.begin * dst.s_unit, 0, (size_t)((own.end - own.begin) * b->m * T_x) * sizeof(real));
        return;
    }
    for (Py_ssize_t u = own.begin; u < own.end; u++)
        for (Py_ssize_t j = 0; j < b->m; j++)
            if (clears_last(b) ? b->lengths[j] == 0 : b->lengths[j] < T_x)
                memset(dst.data + u * dst.s_unit + j * dst.s_example + b->lengths[j], 0,
                       (size_t)(T_x - b->lengths[j]) * sizeof(real));
}

#endif
