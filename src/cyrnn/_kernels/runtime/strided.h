/* An array of the caller's, (n, m, T_x) in any layout: element (u, j, t) at data[u * s_unit + j * s_example +
 * t * s_step], strides in doubles. */
#ifndef CYRNN_STRIDED_H
#define CYRNN_STRIDED_H

#include <stddef.h>

typedef struct {
    double *data;
    Py_ssize_t s_unit, s_example, s_step;
} strided;

#endif
