"""Losses and their gradients: the cross-entropy of a softmax, the mean squared error.

With the weight w of an example at a step (1, or 0 past its length) and W the sum of the weights:

    loss = 1/W sum w sum_u -labels_u log y_u           dz_u = w/W (y_u sum_v labels_v - labels_u)
    loss = 1/(n W) sum w sum_u (z_u - targets_u)^2     dz_u = 2 w/(n W) (z_u - targets_u)

y = softmax(z), and dz is the gradient with respect to z, so that no probability is divided by.  A label that is an
integer stands for probability 1 of that class.  log takes the smallest normal number for what is below it.

Everything stays in the caller's order, as a matrix of units by columns (the m T_x examples and steps), the
columns in the vectors: a block of columns at a time, whose weights and sums stay in L2.  Where there are few
columns, several rows (units) are worked on as one long row.

What is not scored (w = 0) counts for nothing, whatever it holds.  A probability may be outside 0 ... 1 by 1e-6.
"""

from libc.float cimport DBL_MAX, DBL_MIN
from libc.math cimport fabs
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from . cimport vmath
from .arguments cimport matrix, sequence
from .flat cimport columns_of_sequence, flat, flat_room
from .layout cimport carve, steps
from .memory cimport give, take
from .output cimport row_sum
from .team cimport FP_PLAIN, fp_enter, fp_leave, fp_state


cdef enum:
    LONG = 64           # values that make a row long enough
    COLUMNS = 8192      # in a block: shorter pieces of rows that are far apart are up to 4 times slower


def log(double[::1] x not None) -> None:        # IN/OUT
    """x = log(x), for normal positive numbers."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = vmath.log(x[u])
        fp_leave(before)


cdef struct Problem:
    Py_ssize_t n, m, T_x        # units, examples, steps
    Py_ssize_t block            # columns worked on together
    Py_ssize_t joined           # rows that make one long row; 1 where there is more than one block
    Py_ssize_t rows             # long rows, the last may be shorter
    const double *given         # (n, m T_x), y or z
    const double *wanted        # (n, m T_x), probabilities or targets; NULL for classes
    const int64_t *classes      # (m, T_x), integer labels, or NULL
    const int64_t *lengths      # (m), or NULL
    const double *weights       # (m, T_x), or NULL
    double *dz                  # (n, m T_x)
    double *scale               # scratch (joined, m T_x), w/W or w/(n W), the same in every row
    double *sums                # scratch (joined, block), of what the loss sums
    double *totals              # scratch (joined, block), of the labels
    double *rooms[2]            # scratch for a strided step, see `flat`
    steps steps[2]              # given, wanted


cdef int look(
    Problem *p,
    given,                              # IN   (n, m, T_x)
    wanted,                             # IN   (n, m, T_x), not read if there are classes
    const int64_t[:, ::1] classes,      # IN   (m, T_x) or None
    const int64_t[::1] lengths,         # IN   (m) or None
    weights,                            # IN   (m, T_x) or None
    dz,                                 # OUT  (n, m, T_x)
) except -1:
    """The arrays, and how the work is cut."""
    cdef Py_ssize_t n = p.n, m = p.m, T_x = p.T_x
    cdef steps out
    if n < 1 or m < 1 or T_x < 1:
        raise ValueError("nothing to score")
    if classes is not None and (classes.shape[0] != m or classes.shape[1] != T_x):
        raise ValueError("the shapes do not fit")
    if lengths is not None and lengths.shape[0] != m:
        raise ValueError("the shapes do not fit")
    columns_of_sequence(given, n, m, T_x, &p.steps[0])
    if classes is None:
        columns_of_sequence(wanted, n, m, T_x, &p.steps[1])
    sequence(dz, n, m, T_x, True, &out)
    p.dz = out.data
    p.classes = &classes[0, 0] if classes is not None else NULL
    p.lengths = &lengths[0] if lengths is not None else NULL
    p.weights = matrix(weights, m, T_x) if weights is not None else NULL
    p.block = min(m * T_x, COLUMNS)
    p.joined = max(min(LONG // (m * T_x), n), 1)
    p.rows = (n + p.joined - 1) // p.joined
    return 0


cdef double *carve_problem(Problem *p, bint wanted, double *scratch) noexcept nogil:
    cdef Py_ssize_t columns = p.m * p.T_x
    p.scale = carve(&scratch, p.joined * columns)
    p.sums = carve(&scratch, p.joined * p.block)
    p.totals = carve(&scratch, p.joined * p.block)
    p.rooms[0] = carve(&scratch, flat_room(p.steps[0], p.n, columns))
    p.rooms[1] = carve(&scratch, flat_room(p.steps[1], p.n, columns) if wanted else 0)
    return scratch


cdef bint weigh(Problem *p, Py_ssize_t terms) noexcept nogil:
    """scale = w / W / terms, in every row.  Whether all is well: the lengths from 0 to T_x, the weights not
    negative, their sum positive and finite."""
    cdef Py_ssize_t columns = p.m * p.T_x, j, t, length
    cdef double *row
    cdef const double *w
    cdef double bad = 0.0, total
    for j in range(p.m):
        length = p.lengths[j] if p.lengths else p.T_x
        if length < 0 or length > p.T_x:
            return False
        row = p.scale + j * p.T_x
        w = p.weights + j * p.T_x if p.weights else NULL
        for t in range(length):
            row[t] = w[t] if w else 1.0
        for t in range(length, p.T_x):
            row[t] = 0.0
    for t in range(columns if p.weights else 0):
        bad = bad if p.scale[t] >= 0.0 else 1.0
    total = row_sum(p.scale, columns)
    if bad > 0.0 or not 0.0 < total <= DBL_MAX:
        return False
    for t in range(columns):
        p.scale[t] = p.scale[t] / total / terms
    for j in range(1, p.joined):
        memcpy(p.scale + j * columns, p.scale, columns * sizeof(double))
    return True


cdef void fold(double *sums, Py_ssize_t rows, Py_ssize_t columns, bint back) noexcept nogil:
    """The first row becomes the sum of all, and the others too if it is to go `back` to them."""
    cdef Py_ssize_t i, k
    for i in range(1, rows):
        for k in range(columns):
            sums[k] += sums[i * columns + k]
    for i in range(1, rows if back else 0):
        memcpy(sums + i * columns, sums, columns * sizeof(double))


cdef double weighted(const double *sums, double *scale, Py_ssize_t columns) noexcept nogil:
    """The sum of sums * scale."""
    cdef double product[256]
    cdef double total = 0.0
    cdef Py_ssize_t piece, first, count, k
    for piece in range((columns + 255) // 256):
        first, count = piece * 256, min(columns - piece * 256, 256)
        for k in range(count):
            product[k] = sums[first + k] * scale[first + k]
        total += row_sum(product, count)
    return total


cdef bint classes_row(
    const double *restrict y, const double *restrict scale,     # IN  (count)
    double *restrict dz,                                        # OUT (count)
    Py_ssize_t count,
) noexcept nogil:
    """dz without the labels; whether a y is no probability."""
    cdef double bad = 0.0, y_k
    cdef Py_ssize_t k
    for k in range(count):
        y_k = y[k]                              # read first: a branch around a read is no vector
        y_k = y_k if scale[k] > 0.0 else 0.0
        bad = bad if fabs(y_k - 0.5) <= 0.5 + 1e-6 else 1.0
        dz[k] = scale[k] * y_k
    return bad > 0.0


cdef bint classes_block(Problem *p, Py_ssize_t first, Py_ssize_t count, double *loss) noexcept nogil:
    """A block of columns with integer labels; whether something was no probability or no class."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, u, k
    cdef bint bad = False
    cdef int64_t label
    cdef double *scale = p.scale + first
    cdef double *dz = p.dz + first
    cdef const double *y = p.given + first
    cdef const int64_t *labels = p.classes + first
    for i in range(p.rows):
        u = i * p.joined
        bad |= classes_row(y + u * columns, scale, dz + u * columns, min(p.joined, p.n - u) * count)
    for k in range(count):
        label = labels[k] if scale[k] > 0.0 else 0
        if label < 0 or label >= p.n:
            return True
        p.sums[k] = y[label * columns + k] if scale[k] > 0.0 else 1.0
        dz[label * columns + k] = scale[k] * (p.sums[k] - 1.0)
    for k in range(count):
        p.sums[k] = -vmath.log(p.sums[k] if p.sums[k] > DBL_MIN else DBL_MIN)
    loss[0] += weighted(p.sums, scale, count)
    return bad


cdef bint probabilities_row(
    const double *restrict y, const double *restrict labels, const double *restrict scale,  # IN     (count)
    double *restrict sums, double *restrict totals,                                         # IN/OUT (count)
    Py_ssize_t count,
) noexcept nogil:
    """Add -labels log(y) and labels; whether a y is no probability or a label negative or NaN."""
    cdef double bad = 0.0, y_k, label
    cdef Py_ssize_t k
    for k in range(count):
        y_k, label = y[k], labels[k]            # read first: a branch around a read is no vector
        y_k = y_k if scale[k] > 0.0 else 0.0
        label = label if scale[k] > 0.0 else 0.0
        y_k = y_k if label >= 0.0 else -1.0     # one condition: two would not be vectorised
        bad = bad if fabs(y_k - 0.5) <= 0.5 + 1e-6 else 1.0
        sums[k] -= label * vmath.log(y_k if y_k > DBL_MIN else DBL_MIN)
        totals[k] += label
    return bad > 0.0


cdef void probabilities_gradient(
    const double *restrict y, const double *restrict labels,        # IN  (count)
    const double *restrict scale, const double *restrict totals,    # IN  (count)
    double *restrict dz,                                            # OUT (count)
    Py_ssize_t count,
) noexcept nogil:
    cdef double off
    cdef Py_ssize_t k
    for k in range(count):
        off = y[k] * totals[k] - labels[k]
        dz[k] = scale[k] * (off if scale[k] > 0.0 else 0.0)


cdef bint probabilities_block(Problem *p, Py_ssize_t first, Py_ssize_t count, double *loss) noexcept nogil:
    """A block of columns with probabilities for labels; whether there was one that is none."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, k, at, rows
    cdef bint bad = False
    cdef double *scale = p.scale + first
    memset(p.sums, 0, p.joined * count * sizeof(double))
    memset(p.totals, 0, p.joined * count * sizeof(double))
    for i in range(p.rows):
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        bad |= probabilities_row(p.given + at, p.wanted + at, scale, p.sums, p.totals, rows * count)
    fold(p.sums, p.joined, count, False)
    fold(p.totals, p.joined, count, True)
    for k in range(count):
        bad |= not p.totals[k] <= DBL_MAX       # an infinite label, or large ones
    for i in range(p.rows):
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        probabilities_gradient(p.given + at, p.wanted + at, scale, p.totals, p.dz + at, rows * count)
    loss[0] += weighted(p.sums, scale, count)
    return bad or not loss[0] <= DBL_MAX


cdef void squares_row(
    const double *restrict z, const double *restrict targets, const double *restrict scale,     # IN     (count)
    double *restrict sums,                                                                      # IN/OUT (count)
    double *restrict dz,                                                                        # OUT    (count)
    Py_ssize_t count,
) noexcept nogil:
    cdef double off
    cdef Py_ssize_t k
    for k in range(count):
        off = z[k] - targets[k]
        off = off if scale[k] > 0.0 else 0.0
        sums[k] += off * off
        dz[k] = 2.0 * scale[k] * off


cdef bint squares_block(Problem *p, Py_ssize_t first, Py_ssize_t count, double *loss) noexcept nogil:
    """A block of columns of the squared error; whether it is not finite."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, at, rows
    memset(p.sums, 0, p.joined * count * sizeof(double))
    for i in range(p.rows):
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        squares_row(p.given + at, p.wanted + at, p.scale + first, p.sums, p.dz + at, rows * count)
    fold(p.sums, p.joined, count, False)
    loss[0] += weighted(p.sums, p.scale + first, count)
    return not loss[0] <= DBL_MAX


ctypedef bint (*block_fn)(Problem *p, Py_ssize_t first, Py_ssize_t count, double *loss) noexcept nogil


cdef double run(Problem *p, bint wanted, block_fn block, Py_ssize_t terms) except? -1.0:
    """The loss; an error if a value that counts is not what it should be."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, first
    cdef double *scratch = take(carve_problem(p, wanted, NULL) - <double *> NULL)
    cdef double loss = 0.0
    cdef bint bad
    cdef fp_state before
    carve_problem(p, wanted, scratch)
    with nogil:
        before = fp_enter(FP_PLAIN)
        bad = not weigh(p, terms)
        if not bad:
            p.given = flat(p.steps[0], p.n, columns, p.rooms[0])
            p.wanted = flat(p.steps[1], p.n, columns, p.rooms[1]) if wanted else NULL
            for i in range((columns + p.block - 1) // p.block):
                first = i * p.block
                bad |= block(p, first, min(p.block, columns - first), &loss)
        fp_leave(before)
    give(scratch)
    if bad:
        raise ValueError("a value that counts is not what it should be")
    return loss


def cross_entropy(
    Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x,
    y,              # IN   (n, m, T_x)
    labels,         # IN   (m, T_x), int64, or (n, m, T_x)
    lengths,        # IN   (m), int64, or None
    weights,        # IN   (m, T_x) or None
    dz,             # OUT  (n, m, T_x)
) -> float:
    """The loss."""
    cdef Problem p
    p.n, p.m, p.T_x = n, m, T_x
    if labels.ndim == 2:
        look(&p, y, None, labels, lengths, weights, dz)
        return run(&p, False, classes_block, 1)
    look(&p, y, labels, None, lengths, weights, dz)
    return run(&p, True, probabilities_block, 1)


def mean_squared_error(
    Py_ssize_t n, Py_ssize_t m, Py_ssize_t T_x,
    z,              # IN   (n, m, T_x)
    targets,        # IN   (n, m, T_x)
    lengths,        # IN   (m), int64, or None
    weights,        # IN   (m, T_x) or None
    dz,             # OUT  (n, m, T_x)
) -> float:
    """The loss."""
    cdef Problem p
    p.n, p.m, p.T_x = n, m, T_x
    look(&p, z, targets, None, lengths, weights, dz)
    return run(&p, True, squares_block, n)
