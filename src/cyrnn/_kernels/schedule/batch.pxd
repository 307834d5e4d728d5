"""Which examples take part in which steps: the bookkeeping of the time loop for packed batches.

Without lengths every example is in every step.  With lengths the longest come first (batch.h), so that the columns of
a block of steps are contiguous: to one thread, or to all together, one product serves them all.
"""

from libc.string cimport memset

from ..runtime.buffers cimport index_alloc
from ..runtime.parallel cimport clamp, index_range, thread, thread_range
from ..runtime.real cimport real
from ..runtime.views cimport indices, safe_index, strided


cdef extern from "schedule/batch.h" nogil:
    ctypedef struct batch:
        Py_ssize_t m
        Py_ssize_t T_x
        Py_ssize_t T
        Py_ssize_t longest
        Py_ssize_t n_active
        Py_ssize_t columns
        Py_ssize_t cached_columns
        Py_ssize_t block_steps
        Py_ssize_t max_columns
        const Py_ssize_t *lengths
        Py_ssize_t *sorted_indices
        Py_ssize_t *unsorted_indices
        Py_ssize_t *offsets
        bint single_block
        Py_ssize_t *column_at

    Py_ssize_t offset_at(const batch *b, Py_ssize_t t)
    Py_ssize_t batch_size_at(const batch *b, Py_ssize_t t)
    Py_ssize_t n_segments(const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own)
    index_range segment(const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range own, Py_ssize_t i)
    Py_ssize_t steps_in_block(const batch *b, Py_ssize_t j, Py_ssize_t t0, Py_ssize_t t1)
    void pack_batch(
        real *dst, Py_ssize_t ld, strided src, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
        index_range own, index_range of,
    )
    void unpack_batch(
        strided dst, const real *src, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
        index_range own, index_range of,
    )
    void pack_state(real *dst, Py_ssize_t n, strided src, const batch *b, index_range own)
    void unpack_state(strided dst, const real *src, Py_ssize_t n, const batch *b, index_range own)
    void clear_padding(strided dst, const batch *b, index_range own)
    const real *batch_as_columns(
        strided s, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
        real *workspace, Py_ssize_t *ld, index_range own, index_range of,
    )


cdef inline const Py_ssize_t *checked_lengths(bytes copy, Py_ssize_t m) except? NULL:
    """The lengths of m examples in what `runtime.lengths.copy` returned."""
    cdef Py_ssize_t size = sizeof(Py_ssize_t)
    if len(copy) % size or len(copy) // size != m:
        raise ValueError("the shapes do not fit")
    return <const Py_ssize_t *> <const char *> copy


cdef inline int batch_init(
    batch *b,
    bytes lengths,                      # IN  (m), each at most T_cache; None if every example has all steps
    Py_ssize_t m, Py_ssize_t T_x,       # the steps of the pass
    Py_ssize_t T_cache,                 # and of its cache, as many or more
) except -1:
    """Count the columns; `sort_batch` then sorts the examples, in the workspace of `batch_alloc`."""
    cdef Py_ssize_t j, length, shortest = 0, longest = 0, n_active = 0
    cdef size_t columns = 0, cached = 0     # unsigned: sums of lengths out of range may wrap around
    b.m, b.T_x, b.single_block, b.lengths = m, T_x, False, NULL
    b.sorted_indices, b.unsorted_indices, b.offsets, b.column_at = NULL, NULL, NULL, NULL
    if lengths is None:
        b.T = T_x if m else 0
        b.longest, b.n_active, b.columns, b.cached_columns = b.T, m, m * b.T, m * T_cache
        return 0
    b.lengths = checked_lengths(lengths, m)
    for j in range(m):
        length = b.lengths[j]
        shortest = min(shortest, length)
        longest = max(longest, length)
        n_active += length > 0
        columns += <size_t> min(length, T_x)
        cached += <size_t> length
    if shortest < 0 or longest > T_cache:
        raise ValueError("a length is out of range")
    b.longest, b.n_active, b.columns, b.cached_columns = longest, n_active, columns, cached
    b.T = min(b.longest, T_x)
    if b.cached_columns == m * T_cache and b.n_active == m:     # all steps: as without lengths
        b.lengths = NULL
    return 0


cdef inline void batch_alloc(batch *b, real **workspace) noexcept nogil:
    """Reserve the workspace of `sort_batch`."""
    if b.lengths != NULL:
        b.sorted_indices = index_alloc(workspace, b.m + 1)
        b.unsorted_indices = index_alloc(workspace, b.m)
        b.offsets = index_alloc(workspace, max(b.longest + 2, b.T_x))
        b.column_at = b.unsorted_indices if b.T_x == 1 else index_alloc(
            workspace, b.m * b.T_x if b.single_block else 0
        )


cdef inline void example_columns(
    Py_ssize_t *restrict column, const Py_ssize_t *restrict offset, Py_ssize_t j, Py_ssize_t length, Py_ssize_t T_x,
) noexcept nogil:
    """The columns of packed example j: -1 past its length."""
    cdef Py_ssize_t t
    for t in range(T_x):
        column[t] = (offset[t] + j) | -<Py_ssize_t> (t >= length)


cdef inline void sort_batch(batch *b) noexcept nogil:
    """Sort the examples, the longest first and those of one length in their order."""
    cdef Py_ssize_t j, t, before = 0, count
    if b.lengths == NULL:
        return
    if b.longest < 3:       # by one pass for each length: so few counters would wait for each other in memory
        for t in range(b.longest, 0, -1):
            for j in range(b.m):
                b.sorted_indices[before] = j        # until the next one overwrites it
                before += b.lengths[j] == t
            b.offsets[t] = before
        b.offsets[b.longest + 1] = 0
    else:                   # by counting
        memset(b.offsets, 0, (b.longest + 2) * sizeof(Py_ssize_t))
        for j in range(b.m):
            b.offsets[b.lengths[j]] += 1
        for t in range(b.longest, -1, -1):          # examples of t steps come after the longer ones,
            count = b.offsets[t]
            b.offsets[t] = before
            before += count
        for j in range(b.m):
            t = b.lengths[j]
            b.sorted_indices[b.offsets[t]] = j
            b.offsets[t] += 1                       # which leaves the number of examples of t steps or more
    memset(b.unsorted_indices, -1, b.m * sizeof(Py_ssize_t))
    for j in range(b.n_active):
        b.unsorted_indices[b.sorted_indices[j]] = j
    b.offsets[0] = 0
    for t in range(1, b.longest + 2):               # the batch sizes of step t - 1
        b.offsets[t] += b.offsets[t - 1]
    if b.single_block and b.T_x > 1:
        for t in range(b.longest + 2, b.T_x):       # read by the loop below, any value will do
            b.offsets[t] = 0
        for j in range(b.m):
            example_columns(b.column_at + j * b.T_x, b.offsets, b.unsorted_indices[j], b.lengths[j], b.T_x)


cdef inline Py_ssize_t mean_batch_size(const batch *b) noexcept nogil:
    """Examples of a step, on average."""
    return b.m if b.lengths == NULL else (b.columns + b.T - 1) // max(b.T, 1)


cdef inline Py_ssize_t column_before(const batch *b, Py_ssize_t t) noexcept nogil:
    """The column of a state (n_active + columns, n_a) where the states before step t begin; the initial ones come
    first.  The states after it begin at column n_active + offset_at(t)."""
    return b.n_active + offset_at(b, t - 1) if t else 0


cdef inline Py_ssize_t *columns_before(
    const batch *b, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t *table, thread thr,
) noexcept nogil:
    """The columns of the states before those of a block, counted from the first: a `table` (columns of the block) with
    lengths, since examples end; NULL without, since they are contiguous."""
    cdef Py_ssize_t t, j
    cdef Py_ssize_t *column
    cdef index_range own = thread_range(t1 - t0, 1, thr)
    if b.lengths == NULL:
        return NULL
    for t in range(t0 + own.begin, t0 + own.end):
        column = table + offset_at(b, t) - offset_at(b, t0)
        for j in range(batch_size_at(b, t)):
            column[j] = column_before(b, t) - column_before(b, t0) + j
    return table


cdef inline void pack_indices(
    Py_ssize_t *picked,                 # OUT (columns of the block)
    indices x, Py_ssize_t n_x, const batch *b, Py_ssize_t t0, Py_ssize_t t1, index_range of, thread thr,
) noexcept nogil:
    """The indices of the packed examples `of` at steps t0 ... t1 - 1, by all threads together."""
    cdef index_range own = thread_range(t1 - t0, 1, thr), examples
    cdef Py_ssize_t first = offset_at(b, t0), j, t
    for t in range(t0 + own.begin, t0 + own.end):
        examples = clamp(of, batch_size_at(b, t))
        for j in range(examples.begin, examples.end):
            picked[offset_at(b, t) - first + j] = safe_index(
                x, j if b.lengths == NULL else b.sorted_indices[j], t, n_x,
            )


cdef inline Py_ssize_t examples_with(const batch *b, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t columns) noexcept nogil:
    """The number of examples, from the longest on, that have so many columns in a block."""
    cdef Py_ssize_t j = 0
    while columns > 0:
        columns -= steps_in_block(b, j, t0, t1)
        j += 1
    return j


cdef inline index_range thread_examples(const batch *b, Py_ssize_t t0, Py_ssize_t t1, thread thr) noexcept nogil:
    """This thread's examples in a block, so that all threads have as many columns."""
    cdef Py_ssize_t columns
    cdef index_range own = thread_range(b.m, 1, thr)
    if b.lengths != NULL and thr.count > 1:
        columns = b.offsets[t1] - b.offsets[t0]
        own.begin = examples_with(b, t0, t1, columns * thr.id // thr.count)
        own.end = examples_with(b, t0, t1, columns * (thr.id + 1) // thr.count)
    return own
