"""Updates of the parameters in place, and the norm of their gradients: one pass over many arrays.

    v = beta1 v + (1 - beta1) g         s = beta2 s + (1 - beta2) g^2                (Adam)
    parameter -= rate / (1 - beta1^t) v / (sqrt(s / (1 - beta2^t)) + epsilon)

    parameter -= rate g                                                              (gradient descent)

    norm = sqrt(sum g^2)                                                             (of all arrays together)

Everything is looked at first: the arrays, that those written overlap with nothing, that the gradients are finite
(and so are their squares).  After that nothing can fail: an update happens for all parameters or for none.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.math cimport fabs, frexp, ldexp, sqrt
from libc.string cimport memcmp, memcpy

from .memory cimport give, take
from .output cimport row_sum
from .team cimport FP_PLAIN, fp_enter, fp_leave, fp_state

from numpy import ndarray

cdef enum:
    KINDS = 4           # arrays of an entry at most: g, then what is written
    DIMENSIONS = 64     # of an array at most
    PIECE = 256         # values that are squared together

LARGEST: float = 1.3e154        # no gradient may be larger: its square is finite
cdef double largest = LARGEST
cdef object ndarray_type = ndarray


cdef struct Entry:
    double *at[KINDS]
    Py_ssize_t count            # values in each


cdef int look(object value, bint written, double **at, int *ndim, Py_ssize_t *shape) except -1:
    """The address and shape of a C-contiguous, aligned float64 array."""
    cdef Py_buffer view
    cdef bint fits
    if not isinstance(value, ndarray_type):
        raise TypeError("no numpy.ndarray")
    PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if written else 0))
    fits = view.itemsize == sizeof(double) and view.format[0] == c'd' and view.format[1] == 0
    fits = fits and <Py_ssize_t> view.buf % <Py_ssize_t> sizeof(double) == 0 and view.ndim <= DIMENSIONS
    if fits:
        at[0] = <double *> view.buf
        ndim[0] = view.ndim
        if view.ndim:   # else there is no shape to copy from
            memcpy(shape, view.shape, view.ndim * sizeof(Py_ssize_t))
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError("not the right type")
    return 0


cdef bint apart(const Entry *entries, Py_ssize_t n, int kinds) noexcept nogil:
    """Whether no array that is written shares memory with another one."""
    cdef Py_ssize_t x, y
    cdef const double *at
    cdef const double *other
    for x in range(n * kinds):
        at = entries[x // kinds].at[x % kinds]
        for y in range(n * kinds if x % kinds else 0):
            other = entries[y // kinds].at[y % kinds]
            if x != y and at < other + entries[y // kinds].count and other < at + entries[x // kinds].count:
                return False
    return True


cdef bint finite(const Entry *entries, Py_ssize_t n) noexcept nogil:
    """Whether every gradient is a number whose square is finite."""
    cdef const double *g
    cdef double bad = 0.0, most = largest
    cdef Py_ssize_t i, k
    for i in range(n):
        g = entries[i].at[0]
        for k in range(entries[i].count):
            bad = bad if fabs(g[k]) <= most else 1.0
    return bad == 0.0


cdef Entry *entries_of(tuple lists, bint check, Py_ssize_t *n) except NULL:
    """All arrays looked at: lists[0] the gradients, finite if that is to be checked, the other lists what is written,
    entry by entry of one shape.  To be given back."""
    cdef int kinds = len(lists), kind, ndim, first_ndim = 0
    cdef Py_ssize_t shape[DIMENSIONS]
    cdef Py_ssize_t first_shape[DIMENSIONS]
    cdef Py_ssize_t i, k
    n[0] = len(lists[0])
    cdef Entry *entries = <Entry *> take((n[0] + 1) * (sizeof(Entry) // sizeof(double) + 1))
    try:
        for i in range(n[0]):
            look(lists[0][i], False, &entries[i].at[0], &first_ndim, first_shape)
            entries[i].count = 1
            for k in range(first_ndim):
                entries[i].count *= first_shape[k]
            for kind in range(1, kinds):
                look(lists[kind][i], True, &entries[i].at[kind], &ndim, shape)
                if ndim != first_ndim or memcmp(shape, first_shape, ndim * sizeof(Py_ssize_t)):
                    raise ValueError("the shapes do not fit")
        if not apart(entries, n[0], kinds):
            raise ValueError("what is written overlaps")
        if check and not finite(entries, n[0]):
            raise ValueError("a gradient is not finite")
    except BaseException:
        give(<double *> entries)
        raise
    return entries


cdef void adam_row(
    const double *restrict g,                                                   # IN     (count)
    double *restrict parameter, double *restrict v, double *restrict s,         # IN/OUT (count)
    Py_ssize_t count, double rate, double beta1, double beta2, double root, double epsilon,
) noexcept nogil:
    """One array; rate and root have the corrections for the bias of v and s in them."""
    cdef Py_ssize_t k
    for k in range(count):
        v[k] = beta1 * v[k] + (1.0 - beta1) * g[k]
        s[k] = beta2 * s[k] + (1.0 - beta2) * g[k] * g[k]
        parameter[k] -= rate * v[k] / (sqrt(s[k]) * root + epsilon)


cdef void descent_row(
    const double *restrict g, double *restrict parameter, Py_ssize_t count, double rate,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        parameter[k] -= rate * g[k]


cdef void scale_row(
    const double *restrict g, double *restrict out, Py_ssize_t count, double factor,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        out[k] = g[k] * factor


cdef void clip_row(
    const double *restrict g, double *restrict out, Py_ssize_t count, double value,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        out[k] = value if g[k] > value else -value if g[k] < -value else g[k]


cdef double squares(const Entry *entries, Py_ssize_t n, double scale) noexcept nogil:
    """The sum of (scale g)^2 over all arrays."""
    cdef double square[PIECE]
    cdef double total = 0.0
    cdef const double *g
    cdef Py_ssize_t i, k, piece, count
    for i in range(n):
        for piece in range((entries[i].count + PIECE - 1) // PIECE):
            g = entries[i].at[0] + piece * PIECE
            count = min(entries[i].count - piece * PIECE, PIECE)
            for k in range(count):
                square[k] = (scale * g[k]) * (scale * g[k])
            total += row_sum(square, count)
    return total


cdef double norm_of(const Entry *entries, Py_ssize_t n) noexcept nogil:
    """The norm of all arrays together, brought near 1 by a power of 2 where the squares would not be normal; -1 if
    it is not finite."""
    cdef double total = squares(entries, n, 1.0), biggest = 0.0, scale
    cdef const double *g
    cdef Py_ssize_t i, k
    cdef int power
    if 1e-280 < total < 1e280:
        return sqrt(total)
    if not finite(entries, n):
        return -1.0
    for i in range(n):
        g = entries[i].at[0]
        for k in range(entries[i].count):
            biggest = max(biggest, fabs(g[k]))
    frexp(biggest, &power)
    scale = ldexp(1.0, -max(power, -1000))
    return sqrt(squares(entries, n, scale)) / scale


def adam(
    list gradients,     # IN      arrays of any shape
    list parameters,    # IN/OUT  the same shapes
    list v,             # IN/OUT
    list s,             # IN/OUT
    double rate, double beta1, double beta2, double epsilon,
    double correction1, double correction2,         # 1 - beta1^t, 1 - beta2^t
) -> None:
    """One step of Adam."""
    cdef Py_ssize_t n, i
    cdef Entry *entries = entries_of((gradients, parameters, v, s), True, &n)
    cdef double root = sqrt(1.0 / correction2)
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for i in range(n):
            adam_row(
                entries[i].at[0], entries[i].at[1], entries[i].at[2], entries[i].at[3], entries[i].count,
                rate / correction1, beta1, beta2, root, epsilon,
            )
        fp_leave(before)
    give(<double *> entries)


def descent(
    list gradients,     # IN      arrays of any shape
    list parameters,    # IN/OUT  the same shapes
    double rate,
) -> None:
    """One step of gradient descent."""
    cdef Py_ssize_t n, i
    cdef Entry *entries = entries_of((gradients, parameters), True, &n)
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for i in range(n):
            descent_row(entries[i].at[0], entries[i].at[1], entries[i].count, rate)
        fp_leave(before)
    give(<double *> entries)


def clip(
    list gradients,     # IN      arrays of any shape
    list clipped,       # OUT     the same shapes
    double norm, double value,      # the most that is allowed of the norm, and of each value
) -> float:
    """Clipped copies; the norm before."""
    cdef Py_ssize_t n, i
    cdef Entry *entries = entries_of((gradients, clipped), False, &n)
    cdef double found, factor
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        found = norm_of(entries, n)
        factor = norm / found if found > norm else 1.0
        for i in range(n if found >= 0.0 else 0):
            if value < largest:
                clip_row(entries[i].at[0], entries[i].at[1], entries[i].count, value)
            else:
                scale_row(entries[i].at[0], entries[i].at[1], entries[i].count, factor)
        fp_leave(before)
    give(<double *> entries)
    if found < 0.0:
        raise ValueError("a gradient is not finite")
    return found
