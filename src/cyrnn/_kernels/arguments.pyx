"""A caller's arrays as a kernel sees them: an address and strides.  Compiled for the baseline only.

Each function refuses what is no float64 `numpy.ndarray` of exactly the shape it is told, and so does
all the checking of a kernel's arguments, before anything is written.  It asks for the buffer and lets
go of it at once: the argument keeps the array alive for as long as the call lasts.  A typed
memoryview, which holds on to the buffer, takes three times as long (0.17 us against 0.06), and at
the notebook's sizes the 17 arrays of an LSTM cell cost more than its arithmetic.
"""

from cpython.buffer cimport PyBUF_RECORDS, PyBUF_RECORDS_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize

from .layout cimport steps

from numpy import ndarray

cdef extern from "Python.h":
    ctypedef struct PyTypeObject
    PyTypeObject *Py_TYPE(object)


cdef object ndarray_type = ndarray
cdef Py_ssize_t DOUBLE = sizeof(double)
cdef double MOST_COLUMNS = 1LL << 40    # examples times steps; more would let the size of a workspace overflow


cdef double *look(
    object value, int ndim, Py_ssize_t *shape, Py_ssize_t *strides, int how=PyBUF_RECORDS_RO
) except? NULL:
    """Address, shape and strides in doubles of a float64 array of so many dimensions."""
    cdef Py_buffer view
    cdef Py_ssize_t odd
    cdef int k
    if <void *> Py_TYPE(value) != <void *> ndarray_type:
        raise TypeError("no numpy.ndarray")
    PyObject_GetBuffer(value, &view, how)
    if view.ndim != ndim or view.itemsize != DOUBLE or view.format[0] != c'd' or view.format[1] != 0:
        PyBuffer_Release(&view)
        raise ValueError("not the right dimensions or type")
    odd = <Py_ssize_t> view.buf
    for k in range(ndim):
        shape[k] = view.shape[k]
        odd |= view.strides[k]
        strides[k] = view.strides[k] // DOUBLE
    PyBuffer_Release(&view)
    if odd % DOUBLE:
        raise ValueError("not aligned")
    return <double *> view.buf


cdef double *matrix(object value, Py_ssize_t rows, Py_ssize_t cols, bint of_caller=False) except? NULL:
    """The first value of a C-contiguous (rows, cols); one `of_caller` that is written must allow it."""
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]
    cdef double *data = look(value, 2, shape, strides, PyBUF_RECORDS if of_caller else PyBUF_RECORDS_RO)
    if shape[0] != rows or shape[1] != cols or rows and cols and not (
        (strides[1] == 1 or cols == 1) and (strides[0] == cols or rows == 1)
    ):
        raise ValueError("the shapes do not fit")
    return data


cdef double *box(object value, Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t n2) except? NULL:
    """The first value of a C-contiguous (n0, n1, n2)."""
    cdef steps s
    sequence(value, n0, n1, n2, True, &s)
    return s.data


def lengths(value, Py_ssize_t m, Py_ssize_t T_x) -> tuple[bytes, int, int]:
    """A copy of the lengths, a contiguous (m) of numpy.intp, each from 0 to T_x; how many are not 0; their sum.

    The copy is a bytes object, which nobody can change and which is made in a tenth of the time of an array.  (The
    kernel looks again, at the copy: another thread may have changed the lengths meanwhile.)"""
    cdef Py_buffer view
    cdef bint fits
    cdef const Py_ssize_t *length
    cdef Py_ssize_t j
    cdef size_t odd = 0, wide = 0, columns = 0, n       # unsigned: out of range they may carry round
    cdef int SIGN = 8 * sizeof(size_t) - 1
    if <void *> Py_TYPE(value) != <void *> ndarray_type:
        raise TypeError("no numpy.ndarray")
    PyObject_GetBuffer(value, &view, PyBUF_RECORDS_RO)
    fits = view.ndim == 1 and view.itemsize == sizeof(Py_ssize_t) and view.format[0] in b"ilqn" and view.format[1] == 0
    fits = fits and view.shape[0] == m and (m <= 1 or view.strides[0] == sizeof(Py_ssize_t))
    PyBuffer_Release(&view)
    if not fits or <Py_ssize_t> view.buf % sizeof(Py_ssize_t):
        raise ValueError("no lengths")
    length = <const Py_ssize_t *> view.buf
    for j in range(m):      # by signs, since SSE2 cannot compare 64 bits
        n = <size_t> length[j]
        odd |= n | <size_t> T_x - n
        wide += 0 - n >> SIGN          # which is set in -n where n is not 0
        columns += n
    if odd >> SIGN:
        raise ValueError("a length is out of range")
    return PyBytes_FromStringAndSize(<const char *> length, m * sizeof(Py_ssize_t)), wide, columns


cdef const Py_ssize_t *kept_lengths(bytes copy, Py_ssize_t m) except? NULL:
    """The first value of what `lengths` returned for m examples."""
    cdef Py_ssize_t size = sizeof(Py_ssize_t)
    if len(copy) % size or len(copy) // size != m:
        raise ValueError("no lengths")
    return <const Py_ssize_t *> <const char *> copy


cdef int state(object value, Py_ssize_t n, Py_ssize_t m, bint whole, steps *out) except -1:
    """A state (n, m) of any strides as one step of a sequence; unless it must be whole, one column may
    stand for all examples."""
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]
    out.data = look(value, 2, shape, strides)
    if shape[0] != n or shape[1] != m and (whole or shape[1] != 1) or m > MOST_COLUMNS:
        raise ValueError("the shapes do not fit")
    out.su, out.sj, out.st = strides[0], strides[1] if shape[1] > 1 else 0, 0
    return 0


cdef int sequence(
    object value, Py_ssize_t n, Py_ssize_t m, Py_ssize_t T, bint contiguous, steps *out
) except -1:
    """A sequence (n, m, T), of any strides unless it must be C-contiguous."""
    cdef Py_ssize_t shape[3]
    cdef Py_ssize_t strides[3]
    out.data = look(value, 3, shape, strides)
    if shape[0] != n or shape[1] != m or shape[2] != T or <double> m * <double> T > MOST_COLUMNS:
        raise ValueError("the shapes do not fit")
    if contiguous and n and m and T and not (
        (strides[2] == 1 or T == 1) and (strides[1] == T or m == 1) and (strides[0] == m * T or n == 1)
    ):
        raise ValueError("not contiguous")
    out.su, out.sj, out.st = strides[0], strides[1], strides[2]
    return 0
