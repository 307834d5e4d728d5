"""The block sizes and thresholds that Cython code reads: see limits.h."""

from .real cimport real


cdef extern from "runtime/limits.h" nogil:
    enum:
        CACHE_LINE
        COMPENSATED
        LINE
        MANY_COLUMNS
        PADDED_LD_FROM
        BLOCK_COLUMNS
        BLOCK_STEPS
        BLOCK_BYTES
        FORWARD_COLUMNS
        BACKWARD_COLUMNS
        SINGLE_BLOCK_BYTES
        NARROW_COLUMN_BYTES
        TABLE_BYTES
        POINTWISE_CHUNK
        SOFTMAX_FEW
        SOFTMAX_COLUMNS
        SUM_CHUNK
        LOSS_COLUMNS
        LOSS_ROW
        STEP_EXAMPLES
        LOST_CALLS
        POOL_BYTES
        POOL_BUFFERS
        POOL_FROM

    const Py_ssize_t MAX_COLUMNS
    const Py_ssize_t MR
    const Py_ssize_t NR
    const Py_ssize_t SUM_COLUMNS
    const int POWER_MIN
    const real SQUARE_MAX
    const real DISTRIBUTION_ERROR
    const double SQUARES_MIN
    const double SQUARES_MAX
    const double WORKSPACE_SHARE
    const double TABLE_SHARE
    const double ELEMENTWISE_FLOPS
    const double FLOPS_PER_THREAD
    const double LOST_SECONDS
    const double LOST_PAUSE
    const double LOST_PAUSE_MOST
    const double LOST_PAUSE_SECONDS
    const double THREADS_GAIN
    const double POLL_FLOPS
    const double POLL_SECONDS
    const double GIL_FLOPS
