/* What a typed memoryview holds besides address, shape and strides: the object that exports the memory, and its format. */
#ifndef CYRNN_VIEW_H
#define CYRNN_VIEW_H

/* Whether that object is of exactly this type, and its values are plain doubles, not a field of a structured array. */
#define VIEW_IS_OF(slice, type) ((void *)Py_TYPE((slice).memview->obj) == (type))
#define VIEW_IS_PLAIN(slice, type)                                                                                   \
    (VIEW_IS_OF(slice, type) && (slice).memview->view.format[0] == 'd' && (slice).memview->view.format[1] == 0)

#endif
