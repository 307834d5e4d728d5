"""Losses and their gradients: the cross-entropy of a softmax or of sigmoids, the mean squared error: the entry points.

With the weight w of an example at a step (1, or 0 past its length) and W the sum of the weights:

    loss = 1/W sum w sum_u -labels_u log y_u           dz_u = w/W (y_u sum_v labels_v - labels_u)
    loss = 1/(n W) sum w sum_u (z_u - targets_u)^2     dz_u = 2 w/(n W) (z_u - targets_u)
    loss = 1/(n W) sum w sum_u -targets_u log y_u - (1 - targets_u) log(1 - y_u)
                                                       dz_u = w/(n W) (y_u - targets_u)

y = softmax(z), in the last one sigmoid(z), and dz is the gradient with respect to z: there is no division by a
probability.  A label that is an integer stands for probability 1 of that class.  log takes the smallest normal number
for smaller ones.  The loss of sigmoids can be given z instead, and then loses no digits:

    -targets_u log y_u - (1 - targets_u) log(1 - y_u) = |z_u| (1 - targets_u if z_u > 0 else targets_u)
                                                        + log(1 + exp(-|z_u|))

Weights of each unit need nothing of their own where the terms of a unit are (the last two losses): the caller passes
the n units of m examples as one unit of n m examples.

Everything stays in the caller's order, as a matrix of units by columns (the m T_x examples and steps), the columns in
the vectors: a block of columns at a time, whose weights and sums stay in L2.  Where there are few columns, several rows
(units) are joined into one long row.

What has weight 0 counts for nothing, whatever it holds.  A probability may be outside 0 ... 1, and the sum of those of
a step away from 1, by 1e-6.

n units, m examples, T_x steps.
"""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, memset

from .linalg cimport linalg
from .linalg.linalg cimport as_matrix
from .linalg.softmax cimport row_sum
from .runtime.buffers cimport array_type, buffer_free, new_array, values_alloc, workspace_alloc
from .runtime.limits cimport DISTRIBUTION_ERROR, ELEMENTWISE_FLOPS, LOSS_COLUMNS, LOSS_ROW, SUM_CHUNK
from .runtime.parallel cimport (
    FP_PLAIN, cancelled, fp_enter, fp_leave, fp_state, poll_signals, region, serial, thread,
)
from .runtime.real cimport REAL_MAX, REAL_MIN, fabs, half, one, real, two, zero
from .runtime.threads cimport raise_if_cancelled, region_init
from .runtime.views cimport (
    as_columns_view, column_copy, is_plain_1i, is_plain_2i, matrix, new_cube, refuse, strided,
)


def log(real[::1] x not None) -> None:          # IN/OUT
    """x = log(x), for normal positive numbers."""
    cdef Py_ssize_t u
    cdef fp_state before
    with nogil:
        before = fp_enter(FP_PLAIN)
        for u in range(x.shape[0]):
            x[u] = linalg.log(x[u])
        fp_leave(before)


# One long row of units by columns: adds the terms of the loss to `sums`; whether a value is not what it should be.
ctypedef bint (*row_fn)(
    const real *y_pred, const real *y_true, const real *scale,          # IN     (count)
    real *sums,                                                         # IN/OUT (count)
    real *dz,                                                           # OUT    (count)
    Py_ssize_t count,
) noexcept nogil


cdef struct loss:
    Py_ssize_t n, m, T_x
    row_fn row                  # of a loss whose units have terms of their own
    Py_ssize_t block            # columns at a time
    Py_ssize_t joined           # rows that make one long row; 1 where there is more than one block
    Py_ssize_t rows             # long rows, the last may be shorter
    bint has_targets            # y_true is read, else classes
    strided pred, true          # y_pred and y_true as matrices
    thread thr                  # the caller's, which polls for signals
    const real *y_pred          # (n, m T_x)
    const real *y_true          # (n, m T_x), probabilities or targets; NULL for classes
    const int64_t *classes      # (m, T_x), integer labels, or NULL
    const int64_t *lengths      # (m), or NULL
    const real *weights         # (m, T_x), or NULL
    real *dz                    # (n, m T_x)
    real *scale                 # workspace (joined, m T_x), w/W or w/(n W), the same in every row
    real *sums                  # workspace (joined, block), the terms of the loss
    real *totals                # workspace (joined, block), sums of y_pred over the units
    real *label_totals          # workspace (joined, block), sums of the labels
    real *copies[2]             # workspace for a strided step of y_pred and y_true


cdef int bind(
    loss *p,
    const real[:, :, :] y_pred,         # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] y_true,         # IN   (n, m, T_x) likewise, or None
    const int64_t[:, ::1] classes,      # IN   (m, T_x) or None
    const int64_t[::1] lengths,         # IN   (m) or None
    const real[:, ::1] weights,         # IN   (m, T_x) or None
) except -1:
    """Check the arrays and divide the work."""
    cdef Py_ssize_t n = y_pred.shape[0], m = y_pred.shape[1], T_x = y_pred.shape[2]
    p.n, p.m, p.T_x = n, m, T_x
    if n < 1 or m < 1 or T_x < 1:
        raise ValueError("no step to score")
    if classes is not None:
        if classes.shape[0] != m or classes.shape[1] != T_x or not is_plain_2i(classes, array_type):
            refuse()
    if lengths is not None and (lengths.shape[0] != m or not is_plain_1i(lengths, array_type)):
        refuse()
    as_columns_view(y_pred, n, m, T_x, &p.pred)
    p.has_targets = y_true is not None
    if p.has_targets:
        as_columns_view(y_true, n, m, T_x, &p.true)
    p.classes = &classes[0, 0] if classes is not None else NULL
    p.lengths = &lengths[0] if lengths is not None else NULL
    if (<uintptr_t> p.classes | <uintptr_t> p.lengths) % sizeof(int64_t):
        refuse()
    p.weights = matrix(weights, m, T_x) if weights is not None else NULL
    p.block = min(m * T_x, LOSS_COLUMNS)
    p.joined = max(min(LOSS_ROW // (m * T_x), n), 1)
    p.rows = (n + p.joined - 1) // p.joined
    return 0


cdef real *loss_alloc(loss *p, real *workspace) noexcept nogil:
    """Reserve the workspace that begins at `workspace`; its end."""
    cdef Py_ssize_t columns = p.m * p.T_x
    p.scale = workspace_alloc(&workspace, p.joined * columns)
    p.sums = workspace_alloc(&workspace, p.joined * p.block)
    p.totals = workspace_alloc(&workspace, p.joined * p.block)
    p.label_totals = workspace_alloc(&workspace, p.joined * p.block if p.has_targets else 0)
    p.copies[0] = workspace_alloc(&workspace, column_copy(p.pred, p.n, columns))
    p.copies[1] = workspace_alloc(&workspace, column_copy(p.true, p.n, columns) if p.has_targets else 0)
    return workspace


cdef bint weigh(loss *p, Py_ssize_t terms) noexcept nogil:
    """scale = w / W / terms, in every row.  Whether all is well: the lengths from 0 to T_x, the weights not
    negative, their sum positive and finite."""
    cdef Py_ssize_t columns = p.m * p.T_x, j, t, length
    cdef real *row
    cdef const real *w
    cdef real bad = zero, total
    for j in range(p.m):
        length = p.lengths[j] if p.lengths else p.T_x
        if length < 0 or length > p.T_x:
            return False
        row = p.scale + j * p.T_x
        w = p.weights + j * p.T_x if p.weights else NULL
        for t in range(length):
            row[t] = w[t] if w else one
        for t in range(length, p.T_x):
            row[t] = zero
    for t in range(columns if p.weights else 0):
        bad = bad if p.scale[t] >= zero else one
    total = row_sum(p.scale, columns)
    if bad > zero or not zero < total <= REAL_MAX:
        return False
    for t in range(columns):
        p.scale[t] = p.scale[t] / total / terms
    for j in range(1, p.joined):
        memcpy(p.scale + j * columns, p.scale, columns * sizeof(real))
    return True


cdef void fold(real *sums, Py_ssize_t rows, Py_ssize_t columns, bint back) noexcept nogil:
    """The first row becomes the sum of all, and the others too if it is to go `back` to them."""
    cdef Py_ssize_t i, k
    for i in range(1, rows):
        for k in range(columns):
            sums[k] += sums[i * columns + k]
    for i in range(1, rows if back else 0):
        memcpy(sums + i * columns, sums, columns * sizeof(real))


cdef real weighted(const real *sums, real *scale, Py_ssize_t columns) noexcept nogil:
    """The sum of sums * scale."""
    cdef real product[SUM_CHUNK]
    cdef real total = zero
    cdef Py_ssize_t piece, first, count, k
    for piece in range((columns + SUM_CHUNK - 1) // SUM_CHUNK):
        first, count = piece * SUM_CHUNK, min(columns - piece * SUM_CHUNK, SUM_CHUNK)
        for k in range(count):
            product[k] = sums[first + k] * scale[first + k]
        total += row_sum(product, count)
    return total


cdef bint classes_row(
    const real *restrict y, const real *restrict scale,         # IN     (count)
    real *restrict totals,                                      # IN/OUT (count)
    real *restrict dz,                                          # OUT    (count)
    Py_ssize_t count,
) noexcept nogil:
    """dz without the labels, and add y to the totals; whether a y is not a probability."""
    cdef real bad = zero, y_k
    cdef Py_ssize_t k
    for k in range(count):
        y_k = y[k]                              # read first: a branch around a read is no vector
        y_k = y_k if scale[k] > zero else zero
        bad = bad if fabs(y_k - half) <= half + DISTRIBUTION_ERROR else one
        totals[k] += y_k
        dz[k] = scale[k] * y_k
    return bad > zero


cdef bint no_distribution(loss *p, const real *scale, Py_ssize_t count) noexcept nogil:
    """Whether the probabilities of some scored column, summed in p.totals, do not sum to 1."""
    cdef real bad = zero
    cdef Py_ssize_t k
    fold(p.totals, p.joined, count, False)
    for k in range(count):
        bad = bad if fabs(p.totals[k] - one) <= DISTRIBUTION_ERROR or scale[k] <= zero else one
    return bad > zero


cdef bint classes_block(loss *p, Py_ssize_t first, Py_ssize_t count, double *total) noexcept nogil:
    """A block of columns with integer labels; whether something was not a probability or not a class."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, u, k
    cdef bint bad = False
    cdef int64_t label
    cdef real *scale = p.scale + first
    cdef real *dz = p.dz + first
    cdef const real *y = p.y_pred + first
    cdef const int64_t *labels = p.classes + first
    memset(p.totals, 0, p.joined * count * sizeof(real))
    for i in range(p.rows):
        poll_signals(p.thr, ELEMENTWISE_FLOPS * p.joined * count)
        u = i * p.joined
        bad |= classes_row(y + u * columns, scale, p.totals, dz + u * columns, min(p.joined, p.n - u) * count)
    bad |= no_distribution(p, scale, count)
    for k in range(count):
        label = labels[k] if scale[k] > zero else 0
        if label < 0 or label >= p.n:
            return True
        p.sums[k] = y[label * columns + k] if scale[k] > zero else one
        dz[label * columns + k] = scale[k] * (p.sums[k] - one)
    for k in range(count):
        p.sums[k] = -linalg.log(p.sums[k] if p.sums[k] > REAL_MIN else REAL_MIN)
    total[0] += <double> weighted(p.sums, scale, count)
    return bad


cdef bint probabilities_row(
    const real *restrict y, const real *restrict labels, const real *restrict scale,        # IN     (count)
    real *restrict sums, real *restrict totals,                                             # IN/OUT (count)
    real *restrict label_totals,                                                            # IN/OUT (count)
    Py_ssize_t count,
) noexcept nogil:
    """Add -labels log(y), y and labels; whether a y is not a probability or a label negative or NaN."""
    cdef real bad = zero, y_k, label
    cdef Py_ssize_t k
    for k in range(count):
        y_k, label = y[k], labels[k]            # read first: a branch around a read is no vector
        y_k = y_k if scale[k] > zero else zero
        label = label if scale[k] > zero else zero
        y_k = y_k if label >= zero else -one     # one condition: two would not be vectorised
        bad = bad if fabs(y_k - half) <= half + DISTRIBUTION_ERROR else one
        sums[k] -= label * linalg.log(y_k if y_k > REAL_MIN else REAL_MIN)
        label_totals[k] += label
        totals[k] += y_k
    return bad > zero


cdef void probabilities_gradient(
    const real *restrict y, const real *restrict labels,            # IN  (count)
    const real *restrict scale, const real *restrict totals,        # IN  (count)
    real *restrict dz,                                              # OUT (count)
    Py_ssize_t count,
) noexcept nogil:
    cdef real off
    cdef Py_ssize_t k
    for k in range(count):
        off = y[k] * totals[k] - labels[k]
        dz[k] = scale[k] * (off if scale[k] > zero else zero)


cdef bint probabilities_block(loss *p, Py_ssize_t first, Py_ssize_t count, double *total) noexcept nogil:
    """A block of columns with probabilities for labels; whether one of them is not."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, k, at, rows
    cdef bint bad = False
    cdef real *scale = p.scale + first
    memset(p.sums, 0, p.joined * count * sizeof(real))
    memset(p.totals, 0, p.joined * count * sizeof(real))
    memset(p.label_totals, 0, p.joined * count * sizeof(real))
    for i in range(p.rows):
        poll_signals(p.thr, ELEMENTWISE_FLOPS * p.joined * count)
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        bad |= probabilities_row(
            p.y_pred + at, p.y_true + at, scale, p.sums, p.totals, p.label_totals, rows * count,
        )
    bad |= no_distribution(p, scale, count)
    fold(p.sums, p.joined, count, False)
    fold(p.label_totals, p.joined, count, True)
    for k in range(count):
        bad |= not p.label_totals[k] <= REAL_MAX     # an infinite label, or large ones
    for i in range(p.rows):
        poll_signals(p.thr, ELEMENTWISE_FLOPS * p.joined * count)
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        probabilities_gradient(p.y_pred + at, p.y_true + at, scale, p.label_totals, p.dz + at, rows * count)
    total[0] += <double> weighted(p.sums, scale, count)
    return bad or not total[0] <= <double> REAL_MAX


cdef bint squares_row(
    const real *restrict z, const real *restrict targets, const real *restrict scale,           # IN     (count)
    real *restrict sums,                                                                        # IN/OUT (count)
    real *restrict dz,                                                                          # OUT    (count)
    Py_ssize_t count,
) noexcept nogil:
    """The squared error; what is not finite makes the loss so."""
    cdef real off
    cdef Py_ssize_t k
    for k in range(count):
        off = z[k] - targets[k]
        off = off if scale[k] > zero else zero
        sums[k] += off * off
        dz[k] = two * scale[k] * off
    return False


cdef inline real log_1p(real x) noexcept nogil:
    """log(1 + x) for x from -1 to 1; -708.4 for -1.  What 1 + x loses is added to first order."""
    cdef real u = one + x, lost = x - (u - one)
    u = u if u > REAL_MIN else REAL_MIN
    return linalg.log(u) + lost / u


cdef bint sigmoids_row(
    const real *restrict y, const real *restrict targets, const real *restrict scale,           # IN     (count)
    real *restrict sums,                                                                        # IN/OUT (count)
    real *restrict dz,                                                                          # OUT    (count)
    Py_ssize_t count,
) noexcept nogil:
    """The binary cross-entropy of probabilities; whether one, or a target, is not from 0 to 1."""
    cdef real bad = zero, y_k, target
    cdef Py_ssize_t k
    for k in range(count):
        y_k, target = y[k], targets[k]          # read first: a branch around a read is no vector
        y_k = y_k if scale[k] > zero else zero
        target = target if scale[k] > zero else zero
        bad = bad if y_k >= zero else one
        bad = bad if y_k <= one else one
        bad = bad if target >= zero else one
        bad = bad if target <= one else one
        sums[k] -= target * linalg.log(y_k if y_k > REAL_MIN else REAL_MIN) + (one - target) * log_1p(-y_k)
        dz[k] = scale[k] * (y_k - target)
    return bad > zero


cdef bint logits_row(
    const real *restrict z, const real *restrict targets, const real *restrict scale,           # IN     (count)
    real *restrict sums,                                                                        # IN/OUT (count)
    real *restrict dz,                                                                          # OUT    (count)
    Py_ssize_t count,
) noexcept nogil:
    """The binary cross-entropy of logits; whether a target is not from 0 to 1.  A logit that is not finite makes the
    loss so."""
    cdef real bad = zero, z_k, target, other, small
    cdef Py_ssize_t k
    for k in range(count):
        z_k, target = z[k], targets[k]          # read first: a branch around a read is no vector
        z_k = z_k if scale[k] > zero else zero
        target = target if scale[k] > zero else zero
        bad = bad if target >= zero else one
        bad = bad if target <= one else one
        other = one - target
        small = linalg.exp(-fabs(z_k))
        sums[k] += fabs(z_k) * (other if z_k > zero else target) + log_1p(small)
        # other sigmoid(z) - target sigmoid(-z), so that a target of 0 or 1 loses no digits
        dz[k] = scale[k] * ((other - target * small if z_k > zero else other * small - target) / (one + small))
    return bad > zero


cdef bint rows_block(loss *p, Py_ssize_t first, Py_ssize_t count, double *total) noexcept nogil:
    """A block of columns of a loss whose units have terms of their own; whether something is not what it should be."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, at, rows
    cdef bint bad = False
    memset(p.sums, 0, p.joined * count * sizeof(real))
    for i in range(p.rows):
        poll_signals(p.thr, ELEMENTWISE_FLOPS * p.joined * count)
        at, rows = i * p.joined * columns + first, min(p.joined, p.n - i * p.joined)
        bad |= p.row(p.y_pred + at, p.y_true + at, p.scale + first, p.sums, p.dz + at, rows * count)
    fold(p.sums, p.joined, count, False)
    total[0] += <double> weighted(p.sums, p.scale + first, count)
    return bad or not total[0] <= <double> REAL_MAX


ctypedef bint (*block_fn)(loss *p, Py_ssize_t first, Py_ssize_t count, double *total) noexcept nogil


cdef double evaluate(loss *p, block_fn block, Py_ssize_t terms) except? -1.0:
    """The loss; an error if a value that counts is not what it should be."""
    cdef Py_ssize_t columns = p.m * p.T_x, i, first
    cdef real *workspace = values_alloc(loss_alloc(p, NULL) - <real *> NULL)
    cdef double total = 0.0
    cdef bint bad
    cdef fp_state before
    cdef region state = region_init(ELEMENTWISE_FLOPS * p.n * columns)
    p.thr = serial
    p.thr.region = &state
    loss_alloc(p, workspace)
    with nogil:
        before = fp_enter(FP_PLAIN)
        bad = not weigh(p, terms)
        if not bad:
            p.y_pred = as_matrix(p.pred, p.n, columns, p.copies[0])
            p.y_true = as_matrix(p.true, p.n, columns, p.copies[1]) if p.has_targets else NULL
            for i in range((columns + p.block - 1) // p.block):
                if cancelled(p.thr):
                    break
                first = i * p.block
                bad |= block(p, first, min(p.block, columns - first), &total)
        fp_leave(before)
    buffer_free(workspace)
    raise_if_cancelled(&state)
    if bad:
        raise ValueError("a value that counts is not what it should be")
    return total


cdef tuple loss_and_gradient(loss *p, block_fn block, Py_ssize_t terms):
    """The loss, and dz (n, m, T_x)."""
    dz_out = new_array((p.n, p.m, p.T_x))
    cdef real[:, :, ::1] dz = dz_out
    p.dz = new_cube(dz)
    return evaluate(p, block, terms), dz_out


def cross_entropy(
    const real[:, :, :] y_pred not None,    # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] labels not None,    # IN   (n, m, T_x), likewise
    const int64_t[::1] lengths,             # IN   (m) or None
    const real[:, ::1] weights,             # IN   (m, T_x) or None
) -> tuple:
    """The loss, and dz (n, m, T_x)."""
    cdef loss p
    bind(&p, y_pred, labels, None, lengths, weights)
    return loss_and_gradient(&p, probabilities_block, 1)


def cross_entropy_of_classes(
    const real[:, :, :] y_pred not None,    # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const int64_t[:, ::1] classes not None,     # IN   (m, T_x)
    const int64_t[::1] lengths,             # IN   (m) or None
    const real[:, ::1] weights,             # IN   (m, T_x) or None
) -> tuple:
    """The loss, and dz (n, m, T_x)."""
    cdef loss p
    bind(&p, y_pred, None, classes, lengths, weights)
    return loss_and_gradient(&p, classes_block, 1)


cdef tuple loss_of_rows(
    row_fn row, const real[:, :, :] given, const real[:, :, :] targets, const int64_t[::1] lengths,
    const real[:, ::1] weights,
):
    """The loss, and dz (n, m, T_x)."""
    cdef loss p
    bind(&p, given, targets, None, lengths, weights)
    p.row = row
    return loss_and_gradient(&p, rows_block, p.n)


def mean_squared_error(
    const real[:, :, :] z not None,         # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] targets not None,       # IN   (n, m, T_x), likewise
    const int64_t[::1] lengths,             # IN   (m) or None
    const real[:, ::1] weights,             # IN   (m, T_x) or None
) -> tuple:
    """The loss, and dz (n, m, T_x)."""
    return loss_of_rows(squares_row, z, targets, lengths, weights)


def binary_cross_entropy(
    const real[:, :, :] y_pred not None,    # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] targets not None,       # IN   (n, m, T_x), likewise
    const int64_t[::1] lengths,             # IN   (m) or None
    const real[:, ::1] weights,             # IN   (m, T_x) or None
) -> tuple:
    """The loss, and dz (n, m, T_x)."""
    return loss_of_rows(sigmoids_row, y_pred, targets, lengths, weights)


def binary_cross_entropy_of_logits(
    const real[:, :, :] z not None,         # IN   (n, m, T_x), C-contiguous, or one step of any strides
    const real[:, :, :] targets not None,       # IN   (n, m, T_x), likewise
    const int64_t[::1] lengths,             # IN   (m) or None
    const real[:, ::1] weights,             # IN   (m, T_x) or None
) -> tuple:
    """The loss, and dz (n, m, T_x)."""
    return loss_of_rows(logits_row, z, targets, lengths, weights)
