/* One vector of doubles, or with CYRNN_F32 of floats (simd_f32.h), spelled once per instruction set: the only intrinsics
 * in the package.
 *
 *   VLEN                  values in a vector; VREGS vector registers
 *   vec_load, vec_store   VLEN values, any alignment
 *   vec_load_n            the first n values (1 <= n <= VLEN), the others 0, nothing read past n
 *   vec_store_n           the first n values, nothing written past n
 *   vec_fma(a, b, c)      a b + c, rounded once where the machine can, else twice; always the same
 *   vec_transpose         VLEN vectors: the rows of a square become its columns
 *
 * Without a known instruction set a vector is one value and the compiler does what it can.
 */
#ifndef CYRNN_SIMD_H
#define CYRNN_SIMD_H

#include "runtime/real.h"

#if defined(_MSC_VER)
#define ALWAYS_INLINE static __forceinline
#define CACHE_ALIGNED __declspec(align(64))
#if defined(_M_X64)
#include <xmmintrin.h>
#define PREFETCH_WRITE(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define PREFETCH_READ(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define PREFETCH_L2(p) _mm_prefetch((const char *)(p), _MM_HINT_T1)
#else
#define PREFETCH_WRITE(p) ((void)(p))
#define PREFETCH_READ(p) ((void)(p))
#define PREFETCH_L2(p) ((void)(p))
#endif
#else
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define CACHE_ALIGNED __attribute__((aligned(64)))
#define PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#define PREFETCH_READ(p) __builtin_prefetch(p)
#define PREFETCH_L2(p) __builtin_prefetch(p, 0, 2)
#endif

#ifdef CYRNN_F32
#include "simd_f32.h"
#else

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define VLEN 8
#define VREGS 32
typedef __m512d vec;
#define vec_zero _mm512_setzero_pd
#define vec_set1 _mm512_set1_pd
#define vec_load _mm512_loadu_pd
#define vec_store _mm512_storeu_pd
#define vec_fma _mm512_fmadd_pd
#define vec_load_n(p, n) _mm512_maskz_loadu_pd((__mmask8)((1 << (n)) - 1), p)
#define vec_store_n(p, v, n) _mm512_mask_storeu_pd(p, (__mmask8)((1 << (n)) - 1), v)

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec pairs[8], even[4], odd[4];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    /* each 128-bit lane is now two rows of one column; transpose the 4 x 4 lanes */
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 2; i++) {
            even[i] = _mm512_shuffle_f64x2(pairs[4 * i + h], pairs[4 * i + 2 + h], 0x88);
            odd[i] = _mm512_shuffle_f64x2(pairs[4 * i + h], pairs[4 * i + 2 + h], 0xdd);
        }
        r[0 + h] = _mm512_shuffle_f64x2(even[0], even[1], 0x88);
        r[4 + h] = _mm512_shuffle_f64x2(even[0], even[1], 0xdd);
        r[2 + h] = _mm512_shuffle_f64x2(odd[0], odd[1], 0x88);
        r[6 + h] = _mm512_shuffle_f64x2(odd[0], odd[1], 0xdd);
    }
}

#elif defined(__AVX2__) && defined(HAS_FMA)
#include <immintrin.h>
#define VLEN 4
#define VREGS 16
typedef __m256d vec;
#define vec_zero _mm256_setzero_pd
#define vec_set1 _mm256_set1_pd
#define vec_load _mm256_loadu_pd
#define vec_store _mm256_storeu_pd
#define vec_fma _mm256_fmadd_pd

ALWAYS_INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
#define vec_load_n(p, n) _mm256_maskload_pd(p, first_lanes(n))

/* A masked store is microcode on AMD's Zen to Zen 3, 18 operations and more (uops.info). */
ALWAYS_INLINE void vec_store_n(double *p, vec v, int n)
{
    if (n == VLEN) {
        _mm256_storeu_pd(p, v);
        return;
    }
    __m128d half = _mm256_castpd256_pd128(v);
    if (n & 2) {
        _mm_storeu_pd(p, half);
        half = _mm256_extractf128_pd(v, 1);
        p += 2;
    }
    if (n & 1) _mm_store_sd(p, half);
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    vec c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define VLEN 2
#define VREGS 16
typedef __m128d vec;
#define vec_zero _mm_setzero_pd
#define vec_set1 _mm_set1_pd
#define vec_load _mm_loadu_pd
#define vec_store _mm_storeu_pd
#define vec_fma(a, b, c) _mm_add_pd(_mm_mul_pd(a, b), c)
#define vec_load_n(p, n) ((n) == 2 ? _mm_loadu_pd(p) : _mm_load_sd(p))

ALWAYS_INLINE void vec_store_n(double *p, vec v, int n)
{
    if (n == 2) _mm_storeu_pd(p, v);
    else _mm_store_sd(p, v);
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec a = _mm_unpacklo_pd(r[0], r[1]);
    r[1] = _mm_unpackhi_pd(r[0], r[1]);
    r[0] = a;
}

#elif defined(__aarch64__)
#include <arm_neon.h>
#define VLEN 2
#define VREGS 32
typedef float64x2_t vec;
#define vec_zero() vdupq_n_f64(0.0)
#define vec_set1 vdupq_n_f64
#define vec_load vld1q_f64
#define vec_store vst1q_f64
#define vec_fma(a, b, c) vfmaq_f64(c, a, b)
#define vec_load_n(p, n) ((n) == 2 ? vld1q_f64(p) : vcombine_f64(vld1_f64(p), vdup_n_f64(0.0)))

ALWAYS_INLINE void vec_store_n(double *p, vec v, int n)
{
    if (n == 2) vst1q_f64(p, v);
    else vst1_f64(p, vget_low_f64(v));
}

ALWAYS_INLINE void vec_transpose(vec r[VLEN])
{
    vec a = vzip1q_f64(r[0], r[1]);
    r[1] = vzip2q_f64(r[0], r[1]);
    r[0] = a;
}

#else
#define VLEN 1
#define VREGS 16
typedef double vec;
#define vec_zero() 0.0
#define vec_set1(a) (a)
#define vec_load(p) (*(p))
#define vec_store(p, v) (*(p) = (v))
#define vec_fma(a, b, c) ((a) * (b) + (c))
#define vec_load_n(p, n) (*(p))
#define vec_store_n(p, v, n) (*(p) = (v))
#define vec_transpose(r)
#endif

#endif

#endif
