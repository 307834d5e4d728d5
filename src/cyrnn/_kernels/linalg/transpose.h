/* Layout changes: a transpose in registers, and blocks of steps between the caller's arrays (n, m, T_x) and the
 * time-major columns of the kernels (T_x, m, n), units innermost.
 *
 * A block of steps is transposed just before and just after it is computed, while it is in L2: no second copy of a
 * whole sequence ever exists.
 */
#ifndef CYRNN_TRANSPOSE_H
#define CYRNN_TRANSPOSE_H

#include <stddef.h>
#include <string.h>
#include "runtime/limits.h"
#include "runtime/parallel.h"
#include "runtime/strided.h"
#include "simd.h"

/* The side of a transpose whose rows are in different pages, where no hardware prefetches. */
enum strided_side { NO_SIDE, SOURCE_SIDE, TARGET_SIDE };

/* One tile of at most VLEN by VLEN: column i of the rows FROM(i) becomes the row TO(i), both expressions of i.  (A macro:
 * a table of addresses would be stored and loaded again.) */
#define TRANSPOSE_TILE(FROM, TO, rows, cols)                                                                         \
    do {                                                                                                             \
        vec tile[VLEN];                                                                                              \
        for (int i = 0; i < VLEN; i++)                                                                               \
            tile[i] = i >= (rows) ? vec_zero() : (cols) == VLEN ? vec_load(FROM) : vec_load_n(FROM, cols);           \
        vec_transpose(tile);                                                                                         \
        for (int i = 0; i < VLEN; i++)                                                                               \
            if (i >= (cols)) break;                                                                                  \
            else if ((rows) == VLEN) vec_store(TO, tile[i]);                                                         \
            else vec_store_n(TO, tile[i], rows);                                                                     \
    } while (0)

/* dst[c * ldd + r] = src[r * lds + c] for r < rows, c < cols.  Where `at` is given, row i of the side that is not
 * strided begins at (at[i] - at[0]) * ld instead of i * ld. */
ALWAYS_INLINE void transpose_tiles(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t rows,
                                   Py_ssize_t cols, const enum strided_side side, const Py_ssize_t *at)
{
#define SOURCE(r) (src + (at && side == TARGET_SIDE ? at[r] - at[0] : (r)) * lds)
#define TARGET(c) (dst + (at && side == SOURCE_SIDE ? at[c] - at[0] : (c)) * ldd)
    if (rows * cols <= 4 * VLEN || rows == 1 || cols == 1) { /* less than half a tile, or mostly empty ones */
        for (Py_ssize_t r = 0; r < rows; r++)
            for (Py_ssize_t c = 0; c < cols; c++) TARGET(c)[r] = SOURCE(r)[c];
        return;
    }
    /* Each row of the strided side from end to end: where its stride is a power of two, its lines share a set of L1
     * and would be evicted before the next visit. */
    for (Py_ssize_t outer = 0; outer < (side == TARGET_SIDE ? cols : rows); outer += VLEN)
        for (Py_ssize_t inner = 0; inner < (side == TARGET_SIDE ? rows : cols); inner += VLEN) {
            const Py_ssize_t r = side == TARGET_SIDE ? inner : outer, c = side == TARGET_SIDE ? outer : inner;
            const int nr = rows - r < VLEN ? (int)(rows - r) : VLEN, nc = cols - c < VLEN ? (int)(cols - c) : VLEN;
            if (side == TARGET_SIDE && c + VLEN < cols)
                for (int i = 0; i < VLEN; i++) { /* the next rows of the strided side, both ends; and this one of the other */
                    PREFETCH_WRITE(dst + (c + VLEN + i) * ldd + r);
                    PREFETCH_WRITE(dst + (c + VLEN + i) * ldd + r + VLEN - 1);
                    if (i < nr) PREFETCH_READ(SOURCE(r + i) + c + VLEN);
                }
            if (side == SOURCE_SIDE && r + VLEN < rows)
                for (int i = VLEN; i < 2 * VLEN; i++) {
                    PREFETCH_READ(src + (r + i) * lds + c);
                    PREFETCH_READ(src + (r + i) * lds + c + VLEN - 1);
                }
            TRANSPOSE_TILE(SOURCE(r + i) + c, TARGET(c + i) + r, nr, nc);
        }
#undef SOURCE
#undef TARGET
}

static inline void transpose(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds,
                             Py_ssize_t rows, Py_ssize_t cols)
{
    transpose_tiles(dst, ldd, src, lds, rows, cols, NO_SIDE, NULL);
}

static void transpose_in(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds,
                         Py_ssize_t rows, Py_ssize_t cols)
{
    transpose_tiles(dst, ldd, src, lds, rows, cols, SOURCE_SIDE, NULL);
}

static void transpose_out(real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds,
                          Py_ssize_t rows, Py_ssize_t cols)
{
    transpose_tiles(dst, ldd, src, lds, rows, cols, TARGET_SIDE, NULL);
}

/* dst (count, m, units) = src[:, :, first : first + count], row length ld; any strides, fast where one of them is 1.
 * Only the units of `own`, of the examples `of`. */
static inline void steps_to_columns(real *dst, Py_ssize_t ld, strided src, Py_ssize_t m, Py_ssize_t first,
                                    Py_ssize_t count, index_range own, index_range of)
{
    const real *s = src.data + first * src.s_step + own.begin * src.s_unit;
    Py_ssize_t units = own.end - own.begin;
    dst += own.begin;
    if (units <= 0) return;
    if (src.s_unit == 1) {
        for (Py_ssize_t t = 0; t < count; t++)
            for (Py_ssize_t j = of.begin; j < of.end; j++)
                memcpy(dst + (t * m + j) * ld, s + t * src.s_step + j * src.s_example, (size_t)units * sizeof *s);
    } else if (src.s_step == 1 && count > 1) {
        for (Py_ssize_t j = of.begin; j < of.end; j++)
            transpose_in(dst + j * ld, m * ld, s + j * src.s_example, src.s_unit, units, count);
    } else if (src.s_example == 1) {
        for (Py_ssize_t t = 0; t < count; t++)
            transpose(dst + (t * m + of.begin) * ld, ld, s + t * src.s_step + of.begin, src.s_unit, units,
                      of.end - of.begin);
    } else {
        for (Py_ssize_t t = 0; t < count; t++)
            for (Py_ssize_t j = of.begin; j < of.end; j++)
                for (Py_ssize_t u = 0; u < units; u++)
                    dst[(t * m + j) * ld + u] = s[u * src.s_unit + j * src.s_example + t * src.s_step];
    }
}

/* The same block as columns: unit u of example j at step first + t is at p[(t * m + j) * ld + u].  In place where the
 * caller's array has this layout (time-major, a state for all examples, one step of one example), else copied to
 * `workspace`. */
static inline const real *as_columns(strided s, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first,
                                       Py_ssize_t count, real *workspace, Py_ssize_t *ld, index_range own,
                                       index_range of)
{
    if ((s.s_unit == 1 || n <= 1) && (count == 1 || m == 1 || s.s_step == m * s.s_example)) {
        *ld = m == 1 ? s.s_step : s.s_example;
        return s.data + first * s.s_step;
    }
    steps_to_columns(workspace, n, s, m, first, count, own, of);
    *ld = n;
    return workspace;
}

/* dst[:, :, first : first + count] = src (count, m, n); dst is C-contiguous, so s_step is 1.  Only the units of `own`, of
 * the examples `of`. */
static inline void columns_to_steps(strided dst, const real *src, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first,
                                    Py_ssize_t count, index_range own, index_range of)
{
    real *d = dst.data + first + own.begin * dst.s_unit;
    Py_ssize_t units = own.end - own.begin;
    src += own.begin;
    if (units <= 0) return;
    if (count == 1 && dst.s_example == 1)
        transpose(d + of.begin, dst.s_unit, src + of.begin * n, n, of.end - of.begin, units);
    else
        for (Py_ssize_t j = of.begin; j < of.end; j++)
            transpose_out(d + j * dst.s_example, dst.s_unit, src + j * n, m * n, count, units);
}

/* One step as a C-contiguous matrix (n, m): in place where it has this layout, else in `workspace`. */
static inline const real *as_matrix(strided s, Py_ssize_t n, Py_ssize_t m, real *workspace)
{
    if ((s.s_example == 1 || m <= 1) && (s.s_unit == m || n <= 1)) return s.data;
    if (s.s_unit == 1 && s.s_example) transpose(workspace, m, s.data, s.s_example, m, n);
    else
        for (Py_ssize_t u = 0; u < n; u++)
            for (Py_ssize_t j = 0; j < m; j++) workspace[u * m + j] = s.data[u * s.s_unit + j * s.s_example];
    return workspace;
}

#endif
