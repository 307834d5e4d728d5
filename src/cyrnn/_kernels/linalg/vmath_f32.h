/* exp, tanh, sigmoid and log on floats: the float half of vmath.h, which says how it is done and includes this file.
 *
 * What differs:
 * 1. Degrees: expm1(r) = r + r^2 s(r) with s of degree 4 (minimax, error below 4e-9).  docs/numerics.md shows how to
 *    compute every polynomial again.
 * 2. k is rounded by adding 1.5 * 2^23 and an exponent's bias: the low bits of that sum, shifted, are 2^k.
 * 3. LN2_HI has 15 bits, so that k * LN2_HI is exact without FMA.
 * 4. P alone where the doubles have P / Q: four or eight coefficients are enough.
 *
 * Measured over all 2^32 arguments (tests/portable/float32.py): below 1.8 ulp in every build.
 */
#ifdef HAS_FMA
#define FMA(a, b, c) fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

#define LOG2_E 1.44269504f
#define LN2_HI 0x1.62e4p-1f
#define LN2_LO 0x1.7f7d1cp-20f
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23 */

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The smaller of x and a positive limit, for NaN either: one instruction.  A condition on floats is two, a comparison
 * and a selection (gcc 12 makes no minimum of it): a fifth of the time of exp. */
static inline float at_most(float x, float limit)
{
    int32_t a = (int32_t)bits_of(x), b = (int32_t)bits_of(limit);
    return float_of((uint32_t)(a < b ? a : b));
}

/* expm1(r) for |r| <= ln(2)/2. */
static inline float expm1_near_0(float r)
{
    float s = 0.0013950596f;
    s = FMA(s, r, 0.008368953f);
    s = FMA(s, r, 0.041666206f);
    s = FMA(s, r, 0.16666518f);
    s = FMA(s, r, 0.5f);
    return FMA(r * r, s, r);
}

/* expm1(x - k ln 2) for the integer k nearest to x / ln 2. */
static inline float expm1_reduced(float x, float k)
{
    return expm1_near_0(FMA(-k, LN2_LO, FMA(-k, LN2_HI, x)));
}

/* exp(x).  2^k is applied in two halves, so that a subnormal result is rounded once and a large one does not overflow
 * on the way: the low bits of t are 2 * 127 + k, and half of that is the one exponent, the rest the other.  From
 * k = 128 on r grows instead of k, and the result is infinite. */
static inline float vexp(float x)
{
    float t, p;
    uint32_t half;
    x = x < -104.0f ? -104.0f : x; /* exp is 0 below; NaN passes */
    t = at_most(FMA(x, LOG2_E, ROUND_MAGIC + 2 * 127), ROUND_MAGIC + 2 * 127 + 128);
    p = 1.0f + expm1_reduced(x, t - (ROUND_MAGIC + 2 * 127));
    half = (bits_of(t) << 22) & 0x7f800000u;
    return p * float_of(half) * float_of((bits_of(t) << 23) - half);
}

/* tanh(x).  |x| < 0.625: x + x z P(z) with z = x^2, P minimax.  Else 1 - 2 / (exp(2|x|) + 1), where k ln 2 may be
 * rounded: what counts is exact for the first k, and for the others the small term takes no harm.  Either way a small
 * term is added to an exact one; past 9.02 the result rounds to 1.  NaN takes the first
 * way. */
static inline float vtanh(float x)
{
    float a = fabsf(x), z = x * x, y, t, scale, p, far;
    y = 2.0f * at_most(a, 10.0f);
    t = FMA(y, LOG2_E, ROUND_MAGIC + 127);
    scale = float_of(bits_of(t) << 23);
    p = expm1_near_0(FMA(ROUND_MAGIC + 127 - t, LN2_HI + LN2_LO, y));
    far = 1.0f - 2.0f / FMA(scale, p, 1.0f + scale);
    p = -0.0057049845f;
    p = FMA(p, z, 0.020639084f);
    p = FMA(p, z, -0.053739715f);
    p = FMA(p, z, 0.13331442f);
    p = FMA(p, z, -0.3333328f);
    return copysignf(a >= 0.625f ? far : FMA(a * z, p, a), x);
}

/* sigmoid(x) = 1 / (1 + exp(-x)).  exp(-x) = s (1 + p), s = 2^k.  s and the 1 are carried times 2^-64, so that nothing
 * overflows and the division rounds a subnormal result once; 1 + s is a sum of two, since 2^24 + 1 alone would lose
 * half an ulp.  From k = 150 on r grows instead of k, and the result is 0. */
static inline float vsigmoid(float x)
{
    const float one = 0x1p-64f;
    float t, p, s, one_s, rest;
    x = x > 20.0f ? 20.0f : x; /* sigmoid is 1 above; NaN passes */
    t = at_most(FMA(-x, LOG2_E, ROUND_MAGIC + (127 - 64)), ROUND_MAGIC + (127 - 64) + 150);
    s = float_of(bits_of(t) << 23);
    p = expm1_reduced(-x, t - (ROUND_MAGIC + (127 - 64)));
    one_s = s + one;
    rest = one - (one_s - s);
    return one / (one_s + FMA(s, p, rest));
}

/* log(x) of a normal positive number.  x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and
 * log(1 + f) = f - f^2 / 2 + f^3 P(f), P minimax.  k comes out of the bits as 128 + k, so that no shift is signed. */
static inline float vlog(float x)
{
    uint32_t bits = bits_of(x), power;
    float k, f, z, p;
    power = (bits - 0x3f3504f3u + (128u << 23)) >> 23;
    f = float_of(bits - ((power - 128u) << 23)) - 1.0f;
    k = float_of(power | 0x4b000000u) - (0x1p23f + 128.0f); /* 2^23 + 128 + k */
    z = f * f;
    p = -0.07634486f;
    p = FMA(p, f, 0.12761565f);
    p = FMA(p, f, -0.13160181f);
    p = FMA(p, f, 0.1420176f);
    p = FMA(p, f, -0.16623358f);
    p = FMA(p, f, 0.20001227f);
    p = FMA(p, f, -0.2500082f);
    p = FMA(p, f, 0.3333333f);
    p = FMA(f * z, p, k * LN2_LO);
    p = FMA(-0.5f, z, p);
    return FMA(k, LN2_HI, f + p);
}
