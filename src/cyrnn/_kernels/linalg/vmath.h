/* exp, tanh, sigmoid and log on doubles, or with CYRNN_F32 on floats (vmath_f32.h), written so that a loop over them
 * vectorises.  Here the doubles:
 *
 * 1. One core: x = k ln 2 + r with |r| <= ln(2)/2 and expm1(r) = r + r^2 (1/2 + r s(r)), where s
 *    is the near-minimax polynomial of degree 9 (Chebyshev interpolation in 40 digits, relative
 *    error of expm1 below 1e-18; docs/numerics.md shows how to compute it again).
 * 2. k is rounded by adding 1.5 * 2^52; 2^k is put together from the low bits of that sum.  No
 *    branch, no table, no library call: even SSE2 can do it.
 * 3. ln 2 is split in two, the first part with 32 trailing zero bits, so that k * LN2_HI is exact
 *    (Cody and Waite 1980; the constants of fdlibm's e_exp.c).
 * 4. Every fused multiply-add is spelled FMA, and the files are compiled with -ffp-contract=off:
 *    a value is the same in the vector body and in the tail of a loop.  Without FMA in the
 *    instruction set it is a product and a sum.
 *
 * Measured (docs/numerics.md has the table): below 2 ulp everywhere in every build.
 * Rejected: tanh = e / (e + 2) with e = expm1(2x), 20% faster but 2.5 ulp at |x| = 0.22; sigmoid
 * by tanh, which loses all relative accuracy for x << 0.
 */
#ifndef CYRNN_VMATH_H
#define CYRNN_VMATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "runtime/real.h"

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "arithmetic must be done in its own type: compile with -msse2 -mfpmath=sse"
#endif

#ifdef CYRNN_F32
#include "vmath_f32.h"
#else

#ifdef HAS_FMA
#define FMA(a, b, c) fma(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

#define LOG2_E 1.44269504088896338700e+00
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#define ROUND_MAGIC 6755399441055744.0 /* 1.5 * 2^52 */

/* 2^(k + shift) for the integer k in the low bits of k + ROUND_MAGIC; must be a normal number. */
static inline double pow2_of(double k_plus_magic, int shift)
{
    uint64_t bits;
    double out;
    memcpy(&bits, &k_plus_magic, sizeof bits);
    bits = (bits + (uint64_t)(1023 + shift)) << 52;
    memcpy(&out, &bits, sizeof out);
    return out;
}

/* expm1(x - k ln 2) for the integer k nearest to x / ln 2. */
static inline double expm1_reduced(double x, double k)
{
    double r, s;
    r = FMA(-k, LN2_HI, x);
    r = FMA(-k, LN2_LO, r);
    s = 2.09112987659402e-09;
    s = FMA(s, r, 2.5100472505694996e-08);
    s = FMA(s, r, 2.7557282838800484e-07);
    s = FMA(s, r, 2.7557268276905696e-06);
    s = FMA(s, r, 2.4801587317228724e-05);
    s = FMA(s, r, 0.00019841269863171557);
    s = FMA(s, r, 0.0013888888888886537);
    s = FMA(s, r, 0.008333333333330039);
    s = FMA(s, r, 0.041666666666666664);
    s = FMA(s, r, 0.16666666666666669);
    s = FMA(s, r, 0.5);
    return FMA(r * r, s, r);
}

/* exp(x).  2^k is applied in two halves, so that a subnormal result is rounded once and a large
 * one does not overflow on the way. */
static inline double vexp(double x)
{
    double k, half, p;
    x = x < -746.0 ? -746.0 : x; /* exp is 0 below, infinite above; NaN passes both */
    x = x > 710.0 ? 710.0 : x;
    k = FMA(x, LOG2_E, ROUND_MAGIC) - ROUND_MAGIC;
    p = 1.0 + expm1_reduced(x, k);
    half = FMA(k, 0.5, ROUND_MAGIC);
    return p * pow2_of(half, 0) * pow2_of(k - (half - ROUND_MAGIC) + ROUND_MAGIC, 0);
}

/* tanh(x).  |x| < 0.625: x + x z P(z) / Q(z) with z = x^2, the rational form and coefficients of
 * Cephes (S. L. Moshier, ndouble/tanh.c).  Else 1 - 2 / (exp(2|x|) + 1).  Either way a small term
 * is added to an exact one and there is one division; past 22 the result rounds to 1. */
static inline double vtanh(double x)
{
    double a = fabs(x), z = a * a, y, t, scale, p, num, den;
    y = 2.0 * a;
    y = y > 44.0 ? 44.0 : y;
    t = FMA(y, LOG2_E, ROUND_MAGIC);
    scale = pow2_of(t, 0);
    p = expm1_reduced(y, t - ROUND_MAGIC);
    num = FMA(FMA(-9.64399179425052238628e-1, z, -9.92877231001918586564e1), z,
              -1.61468768441708447952e3);
    den = FMA(FMA(z + 1.12811678491632931402e2, z, 2.23548839060100448583e3), z,
              4.84406305325125486048e3);
    num = a < 0.625 ? a * z * num : -2.0;
    den = a < 0.625 ? den : FMA(scale, p, 1.0 + scale);
    return copysign((a < 0.625 ? a : 1.0) + num / den, x);
}

/* sigmoid(x) = 1 / (1 + exp(-x)).  With exp(-x) = (1 + p) / n, n = 2^-k, it is n / (n + 1 + p):
 * no overflow for large -x.  n is carried as 2^64 n, so that it is a normal number where sigmoid
 * is subnormal, and 1 + n as a sum of two, since 1 + 2^-53 alone would lose half an ulp. */
static inline double vsigmoid(double x)
{
    double t, p, n, one_n, rest;
    x = x < -746.0 ? -746.0 : x; /* sigmoid is 0 below, 1 above; NaN passes both */
    x = x > 40.0 ? 40.0 : x;
    t = FMA(x, LOG2_E, ROUND_MAGIC);
    p = expm1_reduced(-x, ROUND_MAGIC - t);
    n = pow2_of(t, 64);
    one_n = FMA(n, 0x1p-64, 1.0);
    rest = FMA(n, 0x1p-64, 1.0 - one_n);
    return n / (one_n + (rest + p)) * 0x1p-64;
}

/* log(x) of a normal positive number.  x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and
 * log(1 + f) = f - (h - s (h + R(s^2))), s = f / (2 + f), h = f^2 / 2: the form and coefficients of fdlibm's
 * e_log.c.  k comes out of the bits as 1024 + k, so that no shift is signed. */
static inline double vlog(double x)
{
    uint64_t bits, power;
    double k, f, s, z, w, h, odd, even;
    memcpy(&bits, &x, sizeof bits);
    power = (bits - 0x3fe6a09e667f3bcdu + ((uint64_t)1024 << 52)) >> 52;
    bits -= (power - 1024) << 52;
    memcpy(&f, &bits, sizeof f);
    power |= 0x4330000000000000u; /* 2^52 + 1024 + k */
    memcpy(&k, &power, sizeof k);
    k -= 0x1p52 + 1024;
    f -= 1.0;
    s = f / (2.0 + f);
    z = s * s;
    w = z * z;
    h = 0.5 * f * f;
    even = FMA(FMA(1.531383769920937332e-01, w, 2.222219843214978396e-01), w, 3.999999999940941908e-01);
    odd = FMA(FMA(FMA(1.479819860511658591e-01, w, 1.818357216161805012e-01), w, 2.857142874366239149e-01), w,
              6.666666666666735130e-01);
    odd = FMA(even, w, odd * z); /* R */
    return k * LN2_HI - ((h - FMA(s, h + odd, k * LN2_LO)) - f);
}

#endif

#endif
