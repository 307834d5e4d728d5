"""Blocks of steps between the caller's arrays (n, m, T_x) and the kernels' order (T_x, m, n), the
shape checks of the kernels, and the pieces of a workspace."""


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
    const double *columns_of(
        steps s, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
        double *room, Py_ssize_t *ld,
    )


cdef inline bint whole(const void *data, Py_ssize_t stride0, Py_ssize_t stride1, Py_ssize_t stride2) noexcept nogil:
    """Whether an array can be walked in steps of whole doubles."""
    return (<size_t> data | <size_t> stride0 | <size_t> stride1 | <size_t> stride2) % sizeof(double) == 0


cdef inline bint fits(const double[:, :, :] v, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T) noexcept nogil:
    """Whether a sequence is (n, m, T) and whole."""
    return (
        v.shape[0] == n and v.shape[1] == m and v.shape[2] == T
        and whole(steps_of(v).data, v.strides[0], v.strides[1], v.strides[2])
    )


cdef inline bint fits_state(const double[:, :] v, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """Whether a state is (n, m), or (n, 1) for all examples, and whole."""
    return (
        v.shape[0] == n and (v.shape[1] == m or v.shape[1] == 1)
        and whole(state_of(v).data, v.strides[0], v.strides[1], 0)
    )


cdef inline bint fits_matrix(const double[:, ::1] v, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    return v.shape[0] == rows and v.shape[1] == cols and whole(first(v), 0, 0, 0)


cdef inline steps steps_of(const double[:, :, :] v) noexcept nogil:
    """A sequence (n, m, T), its strides counted in doubles."""
    cdef steps s
    s.data = <double *> &v[0, 0, 0] if v.shape[0] and v.shape[1] and v.shape[2] else NULL
    s.su = v.strides[0] // <Py_ssize_t> sizeof(double)
    s.sj = v.strides[1] // <Py_ssize_t> sizeof(double)
    s.st = v.strides[2] // <Py_ssize_t> sizeof(double)
    return s


cdef inline steps state_of(const double[:, :] v) noexcept nogil:
    """A state (n, m) as one step of a sequence; one column stands for all examples."""
    cdef steps s
    s.data = <double *> &v[0, 0] if v.shape[0] and v.shape[1] else NULL
    s.su = v.strides[0] // <Py_ssize_t> sizeof(double)
    s.sj = v.strides[1] // <Py_ssize_t> sizeof(double) if v.shape[1] > 1 else 0
    s.st = 0
    return s


cdef inline double *first(const double[:, ::1] v) noexcept nogil:
    """The first element of a matrix, which may be empty."""
    return <double *> &v[0, 0] if v.shape[0] and v.shape[1] else NULL


cdef inline Py_ssize_t block_of(Py_ssize_t m, Py_ssize_t T_x) noexcept nogil:
    """Steps that are worked on together: about 256 columns (steps times examples), which is what
    the projection of the inputs wants, in whole cache lines (8 steps) of the caller's arrays."""
    cdef Py_ssize_t block = 256 // max(m, 1) // 8 * 8
    return max(min(max(block, 8), T_x), 1)


cdef inline Py_ssize_t blocks_of(Py_ssize_t m, Py_ssize_t T_x) noexcept nogil:
    """The number of such blocks, the last of which may be shorter; none without examples."""
    cdef Py_ssize_t block = block_of(m, T_x)
    return (T_x + block - 1) // block if m else 0


cdef inline Py_ssize_t take(Py_ssize_t *at, Py_ssize_t count) noexcept nogil:
    """Set aside `count` doubles of a workspace, in whole cache lines; their offset."""
    cdef Py_ssize_t here = at[0]
    at[0] = here + (count + 7) // 8 * 8
    return here


cdef inline double *aligned(double[::1] work) noexcept nogil:
    """The first cache line of a workspace, which has 8 doubles to spare for this."""
    return <double *> ((<size_t> &work[0] + 63) // 64 * 64)


cdef inline Py_ssize_t odd_lines(Py_ssize_t n) noexcept nogil:
    """A row length of at least n; for long rows an odd number of cache lines.  The weight gradients
    read one line of many successive rows: with a power of two between them all would fall in one L1
    set."""
    return ((n + 7) // 8 | 1) * 8 if n >= 64 else n
