/* Products with a weight matrix that is used many times: pack once, multiply at every step.
 *
 * 1. Orientation.  C[j][r] (+)= sum_k W[r][k] X[j][k]: r runs over units and is contiguous in C,
 *    j over examples (times steps), k over what is summed.  Units fill the vectors, so one step
 *    of one example (m = 1) vectorises as well as a large batch.
 * 2. Packing.  A panel holds PANEL = 4 VLEN units as [k][PANEL]: every load of the inner loop is
 *    the next one in memory.  What is used once (`gemm_once`: a single step, or the sums over
 *    examples and steps of the weight gradients) is packed a block of a panel at a time into a
 *    buffer that stays in L1.
 * 3. Register tile.  24 accumulators where there are 32 vector registers (4 vectors by 6
 *    examples), 12 where there are 16 (2 by 6); one example takes 8 vectors of two panels, since
 *    4 sums in flight would wait for the latency of the FMA.  But where a vector is a cache line
 *    and the weights come from L2, 4 of them keep up with it, and two streams do not.
 *    docs/design.md has what it measured.
 * 4. Order.  Each element is summed over k in ascending order by one FMA each, starting from its
 *    initial value, whatever tile or block it falls in.  So a result does not depend on the other
 *    examples, on m, or on how the steps were cut into blocks.
 */
#ifndef CYRNN_GEMM_H
#define CYRNN_GEMM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "layout.h"
#include "simd.h"
#include "team.h"

#define PANEL (4 * VLEN)
#define KBLOCK (5120 / PANEL) /* k summed per visit of a panel: 40 kB of it, which nearly stay in L1 */
#define NCOLS 6    /* examples per register tile */
#define AXPY 8      /* rows of W that one column reads side by side */
#define ONE_SET 512 /* doubles: lines so far apart fall into one set of L1 */
#define ROWS_OF_DW (6 * PANEL) /* rows of a weight gradient per pass over the panels */
#define TURNED (8 * PANEL) /* columns of dW from which on D is turned into rows for them */
#define LEAST_EXAMPLES 8 /* of a step, to be shared between two threads */
#define L1_VALUES 4096   /* weights that stay in L1 */
#define L2_VALUES 1e5    /* weights that a core keeps near */
#define LEAST_STEP 5e5   /* products of a step that are worth two barriers */

enum start { ZERO, ADD, BIAS };

/* The packed form of a (rows, K) matrix takes this many doubles. */
static inline Py_ssize_t packed_size(Py_ssize_t rows, Py_ssize_t K)
{
    return (rows + PANEL - 1) / PANEL * PANEL * K;
}

/* Units row0 ... row0 + n - 1 of a matrix with K columns, k0 ... k0 + nk - 1 of them, into its
 * packed form; element (row, k) is src[row * s_row + k * s_k], and one of the strides is 1
 * (s_row only with row0 = 0).  With `at`, whose s_row is 1, it is src[row + at[k] * s_k].  Unused lanes of the
 * last vector become 0, so pack in ascending order of row0. */
static inline void pack(double *packed, Py_ssize_t K, Py_ssize_t row0, Py_ssize_t k0, const double *src,
                 Py_ssize_t s_row, Py_ssize_t s_k, Py_ssize_t n, Py_ssize_t nk, const Py_ssize_t *at)
{
    while (n > 0) {
        Py_ssize_t lane = row0 % PANEL, count = PANEL - lane < n ? PANEL - lane : n;
        double *dst = packed + (row0 - lane) * K + k0 * PANEL + lane;
        if (s_k == 1 && !at) {
            transpose(dst, PANEL, src, s_row, count, nk);
            for (Py_ssize_t pad = count; (lane + pad) % VLEN; pad++)
                for (Py_ssize_t k = 0; k < nk; k++) dst[k * PANEL + pad] = 0.0;
        } else { /* lane is 0: whole matrices only, so that whole vectors can be written */
            const double *s = src;
            for (Py_ssize_t k = 0; k < nk; k++, s += s_k) {
                if (at) s = src + at[k] * s_k;
                for (int line = 0; line < PANEL && count == PANEL; line += 8) PREFETCH_READ(s + 8 * s_k + line);
                for (Py_ssize_t v = 0; v < count; v += VLEN)
                    vec_store(dst + k * PANEL + v, count - v < VLEN ? vec_load_n(s + v, (int)(count - v))
                                                                    : vec_load(s + v));
            }
        }
        src += count * s_row;
        row0 += count;
        n -= count;
    }
}

/* C[n][V vectors] = start + sum_k w[k][V vectors] x[n][k] in registers.  Vectors 4 to 7 come from
 * the panel at w_hi.  `last` values of the last vector exist in C. */
ALWAYS_INLINE void tile(const int V, const int N, double *c, Py_ssize_t ldc, int last,
                        const double *w, const double *w_hi, const double *x, Py_ssize_t sxj,
                        Py_ssize_t sxk, Py_ssize_t K, enum start start, const double *bias,
                        const double *ahead)
{
    vec acc[NCOLS][8], wv[8], xn;
    const double *from = start == BIAS ? bias : c;
    const Py_ssize_t step = start == BIAS ? 0 : ldc;

    for (int n = 0; n < N && start != ADD; n++) /* C may be far away; it is written K steps from now */
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
        else if (V <= 4 && VLEN == 8) /* one stream, see 3. */
            for (int v = 0; v < V; v++) PREFETCH_READ(w + 8 * PANEL + v * VLEN);
        ahead += PANEL;
        w += PANEL;
        w_hi += PANEL;
        x += sxk;
    }
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++)
            if (v < V - 1) vec_store(c + n * ldc + v * VLEN, acc[n][v]);
            else vec_store_n(c + n * ldc + v * VLEN, acc[n][v], last);
}

typedef void tile_fn(double *, Py_ssize_t, int, const double *, const double *, const double *,
                     Py_ssize_t, Py_ssize_t, Py_ssize_t, enum start, const double *, const double *);

#define TILE(V, N)                                                                             \
    static void tile_##V##_##N(double *c, Py_ssize_t ldc, int last, const double *w,           \
                               const double *w_hi, const double *x, Py_ssize_t sxj,            \
                               Py_ssize_t sxk, Py_ssize_t K, enum start start,                 \
                               const double *bias, const double *ahead)                        \
    {                                                                                          \
        tile(V, N, c, ldc, last, w, w_hi, x, sxj, sxk, K, start, bias, ahead);                 \
    }
#define TILES(V) TILE(V, 1) TILE(V, 2) TILE(V, 3) TILE(V, 4) TILE(V, 5) TILE(V, 6)
#define ROW(V) {tile_##V##_1, tile_##V##_2, tile_##V##_3, tile_##V##_4, tile_##V##_5, tile_##V##_6}
TILES(1) TILES(2) TILES(3) TILES(4) TILE(8, 1)
static tile_fn *const tiles[4][NCOLS] = {ROW(1), ROW(2), ROW(3), ROW(4)};

/* Length of the next block of k: at most KBLOCK, and no remainder much smaller than the others. */
static inline Py_ssize_t kblock(Py_ssize_t left)
{
    Py_ssize_t blocks = (left + KBLOCK - 1) / KBLOCK;
    return left > KBLOCK ? (left + blocks - 1) / blocks : left;
}

/* C = start + W X with `rows` units of W packed; C is (cols, rows) with row length ldc, X[j][k] is
 * x[j * sxj + k * sxk], bias (rows) is read only where start == BIAS.  A panel has `depth` k, of
 * which those from k0 are used. */
static inline void gemm(double *c, Py_ssize_t ldc, Py_ssize_t rows, const double *packed, Py_ssize_t depth,
                        Py_ssize_t k0, Py_ssize_t K, const double *x, Py_ssize_t sxj, Py_ssize_t sxk,
                        Py_ssize_t cols, enum start start, const double *bias)
{
    const int pairs = cols == 1 && (VLEN < 8 || rows * depth <= L1_VALUES);
    /* From the last panel to the first at every other step (x moves on): L1 still has what the one before left. */
    const int back = cols == 1 && !pairs && (uintptr_t)x / (sizeof *x * (size_t)K) % 2;
    Py_ssize_t end = k0 + K;
    do { /* once even for K = 0, to write the initial value */
        Py_ssize_t nk = cols == 1 && !pairs ? end - k0 : kblock(end - k0);
        for (Py_ssize_t i = 0; i < rows;) {
            const Py_ssize_t r = back ? (rows - 1) / PANEL * PANEL - i : i;
            const double *w = packed + r * depth + k0 * PANEL;
            if (pairs && rows - r >= 2 * PANEL) {
                tile_8_1(c + r, ldc, VLEN, w, w + PANEL * depth, x, sxj, sxk, nk, start,
                         bias ? bias + r : NULL, w);
                i += 2 * PANEL;
                continue;
            }
            Py_ssize_t lanes = rows - r < PANEL ? rows - r : PANEL;
            const double *next = r + PANEL < rows ? w + PANEL * depth : packed + (k0 + nk < end ? (k0 + nk) * PANEL : 0);
            for (Py_ssize_t j = 0; j < cols; j += NCOLS) {
                int n = cols - j < NCOLS ? (int)(cols - j) : NCOLS;
                if (start == ADD && nk >= 2 * PANEL) /* the tile after this one */
                    for (Py_ssize_t far = j + n; far < cols && far < j + n + NCOLS; far++)
                        for (int line = 0; line < PANEL; line += 8) PREFETCH_WRITE(c + far * ldc + r + line);
                int most = VREGS < 32 && n > 3 ? 2 : 4;
                for (Py_ssize_t lane = 0; lane < lanes; lane += most * VLEN) {
                    Py_ssize_t left = lanes - lane;
                    int v = left >= most * VLEN ? most : (int)((left + VLEN - 1) / VLEN);
                    int last = left >= most * VLEN ? VLEN : (int)(left - (v - 1) * VLEN);
                    tiles[v - 1][n - 1](c + j * ldc + r + lane, ldc, last, w + lane, w + lane,
                                        x + j * sxj, sxj, sxk, nk, start,
                                        bias ? bias + r + lane : NULL,
                                        j < PANEL / 8 * NCOLS ? next + j / NCOLS * 8 : w);
                }
            }
            i += PANEL;
        }
        x += nk * sxk;
        k0 += nk;
        start = ADD;
    } while (k0 < end);
}

/* One column with W as it is, one row per unit: V vectors of units, `last` of them in the last vector.  Rows
 * are transposed in registers, VLEN k at a time. */
ALWAYS_INLINE void column(const int V, const int last, double *c, const double *w, Py_ssize_t s_row,
                          Py_ssize_t K, const double *x, Py_ssize_t sxk, enum start start, const double *bias)
{
    vec acc[4], square[VLEN];
    const double *from = start == BIAS ? bias : c;
    for (int v = 0; v < V; v++)
        acc[v] = start == ZERO ? vec_zero()
                 : v < V - 1   ? vec_load(from + v * VLEN)
                               : vec_load_n(from + v * VLEN, last);
    for (Py_ssize_t k = 0; k < K; k += VLEN) {
        int nk = K - k < VLEN ? (int)(K - k) : VLEN;
        for (int v = 0; v < V; v++) {
            const int rows = v < V - 1 ? VLEN : last;
            const double *wv = w + v * VLEN * s_row + k;
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

/* All units of it: two vectors of rows at a time, since one would wait for the latency of the FMA, but one
 * where what is fetched ahead of more rows would push each other out of L1. */
static inline void columns_by_rows(double *c, Py_ssize_t rows, const double *w, Py_ssize_t s_row, Py_ssize_t K,
                                   const double *x, Py_ssize_t sxk, enum start start, const double *bias)
{
    const int two = s_row % ONE_SET != 0;
    for (Py_ssize_t r = 0, left; (left = rows - r) > 0;) {
        const double *b = bias ? bias + r : NULL;
        if (two && left >= 2 * VLEN) column(2, VLEN, c + r, w + r * s_row, s_row, K, x, sxk, start, b);
        else column(1, left < VLEN ? (int)left : VLEN, c + r, w + r * s_row, s_row, K, x, sxk, start, b);
        r += two && left >= 2 * VLEN ? 2 * VLEN : VLEN;
    }
}

/* One column with W as it is, one row per k: `AXPY` rows are read side by side, each from its beginning to its
 * end, and added to all units. */
static inline void column_by_k(double *restrict c, Py_ssize_t rows, const double *w, Py_ssize_t s_k, Py_ssize_t K,
                               const double *x, Py_ssize_t sxk, enum start start, const double *bias)
{
    if (start != ADD)
        for (Py_ssize_t r = 0; r < rows; r++) c[r] = start == BIAS ? bias[r] : 0.0;
    for (Py_ssize_t k = 0; k < K; k += AXPY) {
        int nk = K - k < AXPY ? (int)(K - k) : AXPY;
        vec xk[AXPY];
        for (int i = 0; i < nk; i++) xk[i] = vec_set1(x[(k + i) * sxk]);
        for (Py_ssize_t r = 0; r < rows; r += VLEN) {
            const double *wk = w + k * s_k + r;
            if (nk == AXPY && rows - r >= VLEN) {
                vec sum = vec_load(c + r);
                for (int i = 0; i < AXPY; i++) sum = vec_fma(vec_load(wk + i * s_k), xk[i], sum);
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

/* The same with W as it is, element (r, k) at w[r * s_row + k * s_k] (one stride is 1): each block of a panel is
 * packed into a buffer on the stack, used for all columns, forgotten.  `at` as in `pack`, for K <= KBLOCK. */
static inline void gemm_once(double *c, Py_ssize_t ldc, Py_ssize_t rows, const double *w,
                             Py_ssize_t s_row, Py_ssize_t s_k, Py_ssize_t K, const double *x,
                             Py_ssize_t sxj, Py_ssize_t sxk, Py_ssize_t cols, enum start start,
                             const double *bias, const Py_ssize_t *at)
{
    ON_LINES double buffer[PANEL * KBLOCK]; /* 40 kB */
    Py_ssize_t k0 = 0;
    if (cols == 1 && !at) { /* nothing to reuse: not even a panel is packed */
        if (s_k == 1) columns_by_rows(c, rows, w, s_row, K, x, sxk, start, bias);
        else column_by_k(c, rows, w, s_k, K, x, sxk, start, bias);
        return;
    }
    do {
        Py_ssize_t nk = kblock(K - k0);
        for (Py_ssize_t r = 0; r < rows; r += PANEL) {
            Py_ssize_t lanes = rows - r < PANEL ? rows - r : PANEL;
            pack(buffer, nk, 0, 0, w + r * s_row + k0 * s_k, s_row, s_k, lanes, nk, at);
            gemm(c + r, ldc, lanes, buffer, nk, 0, nk, x + k0 * sxk, sxj, sxk, cols, start,
                 bias ? bias + r : NULL);
        }
        k0 += nk;
        start = ADD;
    } while (k0 < K);
}

/* A weight matrix as the caller keeps it: `parts` blocks (the gates) of n rows and K columns, row
 * length ld.  `room` holds its packed form; what is used `once` has none.
 * `joined`: the parts are multiplied as one matrix of parts * n rows. */
typedef struct {
    const double *part[4];
    int parts, joined, once;
    Py_ssize_t n, K, ld;
    double *room;
} weights;

/* Doubles that the packed form takes, by rows or by columns. */
static inline Py_ssize_t weights_room(const weights *W)
{
    Py_ssize_t rows = W->parts * packed_size(W->n, W->K), cols = packed_size(W->K, W->parts * W->n);
    return W->once ? 0 : rows > cols ? rows : cols;
}

/* Before `multiply`: one row per unit.  Each thread packs its share. */
static inline void pack_rows(const weights *W, team me)
{
    for (int g = 0; g < W->parts && !W->once; g++) {
        span mine = share(W->n, PANEL, me);
        if (W->joined) { /* panels may hold rows of two parts */
            if (me.thread == 0) pack(W->room, W->K, g * W->n, 0, W->part[g], W->ld, 1, W->n, W->K, NULL);
        } else
            pack(W->room + g * packed_size(W->n, W->K), W->K, mine.lo, 0, W->part[g] + mine.lo * W->ld,
                 W->ld, 1, mine.hi - mine.lo, W->K, NULL);
    }
}

/* Before `multiply_transposed`: one row per column of the weights. */
static inline void pack_columns(const weights *W, team me)
{
    span mine = share(W->K, PANEL, me);
    for (int g = 0; g < W->parts && !W->once; g++)
        pack(W->room + packed_size(mine.lo, W->parts * W->n), W->parts * W->n, 0, g * W->n,
             W->part[g] + mine.lo, 1, W->ld, mine.hi - mine.lo, W->n, NULL);
}

/* C = start + W X for X (cols, K) with row length ldx; part g of C is (cols, n) at c + g * sc with
 * row length ldc.  Only the rows that are `me`'s share. */
static inline void multiply(double *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const double *x,
                            Py_ssize_t ldx, Py_ssize_t cols, enum start start, const double *bias, team me)
{
    int joined = W->joined && !W->once, parts = joined ? 1 : W->parts;
    Py_ssize_t n = joined ? W->parts * W->n : W->n, panels = packed_size(n, 1) / PANEL;
    span mine = share(parts * panels, 1, me);
    for (int g = 0; g < parts && !stopped(me); g++) {
        Py_ssize_t from = mine.lo > g * panels ? (mine.lo - g * panels) * PANEL : 0;
        Py_ssize_t to = mine.hi < (g + 1) * panels ? (mine.hi - g * panels) * PANEL : n;
        if (from >= to) continue;
        if (W->once)
            gemm_once(c + g * sc + from, ldc, to - from, W->part[g] + from * W->ld, W->ld, 1, W->K, x, ldx, 1,
                      cols, start, bias ? bias + g * n + from : NULL, NULL);
        else
            gemm(c + g * sc + from, ldc, to - from, W->room + (g * panels * PANEL + from) * W->K, W->K, 0, W->K,
                 x, ldx, 1, cols, start, bias ? bias + g * n + from : NULL);
    }
}

/* All of it together: a share of the rows each, or of the columns where there are few rows. */
static inline void multiply_shared(double *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const double *x,
                                   Py_ssize_t ldx, Py_ssize_t cols, enum start start, const double *bias, team me)
{
    if (W->parts * W->n >= 4 * PANEL * me.threads)
        multiply(c, sc, ldc, W, x, ldx, cols, start, bias, me);
    else {
        span mine = share(cols, NCOLS, me);
        multiply(c + mine.lo * ldc, sc, ldc, W, x + mine.lo * ldx, ldx, mine.hi - mine.lo, start, bias,
                 by_itself(me));
    }
}

/* C (cols, K) = W' D; part g of D is (cols, n) at d + g * sd with row length ldd.  Only the columns
 * of C that are `me`'s share. */
static inline void multiply_transposed(double *c, Py_ssize_t ldc, const weights *W, const double *d,
                                       Py_ssize_t sd, Py_ssize_t ldd, Py_ssize_t cols, team me)
{
    span mine = share(W->K, PANEL, me);
    Py_ssize_t count = mine.hi - mine.lo, depth = W->parts * W->n;
    int parts = W->joined && !W->once ? 1 : W->parts;
    Py_ssize_t n = depth / parts;
    for (int g = 0; g < parts && count > 0 && !stopped(me); g++)
        if (W->once)
            gemm_once(c + mine.lo, ldc, count, W->part[g] + mine.lo, 1, W->ld, n, d + g * sd, ldd, 1, cols,
                      g ? ADD : ZERO, NULL, NULL);
        else
            gemm(c + mine.lo, ldc, count, W->room + mine.lo * depth, depth, g * n, n, d + g * sd, ldd, 1,
                 cols, g ? ADD : ZERO, NULL);
}

/* Whether a core cannot keep them near: then a product has as many columns as there are, shared by units. */
static inline int large(const weights *W) { return (double)W->parts * (double)W->n * (double)W->K > L2_VALUES; }

/* Whether the threads of one call share the units of every step rather than its examples: where the
 * weights are larger than a core's cache, or the examples too few; and the most shares there are. */
static inline int by_rows(const weights *W, Py_ssize_t m, Py_ssize_t *shares)
{
    double values = (double)W->parts * (double)W->n * (double)W->K;
    int rows = (m < LEAST_EXAMPLES || large(W)) && values * (double)m > LEAST_STEP;
    *shares = rows ? W->K / PANEL : m >= LEAST_EXAMPLES ? m / (LEAST_EXAMPLES / 2) : 1;
    return rows;
}

/* Doubles of room that `outer` needs for a gradient of K columns, of at most so many columns of D. */
static inline Py_ssize_t outer_room(Py_ssize_t K, Py_ssize_t cols)
{
    return K < TURNED ? 0 : (Py_ssize_t)ROWS_OF_DW * (cols < KBLOCK ? cols : KBLOCK);
}

/* dW (n, K) = start + D' X, the sum over the rows of D (cols, n) and X (cols, K); row k of X is x + at[k] ldx
 * where `at` is given.  A block of rows of dW at a time, so that their pages are still known when the next panel
 * comes.  Where many panels follow, that block of D is turned into rows first, in `room`. */
static inline void outer(double *dW, Py_ssize_t lddW, const double *d, Py_ssize_t ldd, Py_ssize_t n,
                         const double *x, Py_ssize_t ldx, const Py_ssize_t *at, Py_ssize_t K,
                         Py_ssize_t cols, enum start start, double *room, team me)
{
    for (Py_ssize_t k0 = 0, nk; k0 < cols && !stopped(me); k0 += nk) {
        nk = kblock(cols - k0);
        for (Py_ssize_t g = 0; g < n; g += ROWS_OF_DW) {
            Py_ssize_t rows = n - g < ROWS_OF_DW ? n - g : ROWS_OF_DW, sxj = 1, sxk = ldd;
            const double *from = d + k0 * ldd + g;
            if (K >= TURNED) {
                transpose(room, nk, from, ldd, nk, rows);
                from = room;
                sxj = nk;
                sxk = 1;
            }
            gemm_once(dW + g * lddW, lddW, K, x, 1, ldx, nk, from, sxj, sxk, rows, start, NULL, at);
        }
        if (at) at += nk;
        else x += nk * ldx;
        start = ADD;
    }
}

/* db (n) += the sum over the rows of D (cols, n). */
static inline void add_rows(double *db, const double *d, Py_ssize_t ldd, Py_ssize_t n, Py_ssize_t cols)
{
    for (Py_ssize_t j = 0; j < cols; j++)
        for (Py_ssize_t u = 0; u < n; u++) db[u] += d[j * ldd + u];
}

#endif
