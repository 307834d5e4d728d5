"""Blocks of steps between the caller's arrays (n, m, T_x) and the kernels' order (T_x, m, n), the
shape checks of the kernels, and the pieces of a workspace."""

from .team cimport span


cdef extern from "layout.h" nogil:
    ctypedef struct steps:
        double *data
        Py_ssize_t su
        Py_ssize_t sj
        Py_ssize_t st

    void transpose(
        double *dst, Py_ssize_t ldd, const double *src, Py_ssize_t lds, Py_ssize_t rows, Py_ssize_t cols,
    )
    void load_steps(
        double *dst, Py_ssize_t ld, steps src, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count, span mine,
        span of,
    )
    void store_steps(
        steps dst, const double *src, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count, span mine,
        span of,
    )
    const double *columns_of(
        steps s, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
        double *room, Py_ssize_t *ld, span mine, span of,
    )
    const double *flat_of(steps s, Py_ssize_t n, Py_ssize_t m, double *room)


cdef inline Py_ssize_t block_of(
    Py_ssize_t m, Py_ssize_t T_x, double column, double returned, Py_ssize_t columns,
) noexcept nogil:
    """The most steps that are worked on together: about 256 columns (steps times examples), which is what the
    products want, and at least 24 steps, three cache lines of the caller's arrays; and 7 more, so that the last
    block can take what is less than a line.  But the scratch, so many doubles a column, shall stay below a quarter
    of the doubles returned as long as so many columns are left."""
    cdef Py_ssize_t most = max(256 // max(m, 1), 24) + 7, least = max(columns // max(m, 1), 1)
    cdef double fit = 0.25 * returned / (column * max(m, 1) + 1.0)
    return min(most if fit > most else max(<Py_ssize_t> fit, least), max(T_x, 1))


cdef inline Py_ssize_t whole_lines(Py_ssize_t steps) noexcept nogil:
    """So many steps, but for a few that would leave a cache line unfinished, as long as there is a whole one."""
    return steps // 8 * 8 if steps > 8 else steps


cdef inline Py_ssize_t block_after(Py_ssize_t t0, Py_ssize_t T_x, Py_ssize_t block) noexcept nogil:
    """The end of the block of at most so many steps that begins with step t0: the last one takes what is left."""
    return T_x if T_x - t0 <= block else t0 + whole_lines(block)


cdef inline double *carve(double **rest, Py_ssize_t count) noexcept nogil:
    """Cut `count` doubles off the workspace that begins at rest[0], in whole cache lines."""
    cdef double *piece = rest[0]
    rest[0] = piece + (count + 7) // 8 * 8
    return piece


cdef inline Py_ssize_t odd_lines(Py_ssize_t n) noexcept nogil:
    """A row length of at least n; for long rows an odd number of cache lines.  The weight gradients
    read one line of many successive rows: with a power of two between them all would fall in one L1
    set."""
    return ((n + 7) // 8 | 1) * 8 if n >= 64 else n
