/* The precision of a build: every kernel is compiled for double and, with CYRNN_F32 defined, for float.
 *
 * A constant in an expression is one of those below, or cast: `1.0` is a double and makes a double of what it meets.
 */
#ifndef CYRNN_REAL_H
#define CYRNN_REAL_H

#include <float.h>
#include <math.h>

#ifdef CYRNN_F32
typedef float real;
#define REAL_FABS fabsf
#define REAL_SQRT sqrtf
#define REAL_FORMAT 'f' /* of a typed memoryview */
#define REAL_MIN FLT_MIN /* the smallest normal number */
#define REAL_MAX FLT_MAX
#else
typedef double real;
#define REAL_FABS fabs
#define REAL_SQRT sqrt
#define REAL_FORMAT 'd'
#define REAL_MIN DBL_MIN
#define REAL_MAX DBL_MAX
#endif

/* Whether the build has fused multiply-adds: MSVC has no macro of its own for them, /arch:AVX2 brings them. */
#if defined(__FMA__) || defined(__aarch64__) || (defined(_MSC_VER) && defined(__AVX2__))
#define HAS_FMA
#endif
#if defined(_MSC_VER) && !defined(__clang__)
#pragma fp_contract(off) /* before Visual Studio 2022 /fp:precise makes fused multiply-adds of a * b + c */
#endif

#endif
