"""A kernel's typed memoryviews as addresses and strides: the checks that the views themselves do not make.

A typed memoryview has checked the number of dimensions, the type and, where it says `::1`, the contiguity.  Here come
the sizes, the alignment, and that the memory is that of a plain numpy.ndarray: a subclass may have values that are
masked, or export other memory than its own.  All of it happens before anything is written.
"""

from libc.stdint cimport int64_t, uintptr_t

from .buffers cimport array_type
from .limits cimport MAX_COLUMNS
from .real cimport real


cdef extern from "runtime/strided.h" nogil:
    ctypedef struct strided:
        # element (u, j, t) of an array (n, m, T_x) is at data[u * s_unit + j * s_example + t * s_step]
        real *data
        Py_ssize_t s_unit
        Py_ssize_t s_example
        Py_ssize_t s_step

    ctypedef struct indices:
        # element (j, t) of an array (m, T_x) is at data[j * s_example + t * s_step]
        const Py_ssize_t *data
        Py_ssize_t s_example
        Py_ssize_t s_step

    Py_ssize_t safe_index(indices x, Py_ssize_t j, Py_ssize_t t, Py_ssize_t n)


cdef extern from "runtime/view.h":
    real *data_2 "VIEW_DATA" (const real[:, :] view)
    real *data_2c "VIEW_DATA" (const real[:, ::1] view)
    real *data_3 "VIEW_DATA" (const real[:, :, :] view)
    real *data_3c "VIEW_DATA" (const real[:, :, ::1] view)
    const Py_ssize_t *data_1n "VIEW_INDICES" (const Py_ssize_t[:] view)
    const Py_ssize_t *data_2n "VIEW_INDICES" (const Py_ssize_t[:, :] view)
    bint is_plain_1s "VIEW_IS_OF" (const Py_ssize_t[:] view, void *type)
    bint is_plain_2n "VIEW_IS_OF" (const Py_ssize_t[:, :] view, void *type)
    bint is_plain_1i "VIEW_IS_OF" (const int64_t[::1] view, void *type)
    bint is_plain_2i "VIEW_IS_OF" (const int64_t[:, ::1] view, void *type)
    bint is_plain_1n "VIEW_IS_OF" (const Py_ssize_t[::1] view, void *type)
    bint is_plain_2 "VIEW_IS_PLAIN" (const real[:, :] view, void *type)
    bint is_plain_2c "VIEW_IS_PLAIN" (const real[:, ::1] view, void *type)
    bint is_plain_3 "VIEW_IS_PLAIN" (const real[:, :, :] view, void *type)
    bint is_plain_3c "VIEW_IS_PLAIN" (const real[:, :, ::1] view, void *type)


cdef enum:
    SIZE = sizeof(real)


cdef inline int refuse() except -1:
    raise ValueError("the shapes do not fit, or an array is not a plain, aligned one")


cdef inline const real *matrix(
    const real[:, ::1] view, Py_ssize_t rows, Py_ssize_t columns,
) except? NULL:
    """The address of a matrix of exactly this shape."""
    if view.shape[0] != rows or view.shape[1] != columns or <uintptr_t> data_2c(view) % sizeof(real):
        refuse()
    if not is_plain_2c(view, array_type):
        refuse()
    return data_2c(view)


cdef inline const real *cube(
    const real[:, :, ::1] view, Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t n2,
) except? NULL:
    """The address of an array of exactly this shape."""
    if view.shape[0] != n0 or view.shape[1] != n1 or view.shape[2] != n2 or <uintptr_t> data_3c(view) % sizeof(real):
        refuse()
    if not is_plain_3c(view, array_type):
        refuse()
    return data_3c(view)


cdef inline int sequence(
    const real[:, :, :] view, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T, strided *out,
) except -1:
    """A sequence (n, m, T) of any strides."""
    cdef uintptr_t bits = <uintptr_t> data_3(view) | view.strides[0] | view.strides[1] | view.strides[2]
    if view.shape[0] != n or view.shape[1] != m or view.shape[2] != T or bits % sizeof(real):
        refuse()
    if <double> m * <double> T > MAX_COLUMNS or not is_plain_3(view, array_type):
        refuse()
    out.data = <real *> data_3(view)
    out.s_unit, out.s_example, out.s_step = view.strides[0] // SIZE, view.strides[1] // SIZE, view.strides[2] // SIZE
    return 0


cdef inline int state(
    const real[:, :] view, Py_ssize_t n, Py_ssize_t m, bint one_for_all, strided *out,
) except -1:
    """A state (n, m) of any strides; (n, 1) may stand for all examples if that is allowed."""
    cdef uintptr_t bits = <uintptr_t> data_2(view) | view.strides[0] | view.strides[1]
    if view.shape[0] != n or (view.shape[1] != m and not (one_for_all and view.shape[1] == 1)):
        refuse()
    if bits % sizeof(real) or m > MAX_COLUMNS or not is_plain_2(view, array_type):
        refuse()
    out.data = <real *> data_2(view)
    out.s_unit, out.s_step = view.strides[0] // SIZE, 0
    out.s_example = view.strides[1] // SIZE if view.shape[1] > 1 else 0
    return 0


cdef inline int check_indices(
    const indices *x, Py_ssize_t n_x, Py_ssize_t m,
    const Py_ssize_t *lengths,          # IN  (m); NULL if every example has all steps
    Py_ssize_t T_x,
) except -1:
    """Refuse an index that is not from 0 to n_x - 1, within the lengths and the first T_x steps."""
    cdef size_t outside = 0, index, last = <size_t> (n_x - 1)   # unsigned: arithmetic out of range may wrap around
    cdef Py_ssize_t j, t, steps
    if n_x < 0:
        refuse()
    for j in range(m):
        steps = T_x if lengths == NULL else min(lengths[j], T_x)
        for t in range(steps):          # by the sign bits, as `lengths.copy`
            index = <size_t> x.data[j * x.s_example + t * x.s_step]
            outside |= index | last - index
    if outside >> (8 * sizeof(size_t) - 1):
        raise ValueError("an index is out of range")
    return 0


cdef inline int index_sequence(
    const Py_ssize_t[:, :] view, Py_ssize_t n_x, Py_ssize_t m, Py_ssize_t T,
    const Py_ssize_t *lengths,          # IN  (m); NULL if every example has all steps
    Py_ssize_t T_x,                     # of the T steps those that are read
    indices *out,
) except -1:
    """Indices (m, T) of any strides, each from 0 to n_x - 1."""
    cdef Py_ssize_t size = sizeof(Py_ssize_t)
    cdef uintptr_t bits = <uintptr_t> data_2n(view) | view.strides[0] | view.strides[1]
    if view.shape[0] != m or view.shape[1] != T or bits % sizeof(Py_ssize_t):
        refuse()
    if <double> m * <double> T > MAX_COLUMNS or not is_plain_2n(view, array_type):
        refuse()
    out.data, out.s_example, out.s_step = data_2n(view), view.strides[0] // size, view.strides[1] // size
    return check_indices(out, n_x, m, lengths, T_x)


cdef inline int index_state(const Py_ssize_t[:] view, Py_ssize_t n_x, Py_ssize_t m, indices *out) except -1:
    """Indices (m) of any stride, each from 0 to n_x - 1."""
    cdef uintptr_t bits = <uintptr_t> data_1n(view) | view.strides[0]
    if view.shape[0] != m or bits % sizeof(Py_ssize_t) or m > MAX_COLUMNS or not is_plain_1s(view, array_type):
        refuse()
    out.data, out.s_example, out.s_step = data_1n(view), view.strides[0] // <Py_ssize_t> sizeof(Py_ssize_t), 0
    return check_indices(out, n_x, m, NULL, 1)


cdef inline real *new_matrix(real[:, ::1] view) noexcept:
    """The address of an array of ours."""
    return data_2c(view)


cdef inline real *new_cube(real[:, :, ::1] view) noexcept:
    """The address of an array of ours."""
    return data_3c(view)


cdef inline strided new_state(real[:, ::1] view) noexcept:
    """A state (n, m) of ours as one step of a sequence."""
    cdef strided out
    out.data, out.s_unit, out.s_example, out.s_step = data_2c(view), view.shape[1], 1, 1
    return out


cdef inline strided new_sequence(real[:, :, ::1] view) noexcept:
    """A sequence (n, m, T_x) of ours."""
    cdef strided out
    out.data, out.s_unit, out.s_example, out.s_step = data_3c(view), view.shape[1] * view.shape[2], view.shape[2], 1
    return out


cdef inline int as_columns_view(
    const real[:, :, :] view, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x, strided *out,
) except -1:
    """A C-contiguous sequence, or one step of any strides, as a matrix of units by columns (the m T_x examples and
    steps), for what does not depend on the steps (losses, the output layer): nothing is transposed."""
    sequence(view, n, m, T_x, out)
    if T_x == 1:
        return 0
    if n and m and T_x and not (
        out.s_step == 1 and (out.s_example == T_x or m == 1) and (out.s_unit == m * T_x or n == 1)
    ):
        refuse()
    out.s_unit, out.s_example = m * T_x, 1
    return 0


cdef inline Py_ssize_t column_copy(strided s, Py_ssize_t n, Py_ssize_t columns) noexcept nogil:
    """The values that a C-contiguous copy of such a matrix takes: none where it is C-contiguous itself."""
    return 0 if (s.s_example == 1 or columns <= 1) and (s.s_unit == columns or n <= 1) else n * columns
