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
#define REAL_FORMAT 'f'        /* of a typed memoryview */
#define REAL_MIN FLT_MIN       /* the smallest normal number */
#define REAL_MAX FLT_MAX
#define REAL_SQUARE_MAX 1.8e19f /* the square of a number up to here is finite; */
#define REAL_SUM_MIN 1e-30      /* a sum of squares between these has lost nothing to subnormal numbers */
#define REAL_SUM_MAX 1e30
#define REAL_POWER_MIN (-120)  /* 2 to the minus of it is finite */
#define DISTRIBUTION_ERROR 1e-4f /* that probabilities may be away from 0 ... 1, and their sum from 1 */
#else
typedef double real;
#define REAL_FABS fabs
#define REAL_SQRT sqrt
#define REAL_FORMAT 'd'
#define REAL_MIN DBL_MIN
#define REAL_MAX DBL_MAX
#define REAL_SQUARE_MAX 1.3e154
#define REAL_SUM_MIN 1e-280
#define REAL_SUM_MAX 1e280
#define REAL_POWER_MIN (-1000)
#define DISTRIBUTION_ERROR 1e-6
#endif

#endif
