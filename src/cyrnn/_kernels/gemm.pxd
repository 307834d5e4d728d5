"""The packed matrix product: see gemm.h for the orientation, the packing and the order of sums."""

from .layout cimport carve
from .team cimport team


cdef extern from "gemm.h" nogil:
    const Py_ssize_t PANEL

    cdef enum start:
        ZERO
        ADD
        BIAS

    ctypedef struct weights:
        const double *part[4]
        int parts
        int joined
        int once
        Py_ssize_t n
        Py_ssize_t K
        Py_ssize_t ld
        double *room

    Py_ssize_t weights_room(const weights *W)
    void pack_rows(const weights *W, team me)
    void pack_columns(const weights *W, team me)
    void multiply(
        double *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const double *x, Py_ssize_t ldx,
        Py_ssize_t cols, start how, const double *bias, team me,
    )
    void multiply_shared(
        double *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const double *x, Py_ssize_t ldx,
        Py_ssize_t cols, start how, const double *bias, team me,
    )
    bint large(const weights *W)
    bint by_rows(const weights *W, Py_ssize_t m, Py_ssize_t *shares)
    void multiply_transposed(
        double *c, Py_ssize_t ldc, const weights *W, const double *d, Py_ssize_t sd, Py_ssize_t ldd,
        Py_ssize_t cols, team me,
    )
    Py_ssize_t outer_room(Py_ssize_t K, Py_ssize_t cols)
    void outer(
        double *dW, Py_ssize_t lddW, const double *d, Py_ssize_t ldd, Py_ssize_t n,
        const double *x, Py_ssize_t ldx, const Py_ssize_t *at, Py_ssize_t K, Py_ssize_t cols, start how,
        double *room, team me,
    )
    void add_rows(double *db, const double *d, Py_ssize_t ldd, Py_ssize_t n, Py_ssize_t cols)


cdef inline weights weights_of(
    const double *part, Py_ssize_t ld, Py_ssize_t n, Py_ssize_t K, bint once,
) noexcept nogil:
    """A matrix of one part: n rows and K columns; its `room` is still to come."""
    cdef weights W
    W.part[0] = W.part[1] = W.part[2] = W.part[3] = part
    W.parts = 1
    W.joined = False
    W.once = once
    W.n = n
    W.K = K
    W.ld = ld
    W.room = NULL
    return W


cdef inline void carve_weights(weights *W, double **rest) noexcept nogil:
    """Set aside its `room`."""
    W.room = carve(rest, weights_room(W))
