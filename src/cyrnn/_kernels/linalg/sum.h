/* Sums that lose nothing: what each addition rounds off is summed beside it.
 *
 * Of exponentials: that loss is exact where the sum is no smaller than what is added (Dekker, Numer. Math. 18, 1971).  No
 * value here is above 1, so a sum that starts at 1 never is smaller, and the 1 comes off exactly at the end.
 * In intrinsics, since a compiler keeps eight such lanes in memory: twice the time.  A product with 1 or -1
 * is exact, so vec_fma adds and subtracts.
 */
#ifndef CYRNN_SUM_H
#define CYRNN_SUM_H

#include <stddef.h>
#include "simd.h"

#define LANES LINE /* in every build of a precision, so that they agree */

/* The sum of z[0] ... z[n - 1], each from 0 to 1, in LANES lanes. */
static inline real sum_of_lanes(const real *z, Py_ssize_t n)
{
    const vec one = vec_set1(1.0), minus_one = vec_set1(-1.0);
    vec sum[LANES / VLEN], lost[LANES / VLEN], next, value;
    real s[LANES], l[LANES], total = 1, rest = 0, after;
    Py_ssize_t u = 0;
    for (int v = 0; v < LANES / VLEN; v++) {
        sum[v] = one;
        lost[v] = vec_zero();
    }
    for (; u + LANES <= n; u += LANES)
        for (int v = 0; v < LANES / VLEN; v++) {
            value = vec_load(z + u + v * VLEN);
            next = vec_fma(value, one, sum[v]);
            value = vec_fma(vec_fma(sum[v], minus_one, next), minus_one, value);
            lost[v] = vec_fma(value, one, lost[v]);
            sum[v] = next;
        }
    for (; u < n; u++) {
        after = total + z[u];
        rest += z[u] - (after - total);
        total = after;
    }
    for (int v = 0; v < LANES / VLEN; v++) {
        vec_store(s + v * VLEN, sum[v]);
        vec_store(l + v * VLEN, lost[v]);
    }
    for (int v = 0; v < LANES; v++) s[v] = (s[v] - 1) + l[v];
    for (int half = LANES / 2; half >= 4; half /= 2)
        for (int v = 0; v < half; v++) s[v] += s[v + half];
    return ((total - 1) + rest) + ((s[0] + s[1]) + (s[2] + s[3]));
}

/* sum += term, value by value; what that rounds off, exactly (Knuth, The Art of Computer Programming 2, 4.2.2), is
 * added to `lost`. */
static inline void add_compensated(real *restrict sum, real *restrict lost, const real *restrict term, Py_ssize_t n)
{
    for (Py_ssize_t u = 0; u < n; u++) {
        const real next = sum[u] + term[u], added = next - sum[u];
        lost[u] += (sum[u] - (next - added)) + (term[u] - added);
        sum[u] = next;
    }
}

#endif
