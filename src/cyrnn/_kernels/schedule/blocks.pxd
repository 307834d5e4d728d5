"""How many steps a block has, and where a block begins and ends."""

from ..runtime.limits cimport (
    BLOCK_BYTES, BLOCK_COLUMNS, BLOCK_STEPS, LINE, MANY_COLUMNS, NARROW_COLUMN_BYTES, SINGLE_BLOCK_BYTES, TABLE_BYTES,
    TABLE_SHARE, WORKSPACE_SHARE,
)
from ..runtime.real cimport real
from .batch cimport batch


cdef enum:
    SIZE = sizeof(real)


cdef inline Py_ssize_t steps_of_block(
    Py_ssize_t m, Py_ssize_t T_x, double column, double returned, Py_ssize_t columns,
) noexcept nogil:
    """The steps of a block: about BLOCK_COLUMNS columns, at least BLOCK_STEPS steps, and 7 more, so that the last block
    can take what is less than a cache line.  But the workspace, `column` values a column, stays below WORKSPACE_SHARE
    of the values returned, unless a block would then have fewer than so many `columns`.  (`columns` may ask for more
    steps than a block of a long sequence has: a shorter one may have larger blocks.)"""
    cdef Py_ssize_t most = max(BLOCK_COLUMNS // max(m, 1), BLOCK_STEPS) + LINE - 1, least = max(columns // max(m, 1), 1)
    cdef double fit = WORKSPACE_SHARE * returned / (column * max(m, 1) + 1.0)
    return min(most if fit > most else max(<Py_ssize_t> fit, least), max(T_x, 1))


cdef inline Py_ssize_t whole_lines(Py_ssize_t steps) noexcept nogil:
    """Steps that fill cache lines of the caller's arrays, if there is a whole line."""
    return steps // LINE * LINE if steps > LINE else steps


cdef inline Py_ssize_t block_after(Py_ssize_t t0, Py_ssize_t T_x, Py_ssize_t block_steps) noexcept nogil:
    """The end of the block of at most so many steps that begins with step t0: the last one takes what is left."""
    return T_x if T_x - t0 <= block_steps else t0 + whole_lines(block_steps)


cdef inline void set_block(batch *b, double column, double returned, Py_ssize_t columns) noexcept nogil:
    """The size of a block, see `steps_of_block`: at least so many columns, or as many as BLOCK_BYTES hold.

    With lengths, whose segments are short, a small network, and what would be blocks of one step, is a single block if
    that takes SINGLE_BLOCK_BYTES at most and no more is returned.  Its table of columns must be small.  With less than
    a cache line of steps every line of the caller's arrays has padding in it; with more steps and few columns most
    lines have nothing but padding, and are not read."""
    cdef Py_ssize_t single = SINGLE_BLOCK_BYTES // SIZE, table = TABLE_BYTES // SIZE
    cdef bint short = column < NARROW_COLUMN_BYTES // SIZE or WORKSPACE_SHARE * returned < 2 * column * b.n_active
    columns = max(columns, <Py_ssize_t> (BLOCK_BYTES // SIZE / (column + 1.0)))
    if b.lengths != NULL and short and max(returned, b.columns * (column + 1.0)) <= single:
        columns = max(columns, b.columns)
    b.block_steps = steps_of_block(b.n_active, b.T, column, returned, columns)
    b.max_columns = b.block_steps * b.n_active
    if b.lengths != NULL:
        b.max_columns = min(max(b.max_columns, columns), b.columns)
    b.single_block = (
        b.lengths != NULL and 0 < b.columns <= b.max_columns
        and (b.T_x == 1 or b.m * b.T_x <= max(returned * TABLE_SHARE, table))
        and (b.T_x < LINE or MANY_COLUMNS * b.columns >= b.m * b.T_x)
    )


cdef inline Py_ssize_t block_end(const batch *b, Py_ssize_t t0) noexcept nogil:
    """The end of the block that begins with step t0, forward."""
    cdef Py_ssize_t t1 = t0
    if b.lengths == NULL:
        return block_after(t0, b.T, b.block_steps)
    while t1 < b.T and b.offsets[t1 + 1] - b.offsets[t0] <= b.max_columns:
        t1 += 1
    return t0 + whole_lines(t1 - t0) if t1 < b.T else t1


cdef inline Py_ssize_t block_start(const batch *b, Py_ssize_t t1) noexcept nogil:
    """The first step of the block that ends before step t1, backward."""
    cdef Py_ssize_t t0 = t1, steps = whole_lines(b.block_steps)
    if b.lengths == NULL:       # as far back as fits, at a boundary of `block_end`
        return (max(t1 - b.block_steps, 0) + steps - 1) // steps * steps
    while t0 > 0 and b.offsets[t1] - b.offsets[t0 - 1] <= b.max_columns:
        t0 -= 1
    return (t0 + LINE - 1) // LINE * LINE if t0 > 0 and t1 - t0 > LINE else t0


cdef inline bint next_block(const batch *b, bint reverse, Py_ssize_t *t0, Py_ssize_t *t1) noexcept nogil:
    """Go to the next block, t0 ... t1 - 1, or with `reverse` to the one before; whether there is one.

    Begin with t0 = t1 = 0, or with `reverse` with both at T."""
    if reverse:
        t1[0] = t0[0]
        t0[0] = block_start(b, t1[0]) if t1[0] > 0 else 0
        return t1[0] > 0
    t0[0] = t1[0]
    t1[0] = block_end(b, t0[0]) if t0[0] < b.T else b.T
    return t0[0] < b.T
