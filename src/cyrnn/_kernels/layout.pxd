"""Blocks of steps between the caller's arrays (n, m, T_x) and the kernels' order (T_x, m, n), and
the pieces of a workspace."""


cdef extern from "layout.h" nogil:
    ctypedef struct steps:
        double *data
        Py_ssize_t su
        Py_ssize_t sj
        Py_ssize_t st

    void load_steps(
        double *dst, steps src, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
    )
    void store_steps(
        steps dst, const double *src, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
    )


cdef inline steps steps_of(const double[:, :, :] v) noexcept nogil:
    """The strides of an array (n, m, T_x), counted in doubles."""
    cdef steps s
    s.data = <double *> &v[0, 0, 0] if v.shape[0] and v.shape[1] and v.shape[2] else NULL
    s.su = v.strides[0] // <Py_ssize_t> sizeof(double)
    s.sj = v.strides[1] // <Py_ssize_t> sizeof(double)
    s.st = v.strides[2] // <Py_ssize_t> sizeof(double)
    return s


cdef inline const double *first(const double[:, ::1] v) noexcept nogil:
    """The first element of a matrix, which may be empty."""
    return &v[0, 0] if v.shape[0] and v.shape[1] else NULL


cdef inline Py_ssize_t block_of(Py_ssize_t m, Py_ssize_t T_x) noexcept nogil:
    """Steps that are worked on together: about 256 columns (steps times examples), which is what
    the projection of the inputs wants, in whole cache lines (8 steps) of the caller's arrays."""
    cdef Py_ssize_t block = 256 // m // 8 * 8
    return min(max(block, 8), T_x)


cdef inline Py_ssize_t take(Py_ssize_t *at, Py_ssize_t count) noexcept nogil:
    """Set aside `count` doubles of a workspace, in whole cache lines; their offset."""
    cdef Py_ssize_t here = at[0]
    at[0] = here + (count + 7) // 8 * 8
    return here


cdef inline double *aligned(double[::1] work) noexcept nogil:
    """The first cache line of a workspace, which has 8 doubles to spare for this."""
    return <double *> ((<size_t> &work[0] + 63) // 64 * 64)


cdef inline Py_ssize_t odd_lines(Py_ssize_t n) noexcept nogil:
    """A row length of at least n in an odd number of cache lines.  The weight gradients read one
    line of many successive rows: with a power of two between rows all would fall in one L1 set."""
    return ((n + 7) // 8 | 1) * 8
