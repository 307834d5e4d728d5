/* The products of one step, with arrays in the caller's order: units by examples, a unit's m examples adjacent.
 *
 * The examples fill the vectors, or the units where there is one example; the order of each sum is that of gemm.h.
 * The weights are used once and not packed.  Each thread has a range of the rows, and polls for signals between
 * parts of it.
 */
#ifndef CYRNN_UNPACKED_H
#define CYRNN_UNPACKED_H

#include "weights.h"

#define DOTS (DOT_ROWS * DOT_COLS)

/* This thread's range of the rows of (n, m). */
static inline index_range thread_rows(Py_ssize_t n, Py_ssize_t m, thread thr)
{
    return thread_range(n, m == 1 ? MR : NR, thr);
}

/* C (n, m) += W X for the rows of `own`; W (n, K) with row length ld, X (K, m). */
static inline void matmul_unpacked(real *c, Py_ssize_t m, const real *w, Py_ssize_t ld, Py_ssize_t K,
                                   const real *x, index_range own, thread thr)
{
    index_range part = {own.begin, own.begin};
    while (next_part(&part, own, MR, 2.0 * (double)K * (double)m, thr)) {
        const Py_ssize_t n = part.end - part.begin;
        const real *rows = w + part.begin * ld;
        real *to = c + part.begin * m;
        if (m == 1) columns_by_rows(to, n, rows, ld, K, x, 1, ADD, NULL);
        else gemm_unpacked(to, m, m, x, 1, m, K, rows, ld, 1, n, ADD, NULL, NULL, thr.panel);
    }
}

/* C (K, m) = start + W' D for this thread's range of the rows, gate g of D (n, m) at d + g * n * m.  Where examples are few next
 * to K, the columns of W fill the vectors and the result is transposed in `workspace` (m * K): W read by columns would
 * miss the cache at every value. */
static inline void matmul_t_unpacked(real *c, Py_ssize_t K, Py_ssize_t m, const weights *W, const real *d,
                                     enum start start, real *workspace, thread thr)
{
    const int by_units = m <= K;
    real *to = by_units && m > 1 ? workspace : c;
    const index_range own = thread_range(K, by_units ? MR : NR, thr);
    const double flops = 2.0 * W->n_gates * (double)W->n * (double)m;
    index_range part = {own.begin, own.begin};
    while (next_part(&part, own, by_units ? MR : NR, flops, thr)) {
        const Py_ssize_t count = part.end - part.begin;
        if (to != c && start == ADD) transpose(workspace + part.begin, K, c + part.begin * m, m, count, m);
        for (int g = 0; g < W->n_gates; g++) {
            const enum start from = g ? ADD : start;
            const real *w = W->gate[g] + part.begin, *dg = d + g * W->n * m;
            if (by_units)
                gemm_unpacked(to + part.begin, K, count, w, 1, W->ld, W->n, dg, 1, m, m, from, NULL, NULL, thr.panel);
            else
                gemm_unpacked(to + part.begin * m, m, m, dg, 1, m, W->n, w, 1, W->ld, count, from, NULL, NULL,
                              thr.panel);
        }
        if (to != c) transpose(c + part.begin * m, m, workspace + part.begin, K, m, count);
    }
}

/* sums[i] = the sum of the lanes of v[i], for VLEN vectors, which are overwritten. */
ALWAYS_INLINE void sum_lanes(real *sums, vec v[VLEN])
{
    vec_transpose(v);
    for (int i = 1; i < VLEN; i++) v[0] = vec_fma(v[i], vec_set1(1.0), v[0]);
    vec_store(sums, v[0]);
}

/* db (n) = the sum over the examples of D (n, m), for the rows of `own`. */
static inline void sum_rows(real *db, const real *d, Py_ssize_t m, index_range own)
{
    for (Py_ssize_t u = own.begin; u < own.end; u += VLEN) {
        vec sum[VLEN];
        real sums[VLEN];
        int rows = own.end - u < VLEN ? (int)(own.end - u) : VLEN;
        for (int i = 0; i < VLEN; i++) {
            const real *row = d + (u + (i < rows ? i : 0)) * m;
            sum[i] = vec_zero();
            for (Py_ssize_t j = 0; j < m; j += VLEN)
                sum[i] = vec_fma(m - j < VLEN ? vec_load_n(row + j, (int)(m - j)) : vec_load(row + j), vec_set1(1.0), sum[i]);
        }
        sum_lanes(sums, sum);
        memcpy(db + u, sums, (size_t)rows * sizeof *sums);
    }
}

/* With few inputs and many examples each sum of a gradient is cut into lanes: a panel of so few rows would be mostly
 * padding. */
static inline int sums_in_lanes(Py_ssize_t m, Py_ssize_t K) { return m >= DOT_FROM && K < 2 * MR; }

/* dW (n, K) with row length lddW = D X' for the rows of `own`; D (n, m), X (K, m). */
static inline void outer_part(real *restrict dW, Py_ssize_t lddW, Py_ssize_t K, const real *d, const real *x,
                              Py_ssize_t m, index_range own, real *workspace, real *panel)
{
    if (m == 1) { /* by rows: consecutive addresses */
        for (Py_ssize_t u = own.begin; u < own.end; u++)
            for (Py_ssize_t k = 0; k < K; k++) dW[u * lddW + k] = d[u] * x[k];
        return;
    }
    if (COMPENSATED && m > SUM_COLUMNS) {
        const Py_ssize_t most = outer_rows(K, 1);
        for (Py_ssize_t g = own.begin, rows; g < own.end; g += rows) {
            rows = own.end - g < most ? own.end - g : most;
            const accumulator to = {dW + g * lddW, workspace, lddW, K};
            for (Py_ssize_t j = 0, nk, part; j < m; j += nk) {
                part = j % SUM_COLUMNS;
                nk = kblock(m - j < SUM_COLUMNS - part ? m - j : SUM_COLUMNS - part);
                outer_block(to, rows, d + g * m + j, m, 1, x + j, m, 1, K, nk, NULL, j < SUM_COLUMNS ? ZERO : ADD,
                            part == 0, part + nk == SUM_COLUMNS || j + nk == m, workspace + rows * K, panel);
            }
            add_lost(to, rows, K);
        }
        return;
    }
    if (!sums_in_lanes(m, K)) {
        for (Py_ssize_t g = own.begin; g < own.end; g += MC)
            gemm_unpacked(dW + g * lddW, lddW, K, x, m, 1, m, d + g * m, m, 1,
                          own.end - g < MC ? own.end - g : MC, ZERO, NULL, NULL, panel);
        return;
    }
    for (Py_ssize_t u = own.begin; u < own.end; u += DOT_ROWS)
        for (Py_ssize_t k = 0; k < K; k += DOT_COLS) {
            vec sum[DOTS], xv[DOT_COLS], dv;
            real sums[DOTS];
            const real *rows[DOT_ROWS], *cols[DOT_COLS]; /* past the end: the first one again */
            for (int i = 0; i < DOT_ROWS; i++) rows[i] = d + (u + i < own.end ? u + i : u) * m;
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
            for (int r = 0; r < DOT_ROWS && u + r < own.end; r++)
                for (int i = 0; i < DOT_COLS && k + i < K; i++) dW[(u + r) * lddW + k + i] = sums[r * DOT_COLS + i];
        }
}

/* Values of workspace that `outer_unpacked` needs in each thread. */
static inline Py_ssize_t outer_unpacked_workspace(Py_ssize_t n, Py_ssize_t K, Py_ssize_t m)
{
    const Py_ssize_t most = outer_rows(K, 1);
    return COMPENSATED && m > SUM_COLUMNS ? 2 * (n < most ? n : most) * K : 0;
}

static inline void outer_unpacked(real *dW, Py_ssize_t lddW, Py_ssize_t K, const real *d, const real *x,
                                  Py_ssize_t m, index_range own, real *workspace, thread thr)
{
    index_range part = {own.begin, own.begin};
    while (next_part(&part, own, MC, 2.0 * (double)K * (double)m, thr))
        outer_part(dW, lddW, K, d, x, m, part, workspace, thr.panel);
}

#endif
