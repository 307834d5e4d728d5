"""LSTM: forward and backward, a whole sequence.  One step: `lstm_step.pyx`.

    f   = sigmoid(Wf [a[t], x[t]] + bf)         forget gate      ft               (forward)
    i   = sigmoid(Wi [a[t], x[t]] + bi)         update gate      it
    cct = tanh   (Wc [a[t], x[t]] + bc)         candidate        cct
    o   = sigmoid(Wo [a[t], x[t]] + bo)         output gate      ot
    c[t+1] = f * c[t] + i * cct
    a[t+1] = o * tanh(c[t+1])

    da   = da[t] + (Wf' df + Wi' di + Wc' dcct + Wo' do of step t+1, rows of a)   (backward)
    dc   = dc + dc[t] + da * o * (1 - tanh(c[t+1])^2)
    do   = da * tanh(c[t+1])  * o * (1 - o)
    df   = dc * c[t]          * f * (1 - f)
    di   = dc * cct           * i * (1 - i)
    dcct = dc * i             * (1 - cct^2)
    dc   = dc * f             (carried to step t-1; from the first step dc0)
    dx[t] = the same products as da, rows of x
    dWg  = sum_t dg[t] [a[t], x[t]]'     dbg = sum_t dg[t]     for each gate g

Here df, di, dcct, do are gradients before the activation.  In a sequence time comes first and units
are innermost: a and c are (T_x + 1, m, n_a), row 0 the initial state; gates are (4, T_x, m, n_a) in
the order f, i, c, o (for one example (T_x, 4, n_a), so that a product has one long row).  The gate
buffer first holds the projection of x with the bias, then the product with a[t] is added, then the
activations overwrite it: it is the cache of the backward pass.  Steps are worked on in blocks: a block
of x is turned into this order, projected in one product, stepped through, and its a and c turned back,
all while it is in the cache.

Who owns which buffer and what is checked: see `_kernels/__init__.py`; threads: see `team.h`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; index u counts units, j examples,
t steps, g gates.
"""

from libc.string cimport memcpy, memset

from .arguments cimport box, matrix, sequence, state
from .gemm cimport (
    ADD, BIAS, PANEL, ZERO, add_rows, by_rows, carve_weights, multiply, multiply_shared,
    multiply_transposed, outer, outer_room, pack_columns, pack_rows, start, weights,
)
from .layout cimport block_of, blocks_of, carve, columns_of, load_steps, odd_lines, steps, store_steps
from .memory cimport give, take
from .output cimport output, output_of, predict
from .team cimport barrier, by_itself, halted, look_up, run_team, settle, share, span, team, watch
from .threads cimport dismiss, hire, unless_stopped, watched, worth


cdef struct Forward:
    Py_ssize_t n_x, n_a, m, T_x, block
    double operations           # of a step
    bint keep                   # all steps of a, c and the gates, or a block of them at a time
    bint rows                   # threads share the units of a step, else its examples
    bint c_given
    steps x, a0, c0, a_out, c_out
    weights W_x, W_a
    const double *b[4]
    double *a                   # (T_x + 1 or block + 1, m, n_a)
    double *c                   # (T_x + 1 or block + 1, m, n_a)
    double *gates               # (4, T_x or block, m, n_a); for m = 1 (T_x or block, 4, n_a)
    double *bias                # scratch (4, n_a)
    double *xs                  # scratch (block * m, n_x); the same place as out.z
    output out


cdef double *carve_forward(Forward *r, double *scratch) noexcept nogil:
    """Give the scratch buffers their places from `scratch` on; the end of the last."""
    carve_weights(&r.W_x, &scratch)
    carve_weights(&r.W_a, &scratch)
    carve_weights(&r.out.Wy, &scratch)
    r.bias = carve(&scratch, 4 * r.n_a)
    r.xs = r.out.z = carve(&scratch, r.block * r.m * max(r.n_x, r.out.n_y))
    if not r.keep:
        r.a = carve(&scratch, (r.block + 1) * r.m * r.n_a)
        r.c = carve(&scratch, (r.block + 1) * r.m * r.n_a)
        r.gates = carve(&scratch, 4 * r.block * r.m * r.n_a)
    return scratch


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations for all t."""
    cdef Forward *r = <Forward *> problem
    cdef Py_ssize_t n_a = r.n_a, m = r.m, row = m * n_a, b, t0, t, k, count, ldx
    cdef Py_ssize_t sg = n_a if m == 1 else (r.T_x if r.keep else r.block) * row    # from gate to gate
    cdef Py_ssize_t ld = 4 * n_a if m == 1 else n_a                                 # from example to example
    cdef const double *xs
    cdef double *a
    cdef double *c
    cdef double *gates
    cdef double *z
    cdef span units = share(n_a, 8, me), flat = share(row, 8, me)
    cdef span mine = share(m, 1, me)            # examples of one step
    cdef team step = me if r.rows else by_itself(me)
    cdef span values = flat                     # and its values
    cdef Py_ssize_t j0 = 0, js = m
    if not r.rows:
        values.lo, values.hi = mine.lo * n_a, mine.hi * n_a
        j0, js = mine.lo, mine.hi - mine.lo

    pack_rows(&r.W_x, me)
    pack_rows(&r.W_a, me)
    pack_rows(&r.out.Wy, me)
    if me.thread == 0:
        for k in range(4):
            memcpy(r.bias + k * n_a, r.b[k], n_a * sizeof(double))
    load_steps(r.a, n_a, r.a0, m, 0, 1, units)
    if r.c_given:
        load_steps(r.c, n_a, r.c0, m, 0, 1, units)
    else:
        memset(r.c + flat.lo, 0, (flat.hi - flat.lo) * sizeof(double))
    for b in range(blocks_of(m, r.T_x, r.block)):
        if halted(me):
            break
        t0 = b * r.block
        count = min(r.block, r.T_x - t0)
        k = t0 if r.keep else 0
        a, c, gates = r.a + k * row, r.c + k * row, r.gates + k * m * ld
        xs = columns_of(r.x, r.n_x, m, t0, count, r.xs, &ldx, share(r.n_x, 8, me))
        barrier(me)
        multiply_shared(gates, sg, ld, &r.W_x, xs, ldx, count * m, BIAS, r.bias, me)
        barrier(me)
        for t in range(count):
            look_up(me, r.operations)
            z = gates + t * m * ld
            multiply(z + j0 * ld, sg, ld, &r.W_a, a + t * row + j0 * n_a, n_a, js, ADD, NULL, step)
            barrier(step)
            z += values.lo
            k = t * row + values.lo
            step_forward(z, z + sg, z + 2 * sg, z + 3 * sg, c + k, c + row + k, a + row + k, values.hi - values.lo)
            barrier(step)
        barrier(me)
        settle(me)
        store_steps(r.a_out, a + row, n_a, m, t0, count, units)
        store_steps(r.c_out, c + row, n_a, m, t0, count, units)
        if not r.keep:
            memcpy(a + flat.lo, a + count * row + flat.lo, (flat.hi - flat.lo) * sizeof(double))
            memcpy(c + flat.lo, c + count * row + flat.lo, (flat.hi - flat.lo) * sizeof(double))
        predict(&r.out, a + row, n_a, m, t0, count, me)
        barrier(me)


def forward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x,
    x,              # IN   (n_x, m, T_x)
    a0,             # IN   (n_a, m) or (n_a, 1)
    c0,             # IN   (n_a, m) or (n_a, 1); None for zeros
    Wf,             # IN   (n_a, n_a + n_x), columns of a before columns of x
    Wi,             # IN   (n_a, n_a + n_x)
    Wc,             # IN   (n_a, n_a + n_x)
    Wo,             # IN   (n_a, n_a + n_x)
    bf,             # IN   (n_a, 1)
    bi,             # IN   (n_a, 1)
    bc,             # IN   (n_a, 1)
    bo,             # IN   (n_a, 1)
    Wy,             # IN   (n_y, n_a)
    by,             # IN   (n_y, 1)
    a,              # OUT  (n_a, m, T_x)
    y,              # OUT  (n_y, m, T_x)
    c,              # OUT  (n_a, m, T_x)
    cache,          # OUT  (6 T_x + 2, m, n_a): a, c, gates as at the top, one after the other; None to keep nothing
) -> None:
    """a[0] = a0, c[0] = c0, then the forward equations above for all t, and y[t] = softmax(Wy a[t+1] + by)."""
    cdef Forward r
    cdef Py_ssize_t row = m * n_a, shares
    r.keep = cache is not None
    r.n_x, r.n_a, r.m, r.T_x = n_x, n_a, m, T_x
    r.block = block_of(
        m, T_x, max(n_x, n_y) + (0 if r.keep else 6 * n_a), (n_a * (8 if r.keep else 2) + n_y) * <double> m * T_x, 16
    )
    sequence(x, n_x, m, T_x, False, &r.x)
    state(a0, n_a, m, False, &r.a0)
    r.c_given = c0 is not None
    if r.c_given:
        state(c0, n_a, m, False, &r.c0)
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, m == 1, &r.W_a, &r.W_x)
    r.W_a.once, r.W_x.once = T_x == 1, T_x <= r.block
    r.b[0], r.b[1], r.b[2], r.b[3] = matrix(bf, n_a, 1), matrix(bi, n_a, 1), matrix(bc, n_a, 1), matrix(bo, n_a, 1)
    output_of(&r.out, Wy, by, y, n_a, n_y, m, T_x, r.block)
    sequence(a, n_a, m, T_x, True, &r.a_out)
    sequence(c, n_a, m, T_x, True, &r.c_out)
    if r.keep:
        r.a = box(cache, 6 * T_x + 2, m, n_a)
        r.c = r.a + (T_x + 1) * row
        r.gates = r.c + (T_x + 1) * row
    r.rows = by_rows(&r.W_a, m, &shares)

    r.operations = 2.0 * m * n_a * (4.0 * (n_a + n_x) + n_y)
    cdef int threads = worth(r.operations * T_x, shares)
    cdef double *scratch = take(carve_forward(&r, NULL) - <double *> NULL)
    carve_forward(&r, scratch)
    cdef watch watching = watched(r.operations * T_x)
    hire(threads)
    with nogil:
        run_team(run_forward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)
    unless_stopped(&watching)


cdef struct Backward:
    Py_ssize_t n_x, n_a, m, T_x, block
    double operations           # of a step
    bint rows                   # threads share the units of a step, else its examples
    bint dc_given, dc0_wanted
    steps da, dc, x, dx, da0, dc0
    weights W_x, W_a
    const double *a             # what `forward` kept
    const double *c
    const double *gates
    Py_ssize_t sg               # from gate to gate
    double *dW                  # (4, n_a, n_a + n_x)
    double *db                  # (4, n_a)
    double *xs                  # scratch (block * m, n_x); dx, when the block's weight gradients are done
    double *dgates              # scratch (4, block * m, ld), for m = 1 as gates; da and dc stand in the places of
                                # do and df until their step comes
    double *da_carry            # scratch (m, n_a), da of the step before
    double *dc_carry            # scratch (m, n_a)
    double *rooms               # scratch, one for each thread
    Py_ssize_t sd, ld           # dgates: from gate to gate, from example to example


cdef double *carve_backward(Backward *r, double *scratch, int threads) noexcept nogil:
    cdef Py_ssize_t columns = r.block * r.m
    carve_weights(&r.W_x, &scratch)
    carve_weights(&r.W_a, &scratch)
    r.xs = carve(&scratch, columns * r.n_x)
    r.dgates = carve(&scratch, columns * r.ld if r.m == 1 else 4 * r.sd)
    r.da_carry = carve(&scratch, r.m * r.n_a)
    r.dc_carry = carve(&scratch, r.m * r.n_a)
    r.rooms = carve(&scratch, threads * outer_room(max(r.n_x, r.n_a)))
    return scratch


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations, from the last step to the first."""
    cdef Backward *r = <Backward *> problem
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, m = r.m, row = m * n_a, ldW = n_a + n_x, sg = r.sg, sd = r.sd, ld = r.ld
    cdef Py_ssize_t b, t0, t, j, g, k, n, u, count, ldx
    cdef const double *xs
    cdef const double *a
    cdef const double *c
    cdef const double *f
    cdef double *dW
    cdef double *df
    cdef double *room = r.rooms + me.thread * outer_room(max(n_x, n_a))
    cdef span units = share(n_a, 6, me), inputs = share(n_x, PANEL, me), flat = share(row, 8, me)
    cdef span mine = share(m, 1, me)            # examples of one step
    cdef team step = me if r.rows else by_itself(me)
    cdef Py_ssize_t j0 = 0, js = m, mine_units = units.hi - units.lo
    cdef start how = ZERO
    if not r.rows:
        j0, js = mine.lo, mine.hi - mine.lo

    if blocks_of(m, r.T_x, r.block) == 0 and me.thread == 0:
        memset(r.dW, 0, 4 * n_a * ldW * sizeof(double))
    for g in range(4):
        memset(r.db + g * n_a + units.lo, 0, mine_units * sizeof(double))
    memset(r.da_carry + flat.lo, 0, (flat.hi - flat.lo) * sizeof(double))
    memset(r.dc_carry + flat.lo, 0, (flat.hi - flat.lo) * sizeof(double))
    pack_columns(&r.W_x, me)
    pack_columns(&r.W_a, me)
    for b in range(blocks_of(m, r.T_x, r.block) - 1, -1, -1):
        if halted(me):
            break
        t0 = b * r.block
        count = min(r.block, r.T_x - t0)
        a, c = r.a + t0 * row, r.c + t0 * row
        load_steps(r.dgates + 3 * sd, ld, r.da, m, t0, count, share(n_a, 8, me))
        if r.dc_given:
            load_steps(r.dgates, ld, r.dc, m, t0, count, share(n_a, 8, me))
        xs = columns_of(r.x, n_x, m, t0, count, r.xs, &ldx, share(n_x, 8, me))
        barrier(me)
        for t in range(count - 1, -1, -1):
            look_up(me, r.operations)
            n = n_a
            if m > 1 and ld == n_a:             # the examples of a step as one long row
                n = (mine.hi - mine.lo) * n_a
            for j in range(mine.lo, mine.hi if n == n_a else min(mine.lo + 1, mine.hi)):
                k = t * row + j * n_a
                f = r.gates + (t0 * row + k if m > 1 else 4 * (t0 + t) * n_a)
                df = r.dgates + (t * m + j) * ld
                if r.dc_given:
                    for u in range(n):
                        r.dc_carry[j * n_a + u] += df[u]
                unit_backward(
                    f, f + sg, f + 2 * sg, f + 3 * sg, c + k, c + row + k, r.da_carry + j * n_a,
                    r.dc_carry + j * n_a, df, df + sd, df + 2 * sd, df + 3 * sd, n,
                )
            barrier(step)
            multiply_transposed(r.da_carry + j0 * n_a, n_a, &r.W_a, r.dgates + (t * m + j0) * ld, sd, ld, js, step)
            barrier(step)
        barrier(me)
        for g in range(4):
            df = r.dgates + g * sd + units.lo
            dW = r.dW + (g * n_a + units.lo) * ldW
            outer(dW, ldW, df, ld, mine_units, a, n_a, n_a, count * m, how, room, me)
            outer(dW + n_a, ldW, df, ld, mine_units, xs, ldx, n_x, count * m, how, room, me)
            add_rows(r.db + g * n_a + units.lo, df, ld, mine_units, count * m)
        how = ADD
        barrier(me)
        settle(me)
        multiply_transposed(r.xs, n_x, &r.W_x, r.dgates, sd, ld, count * m, me)
        store_steps(r.dx, r.xs, n_x, m, t0, count, inputs)
        barrier(me)
    store_steps(r.da0, r.da_carry, n_a, m, 0, 1, units)
    if r.dc0_wanted:
        store_steps(r.dc0, r.dc_carry, n_a, m, 0, 1, units)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    Py_ssize_t T_cache,     # steps in the cache, at least T_x
    da,             # IN   (n_a, m, T_x)
    dc,             # IN   (n_a, m, T_x); None for zeros
    x,              # IN   (n_x, m, T_x)
    cache,          # IN   (6 T_cache + 2, m, n_a), as `forward` left it
    Wf,             # IN   (n_a, n_a + n_x), columns of a before columns of x
    Wi,             # IN   (n_a, n_a + n_x)
    Wc,             # IN   (n_a, n_a + n_x)
    Wo,             # IN   (n_a, n_a + n_x)
    dx,             # OUT  (n_x, m, T_x)
    da0,            # OUT  (n_a, m)
    dc0,            # OUT  (n_a, m); None if it is not wanted
    dW,             # OUT  (4, n_a, n_a + n_x), f i c o
    db,             # OUT  (4, n_a, 1), f i c o
) -> None:
    """The backward equations above, from the last step to the first."""
    cdef Backward r
    cdef Py_ssize_t row = m * n_a, shares
    if T_cache < T_x:
        raise ValueError("the cache has too few steps")
    r.n_x, r.n_a, r.m, r.T_x = n_x, n_a, m, T_x
    r.ld = odd_lines(n_a) if m > 1 else odd_lines(4 * n_a)
    r.block = block_of(
        m, T_x, n_x + (4 * r.ld if m > 1 else r.ld), <double> n_x * m * T_x + 4.0 * n_a * (n_a + n_x), 64
    )
    r.sd = r.block * m * r.ld if m > 1 else n_a
    r.sg = T_cache * row if m > 1 else n_a
    sequence(da, n_a, m, T_x, False, &r.da)
    r.dc_given, r.dc0_wanted = dc is not None, dc0 is not None
    if r.dc_given:
        sequence(dc, n_a, m, T_x, False, &r.dc)
    sequence(x, n_x, m, T_x, False, &r.x)
    r.a = box(cache, 6 * T_cache + 2, m, n_a)
    r.c = r.a + (T_cache + 1) * row
    r.gates = r.c + (T_cache + 1) * row
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, m == 1, &r.W_a, &r.W_x)
    r.W_a.once, r.W_x.once = T_x == 1, T_x <= r.block
    sequence(dx, n_x, m, T_x, True, &r.dx)
    state(da0, n_a, m, True, &r.da0)
    if r.dc0_wanted:
        state(dc0, n_a, m, True, &r.dc0)
    r.dW, r.db = box(dW, 4, n_a, n_a + n_x), box(db, 4, n_a, 1)
    r.rows = by_rows(&r.W_a, m, &shares)

    r.operations = 16.0 * m * n_a * (n_a + n_x)
    cdef int threads = worth(r.operations * T_x, shares)
    cdef double *scratch = take(carve_backward(&r, NULL, threads) - <double *> NULL)
    carve_backward(&r, scratch, threads)
    cdef watch watching = watched(r.operations * T_x)
    hire(threads)
    with nogil:
        run_team(run_backward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)
    unless_stopped(&watching)
