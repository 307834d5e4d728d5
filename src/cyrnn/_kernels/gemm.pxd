"""The packed matrix product: see gemm.h for the orientation, the packing and the order of sums."""


cdef extern from "gemm.h" nogil:
    const Py_ssize_t PANEL_ROOM

    cdef enum start:
        ZERO
        ADD
        BIAS

    ctypedef struct weights:
        const double *part[4]
        int parts
        int once
        Py_ssize_t n
        Py_ssize_t K
        Py_ssize_t ld
        double *room

    Py_ssize_t weights_room(int parts, Py_ssize_t n, Py_ssize_t K, int once)
    void pack_rows(const weights *W)
    void pack_columns(const weights *W)
    void multiply(
        double *c, Py_ssize_t ldc, const weights *W, const double *x, Py_ssize_t ldx,
        Py_ssize_t cols, start how, const double *bias,
    )
    void multiply_transposed(
        double *c, Py_ssize_t ldc, const weights *W, const double *d, Py_ssize_t ldd, Py_ssize_t cols,
    )
    void outer(
        double *dW, Py_ssize_t lddW, const double *d, Py_ssize_t ldd, Py_ssize_t n,
        const double *x, Py_ssize_t ldx, Py_ssize_t K, Py_ssize_t cols, start how, double *panel,
    )
    void add_rows(double *db, const double *d, Py_ssize_t ldd, Py_ssize_t n, Py_ssize_t cols)


cdef inline weights weights_of(
    const double *part, Py_ssize_t ld, Py_ssize_t n, Py_ssize_t K, bint once, double *room,
) noexcept nogil:
    """A matrix of one part: n rows and K columns."""
    cdef weights W
    W.part[0] = W.part[1] = W.part[2] = W.part[3] = part
    W.parts = 1
    W.once = once
    W.n = n
    W.K = K
    W.ld = ld
    W.room = room
    return W
