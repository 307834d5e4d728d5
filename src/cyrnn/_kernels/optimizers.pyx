"""Updates of the parameters in place, and the norm of their gradients: the entry points, one pass over many arrays.

    v = beta1 v + (1 - beta1) g         s = beta2 s + (1 - beta2) g^2                (Adam)
    parameter = keep parameter - rate / (1 - beta1^t) v / (sqrt(s / (1 - beta2^t)) + epsilon)

    parameter -= rate g                                                              (gradient descent)

    norm = sqrt(sum g^2)                                                             (of all arrays together)

Everything is checked first: the arrays, that those written overlap with nothing, that the gradients are finite (and so
are their squares).  After that nothing can fail: an update happens for all parameters or for none.

The arrays come in lists, since their number and shapes are free: each becomes a typed memoryview in `bind`.
"""

from libc.math cimport frexp, ldexp, sqrt as sqrt_double

from .linalg.softmax cimport row_sum
from .runtime.buffers cimport buffer_alloc, buffer_free
from .runtime.limits cimport POWER_MIN, SQUARE_MAX, SQUARES_MAX, SQUARES_MIN, SUM_CHUNK
from .runtime.parallel cimport FP_PLAIN, fp_enter, fp_leave, fp_state
from .runtime.real cimport fabs, one, real, sqrt, zero
from .runtime.views cimport matrix, new_matrix

from numpy import ndarray

cdef enum:
    KINDS = 4           # arrays of an entry at most: g, then what is written

LARGEST: float = SQUARE_MAX    # no gradient may be larger: its square is finite
cdef object ndarray_type = ndarray


cdef struct Entry:
    real *at[KINDS]
    Py_ssize_t count            # values in each
    real keep                   # 1, or what decay leaves of the parameter


cdef real *bind(object value, bint written, Py_ssize_t *count) except? NULL:
    """The address of a C-contiguous, aligned float64 array, and the number of its values."""
    cdef const real[:, ::1] source
    cdef real[:, ::1] target
    if type(value) is not ndarray_type:         # whose reshape would return a plain array of other memory
        raise TypeError("not a numpy.ndarray")
    if value.ndim != 2:
        if not value.flags.c_contiguous:        # reshape would copy it
            raise ValueError("not contiguous")
        value = value.reshape(1, -1)
    if written:
        target = value
        matrix(target, target.shape[0], target.shape[1])
        count[0] = target.shape[0] * target.shape[1]
        return new_matrix(target)
    source = value
    count[0] = source.shape[0] * source.shape[1]
    return <real *> matrix(source, source.shape[0], source.shape[1])


cdef bint apart(const Entry *entries, Py_ssize_t n, int kinds) noexcept nogil:
    """Whether no array that is written shares memory with another one."""
    cdef Py_ssize_t x, y
    cdef const real *at
    cdef const real *other
    for x in range(n * kinds):
        at = entries[x // kinds].at[x % kinds]
        for y in range(n * kinds if x % kinds else 0):
            other = entries[y // kinds].at[y % kinds]
            if x != y and at < other + entries[y // kinds].count and other < at + entries[x // kinds].count:
                return False
    return True


cdef bint finite(const Entry *entries, Py_ssize_t n) noexcept nogil:
    """Whether every gradient is a number whose square is finite."""
    cdef const real *g
    cdef real bad = zero, most = SQUARE_MAX
    cdef Py_ssize_t i, k
    for i in range(n):
        g = entries[i].at[0]
        for k in range(entries[i].count):
            bad = bad if fabs(g[k]) <= most else one
    return bad == zero


cdef Entry *entries_of(tuple lists, bint check, Py_ssize_t *n) except NULL:
    """All arrays, checked: lists[0] the gradients, finite if that is to be checked, the other lists what is written,
    entry by entry of one shape.  To be freed."""
    cdef int kinds = len(lists), kind
    cdef Py_ssize_t i, count
    n[0] = len(lists[0])
    cdef Entry *entries = <Entry *> buffer_alloc((n[0] + 1) * <Py_ssize_t> sizeof(Entry))
    try:
        for i in range(n[0]):
            gradient = lists[0][i]
            entries[i].at[0] = bind(gradient, False, &entries[i].count)
            entries[i].keep = one
            for kind in range(1, kinds):
                written = lists[kind][i]
                entries[i].at[kind] = bind(written, True, &count)
                if written.shape != gradient.shape:
                    raise ValueError("the shapes do not fit")
        if not apart(entries, n[0], kinds):
            raise ValueError("what is written overlaps")
        if check and not finite(entries, n[0]):
            raise ValueError("a gradient is not finite")
    except BaseException:
        buffer_free(entries)
        raise
    return entries


cdef void adam_row(
    const real *restrict g,                                                     # IN     (count)
    real *restrict parameter, real *restrict v, real *restrict s,               # IN/OUT (count)
    Py_ssize_t count, real keep, real rate, real beta1, real rest1, real beta2, real rest2, real root, real epsilon,
) noexcept nogil:
    """One array; rest1 and rest2 are 1 - beta1 and 1 - beta2; rate and root have the corrections for the bias of v and
    s in them."""
    cdef Py_ssize_t k
    for k in range(count):
        v[k] = beta1 * v[k] + rest1 * g[k]
        s[k] = beta2 * s[k] + rest2 * g[k] * g[k]
        parameter[k] = keep * parameter[k] - rate * v[k] / (sqrt(s[k]) * root + epsilon)


cdef void descent_row(
    const real *restrict g, real *restrict parameter, Py_ssize_t count, real rate,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        parameter[k] -= rate * g[k]


cdef void scale_row(
    const real *restrict g, real *restrict out, Py_ssize_t count, real factor,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        out[k] = g[k] * factor


cdef void clip_row(
    const real *restrict g, real *restrict out, Py_ssize_t count, real value,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        out[k] = value if g[k] > value else -value if g[k] < -value else g[k]


cdef double squares(const Entry *entries, Py_ssize_t n, real scale) noexcept nogil:
    """The sum of (scale g)^2 over all arrays."""
    cdef real square[SUM_CHUNK]
    cdef double total = 0.0
    cdef const real *g
    cdef Py_ssize_t i, k, piece, count
    for i in range(n):
        for piece in range((entries[i].count + SUM_CHUNK - 1) // SUM_CHUNK):
            g = entries[i].at[0] + piece * SUM_CHUNK
            count = min(entries[i].count - piece * SUM_CHUNK, SUM_CHUNK)
            for k in range(count):
                square[k] = (scale * g[k]) * (scale * g[k])
            total += <double> row_sum(square, count)
    return total


cdef double norm_of(const Entry *entries, Py_ssize_t n) noexcept nogil:
    """The norm of all arrays together, brought near 1 by a power of 2 where the squares would not be normal; -1 if
    it is not finite."""
    cdef double total = squares(entries, n, one), biggest = 0.0, scale
    cdef const real *g
    cdef Py_ssize_t i, k
    cdef int power
    if SQUARES_MIN < total < SQUARES_MAX:
        return sqrt_double(total)
    if not finite(entries, n):
        return -1.0
    for i in range(n):
        g = entries[i].at[0]
        for k in range(entries[i].count):
            biggest = max(biggest, <double> fabs(g[k]))
    frexp(biggest, &power)
    scale = ldexp(1.0, -max(power, POWER_MIN))
    return sqrt_double(squares(entries, n, scale)) / scale


def adam(
    list gradients,     # IN      arrays of any shape
    list parameters,    # IN/OUT  the same shapes
    list v,             # IN/OUT
    list s,             # IN/OUT
    double rate, double beta1, double beta2, double epsilon,
    double correction1, double correction2,         # 1 - beta1^t, 1 - beta2^t
    double keep, list decayed,          # a parameter's factor where `decayed` is true; None for no parameter
) -> None:
    """One step of Adam."""
    cdef Py_ssize_t n, i
    if decayed is not None and len(decayed) != len(gradients):
        raise ValueError("not one truth value for each parameter")
    cdef Entry *entries = entries_of((gradients, parameters, v, s), True, &n)
    for i in range(n if decayed is not None else 0):
        entries[i].keep = <real> keep if decayed[i] is True else one
    cdef double root = sqrt_double(1.0 / correction2)
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for i in range(n):
            adam_row(
                entries[i].at[0], entries[i].at[1], entries[i].at[2], entries[i].at[3], entries[i].count,
                entries[i].keep, rate / correction1, beta1, 1.0 - beta1, beta2, 1.0 - beta2, root, epsilon,
            )
        fp_leave(before)
    buffer_free(entries)


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
    buffer_free(entries)


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
            if value < <double> SQUARE_MAX:
                clip_row(entries[i].at[0], entries[i].at[1], entries[i].count, value)
            else:
                scale_row(entries[i].at[0], entries[i].at[1], entries[i].count, factor)
        fp_leave(before)
    buffer_free(entries)
    if found < 0.0:
        raise ValueError("a gradient is not finite")
    return found
