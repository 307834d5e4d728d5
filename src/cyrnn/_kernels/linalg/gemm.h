/* The packed matrix product: C (+)= W X, W packed once and used many times.
 *
 * 1. Orientation.  C[j][r] = start + sum_k W[r][k] X[j][k]: r runs over units and is contiguous in C, j over
 *    columns (examples times steps), k over the terms of the sum.  Units fill the vectors, so one step of one
 *    example (m = 1) is vectorised as well as a large batch.
 * 2. Packing.  A panel holds MR = 4 VLEN units as [k][MR]: every load of the inner loop is the next one in memory.
 * 3. Microkernel.  24 accumulators where there are 32 vector registers (4 vectors by NR = 6 columns), 12 where
 *    there are 16 (2 by 6).  One column takes 8 vectors of two panels: 4 sums in flight would wait for the
 *    latency of the FMA.  But where a vector is a cache line and the weights come from L2, 4 are enough, and one
 *    stream is faster than two (docs/measurements.md).
 * 4. Order of sums.  Each element is summed over k in ascending order by one FMA each, starting from its initial
 *    value, whatever tile or block it falls in.  So a result does not depend on the other examples, on m, or on
 *    how the steps were divided into blocks.
 */
#ifndef CYRNN_GEMM_H
#define CYRNN_GEMM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "transpose.h"

enum start { ZERO, ADD, BIAS }; /* the initial value of a sum: 0, C itself, the bias */

/* The packed form of a (rows, K) matrix takes this many values. */
static inline Py_ssize_t packed_size(Py_ssize_t rows, Py_ssize_t K)
{
    return (rows + MR - 1) / MR * MR * K;
}

/* Pack units row0 ... row0 + n - 1 of a matrix with K columns, of these k0 ... k0 + nk - 1.  Element (row, k) is
 * src[row * s_row + k * s_k], and one of the strides is 1 (s_row only with row0 = 0).  With `at`, whose s_row is 1,
 * it is src[row + at[k] * s_k].  Unused lanes of the last vector become 0: pack in ascending order of row0. */
static inline void pack(real *packed, Py_ssize_t K, Py_ssize_t row0, Py_ssize_t k0, const real *src,
                 Py_ssize_t s_row, Py_ssize_t s_k, Py_ssize_t n, Py_ssize_t nk, const Py_ssize_t *at)
{
    while (n > 0) {
        Py_ssize_t lane = row0 % MR, count = MR - lane < n ? MR - lane : n;
        real *dst = packed + (row0 - lane) * K + k0 * MR + lane;
        if (s_k == 1 && !at) {
            transpose(dst, MR, src, s_row, count, nk);
            for (Py_ssize_t pad = count; (lane + pad) % VLEN; pad++)
                for (Py_ssize_t k = 0; k < nk; k++) dst[k * MR + pad] = 0.0;
        } else { /* lane is 0: whole matrices only, so that whole vectors can be written */
            const real *s = src;
            for (Py_ssize_t k = 0; k < nk; k++, s += s_k) {
                if (at) s = src + at[k] * s_k;
                for (int line = 0; line < MR && count == MR; line += LINE) PREFETCH_READ(s + 8 * s_k + line);
                for (Py_ssize_t v = 0; v < count; v += VLEN)
                    vec_store(dst + k * MR + v, count - v < VLEN ? vec_load_n(s + v, (int)(count - v))
                                                                    : vec_load(s + v));
            }
        }
        src += count * s_row;
        row0 += count;
        n -= count;
    }
}

/* C[n][V vectors] = start + sum_k w[k][V vectors] x[n][k] in registers.  Vectors 4 to 7 come from the panel at w_hi.
 * `last` values of the last vector exist in C. */
ALWAYS_INLINE void microkernel(const int V, const int N, real *c, Py_ssize_t ldc, int last,
                        const real *w, const real *w_hi, const real *x, Py_ssize_t sxj,
                        Py_ssize_t sxk, Py_ssize_t K, enum start start, const real *bias,
                        const real *ahead)
{
    vec acc[NR][8], wv[8], xn;
    const real *from = start == BIAS ? bias : c;
    const Py_ssize_t step = start == BIAS ? 0 : ldc;

    for (int n = 0; n < N && start != ADD; n++) /* C is stored K terms from now and may be in no cache */
        for (int v = 0; v < V; v++) PREFETCH_WRITE(c + n * ldc + v * VLEN);
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++)
            acc[n][v] = start == ZERO  ? vec_zero()
                        : v < V - 1    ? vec_load(from + n * step + v * VLEN)
                                       : vec_load_n(from + n * step + v * VLEN, last);
    for (Py_ssize_t k = 0; k < K; k++) {
        for (int v = 0; v < V; v++) wv[v] = vec_load(v < 4 ? w + v * VLEN : w_hi + (v - 4) * VLEN);
        for (int n = 0; n < N; n++) {
            xn = vec_set1(x[n * sxj]);
            for (int v = 0; v < V; v++) acc[n][v] = vec_fma(wv[v], xn, acc[n][v]);
        }
        if (N > 1) PREFETCH_L2(ahead);
        else if (V <= 4 && VLEN == LINE) /* one stream, see 3. */
            for (int v = 0; v < V; v++) PREFETCH_READ(w + 8 * MR + v * VLEN);
        ahead += MR;
        w += MR;
        w_hi += MR;
        x += sxk;
    }
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++)
            if (v < V - 1) vec_store(c + n * ldc + v * VLEN, acc[n][v]);
            else vec_store_n(c + n * ldc + v * VLEN, acc[n][v], last);
}

typedef void microkernel_fn(real *, Py_ssize_t, int, const real *, const real *, const real *,
                     Py_ssize_t, Py_ssize_t, Py_ssize_t, enum start, const real *, const real *);

#define MICROKERNEL(V, N)                                                                                            \
    static void microkernel_##V##_##N(real *c, Py_ssize_t ldc, int last, const real *w, const real *w_hi,      \
                                      const real *x, Py_ssize_t sxj, Py_ssize_t sxk, Py_ssize_t K,                 \
                                      enum start start, const real *bias, const real *ahead)                     \
    {                                                                                                                \
        microkernel(V, N, c, ldc, last, w, w_hi, x, sxj, sxk, K, start, bias, ahead);                                \
    }
#define MICROKERNELS(V)                                                                                              \
    MICROKERNEL(V, 1) MICROKERNEL(V, 2) MICROKERNEL(V, 3) MICROKERNEL(V, 4) MICROKERNEL(V, 5) MICROKERNEL(V, 6)
#define TABLE_ROW(V)                                                                                                 \
    {                                                                                                                \
        microkernel_##V##_1, microkernel_##V##_2, microkernel_##V##_3, microkernel_##V##_4, microkernel_##V##_5,     \
            microkernel_##V##_6                                                                                      \
    }
MICROKERNELS(1) MICROKERNELS(2) MICROKERNELS(3) MICROKERNELS(4) MICROKERNEL(8, 1)
static microkernel_fn *const microkernels[4][NR] = {TABLE_ROW(1), TABLE_ROW(2), TABLE_ROW(3), TABLE_ROW(4)};

/* Terms of the next block of k: at most KC, and no last block much smaller than the others. */
static inline Py_ssize_t kblock(Py_ssize_t left)
{
    Py_ssize_t blocks = (left + KC - 1) / KC;
    return left > KC ? (left + blocks - 1) / blocks : left;
}

/* C = start + W X with `rows` units of W packed.
 *
 * C      (cols, rows), row length ldc
 * packed panels of `depth` k, of which K from k0 on are used
 * X      element (j, k) at x[j * sxj + k * sxk]
 * bias   (rows), read only where start == BIAS
 */
static inline void gemm(real *c, Py_ssize_t ldc, Py_ssize_t rows, const real *packed, Py_ssize_t depth,
                        Py_ssize_t k0, Py_ssize_t K, const real *x, Py_ssize_t sxj, Py_ssize_t sxk,
                        Py_ssize_t cols, enum start start, const real *bias)
{
    const int pairs = cols == 1 && (VLEN < LINE || rows * K * (Py_ssize_t)sizeof(real) <= WEIGHTS_IN_L1);
    /* At every other step (x moves on) from the last panel to the first: L1 still holds the panels used last. */
    const int back = cols == 1 && !pairs && K && (uintptr_t)x / (sizeof *x * (size_t)K) % 2;
    Py_ssize_t end = k0 + K;
    do { /* unpacked even for K = 0, to write the initial value */
        Py_ssize_t nk = cols == 1 && !pairs ? end - k0 : kblock(end - k0);
        for (Py_ssize_t i = 0; i < rows;) {
            const Py_ssize_t r = back ? (rows - 1) / MR * MR - i : i;
            const real *w = packed + r * depth + k0 * MR;
            if (pairs && rows - r >= 2 * MR) {
                microkernel_8_1(c + r, ldc, VLEN, w, w + MR * depth, x, sxj, sxk, nk, start,
                         bias ? bias + r : NULL, w);
                i += 2 * MR;
                continue;
            }
            Py_ssize_t lanes = rows - r < MR ? rows - r : MR;
            const real *next = r + MR < rows ? w + MR * depth : packed + (k0 + nk < end ? (k0 + nk) * MR : 0);
            for (Py_ssize_t j = 0; j < cols; j += NR) {
                int n = cols - j < NR ? (int)(cols - j) : NR;
                if (start == ADD && nk >= 2 * MR) /* the next tile */
                    for (Py_ssize_t far = j + n; far < cols && far < j + n + NR; far++)
                        for (int line = 0; line < MR; line += LINE) PREFETCH_WRITE(c + far * ldc + r + line);
                int most = VREGS < 32 && n > 3 ? 2 : 4;
                for (Py_ssize_t lane = 0; lane < lanes; lane += most * VLEN) {
                    Py_ssize_t left = lanes - lane;
                    int v = left >= most * VLEN ? most : (int)((left + VLEN - 1) / VLEN);
                    int last = left >= most * VLEN ? VLEN : (int)(left - (v - 1) * VLEN);
                    microkernels[v - 1][n - 1](c + j * ldc + r + lane, ldc, last, w + lane, w + lane,
                                        x + j * sxj, sxj, sxk, nk, start,
                                        bias ? bias + r + lane : NULL,
                                        j < MR / LINE * NR ? next + j / NR * LINE : w);
                }
            }
            i += MR;
        }
        x += nk * sxk;
        k0 += nk;
        start = ADD;
    } while (k0 < end);
}

#endif
