/* Products with one-hot columns, of which only the place of the one is given: at[j], from 0 to K - 1, for column j.
 *
 * A column of W is picked and not multiplied: time and memory do not depend on K.  The bits are those of the product with
 * the dense columns (gemm.h), where all operands are finite: the other terms of a sum are zeros, which change nothing but
 * the sign of a sum that is -0.0.
 */
#ifndef CYRNN_ONE_HOT_H
#define CYRNN_ONE_HOT_H

#include <math.h>
#include "unpacked.h"

/* start + w[at] is -0.0, and stays so if none of the terms w[k] * 0.0 is 0.0.  Those before the one count where -0.0 was
 * the sum there too.  Term k of the row is w[k * s_k]. */
static real signed_zero(real start, const real *w, Py_ssize_t s_k, Py_ssize_t K, Py_ssize_t at)
{
    for (Py_ssize_t k = start == 0 && w[at * s_k] == 0 ? 0 : at + 1; k < K; k++)
        if (k != at && !signbit(w[k * s_k])) return (real)0;
    return -(real)0;
}

/* start + the sum over k of w[k * s_k] x[k], x one-hot. */
static inline real one_hot_sum(real start, const real *w, Py_ssize_t s_k, Py_ssize_t K, Py_ssize_t at)
{
    const real sum = start + w[at * s_k];
    return sum == 0 && signbit(sum) ? signed_zero(start, w, s_k, K, at) : sum;
}

/* C = bias + W X by all threads together; C, W and bias as in `matmul`, X (cols, K) one-hot.  LINE rows of W at a time:
 * what is read of a row stays in a cache until the last column.  Packed weights have LINE rows side by side. */
static inline void matmul_one_hot(real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const Py_ssize_t *at,
                                  Py_ssize_t cols, const real *bias, thread thr)
{
    const index_range own = thread_range(W->n, LINE, thr);
    for (int g = 0; g < W->n_gates; g++)
        for (Py_ssize_t r = own.begin, end; r < own.end && !cancelled(thr); r = end) {
            const real *w = W->unpacked ? W->gate[g] + r * W->ld : packed_row(W, g, r);
            const Py_ssize_t s_row = W->unpacked ? W->ld : 1, s_k = W->unpacked ? 1 : MR;
            const real *b = bias + g * W->n;
            end = W->unpacked ? r + LINE : r + panel_rows(W, g, r);
            if (end > own.end) end = own.end;
            for (Py_ssize_t j = 0; j < cols; j++)
                for (Py_ssize_t u = r; u < end; u++)
                    c[g * sc + j * ldc + u] = one_hot_sum(b[u], w + (u - r) * s_row, s_k, W->K, at[j]);
        }
}

/* Add D' X, the sum over the rows of D (cols, n) and X (cols, K) one-hot, where what is rounded off is kept: the columns
 * are summed in `tile` (n, K) first, of which only the places that they name are looked at. */
static inline void add_apart_one_hot(accumulator to, const real *d, Py_ssize_t ldd, int n, const Py_ssize_t *at,
                                     Py_ssize_t K, Py_ssize_t cols, real *tile)
{
    for (Py_ssize_t j = 0; j < cols; j++)
        for (int i = 0; i < n; i++) tile[i * K + at[j]] = 0;
    for (Py_ssize_t j = 0; j < cols; j++)
        for (int i = 0; i < n; i++) tile[i * K + at[j]] += d[j * ldd + i];
    for (Py_ssize_t j = 0; j < cols; j++)
        for (int i = 0; i < n; i++) {
            real *term = tile + i * K + at[j];
            add_compensated(to.sum + i * to.ld + at[j], to.lost + i * to.ld_lost + at[j], term, 1);
            *term = 0; /* a place that is named again adds nothing */
        }
}

/* dW (n, K) = start + D' X, the sum over the rows of D (cols, n) and X (cols, K) one-hot.  start: ZERO or ADD.  The
 * workspace is that of `add_outer`. */
static inline void add_outer_one_hot(accumulator dW, const real *d, Py_ssize_t ldd, Py_ssize_t n,
                                     const Py_ssize_t *at, Py_ssize_t K, Py_ssize_t cols, enum start start,
                                     real *workspace, thread thr)
{
    const int compensated = COMPENSATED && dW.lost;
    for (Py_ssize_t r = 0; r < n && !cancelled(thr); r += LINE) {
        const int rows = n - r < LINE ? (int)(n - r) : LINE;
        const accumulator to = rows_from(dW, r);
        for (int i = 0; i < rows && start == ZERO; i++) {
            memset(to.sum + i * to.ld, 0, (size_t)K * sizeof *to.sum);
            if (compensated) memset(to.lost + i * to.ld_lost, 0, (size_t)K * sizeof *to.sum);
        }
        for (Py_ssize_t s0 = 0, end; s0 < cols; s0 = end) {
            end = !compensated || cols - s0 < SUM_COLUMNS ? cols : s0 + SUM_COLUMNS;
            if (compensated && (s0 > 0 || start == ADD))
                add_apart_one_hot(to, d + s0 * ldd + r, ldd, rows, at + s0, K, end - s0, workspace);
            else
                for (Py_ssize_t j = s0; j < end; j++)
                    for (int i = 0; i < rows; i++) to.sum[i * to.ld + at[j]] += d[j * ldd + r + i];
        }
    }
}

/* C (n, m) += W X for the rows of `own`, as `matmul_unpacked`; X (K, m) one-hot. */
static inline void matmul_one_hot_unpacked(real *c, Py_ssize_t m, const real *w, Py_ssize_t ld, Py_ssize_t K,
                                           const Py_ssize_t *at, index_range own, thread thr)
{
    index_range part = {own.begin, own.begin};
    while (next_part(&part, own, MR, 2.0 * (double)m, thr))
        for (Py_ssize_t u = part.begin; u < part.end; u++)
            for (Py_ssize_t j = 0; j < m; j++) c[u * m + j] = one_hot_sum(c[u * m + j], w + u * ld, 1, K, at[j]);
}

/* dW (n, K) = D X' for the rows of `own`, as `outer_unpacked`; X (K, m) one-hot. */
static inline void outer_one_hot_unpacked(real *dW, Py_ssize_t lddW, Py_ssize_t K, const real *d,
                                          const Py_ssize_t *at, Py_ssize_t m, index_range own, real *workspace,
                                          thread thr)
{
    index_range part = {own.begin, own.begin};
    while (next_part(&part, own, MC, 2.0 * (double)(K + m), thr))
        for (Py_ssize_t u = part.begin; u < part.end; u++) {
            real *row = dW + u * lddW, lane[2 * MR];
            const real *du = d + u * m;
            if (m == 1) { /* a product of one term: d * 0.0 is -0.0 where d is negative */
                for (Py_ssize_t k = 0; k < K; k++) row[k] = k == at[0] ? du[0] : du[0] * 0;
                continue;
            }
            memset(row, 0, (size_t)K * sizeof *row);
            if (COMPENSATED && m > SUM_COLUMNS) {
                const accumulator to = {row, workspace, lddW, K};
                memset(to.lost, 0, (size_t)K * sizeof *row);
                for (Py_ssize_t j = 0; j < SUM_COLUMNS; j++) row[at[j]] += du[j];
                for (Py_ssize_t j = SUM_COLUMNS; j < m; j += SUM_COLUMNS)
                    add_apart_one_hot(to, du + j, 1, 1, at + j, K, m - j < SUM_COLUMNS ? m - j : SUM_COLUMNS,
                                      workspace + K);
                add_lost(to, 1, K);
                continue;
            }
            const Py_ssize_t lanes = sums_in_lanes(m, K) ? VLEN : 1;
            for (Py_ssize_t l = 0; l < lanes; l++) {
                real *sum = lanes > 1 ? lane : row;
                if (lanes > 1) memset(lane, 0, (size_t)K * sizeof *lane);
                for (Py_ssize_t j = l; j < m; j += lanes) sum[at[j]] += du[j];
                for (Py_ssize_t k = 0; k < K && lanes > 1; k++) row[k] += lane[k];
            }
        }
}

#endif
