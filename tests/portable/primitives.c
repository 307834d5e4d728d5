/* The primitives on any processor: each against a plain loop, bit for bit where the order of a sum is
 * promised, and exp, tanh, sigmoid against long double.  With -DCYRNN_F32 in float, whose functions float32.c checks.  No
 * Python needed:
 *
 *     gcc <the flags of setup.py> -I src/cyrnn/_kernels tests/portable/primitives.c -lm && ./a.out
 *
 * tests/portable.sh runs it natively and in emulators.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
typedef ptrdiff_t Py_ssize_t;
#include "linalg/gemm.h"
#include "linalg/matvec.h"
#include "linalg/simd.h"
#include "linalg/sum.h"
#include "linalg/transpose.h"
#include "linalg/unpacked.h"
#include "linalg/vmath.h"
#include "linalg/weights.h"

#ifdef CYRNN_F32
#define EPSILON 5.4e-7
#else
#define EPSILON 1e-15
#endif

static int failures = 0;

#define CHECK(holds, ...)                                                                      \
    do {                                                                                       \
        if (!(holds)) {                                                                        \
            failures++;                                                                        \
            printf("failed: " __VA_ARGS__);                                                    \
            printf("\n");                                                                      \
        }                                                                                      \
    } while (0)

/* The loops as the kernels have them; tests/portable.sh checks that they are vectorised. */
void exp_loop(real *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vexp(x[u]); }
void tanh_loop(real *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vtanh(x[u]); }
void sigmoid_loop(real *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vsigmoid(x[u]); }

static double uniform(void) /* -1 to 1 */
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(int64_t)state / 9223372036854775808.0;
}

static real *drawn(Py_ssize_t n)
{
    real *x = malloc((size_t)(n + 1) * sizeof *x);
    for (Py_ssize_t i = 0; i < n; i++) x[i] = (real)uniform();
    return x;
}

static int same(const real *got, const real *want, Py_ssize_t n) { return memcmp(got, want, (size_t)n * sizeof *got) == 0; }

/* C[j][r] = start, then + W[r][k] X[j][k] for ascending k: what every product is compared with. */
static void plain(real *c, Py_ssize_t scr, Py_ssize_t scj, Py_ssize_t rows, const real *w, Py_ssize_t swr,
                  Py_ssize_t swk, Py_ssize_t K, const real *x, Py_ssize_t sxj, Py_ssize_t sxk, Py_ssize_t cols,
                  enum start start, const real *bias)
{
    for (Py_ssize_t r = 0; r < rows; r++)
        for (Py_ssize_t j = 0; j < cols; j++) {
            real sum = start == ZERO ? 0.0 : start == BIAS ? bias[r] : c[r * scr + j * scj];
            for (Py_ssize_t k = 0; k < K; k++) sum = FMA(w[r * swr + k * swk], x[j * sxj + k * sxk], sum);
            c[r * scr + j * scj] = sum;
        }
}

#ifndef CYRNN_F32
static void functions(void)
{
    struct {
        const char *name;
        void (*loop)(real *, Py_ssize_t);
        double most;
        double largest;
    } each[] = {{"exp", exp_loop, 1.0, 0}, {"tanh", tanh_loop, 1.25, 0}, {"sigmoid", sigmoid_loop, 1.75, 0}};
    const double scales[] = {1e-8, 0.7, 3.0, 45.0, 745.0};
    enum { N = 4001 };
    static real x[N], y[N];
    /* Where expl is exp (musl on aarch64, MSVC) the values compared with are off by an ulp themselves. */
    volatile long double one = 1;
    long double base = expl(one);
    double reference = base == (long double)(double)base ? 1.0 : 0.0;
    if (reference > 0) printf("  expl and tanhl are those of double: 1 ulp more is let pass\n");
    for (int f = 0; f < 3; f++) {
        for (int s = 0; s < 5; s++) {
            for (int i = 0; i < N; i++) y[i] = x[i] = scales[s] * uniform();
            each[f].loop(y, N);
            for (int i = 0; i < N; i++) {
                long double e = expl(-fabsl((long double)x[i])), exact = f == 0 ? expl((long double)x[i]) : tanhl((long double)x[i]);
                int exponent;
                if (f == 2) exact = (x[i] < 0 ? e : 1) / (1 + e);
                if (exact > 1.7e308L) continue;
                frexpl(exact, &exponent);
                double error = (double)(fabsl(y[i] - exact) / ldexpl(1, (exponent < -1021 ? -1021 : exponent) - 53));
                if (error > each[f].largest) each[f].largest = error;
                CHECK(error <= each[f].most + reference, "%s(%a) = %a, %.2f ulp", each[f].name, x[i], y[i], error);
            }
        }
        for (int n = 1; n < 20; n++) { /* the same bits in the body and in the tail */
            real part[20];
            memcpy(part, x, sizeof part);
            each[f].loop(part, n);
            CHECK(same(part, y, n), "%s: %d values alone", each[f].name, n);
        }
        double special[] = {INFINITY, -INFINITY, NAN, 0.0, 800.0, -800.0, 1e300, -1e300};
        each[f].loop(special, 8);
        double low = f == 1 ? -1.0 : 0.0, high = f == 0 ? INFINITY : 1.0, middle = f == 0 ? 1.0 : f == 1 ? 0.0 : 0.5;
        CHECK(special[0] == high && special[1] == low && isnan(special[2]) && special[3] == middle, "%s: limits", each[f].name);
        CHECK(special[4] == high && special[5] == low && special[6] == high && special[7] == low, "%s: far out", each[f].name);
        printf("  %-8s %.3f ulp\n", each[f].name, each[f].largest);
    }
}
#else
static void functions(void) {}

/* Sums over many columns: in a plain loop they are off twenty times as much and more. */
static void compensated_sums(void)
{
    enum { N = 7, K = 9, COLS = 20000, FIRST = 1500 };
    real *d = drawn(COLS * N), *x = drawn(COLS * K), *dW = drawn(N * K), *lost = drawn(N * K), *db = drawn(N), *db_lost = drawn(N);
    real *workspace = drawn(add_outer_workspace(N, K, COLS, 1)), *panel = drawn(panel_size(COLS));
    for (Py_ssize_t i = 0; i < COLS * N; i++) d[i] += (real)0.5;
    for (Py_ssize_t i = 0; i < COLS * K; i++) x[i] += (real)0.5;
    const accumulator to = {dW, lost, K, K}, to_b = {db, db_lost, 1, 1};
    const thread thr = {0, 1, &never_interrupted, panel};
    add_outer(to, d, N, N, x, K, NULL, K, FIRST, ZERO, workspace, thr);
    add_outer(to, d + FIRST * N, N, N, x + FIRST * K, K, NULL, K, COLS - FIRST, ADD, workspace, thr);
    add_lost(to, N, K);
    memset(db, 0, N * sizeof *db), memset(db_lost, 0, N * sizeof *db);
    add_rows(to_b, d, N, N, COLS);
    add_lost(to_b, N, 1);
    double error = 0, error_b = 0, plain_error = 0, plain_b = 0;
    for (int r = 0; r < N; r++)
        for (int k = 0; k <= K; k++) { /* the last one is the bias */
            double exact = 0;
            real sum = 0;
            for (Py_ssize_t j = 0; j < COLS; j++) {
                const real term = k < K ? x[j * K + k] : 1;
                exact += (double)d[j * N + r] * term;
                sum = FMA(d[j * N + r], term, sum);
            }
            double *mine = k < K ? &error : &error_b, *theirs = k < K ? &plain_error : &plain_b;
            *mine = fmax(*mine, fabs((k < K ? dW[r * K + k] : db[r]) - exact));
            *theirs = fmax(*theirs, fabs(sum - exact));
        }
    CHECK(error < 0.05 * plain_error, "sums of products over %d columns: off by %g, plain %g", COLS, error, plain_error);
    CHECK(error_b < 0.05 * plain_b, "sums over %d columns: off by %g, plain %g", COLS, error_b, plain_b);
    free(d), free(x), free(dW), free(lost), free(db), free(db_lost), free(workspace), free(panel);
}
#endif

/* One thread of so many, with the workspace that its products need. */
static thread thread_of(int id, int count)
{
    static real panel[MR * KC];
    return (thread){id, count, &never_interrupted, panel};
}

static void products(Py_ssize_t rows, Py_ssize_t K, Py_ssize_t cols)
{
    real *w = drawn(rows * K), *x = drawn(cols * K), *bias = drawn(rows), *first = drawn(rows * cols);
    real *c = drawn(rows * cols), *want = drawn(rows * cols), *packed = drawn(packed_size(rows, K));
    real *panel = drawn(panel_size(K));
    size_t size = (size_t)(rows * cols) * sizeof *c;
    for (int start = ZERO; start <= BIAS; start++)
        for (int once = 0; once < 3; once++) { /* packed; as it is, by rows; as it is, by columns */
            Py_ssize_t swr = once == 2 ? 1 : K, swk = once == 2 ? rows : 1;
            memcpy(c, first, size);
            memcpy(want, first, size);
            plain(want, 1, rows, rows, w, swr, swk, K, x, K, 1, cols, start, bias);
            if (once) gemm_unpacked(c, rows, rows, w, swr, swk, K, x, K, 1, cols, start, bias, NULL, panel);
            else {
                pack(packed, K, 0, 0, w, K, 1, rows, K, NULL);
                gemm(c, rows, rows, packed, K, 0, K, x, K, 1, cols, start, bias);
            }
            CHECK(same(c, want, rows * cols), "product %td x %td x %td, start %d, way %d", rows, K, cols, start, once);
        }
    free(w), free(x), free(bias), free(first), free(c), free(want), free(packed), free(panel);
}

/* Four matrices of n rows as one set of weights, forward and transposed, shared by three threads or not. */
static void weight_sets(Py_ssize_t n, Py_ssize_t K, Py_ssize_t cols)
{
    enum { GATES = 4, LD = 3 };
    Py_ssize_t ld = K + LD;
    real *all = drawn(GATES * n * ld), *x = drawn(cols * K), *bias = drawn(GATES * n), *d = drawn(cols * GATES * n);
    real *c = drawn(cols * GATES * n), *want = drawn(cols * GATES * n), *back = drawn(cols * K), *want_back = drawn(cols * K);
    for (int way = 0; way < 3; way++) { /* packed by gates, packed as one, not packed */
        weights W = {.n_gates = GATES, .fused = way == 1, .unpacked = way == 2, .n = n, .K = K, .ld = ld, .depth = K};
        for (int g = 0; g < GATES; g++) W.gate[g] = all + g * n * ld;
        W.packed = malloc((size_t)(weights_size(&W) + 1) * sizeof(real));
        /* fused, a row of C holds all gates; else each gate has its own block */
        Py_ssize_t sc = W.fused ? n : cols * n, ldc = W.fused ? GATES * n : n;
        for (int threads = 1; threads <= 3; threads += 2) {
            for (int i = 0; i < threads; i++) weights_pack(&W, thread_of(i, threads));
            for (int i = 0; i < threads; i++) matmul(c, sc, ldc, &W, x, K, cols, BIAS, bias, thread_of(i, threads));
            for (int g = 0; g < GATES; g++)
                plain(want + g * sc, 1, ldc, n, W.gate[g], ld, 1, K, x, K, 1, cols, BIAS, bias + g * n);
            CHECK(same(c, want, cols * GATES * n), "weights %td x %td x %td, way %d, %d threads", n, K, cols, way, threads);
            for (int i = 0; i < threads; i++) weights_pack_t(&W, thread_of(i, threads));
            for (int i = 0; i < threads; i++) matmul_t(back, K, &W, d, sc, ldc, cols, ZERO, thread_of(i, threads));
            for (int g = 0; g < GATES; g++)
                plain(want_back, 1, K, K, W.gate[g], 1, ld, n, d + g * sc, ldc, 1, cols, g ? ADD : ZERO, NULL);
            CHECK(same(back, want_back, cols * K), "transposed %td x %td x %td, way %d, %d threads", n, K, cols, way, threads);
        }
        free(W.packed);
    }
    free(all), free(x), free(bias), free(d), free(c), free(want), free(back), free(want_back);
}

static void gradients(Py_ssize_t n, Py_ssize_t K, Py_ssize_t cols)
{
    real *d = drawn(cols * n), *x = drawn(cols * K), *dW = drawn(n * K), *want = drawn(n * K), *db = drawn(n);
    real *room = drawn(add_outer_workspace(n, K, cols, 1)), *b = drawn(n);
    memcpy(want, dW, (size_t)(n * K) * sizeof *want);
    memcpy(b, db, (size_t)n * sizeof *b);
    add_outer((accumulator){dW, NULL, K, 0}, d, n, n, x, K, NULL, K, cols, ADD, room, thread_of(0, 1));
    plain(want, K, 1, n, d, 1, n, cols, x, 1, K, K, ADD, NULL);
    CHECK(same(dW, want, n * K), "outer %td x %td over %td", n, K, cols);
    Py_ssize_t *at = calloc((size_t)cols + 1, sizeof *at); /* every fourth row of X is none */
    real *gaps = drawn((2 * cols + 1) * K), *before = drawn(n * K);
    memcpy(dW, before, (size_t)(n * K) * sizeof *dW);
    for (Py_ssize_t k = 0; k < cols; k++) {
        at[k] = k + k / 3;
        memcpy(gaps + at[k] * K, x + k * K, (size_t)K * sizeof *x);
    }
    add_outer((accumulator){dW, NULL, K, 0}, d, n, n, gaps, K, at, K, cols, ADD, room, thread_of(0, 1));
    add_outer((accumulator){before, NULL, K, 0}, d, n, n, x, K, NULL, K, cols, ADD, room, thread_of(0, 1));
    CHECK(same(dW, before, n * K), "outer %td x %td over %td with gaps", n, K, cols);
    free(at), free(gaps), free(before);
    add_rows((accumulator){db, NULL, 1, 1}, d, n, n, cols);
    for (Py_ssize_t j = 0; j < cols; j++)
        for (Py_ssize_t u = 0; u < n; u++) b[u] += d[j * n + u];
    CHECK(same(db, b, n), "sums of %td rows", cols);
    real *parts = drawn(outer_unpacked_workspace(n, K, cols));
    outer_unpacked(dW, K, K, d, x, cols, (index_range){0, n}, parts, thread_of(0, 1)); /* d (n, cols), x (K, cols) */
    plain(want, K, 1, n, d, cols, 1, cols, x, cols, 1, K, ZERO, NULL);
    if ((cols < DOT_FROM || K >= 2 * MR) && !(COMPENSATED && cols > SUM_COLUMNS))
        CHECK(same(dW, want, n * K), "outer of a step %td x %td over %td", n, K, cols);
    else /* sums in lanes, or of parts */
        for (Py_ssize_t i = 0; i < n * K; i++)
            CHECK(fabs(dW[i] - want[i]) <= EPSILON * (double)cols, "outer of a step %td x %td over %td", n, K, cols);
    sum_rows(db, d, cols, (index_range){0, n});
    for (Py_ssize_t u = 0; u < n; u++) {
        real sum = 0.0;
        for (Py_ssize_t j = 0; j < cols; j++) sum += d[u * cols + j];
        CHECK(fabs(db[u] - sum) <= EPSILON * (double)cols, "sum of a row of %td", cols);
    }
    free(d), free(x), free(dW), free(want), free(db), free(room), free(b), free(parts);
}

/* One step in the caller's order: C (n, m), X (K, m). */
static void steps_of_cells(Py_ssize_t n, Py_ssize_t K, Py_ssize_t m)
{
    real *w = drawn(n * K), *x = drawn(K * m), *c = drawn(n * m), *want = drawn(n * m), *d = drawn(2 * n * m);
    real *back = drawn(K * m), *want_back = drawn(K * m), *room = drawn(K * m), *w2 = drawn(n * K);
    memcpy(want, c, (size_t)(n * m) * sizeof *want);
    matmul_unpacked(c, m, w, K, K, x, (index_range){0, n}, thread_of(0, 1));
    plain(want, m, 1, n, w, K, 1, K, x, 1, m, m, ADD, NULL);
    CHECK(same(c, want, n * m), "step %td x %td x %td", n, K, m);
    weights W = {.gate = {w, w2}, .n_gates = 2, .unpacked = 1, .n = n, .K = K, .ld = K};
    for (int add = 0; add < 2; add++) {
        matmul_t_unpacked(back, K, m, &W, d, add ? ADD : ZERO, room, thread_of(0, 1));
        for (int g = 0; g < 2; g++)
            plain(want_back, m, 1, K, W.gate[g], 1, K, n, d + g * n * m, 1, m, m, g || add ? ADD : ZERO, NULL);
        CHECK(same(back, want_back, K * m), "step back %td x %td x %td, start %d", n, K, m, add);
    }
    free(w), free(x), free(c), free(want), free(d), free(back), free(want_back), free(room), free(w2);
}

static void layouts(Py_ssize_t n, Py_ssize_t m, Py_ssize_t T)
{
    Py_ssize_t size = n * m * T, orders[4][3] = {{m * T, T, 1}, {1, n, n * m}, {m, 1, n * m}, {T, n * T, 1}};
    real *src = drawn(size), *dst = drawn(size), *out = drawn(size);
    for (int o = 0; o < 4; o++) {
        strided s = {src, orders[o][0], orders[o][1], orders[o][2]}, back = {out, m * T, T, 1};
        Py_ssize_t first = T / 3, count = T - first, wrong = 0;
        for (int part = 0; part < 4; part++) { /* two parts of the units, two of the examples */
            index_range units = {part % 2 ? n / 2 : 0, part % 2 ? n : n / 2}, of = {part / 2 ? m / 2 : 0, part / 2 ? m : m / 2};
            steps_to_columns(dst, n, s, m, first, count, units, of);
            columns_to_steps(back, dst, n, m, first, count, units, of);
        }
        for (Py_ssize_t u = 0; u < n; u++)
            for (Py_ssize_t j = 0; j < m; j++)
                for (Py_ssize_t t = 0; t < count; t++) {
                    real value = src[u * s.s_unit + j * s.s_example + (first + t) * s.s_step];
                    wrong += dst[(t * m + j) * n + u] != value || out[(u * m + j) * T + first + t] != value;
                }
        CHECK(wrong == 0, "layout %td x %td x %td, order %d", n, m, T, o);
    }
    free(src), free(dst), free(out);
}

static void sums(Py_ssize_t n)
{
    real *z = drawn(n);
    long double exact = 0.0L;
    for (Py_ssize_t u = 0; u < n; u++) exact += z[u] = u == n / 2 ? 1.0 : fabs(z[u]) * 1e-3;
    double error = (double)fabsl(sum_of_lanes(z, n) - exact) / (double)exact;
    CHECK(error <= 4 * EPSILON / 9, "sum of %td values: %.2g", n, error);
    free(z);
}

int main(void)
{
    const Py_ssize_t some[] = {1, 2, 3, 5, 7, 8, 9, 16, 31, 33, 64, 65, 100};
    printf("  vectors of %d values\n", VLEN);
    functions();
    for (int i = 0; i < 13; i++)
        for (int j = 0; j < 13; j += 2) {
            Py_ssize_t n = some[i], K = some[j], m = some[(5 * i + 3 * j) % 13];
            products(n, K, m);
            weight_sets(n, K, m);
            gradients(n, K, m);
            steps_of_cells(n, K, m);
            layouts(n, K, m);
        }
    for (Py_ssize_t K = KC - 1; K <= KC + 1; K++) products(97, K, 13), gradients(7, TRANSPOSE_FROM, K);
    products(97, 2 * KC + 3, 1);
    products(97, 2 * KC + 3, 13); /* several blocks of k, several panels, wide gradients */
    gradients(MC + 5, TRANSPOSE_FROM + 5, 2 * KC + 3);
    products(0, 5, 3), products(5, 0, 3), products(5, 3, 0);
    weight_sets(70, 200, 9);
    gradients(200, 300, 170);
    for (Py_ssize_t n = 1; n < 600; n += 7) sums(n);
#ifdef CYRNN_F32
    compensated_sums();
#endif
    printf("  %d failures\n", failures);
    return failures != 0;
}
