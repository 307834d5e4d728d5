/* What a typed memoryview holds besides shape and strides: the address, the object that exports the memory, its format. */
#ifndef CYRNN_VIEW_H
#define CYRNN_VIEW_H

#include "real.h"

/* The address of the first value; of an empty array too, which a bounds check would refuse. */
#define VIEW_DATA(slice) ((real *)(slice).data)
#define VIEW_INDICES(slice) ((const Py_ssize_t *)(slice).data)

/* Whether that object is of exactly this type, and its values are plain numbers, not a field of a structured array. */
#define VIEW_IS_OF(slice, type) ((void *)Py_TYPE((slice).memview->obj) == (type))
#define VIEW_IS_PLAIN(slice, type)                                                                                   \
    (VIEW_IS_OF(slice, type) && (slice).memview->view.format[0] == REAL_FORMAT && (slice).memview->view.format[1] == 0)

#endif
