/* exp, tanh, sigmoid and log on floats against libm in double, for every argument of a range of bit patterns, and the
 * vectors of floats against plain loops.  tests/portable/float32.py compiles and runs it:
 *
 *     ./a.out vectors                           the vectors
 *     ./a.out functions <first> <last> <step>   the arguments with the bits first, first + step, ... below last
 *     ./a.out switches                          the floats around every place where something changes
 *     ./a.out cycles                            clock ticks per value of each loop (of doubles without CYRNN_F32)
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

/* The loops as the kernels have them; tests/portable.sh checks that they are vectorised. */
void exp_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vexp(x[u]); }
void tanh_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vtanh(x[u]); }
void sigmoid_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vsigmoid(x[u]); }
void log_loop(number *x, Py_ssize_t n) { for (Py_ssize_t u = 0; u < n; u++) x[u] = vlog(x[u]); }

enum { EXP, TANH, SIGMOID, LOG };
static const char *const NAMES[] = {"exp", "tanh", "sigmoid", "log"};
static void (*const LOOPS[])(number *, Py_ssize_t) = {exp_loop, tanh_loop, sigmoid_loop, log_loop};

#ifdef CYRNN_F32
static long failures = 0;

#define CHECK(holds, ...)                                                                      \
    do {                                                                                       \
        if (!(holds) && failures++ < 20) {                                                     \
            printf("failed: " __VA_ARGS__);                                                    \
            printf("\n");                                                                      \
        }                                                                                      \
    } while (0)

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

/* The condition for i = 0 ... n - 1: in vectors at first. */
#define CHECK_EACH(n, holds, ...)                                                              \
    do {                                                                                       \
        int wrong = 0;                                                                         \
        for (int i = 0; i < (n); i++) wrong |= !(holds);                                       \
        for (int i = 0; i < (wrong ? (n) : 0); i++) CHECK(holds, __VA_ARGS__);                 \
    } while (0)

/* n arguments, each bit pattern above the one before. */
static void check_block(const float *given, int n)
{
    static float x[BLOCK], y[BLOCK], again[BLOCK];
    static double exact[BLOCK];
    for (int f = EXP; f <= (given[0] < 0 ? SIGMOID : LOG); f++) {
        memcpy(x, given, (size_t)n * sizeof *x);
        for (int i = 0; i < (f == LOG ? n : 0); i++) /* the promise of vlog: normal positive numbers */
            x[i] = bits_of(x[i]) >> 31 || x[i] < FLT_MIN ? FLT_MIN : x[i] <= FLT_MAX ? x[i] : FLT_MAX;
        memcpy(y, x, (size_t)n * sizeof *y);
        LOOPS[f](y, n);
        CHECK_EACH(n, (x[i] == x[i]) == (y[i] == y[i]), "%s(%a) = %a", NAMES[f], x[i], y[i]);

        int rounded = 1; /* correctly, all of them: nothing to look at */
        for (int i = 0; i < n; i++) exact[i] = EXACT[f](x[i]);
        for (int i = 0; i < n; i++) rounded &= (y[i] == (float)exact[i]) | (x[i] != x[i]);
        for (int i = 0; i < (rounded ? 0 : n); i++) {
            double error = isnan(x[i]) ? 0.0 : ulps(y[i], exact[i]);
            if (!(error <= largest[f].error)) {
                largest[f].error = error;
                largest[f].at = x[i];
            }
            CHECK(error < 2.0, "%s(%a) = %a, %.3f ulp", NAMES[f], x[i], y[i], error);
        }
        if (f == TANH) CHECK_EACH(n, !(fabsf(y[i]) > 1.0f), "tanh(%a) = %a", x[i], y[i]);
        if (f == SIGMOID) CHECK_EACH(n, !(fabsf(y[i] - 0.5f) > 0.5f), "sigmoid(%a) = %a", x[i], y[i]);
        CHECK_EACH(n - 1, (bits_of(given[i]) ^ bits_of(given[i + 1])) >> 31 | (x[i + 1] != x[i + 1])
                              | (bits_of(x[i]) >> 31 ? y[i + 1] <= y[i] : y[i + 1] >= y[i]),
                   "%s is not monotone from %a to %a: %a, %a", NAMES[f], x[i], x[i + 1], y[i], y[i + 1]);
        if (f == TANH) {
            for (int i = 0; i < n; i++) again[i] = -x[i];
            tanh_loop(again, n);
            CHECK_EACH(n, (bits_of(again[i]) == (bits_of(y[i]) ^ 0x80000000u)) | (x[i] != x[i]),
                       "tanh(-%a) = %a, tanh(%a) = %a", x[i], again[i], x[i], y[i]);
        }

        /* As in a pass over a network: the same, or 0 where that is all that is left of the argument or the result. */
        memcpy(again, x, (size_t)n * sizeof *y);
        fp_state before = fp_enter(FP_FLUSH);
        LOOPS[f](again, n);
        fp_leave(before);
        CHECK_EACH(n, (again[i] == y[i]) | (x[i] != x[i]) | ((again[i] == 0.0f) & (fabsf(y[i]) <= FLT_MIN))
                          | ((fabsf(x[i]) < FLT_MIN) & (fabsf(again[i] - y[i]) < 1e-7f)),
                   "%s(%a) is %a, with subnormal numbers flushed %a", NAMES[f], x[i], y[i], again[i]);

        for (int i = 0; i < n; i += 61) { /* the tail of a loop */
            float alone = x[i];
            LOOPS[f](&alone, 1);
            CHECK(isnan(y[i]) ? isnan(alone) : bits_of(alone) == bits_of(y[i]), "%s(%a) = %a, alone %a", NAMES[f],
                  x[i], y[i], alone);
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
    const double places[] = {
        0.0, FLT_MIN, 0x1p-125, 0x1p-63, 0x1p-24, 0x1p-12, 5e-4, 0.625, 0.7071067812, 1.0, 1.414213562, 8.66, 9.0109, 9.02,
        10.0, 16.2895, 16.636, 17.3287, 19.06, 20.0, 87.3365, 88.7228, 89.0, 103.279, 103.9721, 104.0, 0x1p64, 0x1p127, FLT_MAX,
        INFINITY,
    };
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
        for (int i = 0; i < 2 * VLEN; i++) CHECK(got[i] == (i < n ? b[i] : 7.0f), "store_n(%d): [%d] %a", n, i, got[i]);
    }
    vec_store(got, vec_fma(vec_load(a), vec_load(b), vec_load(c)));
    for (int i = 0; i < VLEN; i++) CHECK(got[i] == FMA(a[i], b[i], c[i]), "fma(%a, %a, %a) = %a", a[i], b[i], c[i], got[i]);
    vec_store(got, vec_set1(a[0]));
    vec_store(got + VLEN, vec_zero());
    for (int i = 0; i < VLEN; i++) CHECK(got[i] == a[0] && got[VLEN + i] == 0, "set1, zero: %a, %a", got[i], got[VLEN + i]);
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
