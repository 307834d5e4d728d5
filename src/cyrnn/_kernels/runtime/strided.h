/* An array of the caller's, (n, m, T_x) in any layout: element (u, j, t) at data[u * s_unit + j * s_example +
 * t * s_step], strides in values. */
#ifndef CYRNN_STRIDED_H
#define CYRNN_STRIDED_H

#include <stddef.h>
#include "real.h"

typedef struct {
    real *data;
    Py_ssize_t s_unit, s_example, s_step;
} strided;

/* Indices of the caller's, (m, T_x) in any layout: element (j, t) at data[j * s_example + t * s_step]. */
typedef struct {
    const Py_ssize_t *data;
    Py_ssize_t s_example, s_step;
} indices;

/* An index as it is read: 0 for one out of range, which another thread may have written since all were checked. */
static inline Py_ssize_t safe_index(indices x, Py_ssize_t j, Py_ssize_t t, Py_ssize_t n)
{
    const Py_ssize_t index = x.data[j * x.s_example + t * x.s_step];
    return (size_t)index < (size_t)n ? index : 0;
}

#endif
