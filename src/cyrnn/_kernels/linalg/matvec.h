/* Products with a matrix that is used once, and not packed as a whole.
 *
 * One column reads the matrix where it is.  Several columns pack one block of a panel at a time into a buffer of the
 * thread, which stays in L1.  The order of each sum is that of gemm.h.
 */
#ifndef CYRNN_MATVEC_H
#define CYRNN_MATVEC_H

#include "gemm.h"

/* One column, W with one row per unit: V vectors of units, `last` of them in the last vector.  Rows are transposed in
 * registers, VLEN terms at a time. */
ALWAYS_INLINE void column(const int V, const int last, real *c, const real *w, Py_ssize_t s_row,
                          Py_ssize_t K, const real *x, Py_ssize_t sxk, enum start start, const real *bias)
{
    vec acc[4], square[VLEN];
    const real *from = start == BIAS ? bias : c;
    for (int v = 0; v < V; v++)
        acc[v] = start == ZERO ? vec_zero()
                 : v < V - 1   ? vec_load(from + v * VLEN)
                               : vec_load_n(from + v * VLEN, last);
    for (Py_ssize_t k = 0; k < K; k += VLEN) {
        int nk = K - k < VLEN ? (int)(K - k) : VLEN;
        for (int v = 0; v < V; v++) {
            const int rows = v < V - 1 ? VLEN : last;
            const real *wv = w + v * VLEN * s_row + k;
            for (int i = 0; i < VLEN; i++)
                square[i] = i >= rows    ? vec_zero()
                            : nk == VLEN ? vec_load(wv + i * s_row)
                                         : vec_load_n(wv + i * s_row, nk);
            vec_transpose(square);
            for (int i = 0; i < VLEN; i++)
                if (i < nk) acc[v] = vec_fma(square[i], vec_set1(x[(k + i) * sxk]), acc[v]);
        }
    }
    for (int v = 0; v < V; v++)
        if (v < V - 1) vec_store(c + v * VLEN, acc[v]);
        else vec_store_n(c + v * VLEN, acc[v], last);
}

/* All units of it: two vectors of rows at a time, since one would wait for the latency of the FMA; but one where rows
 * share a set of L1, which the prefetched lines of more rows would overflow. */
ALWAYS_INLINE void columns_by_rows(real *c, Py_ssize_t rows, const real *w, Py_ssize_t s_row, Py_ssize_t K,
                                   const real *x, Py_ssize_t sxk, enum start start, const real *bias)
{
    const int two = s_row * (Py_ssize_t)sizeof(real) % L1_SET_STRIDE != 0;
    for (Py_ssize_t r = 0, left; (left = rows - r) > 0;) {
        const real *b = bias ? bias + r : NULL;
        if (two && left >= 2 * VLEN) column(2, VLEN, c + r, w + r * s_row, s_row, K, x, sxk, start, b);
        else column(1, left < VLEN ? (int)left : VLEN, c + r, w + r * s_row, s_row, K, x, sxk, start, b);
        r += two && left >= 2 * VLEN ? 2 * VLEN : VLEN;
    }
}

/* One column, W with one row per term: AXPY_ROWS rows are read side by side, each from its beginning to its end, and
 * added to all units. */
static inline void column_by_k(real *restrict c, Py_ssize_t rows, const real *w, Py_ssize_t s_k, Py_ssize_t K,
                               const real *x, Py_ssize_t sxk, enum start start, const real *bias)
{
    if (start != ADD)
        for (Py_ssize_t r = 0; r < rows; r++) c[r] = start == BIAS ? bias[r] : (real)0;
    for (Py_ssize_t k = 0; k < K; k += AXPY_ROWS) {
        int nk = K - k < AXPY_ROWS ? (int)(K - k) : AXPY_ROWS;
        vec xk[AXPY_ROWS];
        for (int i = 0; i < nk; i++) xk[i] = vec_set1(x[(k + i) * sxk]);
        for (Py_ssize_t r = 0; r < rows; r += VLEN) {
            const real *wk = w + k * s_k + r;
            if (nk == AXPY_ROWS && rows - r >= VLEN) {
                vec sum = vec_load(c + r);
                for (int i = 0; i < AXPY_ROWS; i++) sum = vec_fma(vec_load(wk + i * s_k), xk[i], sum);
                vec_store(c + r, sum);
            } else {
                int last = rows - r < VLEN ? (int)(rows - r) : VLEN;
                vec sum = vec_load_n(c + r, last);
                for (int i = 0; i < nk; i++) sum = vec_fma(vec_load_n(wk + i * s_k, last), xk[i], sum);
                vec_store_n(c + r, sum, last);
            }
        }
    }
}

/* Doubles of workspace that `gemm_unpacked` needs for sums of so many terms: PANEL_BYTES at most. */
static inline Py_ssize_t panel_size(Py_ssize_t terms) { return MR * (terms < KC ? terms : KC); }

/* C = start + W X for any number of columns; element (r, k) of W is at w[r * s_row + k * s_k] (one stride is 1).  Each
 * block of a panel is packed into `panel`, used for all columns, forgotten: `panel_size(K)` values, none if there is
 * one column or no column.  (They are no array here: threads may have a stack of 32 kB.)  `at` as in `pack`, for K <= KC. */
static inline void gemm_unpacked(real *c, Py_ssize_t ldc, Py_ssize_t rows, const real *w,
                             Py_ssize_t s_row, Py_ssize_t s_k, Py_ssize_t K, const real *x,
                             Py_ssize_t sxj, Py_ssize_t sxk, Py_ssize_t cols, enum start start,
                             const real *bias, const Py_ssize_t *at, real *panel)
{
    Py_ssize_t k0 = 0;
    if (cols == 0) return;
    if (cols == 1 && !at) { /* nothing to reuse: not even a panel is packed */
        if (s_k == 1 && sxk == 1) columns_by_rows(c, rows, w, s_row, K, x, 1, start, bias);
        else if (s_k == 1) columns_by_rows(c, rows, w, s_row, K, x, sxk, start, bias);
        else column_by_k(c, rows, w, s_k, K, x, sxk, start, bias);
        return;
    }
    do {
        Py_ssize_t nk = kblock(K - k0);
        for (Py_ssize_t r = 0; r < rows; r += MR) {
            Py_ssize_t lanes = rows - r < MR ? rows - r : MR;
            pack(panel, nk, 0, 0, w + r * s_row + k0 * s_k, s_row, s_k, lanes, nk, at);
            gemm(c + r, ldc, lanes, panel, nk, 0, nk, x + k0 * sxk, sxj, sxk, cols, start,
                 bias ? bias + r : NULL);
        }
        k0 += nk;
        start = ADD;
    } while (k0 < K);
}

#endif
