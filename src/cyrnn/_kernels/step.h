/* The products of one step for arrays as the caller keeps them: units by examples, a unit's m examples
 * adjacent.  The examples fill the vectors, or the units where there is one example; the order of each sum
 * is that of gemm.h.  Nothing is packed as a whole, since it is used once.  Each thread has rows of its own.
 */
#ifndef CYRNN_STEP_H
#define CYRNN_STEP_H

#include "gemm.h"

#define DOT_ROWS 4
#define DOT_COLS (VREGS < 32 ? 2 : 4)
#define DOTS (DOT_ROWS * DOT_COLS)
#define LEAST_DOT (8 * VLEN) /* examples from which on a sum over them is cut into lanes */

/* The rows of (n, m) that are `me`'s share. */
static inline span rows_of(Py_ssize_t n, Py_ssize_t m, team me)
{
    return share(n, m == 1 ? PANEL : NCOLS, me);
}

/* C (n, m) += W X for the rows of `mine`; W (n, K) with row length ld, X (K, m). */
static inline void step_multiply(double *c, Py_ssize_t m, const double *w, Py_ssize_t ld, Py_ssize_t K,
                                 const double *x, span mine)
{
    Py_ssize_t n = mine.hi - mine.lo;
    c += mine.lo * m;
    w += mine.lo * ld;
    if (n <= 0) return;
    if (m == 1) gemm_once(c, n, n, w, ld, 1, K, x, K, 1, 1, ADD, NULL, NULL);
    else gemm_once(c, m, m, x, 1, m, K, w, ld, 1, n, ADD, NULL, NULL);
}

/* C (K, m) = W' D for `me`'s share of the rows, part g of D (n, m) at d + g * n * m.  Where examples are few
 * next to K, the columns of W fill the vectors, and `room` (m * K) takes the result on its way; W read by
 * columns would miss the cache at every value. */
static inline void step_multiply_transposed(double *c, Py_ssize_t K, Py_ssize_t m, const weights *W,
                                            const double *d, double *room, team me)
{
    int by_units = m <= K;
    double *to = by_units && m > 1 ? room : c;
    span mine = share(K, by_units ? PANEL : NCOLS, me);
    Py_ssize_t count = mine.hi - mine.lo;
    if (count <= 0) return;
    for (int g = 0; g < W->parts; g++, d += W->n * m) {
        enum start start = g ? ADD : ZERO;
        const double *w = W->part[g] + mine.lo;
        if (by_units) gemm_once(to + mine.lo, K, count, w, 1, W->ld, W->n, d, 1, m, m, start, NULL, NULL);
        else gemm_once(to + mine.lo * m, m, m, d, 1, m, W->n, w, 1, W->ld, count, start, NULL, NULL);
    }
    if (to != c) transpose(c + mine.lo * m, m, room + mine.lo, K, m, count);
}

/* sums[i] = the sum of the lanes of v[i], for VLEN vectors, which are used up. */
ALWAYS_INLINE void sum_lanes(double *sums, vec v[VLEN])
{
    vec_transpose(v);
    for (int i = 1; i < VLEN; i++) v[0] = vec_fma(v[i], vec_set1(1.0), v[0]);
    vec_store(sums, v[0]);
}

/* db (n) = the sum over the examples of D (n, m), for the rows of `mine`. */
static inline void sum_rows(double *db, const double *d, Py_ssize_t m, span mine)
{
    for (Py_ssize_t u = mine.lo; u < mine.hi; u += VLEN) {
        vec sum[VLEN];
        double sums[VLEN];
        int rows = mine.hi - u < VLEN ? (int)(mine.hi - u) : VLEN;
        for (int i = 0; i < VLEN; i++) {
            const double *row = d + (u + (i < rows ? i : 0)) * m;
            sum[i] = vec_zero();
            for (Py_ssize_t j = 0; j < m; j += VLEN)
                sum[i] = vec_fma(m - j < VLEN ? vec_load_n(row + j, (int)(m - j)) : vec_load(row + j), vec_set1(1.0), sum[i]);
        }
        sum_lanes(sums, sum);
        memcpy(db + u, sums, (size_t)rows * sizeof *sums);
    }
}

/* dW (n, K) with row length lddW = D X' for the rows of `mine`; D (n, m), X (K, m).  Of few inputs and many
 * examples each sum is cut into lanes: a panel of so few would be mostly empty. */
static inline void step_outer(double *restrict dW, Py_ssize_t lddW, Py_ssize_t K, const double *d, const double *x,
                              Py_ssize_t m, span mine)
{
    if (m == 1) { /* row after row, as memory likes it */
        for (Py_ssize_t u = mine.lo; u < mine.hi; u++)
            for (Py_ssize_t k = 0; k < K; k++) dW[u * lddW + k] = d[u] * x[k];
        return;
    }
    if (m < LEAST_DOT || K >= 2 * PANEL) {
        for (Py_ssize_t g = mine.lo; g < mine.hi; g += ROWS_OF_DW)
            gemm_once(dW + g * lddW, lddW, K, x, m, 1, m, d + g * m, m, 1,
                      mine.hi - g < ROWS_OF_DW ? mine.hi - g : ROWS_OF_DW, ZERO, NULL, NULL);
        return;
    }
    for (Py_ssize_t u = mine.lo; u < mine.hi; u += DOT_ROWS)
        for (Py_ssize_t k = 0; k < K; k += DOT_COLS) {
            vec sum[DOTS], xv[DOT_COLS], dv;
            double sums[DOTS];
            const double *rows[DOT_ROWS], *cols[DOT_COLS]; /* what does not exist is the first one again */
            for (int i = 0; i < DOT_ROWS; i++) rows[i] = d + (u + i < mine.hi ? u + i : u) * m;
            for (int i = 0; i < DOT_COLS; i++) cols[i] = x + (k + i < K ? k + i : k) * m;
            for (int i = 0; i < DOTS; i++) sum[i] = vec_zero();
            for (Py_ssize_t j = 0; j < m; j += VLEN) {
                const int count = m - j < VLEN ? (int)(m - j) : VLEN;
                for (int i = 0; i < DOT_COLS; i++)
                    xv[i] = count < VLEN ? vec_load_n(cols[i] + j, count) : vec_load(cols[i] + j);
                for (int r = 0; r < DOT_ROWS; r++) {
                    dv = count < VLEN ? vec_load_n(rows[r] + j, count) : vec_load(rows[r] + j);
                    for (int i = 0; i < DOT_COLS; i++)
                        sum[r * DOT_COLS + i] = vec_fma(dv, xv[i], sum[r * DOT_COLS + i]);
                }
            }
            for (int i = 0; i < DOTS; i += VLEN) sum_lanes(sums + i, sum + i);
            for (int r = 0; r < DOT_ROWS && u + r < mine.hi; r++)
                for (int i = 0; i < DOT_COLS && k + i < K; i++) dW[(u + r) * lddW + k + i] = sums[r * DOT_COLS + i];
        }
}

#endif
