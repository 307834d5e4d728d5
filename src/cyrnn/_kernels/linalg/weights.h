/* A weight matrix of one or several gates, its products, and its gradient, shared by the threads of a call.
 *
 * C = W X projects columns (matmul, matmul_shared), C = W' D takes gradients back (matmul_t), dW += D' X sums over the
 * columns (add_outer).  Ranges of rows, or of columns, are split between threads; no sum is.
 */
#ifndef CYRNN_WEIGHTS_H
#define CYRNN_WEIGHTS_H

#include "matvec.h"
#include "sum.h"
#include "runtime/parallel.h"

#define MAX_GATES 4

/* A weight matrix as the caller keeps it: `n_gates` matrices of n rows and K columns, row length ld.
 * fused     the gates are multiplied as one matrix of n_gates * n rows
 * unpacked  it is used once: there is no packed form
 * packed    workspace for the packed form, `weights_size` values
 * depth     the terms of a packed row: K, or more in a part, columns k0 ... k0 + K - 1, of a larger matrix that has the
 *           workspace (`matmul` only) */
typedef struct {
    const real *gate[MAX_GATES];
    int n_gates, fused, unpacked;
    Py_ssize_t n, K, ld;
    Py_ssize_t depth, k0;
    real *packed;
} weights;

/* Values that the packed form takes, by rows or by columns. */
static inline Py_ssize_t weights_size(const weights *W)
{
    Py_ssize_t rows = W->n_gates * packed_size(W->n, W->K), cols = packed_size(W->K, W->n_gates * W->n);
    return W->unpacked || W->depth > W->K ? 0 : rows > cols ? rows : cols;
}

/* Before `matmul`: one row per unit.  Each thread packs its range. */
static inline void weights_pack(const weights *W, thread thr)
{
    for (int g = 0; g < W->n_gates && !W->unpacked; g++) {
        index_range own = thread_range(W->n, MR, thr);
        if (W->fused) { /* panels may hold rows of two gates */
            if (thr.id == 0) pack(W->packed, W->depth, g * W->n, W->k0, W->gate[g], W->ld, 1, W->n, W->K, NULL);
        } else
            pack(W->packed + g * packed_size(W->n, W->depth), W->depth, own.begin, W->k0,
                 W->gate[g] + own.begin * W->ld, W->ld, 1, own.end - own.begin, W->K, NULL);
    }
}

/* Element (r, k) of a gate that `weights_pack` has packed is packed_row(W, gate, r)[k * MR]. */
static inline const real *packed_row(const weights *W, int gate, Py_ssize_t r)
{
    Py_ssize_t row = W->fused ? gate * W->n + r : r;
    const real *panels = W->packed + (W->fused ? 0 : gate * packed_size(W->n, W->depth));
    return panels + row / MR * MR * W->depth + W->k0 * MR + row % MR;
}

/* Rows of the gate from r on that stand side by side there. */
static inline Py_ssize_t panel_rows(const weights *W, int gate, Py_ssize_t r)
{
    return MR - (W->fused ? gate * W->n + r : r) % MR;
}

/* One gate (n, K) as it was before it was packed, with row length ld. */
static inline void weights_unpack(const weights *W, int gate, real *dst, Py_ssize_t ld)
{
    for (Py_ssize_t r = 0; r < W->n; r++)
        for (Py_ssize_t k = 0; k < W->K; k++) dst[r * ld + k] = packed_row(W, gate, r)[k * MR];
}

/* Before `matmul_t`: one row per column of the weights. */
static inline void weights_pack_t(const weights *W, thread thr)
{
    index_range own = thread_range(W->K, MR, thr);
    for (int g = 0; g < W->n_gates && !W->unpacked; g++)
        pack(W->packed + packed_size(own.begin, W->n_gates * W->n), W->n_gates * W->n, 0, g * W->n,
             W->gate[g] + own.begin, 1, W->ld, own.end - own.begin, W->n, NULL);
}

/* C = start + W X for X (cols, K) with row length ldx; gate g of C is (cols, n) at c + g * sc with row length ldc.
 * Only this thread's range of the rows. */
static inline void matmul(real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const real *x,
                          Py_ssize_t ldx, Py_ssize_t cols, enum start start, const real *bias, thread thr)
{
    int fused = W->fused && !W->unpacked, n_gates = fused ? 1 : W->n_gates;
    Py_ssize_t n = fused ? W->n_gates * W->n : W->n, panels = packed_size(n, 1) / MR;
    index_range own = thread_range(n_gates * panels, 1, thr);
    for (int g = 0; g < n_gates && !cancelled(thr); g++) {
        Py_ssize_t from = own.begin > g * panels ? (own.begin - g * panels) * MR : 0;
        Py_ssize_t to = own.end < (g + 1) * panels ? (own.end - g * panels) * MR : n;
        if (from >= to) continue;
        if (W->unpacked)
            gemm_unpacked(c + g * sc + from, ldc, to - from, W->gate[g] + from * W->ld, W->ld, 1, W->K, x, ldx, 1,
                          cols, start, bias ? bias + g * n + from : NULL, NULL, thr.panel);
        else
            gemm(c + g * sc + from, ldc, to - from, W->packed + (g * panels * MR + from) * W->depth, W->depth, W->k0,
                 W->K, x, ldx, 1, cols, start, bias ? bias + g * n + from : NULL);
    }
}

/* The same by all threads together: a range of the rows each, or of the columns where there are few rows. */
static inline void matmul_shared(real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const real *x,
                                 Py_ssize_t ldx, Py_ssize_t cols, enum start start, const real *bias, thread thr)
{
    if (W->n_gates * W->n >= SHARED_PANELS * MR * thr.count)
        matmul(c, sc, ldc, W, x, ldx, cols, start, bias, thr);
    else {
        index_range own = thread_range(cols, NR, thr);
        matmul(c + own.begin * ldc, sc, ldc, W, x + own.begin * ldx, ldx, own.end - own.begin, start, bias,
                 one_thread(thr));
    }
}

/* C (cols, K) = start + W' D; gate g of D is (cols, n) at d + g * sd with row length ldd.  Only this thread's range of
 * the columns of C.  start: ZERO or ADD. */
static inline void matmul_t(real *c, Py_ssize_t ldc, const weights *W, const real *d, Py_ssize_t sd,
                            Py_ssize_t ldd, Py_ssize_t cols, enum start start, thread thr)
{
    index_range own = thread_range(W->K, MR, thr);
    Py_ssize_t count = own.end - own.begin, depth = W->n_gates * W->n;
    int n_gates = W->fused && !W->unpacked ? 1 : W->n_gates;
    Py_ssize_t n = depth / n_gates;
    for (int g = 0; g < n_gates && count > 0 && !cancelled(thr); g++)
        if (W->unpacked)
            gemm_unpacked(c + own.begin, ldc, count, W->gate[g] + own.begin, 1, W->ld, n, d + g * sd, ldd, 1, cols,
                          g ? ADD : start, NULL, NULL, thr.panel);
        else
            gemm(c + own.begin, ldc, count, W->packed + own.begin * depth, depth, g * n, n, d + g * sd, ldd, 1,
                 cols, g ? ADD : start, NULL);
}

/* Whether the caches of one core cannot hold them: then a product takes as many columns as there are, split by units. */
static inline int exceeds_cache(const weights *W)
{
    return (double)sizeof(real) * W->n_gates * (double)W->n * (double)W->K > WEIGHTS_IN_L2;
}

/* Whether the threads of a call split the units of every step rather than its m examples: where the weights are larger
 * than the caches of a core, or the examples too few.  max_threads: how many threads can share the work. */
static inline int split_by_units(const weights *W, Py_ssize_t m, Py_ssize_t *max_threads)
{
    double products = (double)W->n_gates * (double)W->n * (double)W->K * (double)m;
    int by_units = (m < 2 * EXAMPLES_PER_THREAD || exceeds_cache(W)) && products > SPLIT_UNITS_PRODUCTS;
    *max_threads = by_units ? W->K / MR : m >= 2 * EXAMPLES_PER_THREAD ? m / EXAMPLES_PER_THREAD : 1;
    return by_units;
}

/* A sum over many columns, n rows of K values, and in float32 what its additions rounded off; `lost` NULL if that is not
 * kept.  Where it is, SUM_COLUMNS terms at most are added plainly, and these sums without loss but for the end. */
typedef struct {
    real *sum, *lost;
    Py_ssize_t ld, ld_lost;
} accumulator;

/* The accumulator of its rows from `row` on. */
static inline accumulator rows_from(accumulator a, Py_ssize_t row)
{
    return (accumulator){a.sum + row * a.ld, a.lost ? a.lost + row * a.ld_lost : NULL, a.ld, a.ld_lost};
}

/* sum += lost, at the end. */
static inline void add_lost(accumulator a, Py_ssize_t n, Py_ssize_t K)
{
    for (Py_ssize_t r = 0; r < n && a.lost; r++)
        for (Py_ssize_t k = 0; k < K; k++) a.sum[r * a.ld + k] += a.lost[r * a.ld_lost + k];
}

/* Rows of a gradient of K columns that `add_outer` computes at a time. */
static inline Py_ssize_t outer_rows(Py_ssize_t K, int compensated)
{
    Py_ssize_t rows = compensated && K ? TILE_BYTES / (Py_ssize_t)sizeof(real) / K / NR * NR : MC;
    return rows > MC ? MC : rows < 4 * NR ? 4 * NR : rows;
}

/* start + the sum of nk columns, KC at most, for `rows` rows of K values.  Row r of D' is from[r * sxj + k * sxk], row c of
 * X' x[c * s_row + k * s_k], `at` as in `add_outer`.  Where what is rounded off is kept, the sums of several calls, from
 * `first` to `last`, are made in `tile` (rows, K) and then added. */
static inline void outer_block(accumulator to, Py_ssize_t rows, const real *from, Py_ssize_t sxj, Py_ssize_t sxk,
                               const real *x, Py_ssize_t s_row, Py_ssize_t s_k, Py_ssize_t K, Py_ssize_t nk,
                               const Py_ssize_t *at, enum start start, int first, int last, real *tile, real *panel)
{
    const int compensated = COMPENSATED && to.lost, apart = compensated && start == ADD;
    gemm_unpacked(apart ? tile : to.sum, apart ? K : to.ld, K, x, s_row, s_k, nk, from, sxj, sxk, rows,
                  apart && first ? ZERO : first ? start : ADD, NULL, at, panel);
    for (Py_ssize_t r = 0; r < rows && compensated && last; r++)
        if (apart) add_compensated(to.sum + r * to.ld, to.lost + r * to.ld_lost, tile + r * K, K);
        else memset(to.lost + r * to.ld_lost, 0, (size_t)K * sizeof(real));
}

/* Values of workspace that `add_outer` needs for n rows of K columns, of at most so many columns of D. */
static inline Py_ssize_t add_outer_workspace(Py_ssize_t n, Py_ssize_t K, Py_ssize_t cols, int compensated)
{
    const Py_ssize_t most = outer_rows(K, compensated), rows = n < most ? n : most;
    return (K < TRANSPOSE_FROM ? 0 : rows * (cols < KC ? cols : KC)) + (compensated ? rows * K : 0);
}

/* dW (n, K) = start + D' X, the sum over the rows of D (cols, n) and X (cols, K); row k of X is x + at[k] ldx where `at`
 * is given.  MC rows of dW at a time, so that their pages stay in the TLB until the next panel.  Where many panels
 * follow, that block of D is transposed first, into `workspace`. */
static inline void add_outer(accumulator dW, const real *d, Py_ssize_t ldd, Py_ssize_t n,
                             const real *x, Py_ssize_t ldx, const Py_ssize_t *at, Py_ssize_t K,
                             Py_ssize_t cols, enum start start, real *workspace, thread thr)
{
    const int compensated = COMPENSATED && dW.lost;
    const Py_ssize_t most = outer_rows(K, compensated);
    real *const tile = workspace + (K < TRANSPOSE_FROM ? 0 : (n < most ? n : most) * (cols < KC ? cols : KC));
    for (Py_ssize_t s0 = 0, end; s0 < cols && !cancelled(thr); s0 = end) {
        end = s0 + (!compensated ? kblock(cols - s0) : cols - s0 > SUM_COLUMNS ? SUM_COLUMNS : cols - s0);
        for (Py_ssize_t g = 0; g < n; g += most) {
            const Py_ssize_t rows = n - g < most ? n - g : most;
            for (Py_ssize_t k0 = s0, nk; k0 < end; k0 += nk) {
                Py_ssize_t sxj = 1, sxk = ldd;
                const real *from = d + k0 * ldd + g;
                nk = kblock(end - k0);
                if (K >= TRANSPOSE_FROM) {
                    transpose(workspace, nk, from, ldd, nk, rows);
                    from = workspace;
                    sxj = nk;
                    sxk = 1;
                }
                outer_block(rows_from(dW, g), rows, from, sxj, sxk, at ? x : x + k0 * ldx, 1, ldx, K, nk,
                            at ? at + k0 : NULL, start, k0 == s0, k0 + nk == end, tile, thr.panel);
            }
        }
        start = ADD;
    }
}

/* db (n) += the sum over the rows of D (cols, n). */
static inline void add_rows(accumulator db, const real *d, Py_ssize_t ldd, Py_ssize_t n, Py_ssize_t cols)
{
    if (COMPENSATED && db.lost)
        for (Py_ssize_t j = 0; j < cols; j++) add_compensated(db.sum, db.lost, d + j * ldd, n);
    else
        for (Py_ssize_t j = 0; j < cols; j++)
            for (Py_ssize_t u = 0; u < n; u++) db.sum[u] += d[j * ldd + u];
}

#endif
