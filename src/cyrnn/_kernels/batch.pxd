"""Which examples take part in which steps, and what is worked on together: the bookkeeping of the time loops.

Without lengths every example is in every step.  With lengths the longest come first (batch.h), so that the
columns of a block of steps are adjacent: to one thread, or to all together, one product serves them all.
"""

from libc.string cimport memset

from .arguments cimport kept_lengths
from .layout cimport block_after, block_of, carve, steps, whole_lines
from .team cimport share, span, team


cdef extern from "batch.h" nogil:
    ctypedef struct batch:
        Py_ssize_t m
        Py_ssize_t T
        Py_ssize_t wide
        Py_ssize_t columns
        Py_ssize_t kept
        Py_ssize_t block
        Py_ssize_t most
        Py_ssize_t longest
        Py_ssize_t T_x
        const Py_ssize_t *lengths
        Py_ssize_t *order
        Py_ssize_t *place
        Py_ssize_t *first
        bint at_once
        Py_ssize_t *column

    Py_ssize_t first_of(const batch *b, Py_ssize_t t)
    Py_ssize_t examples_at(const batch *b, Py_ssize_t t)
    Py_ssize_t runs(const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine)
    span run(const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine, Py_ssize_t i)
    Py_ssize_t steps_of(const batch *b, Py_ssize_t j, Py_ssize_t t0, Py_ssize_t t1)
    void load_batch(
        double *dst, Py_ssize_t ld, steps src, const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine, span of,
    )
    void store_batch(
        steps dst, const double *src, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1, span mine, span of,
    )
    void load_state(double *dst, Py_ssize_t n, steps src, const batch *b, span mine)
    void store_state(steps dst, const double *src, Py_ssize_t n, const batch *b, span mine)
    void clear_past(steps dst, const batch *b, span mine)
    const double *batch_columns(
        steps s, Py_ssize_t n, const batch *b, Py_ssize_t t0, Py_ssize_t t1,
        double *room, Py_ssize_t *ld, span mine, span of,
    )


cdef inline int batch_of(
    batch *b,
    lengths,                            # IN   (m), each at most T_cache, as `arguments.lengths` returns them;
                                        #      None if every example has all steps
    Py_ssize_t m, Py_ssize_t T_x,       # the steps of the pass
    Py_ssize_t T_cache,                 # and of its cache, as many or more
) except -1:
    """Count the columns; `sort_batch` then puts them in order, in the room of `carve_batch`."""
    cdef Py_ssize_t j, length, shortest = 0, longest = 0, wide = 0
    cdef size_t columns = 0, kept = 0       # which lengths out of range may carry round
    b.m, b.T_x, b.at_once, b.lengths, b.order, b.place, b.first = m, T_x, False, NULL, NULL, NULL, NULL
    if lengths is None:
        b.T = T_x if m else 0
        b.longest, b.wide, b.columns, b.kept = b.T, m, m * b.T, m * T_cache
        return 0
    b.lengths = kept_lengths(lengths, m)
    for j in range(m):
        length = b.lengths[j]
        shortest = min(shortest, length)
        longest = max(longest, length)
        wide += length > 0
        columns += <size_t> min(length, T_x)
        kept += <size_t> length
    if shortest < 0 or longest > T_cache:
        raise ValueError("a length is out of range")
    b.longest, b.wide, b.columns, b.kept = longest, wide, columns, kept
    b.T = min(b.longest, T_x)
    if b.kept == m * T_cache and b.wide == m:   # all of them: as without lengths
        b.lengths = NULL
    return 0


cdef inline void carve_batch(batch *b, double **rest) noexcept nogil:
    """Set aside the room of `sort_batch`."""
    if b.lengths != NULL:
        b.order = <Py_ssize_t *> carve(rest, b.m + 1)
        b.place = <Py_ssize_t *> carve(rest, b.m)
        b.first = <Py_ssize_t *> carve(rest, max(b.longest + 2, b.T_x))
        b.column = b.place if b.T_x == 1 else <Py_ssize_t *> carve(rest, b.m * b.T_x if b.at_once else 0)


cdef inline void row_of(
    Py_ssize_t *restrict column, const Py_ssize_t *restrict first, Py_ssize_t place, Py_ssize_t length, Py_ssize_t T_x,
) noexcept nogil:
    """The columns of an example: -1 past its length."""
    cdef Py_ssize_t t
    for t in range(T_x):
        column[t] = (first[t] + place) | -<Py_ssize_t> (t >= length)


cdef inline void sort_batch(batch *b) noexcept nogil:
    """Order the examples, the longest first and those of one length as they come."""
    cdef Py_ssize_t j, t, before = 0, count
    if b.lengths == NULL:
        return
    if b.longest < 3:       # by looking for each length: few counters would wait for each other in memory
        for t in range(b.longest, 0, -1):
            for j in range(b.m):
                b.order[before] = j             # until the next one overwrites it
                before += b.lengths[j] == t
            b.first[t] = before
        b.first[b.longest + 1] = 0
    else:                   # by counting
        memset(b.first, 0, (b.longest + 2) * sizeof(Py_ssize_t))
        for j in range(b.m):
            b.first[b.lengths[j]] += 1
        for t in range(b.longest, -1, -1):      # the places of those of t steps begin after the longer ones,
            count = b.first[t]
            b.first[t] = before
            before += count
        for j in range(b.m):
            t = b.lengths[j]
            b.order[b.first[t]] = j
            b.first[t] += 1                     # and end with the number of examples of t steps or more
    memset(b.place, -1, b.m * sizeof(Py_ssize_t))
    for j in range(b.wide):
        b.place[b.order[j]] = j
    b.first[0] = 0
    for t in range(1, b.longest + 2):       # which are those of step t - 1
        b.first[t] += b.first[t - 1]
    if b.at_once and b.T_x > 1:
        for t in range(b.longest + 2, b.T_x):   # for the loop's sake: any value
            b.first[t] = 0
        for j in range(b.m):
            row_of(b.column + j * b.T_x, b.first, b.place[j], b.lengths[j], b.T_x)


cdef inline Py_ssize_t mean_examples(const batch *b) noexcept nogil:
    """Examples of a step, on the average."""
    return b.m if b.lengths == NULL else (b.columns + b.T - 1) // max(b.T, 1)


cdef inline void set_block(batch *b, double column, double returned, Py_ssize_t columns) noexcept nogil:
    """How much is worked on together, see `block_of`; at least so many columns, or what takes 64 kB.  With lengths,
    whose pieces are short and ragged, a small network, and what would be blocks of one step, is one block if that
    takes 1 MB at most and no more is returned."""
    cdef bint short = column < 64 or 0.25 * returned < 2 * column * b.wide
    columns = max(columns, <Py_ssize_t> (8192 / (column + 1.0)))
    if b.lengths != NULL and short and max(returned, b.columns * (column + 1.0)) <= 131072:
        columns = max(columns, b.columns)
    b.block = block_of(b.wide, b.T, column, returned, columns)
    b.most = b.block * b.wide if b.lengths == NULL else min(max(b.block * b.wide, columns), b.columns)
    # One block, and no large table.  With less than a cache line of steps every line of the caller's arrays has
    # padding in it; with more, and few columns, most lines have nothing that is wanted.
    b.at_once = (
        b.lengths != NULL and 0 < b.columns <= b.most
        and (b.T_x == 1 or b.m * b.T_x <= max(returned / 16, 16384))
        and (b.T_x < 8 or 4 * b.columns >= b.m * b.T_x)
    )


cdef inline Py_ssize_t block_end(const batch *b, Py_ssize_t t0) noexcept nogil:
    """The end of the block that begins with step t0, on the way forward."""
    cdef Py_ssize_t t1 = t0
    if b.lengths == NULL:
        return block_after(t0, b.T, b.block)
    while t1 < b.T and b.first[t1 + 1] - b.first[t0] <= b.most:
        t1 += 1
    return t0 + whole_lines(t1 - t0) if t1 < b.T else t1


cdef inline Py_ssize_t block_start(const batch *b, Py_ssize_t t1) noexcept nogil:
    """The first step of the block that ends before step t1, on the way back."""
    cdef Py_ssize_t t0 = t1, block = whole_lines(b.block)
    if b.lengths == NULL:       # as far back as fits, on a border of `block_end`
        return (max(t1 - b.block, 0) + block - 1) // block * block
    while t0 > 0 and b.first[t1] - b.first[t0 - 1] <= b.most:
        t0 -= 1
    return (t0 + 7) // 8 * 8 if t0 > 0 and t1 - t0 > 8 else t0


cdef inline Py_ssize_t before(const batch *b, Py_ssize_t t) noexcept nogil:
    """The column of a (wide + columns, n_a) where the states before step t begin; the initial ones come first.  The
    states after it begin at wide + first_of(t)."""
    return b.wide + first_of(b, t - 1) if t else 0


cdef inline const Py_ssize_t *columns_before(
    const batch *b, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t *table, team me,
) noexcept nogil:
    """Where the states before the columns of a block are, counted from the first of them: a `table` (columns of the
    block) with lengths, as examples may end; NULL without, as they are adjacent."""
    cdef Py_ssize_t t, j
    cdef Py_ssize_t *column
    cdef span mine = share(t1 - t0, 1, me)
    if b.lengths == NULL:
        return NULL
    for t in range(t0 + mine.lo, t0 + mine.hi):
        column = table + first_of(b, t) - first_of(b, t0)
        for j in range(examples_at(b, t)):
            column[j] = before(b, t) - before(b, t0) + j
    return table


cdef inline Py_ssize_t cut(const batch *b, Py_ssize_t t0, Py_ssize_t t1, Py_ssize_t columns) noexcept nogil:
    """How many examples, from the longest on, have so many columns in a block."""
    cdef Py_ssize_t j = 0
    while columns > 0:
        columns -= steps_of(b, j, t0, t1)
        j += 1
    return j


cdef inline span share_examples(const batch *b, Py_ssize_t t0, Py_ssize_t t1, team me) noexcept nogil:
    """A thread's examples in a block, so that all have as many columns."""
    cdef Py_ssize_t columns
    cdef span mine = share(b.m, 1, me)
    if b.lengths != NULL and me.threads > 1:
        columns = b.first[t1] - b.first[t0]
        mine.lo = cut(b, t0, t1, columns * me.thread // me.threads)
        mine.hi = cut(b, t0, t1, columns * (me.thread + 1) // me.threads)
    return mine


cdef inline span times(span mine, Py_ssize_t n) noexcept nogil:
    """The values of these examples, n of each."""
    mine.lo, mine.hi = mine.lo * n, mine.hi * n
    return mine
