/* One vector of floats: the float half of simd.h, which has the names and includes this file. */

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define VLEN 16
#define VREGS 32
typedef __m512 vec;
#define vec_zero _mm512_setzero_ps
#define vec_set1 _mm512_set1_ps
#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_fma _mm512_fmadd_ps
#define vec_load_n(p, n) _mm512_maskz_loadu_ps((__mmask16)((1 << (n)) - 1), p)
#define vec_store_n(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1 << (n)) - 1), v)

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec pairs[16], quads[16], even[4], odd[4];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            __m512d low = _mm512_castps_pd(pairs[i + h]), high = _mm512_castps_pd(pairs[i + 2 + h]);
            quads[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            quads[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    /* lane l of quads[4 i + h] is now rows 4 i ... 4 i + 3 of column 4 l + h; transpose the 4 x 4 lanes of each h */
    for (int h = 0; h < 4; h++) {
        for (int i = 0; i < 2; i++) {
            even[i] = _mm512_shuffle_f32x4(quads[8 * i + h], quads[8 * i + 4 + h], 0x88);
            odd[i] = _mm512_shuffle_f32x4(quads[8 * i + h], quads[8 * i + 4 + h], 0xdd);
        }
        r[0 + h] = _mm512_shuffle_f32x4(even[0], even[1], 0x88);
        r[8 + h] = _mm512_shuffle_f32x4(even[0], even[1], 0xdd);
        r[4 + h] = _mm512_shuffle_f32x4(odd[0], odd[1], 0x88);
        r[12 + h] = _mm512_shuffle_f32x4(odd[0], odd[1], 0xdd);
    }
}

#elif defined(__AVX2__) && defined(HAS_FMA)
#include <immintrin.h>
#define VLEN 8
#define VREGS 16
typedef __m256 vec;
#define vec_zero _mm256_setzero_ps
#define vec_set1 _mm256_set1_ps
#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_fma _mm256_fmadd_ps

ALWAYS_INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#define vec_load_n(p, n) _mm256_maskload_ps(p, first_lanes(n))

/* No masked store, see simd.h. */
ALWAYS_INLINE void vec_store_n(float *p, vec v, int n)
{
    if (n == VLEN) {
        _mm256_storeu_ps(p, v);
        return;
    }
    __m128 part = _mm256_castps256_ps128(v);
    if (n & 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_epi64((__m128i *)p, _mm_castps_si128(part));
        part = _mm_movehl_ps(part, part);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, part);
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec pairs[8], quads[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            quads[i + 2 * h] = _mm256_shuffle_ps(pairs[i + h], pairs[i + 2 + h], 0x44);
            quads[i + 2 * h + 1] = _mm256_shuffle_ps(pairs[i + h], pairs[i + 2 + h], 0xee);
        }
    for (int h = 0; h < 4; h++) {
        r[h] = _mm256_permute2f128_ps(quads[h], quads[4 + h], 0x20);
        r[4 + h] = _mm256_permute2f128_ps(quads[h], quads[4 + h], 0x31);
    }
}

#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define VLEN 4
#define VREGS 16
typedef __m128 vec;
#define vec_zero _mm_setzero_ps
#define vec_set1 _mm_set1_ps
#define vec_load _mm_loadu_ps
#define vec_store _mm_storeu_ps
#define vec_fma(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)

ALWAYS_INLINE vec vec_load_n(const float *p, int n)
{
    if (n == 4) return _mm_loadu_ps(p);
    if (n == 1) return _mm_load_ss(p);
    vec two = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p)); /* of any alignment, unlike _mm_load_sd */
    return n == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(p + 2));
}

ALWAYS_INLINE void vec_store_n(float *p, vec v, int n)
{
    if (n == 4) _mm_storeu_ps(p, v);
    else if (n == 1) _mm_store_ss(p, v);
    else {
        _mm_storel_epi64((__m128i *)p, _mm_castps_si128(v));
        if (n == 3) _mm_store_ss(p + 2, _mm_movehl_ps(v, v));
    }
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN]) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }

#elif defined(__aarch64__)
#include <arm_neon.h>
#define VLEN 4
#define VREGS 32
typedef float32x4_t vec;
#define vec_zero() vdupq_n_f32(0.0f)
#define vec_set1 vdupq_n_f32
#define vec_load vld1q_f32
#define vec_store vst1q_f32
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)

ALWAYS_INLINE vec vec_load_n(const float *p, int n)
{
    if (n == 4) return vld1q_f32(p);
    float32x2_t none = vdup_n_f32(0.0f);
    if (n == 1) return vcombine_f32(vld1_lane_f32(p, none, 0), none);
    return vcombine_f32(vld1_f32(p), n == 2 ? none : vld1_lane_f32(p + 2, none, 0));
}

ALWAYS_INLINE void vec_store_n(float *p, vec v, int n)
{
    if (n == 4) vst1q_f32(p, v);
    else if (n == 1) vst1q_lane_f32(p, v, 0);
    else {
        vst1_f32(p, vget_low_f32(v));
        if (n == 3) vst1q_lane_f32(p + 2, v, 2);
    }
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec a = vzip1q_f32(r[0], r[2]), b = vzip2q_f32(r[0], r[2]);
    vec c = vzip1q_f32(r[1], r[3]), d = vzip2q_f32(r[1], r[3]);
    r[0] = vzip1q_f32(a, c);
    r[1] = vzip2q_f32(a, c);
    r[2] = vzip1q_f32(b, d);
    r[3] = vzip2q_f32(b, d);
}

#else
#define VLEN 1
#define VREGS 16
typedef float vec;
#define vec_zero() 0.0f
#define vec_set1(a) (a)
#define vec_load(p) (*(p))
#define vec_store(p, v) (*(p) = (v))
#define vec_fma(a, b, c) ((a) * (b) + (c))
#define vec_load_n(p, n) (*(p))
#define vec_store_n(p, v, n) (*(p) = (v))
#define vec_transpose(r)
#endif
