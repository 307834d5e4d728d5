"""The C primitives under the kernels: one declaration for each function of the headers of this folder."""

from ..runtime.buffers cimport workspace_alloc
from ..runtime.limits cimport LINE, PADDED_LD_FROM
from ..runtime.parallel cimport index_range, thread
from ..runtime.real cimport real
from ..runtime.views cimport strided


cdef extern from "linalg/vmath.h" nogil:
    real exp "vexp"(real x)
    real tanh "vtanh"(real x)
    real sigmoid "vsigmoid"(real x)
    real log "vlog"(real x)


cdef extern from "linalg/sum.h" nogil:
    real sum_of_lanes(const real *z, Py_ssize_t n)


cdef extern from "linalg/transpose.h" nogil:
    void transpose(
        real *dst, Py_ssize_t ldd, const real *src, Py_ssize_t lds, Py_ssize_t rows, Py_ssize_t cols,
    )
    void steps_to_columns(
        real *dst, Py_ssize_t ld, strided src, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
        index_range own, index_range of,
    )
    void columns_to_steps(
        strided dst, const real *src, Py_ssize_t n, Py_ssize_t m, Py_ssize_t first, Py_ssize_t count,
        index_range own, index_range of,
    )
    const real *as_matrix(strided s, Py_ssize_t n, Py_ssize_t m, real *workspace)


cdef extern from "linalg/weights.h" nogil:
    cdef enum start:
        ZERO
        ADD
        BIAS

    enum:
        MAX_GATES

    ctypedef struct weights:
        const real *gate[MAX_GATES]
        int n_gates
        int fused
        int unpacked
        Py_ssize_t n
        Py_ssize_t K
        Py_ssize_t ld
        Py_ssize_t depth
        Py_ssize_t k0
        real *packed

    Py_ssize_t panel_size(Py_ssize_t terms)
    Py_ssize_t weights_size(const weights *W)
    void weights_pack(const weights *W, thread thr)
    void weights_unpack(const weights *W, int gate, real *dst, Py_ssize_t ld)
    void weights_pack_t(const weights *W, thread thr)
    void matmul(
        real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const real *x, Py_ssize_t ldx,
        Py_ssize_t cols, start how, const real *bias, thread thr,
    )
    void matmul_shared(
        real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const real *x, Py_ssize_t ldx,
        Py_ssize_t cols, start how, const real *bias, thread thr,
    )
    void matmul_t(
        real *c, Py_ssize_t ldc, const weights *W, const real *d, Py_ssize_t sd, Py_ssize_t ldd,
        Py_ssize_t cols, start how, thread thr,
    )
    bint exceeds_cache(const weights *W)
    bint split_by_units(const weights *W, Py_ssize_t m, Py_ssize_t *max_threads)
    ctypedef struct accumulator:
        real *sum
        real *lost
        Py_ssize_t ld
        Py_ssize_t ld_lost

    accumulator rows_from(accumulator a, Py_ssize_t row)
    void add_lost(accumulator a, Py_ssize_t n, Py_ssize_t K)
    Py_ssize_t add_outer_workspace(Py_ssize_t n, Py_ssize_t K, Py_ssize_t cols, bint compensated)
    void add_outer(
        accumulator dW, const real *d, Py_ssize_t ldd, Py_ssize_t n,
        const real *x, Py_ssize_t ldx, const Py_ssize_t *at, Py_ssize_t K, Py_ssize_t cols, start how,
        real *workspace, thread thr,
    )
    void add_rows(accumulator db, const real *d, Py_ssize_t ldd, Py_ssize_t n, Py_ssize_t cols)


cdef extern from "linalg/unpacked.h" nogil:
    index_range thread_rows(Py_ssize_t n, Py_ssize_t m, thread thr)
    void matmul_unpacked(
        real *c, Py_ssize_t m, const real *w, Py_ssize_t ld, Py_ssize_t K, const real *x, index_range own,
        thread thr,
    )
    void matmul_t_unpacked(
        real *c, Py_ssize_t K, Py_ssize_t m, const weights *W, const real *d, start how, real *workspace,
        thread thr,
    )
    void sum_rows(real *db, const real *d, Py_ssize_t m, index_range own)
    void outer_unpacked(
        real *dW, Py_ssize_t lddW, Py_ssize_t K, const real *d, const real *x, Py_ssize_t m, index_range own,
        real *workspace, thread thr,
    )
    Py_ssize_t outer_unpacked_workspace(Py_ssize_t n, Py_ssize_t K, Py_ssize_t m)


cdef extern from "linalg/one_hot.h" nogil:
    void matmul_one_hot(
        real *c, Py_ssize_t sc, Py_ssize_t ldc, const weights *W, const Py_ssize_t *at, Py_ssize_t cols,
        const real *bias, thread thr,
    )
    void add_outer_one_hot(
        accumulator dW, const real *d, Py_ssize_t ldd, Py_ssize_t n, const Py_ssize_t *at, Py_ssize_t K,
        Py_ssize_t cols, start how, real *workspace, thread thr,
    )
    void matmul_one_hot_unpacked(
        real *c, Py_ssize_t m, const real *w, Py_ssize_t ld, Py_ssize_t K, const Py_ssize_t *at, index_range own,
        thread thr,
    )
    void outer_one_hot_unpacked(
        real *dW, Py_ssize_t lddW, Py_ssize_t K, const real *d, const Py_ssize_t *at, Py_ssize_t m,
        index_range own, real *workspace, thread thr,
    )


cdef inline weights weights_init(
    int n_gates, Py_ssize_t ld, Py_ssize_t n, Py_ssize_t K, bint fused, bint unpacked,
) noexcept nogil:
    """A matrix of so many gates of n rows and K columns; the gates and `packed` are still to come."""
    cdef weights W
    cdef int g
    for g in range(MAX_GATES):
        W.gate[g] = NULL
    W.n_gates, W.fused, W.unpacked = n_gates, fused, unpacked
    W.n, W.K, W.ld, W.depth, W.k0 = n, K, ld, K, 0
    W.packed = NULL
    return W


cdef inline void weights_alloc(weights *W, real **workspace) noexcept nogil:
    """Reserve the workspace of the packed form."""
    W.packed = workspace_alloc(workspace, weights_size(W))


cdef inline Py_ssize_t padded_ld(Py_ssize_t n) noexcept nogil:
    """A row length of at least n; for long rows an odd number of cache lines.  The weight gradients read one line of
    many successive rows: with a power of two between them all would share one set of L1."""
    return ((n + LINE - 1) // LINE | 1) * LINE if n >= PADDED_LD_FROM else n
