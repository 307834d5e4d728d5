/* Layout changes: a transpose in registers, and blocks of steps between the caller's arrays
 * (n, m, T_x) and the time-major order of the kernels (T_x, m, n), units innermost.
 *
 * A block of steps is moved just before and just after it is worked on, while it is in L2: no
 * second copy of a whole sequence ever exists.
 */
#ifndef CYRNN_LAYOUT_H
#define CYRNN_LAYOUT_H

#include <stddef.h>
#include <string.h>
#include "simd.h"
#include "team.h"

/* Which side of a transpose is far away, its rows in other pages: no hardware fetches these ahead. */
enum far { NEAR, FAR_SOURCE, FAR_TARGET };

/* A square: column i of the rows FROM(i) goes to the row TO(i), both expressions of i; rows and cols are VLEN at most.
 * (A macro, since a table of the addresses would be put down and taken up again.) */
#define TURN(FROM, TO, rows, cols)                                                                                     \
    do {                                                                                                               \
        vec square[VLEN];                                                                                              \
        for (int i = 0; i < VLEN; i++)                                                                                 \
            square[i] = i >= (rows) ? vec_zero() : (cols) == VLEN ? vec_load(FROM) : vec_load_n(FROM, cols);           \
        vec_transpose(square);                                                                                         \
        for (int i = 0; i < VLEN; i++)                                                                                 \
            if (i >= (cols)) break;                                                                                    \
            else if ((rows) == VLEN) vec_store(TO, square[i]);                                                         \
            else vec_store_n(TO, square[i], rows);                                                                     \
    } while (0)

/* dst[c * ldd + r] = src[r * lds + c] for r < rows, c < cols.  Where `at` is given, row i of the side that is
 * not far begins at (at[i] - at[0]) * ld instead of i * ld. */
ALWAYS_INLINE void squares(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t rows,
                           Py_ssize_t cols, const enum far far, const Py_ssize_t *at)
{
#define SOURCE(r) (src + (at && far == FAR_TARGET ? at[r] - at[0] : (r)) * lds)
#define TARGET(c) (dst + (at && far == FAR_SOURCE ? at[c] - at[0] : (c)) * ldd)
    if (rows * cols <= 4 * VLEN || rows == 1 || cols == 1) { /* less than half a square, or mostly empty ones */
        for (Py_ssize_t r = 0; r < rows; r++)
            for (Py_ssize_t c = 0; c < cols; c++) TARGET(c)[r] = SOURCE(r)[c];
        return;
    }
    /* The far rows from end to end: where their distance is a power of two, lines that wait would be pushed out. */
    for (Py_ssize_t outer = 0; outer < (far == FAR_TARGET ? cols : rows); outer += VLEN)
        for (Py_ssize_t inner = 0; inner < (far == FAR_TARGET ? rows : cols); inner += VLEN) {
            const Py_ssize_t r = far == FAR_TARGET ? inner : outer, c = far == FAR_TARGET ? outer : inner;
            const int nr = rows - r < VLEN ? (int)(rows - r) : VLEN, nc = cols - c < VLEN ? (int)(cols - c) : VLEN;
            if (far == FAR_TARGET && c + VLEN < cols)
                for (int i = 0; i < VLEN; i++) { /* the far rows after these, both ends; the near ones go on */
                    PREFETCH_WRITE(dst + (c + VLEN + i) * ldd + r);
                    PREFETCH_WRITE(dst + (c + VLEN + i) * ldd + r + VLEN - 1);
                    if (i < nr) PREFETCH_READ(SOURCE(r + i) + c + VLEN);
                }
            if (far == FAR_SOURCE && r + VLEN < rows)
                for (int i = VLEN; i < 2 * VLEN; i++) {
                    PREFETCH_READ(src + (r + i) * lds + c);
                    PREFETCH_READ(src + (r + i) * lds + c + VLEN - 1);
                }
            TURN(SOURCE(r + i) + c, TARGET(c + i) + r, nr, nc);
        }
#undef SOURCE
#undef TARGET
}

static inline void transpose(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds,
                             Py_ssize_t rows, Py_ssize_t cols)
{
    squares(dst, ldd, src, lds, rows, cols, NEAR, NULL);
}

static void transpose_in(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds,
                         Py_ssize_t rows, Py_ssize_t cols)
{
    squares(dst, ldd, src, lds, rows, cols, FAR_SOURCE, NULL);
}

static void transpose_out(double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds,
                          Py_ssize_t rows, Py_ssize_t cols)
{
    squares(dst, ldd, src, lds, rows, cols, FAR_TARGET, NULL);
}

/* A block of steps of an array (n, m, T_x): element (u, j, t) at data[u * su + j * sj + t * st]. */
typedef struct {
    double *data;
    Py_ssize_t su, sj, st;
} steps;

/* dst (count, m, units) = src[:, :, first : first + count], row length ld; any strides, fast where
 * one of them is 1.  Only the units of `mine`, of the examples `of`. */
static inline void load_steps(double *dst, Py_ssize_t ld, steps src, Py_ssize_t m, Py_ssize_t first,
                              Py_ssize_t count, span mine, span of)
{
    const double *s = src.data + first * src.st + mine.lo * src.su;
    Py_ssize_t units = mine.hi - mine.lo;
    dst += mine.lo;
    if (units <= 0) return;
    if (src.su == 1) {
        for (Py_ssize_t t = 0; t < count; t++)
            for (Py_ssize_t j = of.lo; j < of.hi; j++)
                memcpy(dst + (t * m + j) * ld, s + t * src.st + j * src.sj, (size_t)units * sizeof *s);
    } else if (src.st == 1 && count > 1) {
        for (Py_ssize_t j = of.lo; j < of.hi; j++)
            transpose_in(dst + j * ld, m * ld, s + j * src.sj, src.su, units, count);
    } else if (src.sj == 1) {
        for (Py_ssize_t t = 0; t < count; t++)
            transpose(dst + (t * m + of.lo) * ld, ld, s + t * src.st + of.lo, src.su, units, of.hi - of.lo);
    } else {
        for (Py_ssize_t t = 0; t < count; t++)
            for (Py_ssize_t j = of.lo; j < of.hi; j++)
                for (Py_ssize_t u = 0; u < units; u++)
                    dst[(t * m + j) * ld + u] = s[u * src.su + j * src.sj + t * src.st];
    }
}

/* The same block as columns: unit u of example j at step first + t is p[(t * m + j) * ld + u].  In
 * place where the caller's array is laid out so (time-major, a state for all examples, one step of
 * one example), else copied to `room`. */
static inline const double *columns_of(steps s, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first,
                                       Py_ssize_t count, double *room, Py_ssize_t *ld, span mine, span of)
{
    if ((s.su == 1 || n <= 1) && (count == 1 || m == 1 || s.st == m * s.sj)) {
        *ld = m == 1 ? s.st : s.sj;
        return s.data + first * s.st;
    }
    load_steps(room, n, s, m, first, count, mine, of);
    *ld = n;
    return room;
}

/* dst[:, :, first : first + count] = src (count, m, n); dst is C-contiguous, so st is 1.  Only the
 * units of `mine`, of the examples `of`. */
static inline void store_steps(steps dst, const double *src, Py_ssize_t n, Py_ssize_t m,
                               Py_ssize_t first, Py_ssize_t count, span mine, span of)
{
    double *d = dst.data + first + mine.lo * dst.su;
    Py_ssize_t units = mine.hi - mine.lo;
    src += mine.lo;
    if (units <= 0) return;
    if (count == 1 && dst.sj == 1) transpose(d + of.lo, dst.su, src + of.lo * n, n, of.hi - of.lo, units);
    else
        for (Py_ssize_t j = of.lo; j < of.hi; j++)
            transpose_out(d + j * dst.sj, dst.su, src + j * n, m * n, count, units);
}

/* One step (n, m) with its examples innermost and adjacent: in place where it is so, else in `room`. */
static inline const double *flat_of(steps s, Py_ssize_t n, Py_ssize_t m, double *room)
{
    if ((s.sj == 1 || m <= 1) && (s.su == m || n <= 1)) return s.data;
    if (s.su == 1 && s.sj) transpose(room, m, s.data, s.sj, m, n);
    else
        for (Py_ssize_t u = 0; u < n; u++)
            for (Py_ssize_t j = 0; j < m; j++) room[u * m + j] = s.data[u * s.su + j * s.sj];
    return room;
}

#endif
