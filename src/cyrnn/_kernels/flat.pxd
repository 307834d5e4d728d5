"""A sequence (n, m, T_x) in the caller's order as a matrix: units by columns, the m T_x examples and steps.

Where no step depends on another one (losses, the output layer) the columns fill the vectors and nothing
is turned round.
"""

from .arguments cimport sequence
from .layout cimport flat_of, steps


cdef inline int columns_of_sequence(
    object value, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x, steps *out,
) except -1:
    """Look at a C-contiguous sequence, or at one step of any strides."""
    sequence(value, n, m, T_x, T_x != 1, out)
    if T_x != 1:
        out.su, out.sj = m * T_x, 1
    return 0


cdef inline Py_ssize_t flat_room(steps s, Py_ssize_t n, Py_ssize_t columns) noexcept nogil:
    """The doubles that `flat` needs for it: none where it lies flat."""
    return 0 if (s.sj == 1 or columns <= 1) and (s.su == columns or n <= 1) else n * columns


cdef inline const double *flat(steps s, Py_ssize_t n, Py_ssize_t columns, double *room) noexcept nogil:
    """Its first value, (n, columns) C-contiguous; a strided step is copied to `room`."""
    return flat_of(s, n, columns, room)
