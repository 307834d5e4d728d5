/* Products with one-hot columns, of which only the place of the one is given: at[j], from 0 to K - 1, for column j.
 *
 * A column of W is picked and not multiplied: time and memory do not depend on K.  The bits are those of the product with
 * the dense columns (gemm.h), where all operands are finite: the other terms of a sum are zeros, which change nothing but
 * the sign of a sum that is -0.0.
 */
#ifndef CYRNN_ONE_HOT_H
#define CYRNN_ONE_HOT_H

#include <math.h>
#include "weights.h"

/* start + w[at] is -0.0, and stays so if none of the terms w[k] * 0.0 is 0.0.  Those before the one count where -0.0 was
 * the sum there too.  Term k of the row is w[k * s_k]. */
static double signed_zero(double start, const double *w, Py_ssize_t s_k, Py_ssize_t K, Py_ssize_t at)
{
    for (Py_ssize_t k = start == 0.0 && w[at * s_k] == 0.0 ? 0 : at + 1; k < K; k++)
        if (k != at && !signbit(w[k * s_k])) return 0.0;
    return -0.0;
}

/* start + the sum over k of w[k * s_k] x[k], x one-hot. */
static inline double one_hot_sum(double start, const double *w, Py_ssize_t s_k, Py_ssize_t K, Py_ssize_t at)
{
    const double sum = start + w[at * s_k];
    return sum == 0.0 && signbit(sum) ? signed_zero(start, w, s_k, K, at) : sum;
}

/* C = bias + W X by all threads together; C, W and bias as in `matmul`, X (cols, K) one-hot.  LINE rows of W at a time:
 * what is read of a row stays in a cache until the last column.  Packed weights have LINE rows side by side. */
static inline void matmul_one_hot(double *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const Py_ssize_t *at,
                                  Py_ssize_t cols, const double *bias, thread thr)
{
    const index_range own = thread_range(W->n, LINE, thr);
    for (int g = 0; g < W->n_gates; g++)
        for (Py_ssize_t r = own.begin, end; r < own.end && !cancelled(thr); r = end) {
            const double *w = W->unpacked ? W->gate[g] + r * W->ld : packed_row(W, g, r);
            const Py_ssize_t s_row = W->unpacked ? W->ld : 1, s_k = W->unpacked ? 1 : MR;
            const double *b = bias + g * W->n;
            end = W->unpacked ? r + LINE : r + panel_rows(W, g, r);
            if (end > own.end) end = own.end;
            for (Py_ssize_t j = 0; j < cols; j++)
                for (Py_ssize_t u = r; u < end; u++)
                    c[g * sc + j * ldc + u] = one_hot_sum(b[u], w + (u - r) * s_row, s_k, W->K, at[j]);
        }
}

#endif
