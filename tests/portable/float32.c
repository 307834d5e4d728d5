/* exp, tanh, sigmoid and log on floats against libm in double, for every argument of a range of bit patterns, and the
 * vectors of floats against plain loops.  tests/portable/float32.py compiles and runs it:
 *
 *     ./a.out vectors                       the vectors
 *     ./a.out functions <first> <last> <step>   the arguments with the bits first, first + step, ... below last
 *     ./a.out switches                      the floats around every place where something changes
 *     ./a.out cycles                        clock ticks per value of each loop
 *
 * Double is exact to 2^-28 ulp of float here.  Prints what failed and each function's largest error.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
typedef ptrdiff_t Py_ssize_t;
#include "linalg/simd.h"
#include "linalg/vmath.h"
#include "runtime/fpenv.h"

#ifdef CYRNN_F32
typedef float number;
#else
typedef double number; /* for the cycles alone */
#endif

static long failures = 0;

#define CHECK(holds, ...)                                                                      \
    do {                                                                                       \
        if (!(holds) && failures++ < 20) {                                                     \
            printf("failed: " __VA_ARGS__);                                                    \
            printf("\n");                                                                      \
        }                                                                                      \
    } while (0)

/* The loops as the kernels have them; tests/portable.sh checks that they are vectorised. */
void exp_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vexp(x[u]); }
void tanh_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vtanh(x[u]); }
void sigmoid_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vsigmoid(x[u]); }
void log_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vlog(x[u]); }

enum { EXP, TANH, SIGMOID, LOG };
static const char *const NAMES[] = {"exp", "tanh", "sigmoid", "log"};
static void (*const LOOPS[])(number *, Py_ssize_t) = {exp_loop, tanh_loop, sigmoid_loop, log_loop};

#ifdef CYRNN_F32
static double sigmoid_exact(double x)
{
    double e = exp(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}
static double (*const EXACT[])(double) = {exp, tanh, sigmoid_exact, log};

/* |got - exact| in units of float's last place; an infinite value counts as 2^128. */
static double ulps(float got, double exact)
{
    uint64_t bits;
    double ulp, y = got;
    int exponent;
    if (got == (float)exact) y = isinf(got) ? exact : y;
    else if (isinf(got)) y = copysign(0x1p128, got);
    memcpy(&bits, &exact, sizeof bits);
    exponent = (int)(bits >> 52 & 2047) - 1023;
    bits = (uint64_t)(exponent < FLT_MIN_EXP - 1 ? 1023 + 23 - FLT_MIN_EXP + 1 : 1023 + 23 - exponent) << 52;
    memcpy(&ulp, &bits, sizeof ulp);
    return isinf(exact) && isinf(got) ? 0.0 : fabs(y - exact) * ulp;
}

static struct {
    double error;
    float at;
} largest[4];

enum { BLOCK = 4096 };

/* n arguments, each bit pattern above the one before. */
static void check_block(const float *x, int n)
{
    static float y[BLOCK], again[BLOCK];
    for (int f = EXP; f <= LOG; f++) {
        memcpy(y, x, (size_t)n * sizeof *y);
        LOOPS[f](y, n);
        for (int i = 0; i < n; i++) {
            if (f == LOG && !(x[i] >= FLT_MIN && x[i] <= FLT_MAX)) continue; /* the promise of vlog */
            if (isnan(x[i])) {
                CHECK(isnan(y[i]), "%s(NaN) = %a", NAMES[f], y[i]);
                continue;
            }
            double error = ulps(y[i], EXACT[f](x[i]));
            if (!(error <= largest[f].error)) {
                largest[f].error = error;
                largest[f].at = x[i];
            }
            CHECK(error < 2.0, "%s(%a) = %a, %.3f ulp", NAMES[f], x[i], y[i], error);
            if (f == TANH) CHECK(fabsf(y[i]) <= 1.0f, "tanh(%a) = %a", x[i], y[i]);
            if (f == SIGMOID) CHECK(y[i] >= 0.0f && y[i] <= 1.0f, "sigmoid(%a) = %a", x[i], y[i]);
            if (i && signbit(x[i]) == signbit(x[i - 1]) && (f != LOG || x[i - 1] >= FLT_MIN))
                CHECK(signbit(x[i]) && f != LOG ? y[i] <= y[i - 1] : y[i] >= y[i - 1],
                      "%s is not monotone from %a to %a: %a, %a", NAMES[f], x[i - 1], x[i], y[i - 1], y[i]);
        }
        if (f == TANH) {
            for (int i = 0; i < n; i++) again[i] = -x[i];
            tanh_loop(again, n);
            for (int i = 0; i < n; i++)
                CHECK(isnan(x[i]) || bits_of(again[i]) == (bits_of(y[i]) ^ 0x80000000u), "tanh(-%a) = %a", x[i], again[i]);
        }
        if (f != LOG) { /* as in a pass over a network: either the same, or 0 where that is all that is left */
            memcpy(again, x, (size_t)n * sizeof *y);
            fp_state before = fp_enter(FP_FLUSH);
            LOOPS[f](again, n);
            fp_leave(before);
            for (int i = 0; i < n; i++) {
                int argument = fabsf(x[i]) < FLT_MIN, flushed = again[i] == 0.0f && fabsf(y[i]) <= FLT_MIN;
                CHECK(isnan(x[i]) || again[i] == y[i] || flushed || (argument && f != TANH && ulps(again[i], y[i]) < 1.0),
                      "%s(%a) is %a, with subnormal numbers flushed %a", NAMES[f], x[i], y[i], again[i]);
            }
        }
        for (int i = 0; i < n; i += 61) { /* the tail of a loop */
            float alone = x[i];
            LOOPS[f](&alone, 1);
            CHECK(isnan(y[i]) ? isnan(alone) : bits_of(alone) == bits_of(y[i]), "%s(%a) = %a, alone %a", NAMES[f], x[i], y[i],
                  alone);
        }
    }
}

static void check_range(uint64_t first, uint64_t last, uint64_t step)
{
    static float x[BLOCK];
    int n = 0;
    if (first) x[n++] = float_of((uint32_t)(first - 1)); /* its neighbour in another range */
    for (uint64_t bits = first; bits < last; bits += step) {
        x[n++] = float_of((uint32_t)bits);
        if (n == BLOCK) {
            check_block(x, n);
            x[0] = x[n - 1];
            n = 1;
        }
    }
    check_block(x, n);
}

static void around(double at)
{
    uint32_t bits = bits_of((float)at), low = bits & 0x7fffffffu;
    uint32_t below = low < 300 ? low : 300;
    check_range(bits - below, (uint64_t)bits + 300, 1);
}

static void check_switches(void)
{
    const double places[] = {0.0,    FLT_MIN, 0.625,   8.66,     9.0109,    9.02,     10.0,     16.2895, 16.636,  17.3287,
                             19.06,  20.0,    87.3365, 88.7228,  89.0,      103.279,  103.9721, 104.0,   FLT_MAX, 1.0,
                             0x1p-12, 0x1p-24, 0x1p64, 1.414213562, 0.7071067812, 0x1p127, 0x1p-125, 5e-4, INFINITY, 0x1p-63};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) around(places[i]), around(-places[i]);
    for (int k = -151; k <= 151; k++) around(0.693147180559945 * (k + 0.5)), around(0.346573590279973 * (k + 0.5));
    for (int k = -126; k < 128; k++) around(ldexp(1.0, k)), around(ldexp(1.414213562, k)), around(-ldexp(1.0, k));
}

static void check_vectors(void)
{
    float a[VLEN], b[VLEN], c[VLEN], got[2 * VLEN], square[VLEN][VLEN];
    vec rows[VLEN];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE)) exit(3);
    for (int i = 0; i < VLEN; i++) a[i] = sinf((float)i + 1), b[i] = cosf((float)i + 1), c[i] = tanf((float)i + 1);
    for (int n = 1; n <= VLEN; n++) { /* the page behind the values may be neither read nor written */
        float *edge = (float *)(pages + page) - n;
        memcpy(edge, a, (size_t)n * sizeof *edge);
        vec_store(got, vec_load_n(edge, n));
        for (int i = 0; i < VLEN; i++) CHECK(got[i] == (i < n ? a[i] : 0.0f), "load_n(%d): [%d] = %a", n, i, got[i]);
        vec_store_n(edge, vec_load(b), n);
        CHECK(memcmp(edge, b, (size_t)n * sizeof *edge) == 0, "store_n(%d)", n);
        for (int i = 0; i < 2 * VLEN; i++) got[i] = 7.0f;
        vec_store_n(got, vec_load(b), n);
        for (int i = 0; i < 2 * VLEN; i++) CHECK(got[i] == (i < n ? b[i] : 7.0f), "store_n(%d): [%d] = %a", n, i, got[i]);
    }
    vec_store(got, vec_fma(vec_load(a), vec_load(b), vec_load(c)));
    for (int i = 0; i < VLEN; i++) CHECK(got[i] == FMA(a[i], b[i], c[i]), "fma: %a, not %a", got[i], FMA(a[i], b[i], c[i]));
    vec_store(got, vec_set1(a[0]));
    vec_store(got + VLEN, vec_zero());
    for (int i = 0; i < VLEN; i++) CHECK(got[i] == a[0] && got[VLEN + i] == 0.0f, "set1, zero: %a, %a", got[i], got[VLEN + i]);
    for (int i = 0; i < VLEN; i++) {
        for (int j = 0; j < VLEN; j++) square[i][j] = (float)(i * VLEN + j);
        rows[i] = vec_load(square[i]);
    }
    vec_transpose(rows);
    for (int i = 0; i < VLEN; i++) {
        vec_store(got, rows[i]);
        for (int j = 0; j < VLEN; j++) CHECK(got[j] == square[j][i], "transpose: [%d][%d] = %g", i, j, got[j]);
    }
    printf("vectors of %d floats\n", VLEN);
}
#endif

#if defined(__x86_64__)
#include <x86intrin.h>

static void print_cycles(void)
{
    enum { N = 1024, TIMES = 2000 };
    static number x[N], y[N];
    for (int f = EXP; f <= LOG; f++) {
        for (int i = 0; i < N; i++) x[i] = (number)(f == LOG ? 0.01 * (i + 1) : 0.01 * (i - N / 2));
        unsigned long long least = ~0ull;
        for (int r = 0; r < TIMES; r++) {
            memcpy(y, x, sizeof y);
            unsigned long long before = __rdtsc();
            LOOPS[f](y, N);
            unsigned long long took = __rdtsc() - before;
            if (took < least) least = took;
        }
        printf("%-8s %.3f ticks\n", NAMES[f], (double)least / N);
    }
}
#endif

int main(int count, char **words)
{
#if defined(__x86_64__)
    if (count == 2 && !strcmp(words[1], "cycles")) return print_cycles(), 0;
#endif
#ifdef CYRNN_F32
    if (count == 2 && !strcmp(words[1], "vectors")) return check_vectors(), failures != 0;
    if (count == 2 && !strcmp(words[1], "switches")) check_switches();
    else if (count == 5 && !strcmp(words[1], "functions"))
        check_range(strtoull(words[2], NULL, 0), strtoull(words[3], NULL, 0), strtoull(words[4], NULL, 0));
    else return 2;
    for (int f = EXP; f <= LOG; f++) printf("%s %.4f %a\n", NAMES[f], largest[f].error, largest[f].at);
    if (failures > 20) printf("failed: %ld in all\n", failures);
    return failures != 0;
#else
    return 2;
#endif
}
