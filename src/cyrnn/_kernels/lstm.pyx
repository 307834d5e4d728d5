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
of x is turned into this order, projected in one product (or one a step, where each thread has its own
examples), stepped through, and its a and c turned back, all while it is in the cache.

Who owns which buffer and what is checked: see `_kernels/__init__.py`; threads: see `team.h`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; index u counts units, j examples,
t steps, g gates.
"""

from libc.string cimport memcpy, memset

from .arguments cimport box, matrix, sequence, state
from .batch cimport (
    batch, batch_columns, batch_of, before, block_end, block_start, carve_batch, clear_past, columns_before,
    examples_at, first_of, load_batch, load_state, mean_examples, run, runs, set_block, share_examples, sort_batch,
    store_batch, store_state, times,
)
from .gemm cimport (
    ADD, BIAS, PANEL, ZERO, add_rows, by_rows, carve_weights, large, multiply, multiply_shared,
    multiply_transposed, outer, outer_room, pack_columns, pack_rows, start, weights,
)
from .layout cimport carve, odd_lines, steps
from .memory cimport take
from .output cimport output, output_of, predict
from .team cimport barrier, by_itself, clip, halted, look_up, settle, share, span, team, whole
from .threads cimport on_threads, worth


cdef struct Forward:
    Py_ssize_t n_x, n_a
    batch batch
    double operations           # of a column
    bint keep                   # all steps of a, c and the gates, or a block of them at a time
    bint rows                   # threads share the units of a step, else its examples
    bint joint                  # and what is done for a block at once, else each does it for its examples
    bint c_given
    steps x, a0, c0, a_out, c_out
    weights W_x, W_a
    const double *b[4]
    double *a                   # (wide + columns, n_a), of all steps or of a block
    double *c                   # (wide + columns, n_a)
    double *gates               # (4, columns, n_a); for m = 1 (columns, 4, n_a)
    double *bias                # scratch (4, n_a)
    double *xs                  # scratch (columns of a block, n_x); the same place as out.z
    output out


cdef double *carve_forward(Forward *r, double *scratch) noexcept nogil:
    """Give the scratch buffers their places from `scratch` on; the end of the last."""
    carve_weights(&r.W_x, &scratch)
    carve_weights(&r.W_a, &scratch)
    carve_weights(&r.out.Wy, &scratch)
    carve_batch(&r.batch, &scratch)
    r.bias = carve(&scratch, 4 * r.n_a)
    r.xs = r.out.z = carve(&scratch, r.batch.most * max(r.n_x, r.out.n_y))
    if not r.keep:
        r.a = carve(&scratch, (r.batch.wide + r.batch.most) * r.n_a)
        r.c = carve(&scratch, (r.batch.wide + r.batch.most) * r.n_a)
        r.gates = carve(&scratch, 4 * r.batch.most * r.n_a)
    return scratch


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations for all t."""
    cdef Forward *r = <Forward *> problem
    cdef const batch *b = &r.batch
    cdef Py_ssize_t n_a = r.n_a, m = b.m, wide = b.wide, t0 = 0, t1, t, k, n = 0, begin, old, new, ldx
    cdef Py_ssize_t sg = n_a if m == 1 else (b.columns if r.keep else b.most) * n_a     # from gate to gate
    cdef Py_ssize_t ld = 4 * n_a if m == 1 else n_a                                     # from example to example
    cdef const double *xs
    cdef double *z
    cdef span units = share(n_a, 8, me), values = share(wide * n_a, 8, me), mine, of, part
    cdef team step = me if r.rows else by_itself(me), block = me if r.joint else step

    pack_rows(&r.W_x, me)
    pack_rows(&r.W_a, me)
    pack_rows(&r.out.Wy, me)
    if me.thread == 0:
        for k in range(4):
            memcpy(r.bias + k * n_a, r.b[k], n_a * sizeof(double))
    clear_past(r.a_out, b, units)
    clear_past(r.c_out, b, units)
    clear_past(r.out.y, b, share(r.out.n_y, 8, me))
    load_state(r.a, n_a, r.a0, b, units)
    if r.c_given:
        load_state(r.c, n_a, r.c0, b, units)
    else:
        memset(r.c + values.lo, 0, (values.hi - values.lo) * sizeof(double))
    barrier(me)
    while t0 < b.T and not halted(me):
        t1 = block_end(b, t0)
        old = before(b, t0) if r.keep else 0        # columns of a and c: before a step, and after it
        new = begin = wide + (first_of(b, t0) if r.keep else 0)
        mine = whole(m) if r.rows else share_examples(b, t0, t1, me)
        of = whole(m) if r.joint else mine
        xs = batch_columns(r.x, r.n_x, b, t0, t1, r.xs, &ldx, share(r.n_x, 8, block), of)
        barrier(block)
        for t in range(runs(b, t0, t1, of)):
            part = run(b, t0, t1, of, t)
            z = r.gates + (begin - wide + part.lo) * ld
            multiply_shared(z, sg, ld, &r.W_x, xs + part.lo * ldx, ldx, part.hi - part.lo, BIAS, r.bias, block)
        barrier(me)             # out.z stands where the xs of others does; and between two barriers one can `settle`
        for t in range(t0, t1):
            n = examples_at(b, t)
            look_up(me, r.operations * n)
            part = clip(mine, n)
            values = share(n * n_a, 8, me) if r.rows else times(part, n_a)
            z = r.gates + (new - wide) * ld
            multiply(
                z + part.lo * ld, sg, ld, &r.W_a, r.a + (old + part.lo) * n_a, n_a, part.hi - part.lo, ADD, NULL, step,
            )
            barrier(step)
            z += values.lo
            k = new * n_a + values.lo
            step_forward(
                z, z + sg, z + 2 * sg, z + 3 * sg, r.c + old * n_a + values.lo, r.c + k, r.a + k,
                values.hi - values.lo,
            )
            barrier(step)
            old = new
            new += n
        barrier(block)
        settle(me)
        store_batch(r.a_out, r.a + begin * n_a, n_a, b, t0, t1, share(n_a, 8, block), of)
        store_batch(r.c_out, r.c + begin * n_a, n_a, b, t0, t1, share(n_a, 8, block), of)
        if not r.keep:
            k = old * n_a + values.lo
            memcpy(r.a + values.lo, r.a + k, (values.hi - values.lo) * sizeof(double))
            memcpy(r.c + values.lo, r.c + k, (values.hi - values.lo) * sizeof(double))
        predict(&r.out, r.a + begin * n_a, n_a, b, t0, t1, of, block)
        barrier(me)
        t0 = t1


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
    lengths,        # IN   (m), as `arguments.lengths` returns them; None if every example has all steps
    a,              # OUT  (n_a, m, T_x)
    y,              # OUT  (n_y, m, T_x)
    c,              # OUT  (n_a, m, T_x)
    cache,          # OUT  (6 columns + 2 wide, n_a): a, c, gates as at the top, one after the other; wide is m, with
                    #      lengths the number of examples that have a step; None to keep nothing
) -> None:
    """a[0] = a0, c[0] = c0, then the forward equations above for all t, and y[t] = softmax(Wy a[t+1] + by)."""
    cdef Forward r
    cdef Py_ssize_t shares
    r.keep = cache is not None
    r.n_x, r.n_a = n_x, n_a
    batch_of(&r.batch, lengths, m, T_x, T_x)
    cdef double columns = r.batch.columns
    set_block(
        &r.batch, max(n_x, n_y) + (0 if r.keep else 6 * n_a),
        (2 * n_a + n_y) * <double> m * T_x + (6 * n_a * columns if r.keep else 0), 16,
    )
    sequence(x, n_x, m, T_x, False, &r.x)
    state(a0, n_a, m, False, &r.a0)
    r.c_given = c0 is not None
    if r.c_given:
        state(c0, n_a, m, False, &r.c0)
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, m == 1, &r.W_a, &r.W_x)
    r.W_a.once = r.batch.T == 1
    r.b[0], r.b[1], r.b[2], r.b[3] = matrix(bf, n_a, 1), matrix(bi, n_a, 1), matrix(bc, n_a, 1), matrix(bo, n_a, 1)
    output_of(&r.out, Wy, by, y, n_a, n_y, m, T_x)
    sequence(a, n_a, m, T_x, True, &r.a_out)
    sequence(c, n_a, m, T_x, True, &r.c_out)
    if r.keep:
        r.a = matrix(cache, 2 * r.batch.wide + 6 * r.batch.kept, n_a)
        r.c = r.a + (r.batch.wide + r.batch.kept) * n_a
        r.gates = r.c + (r.batch.wide + r.batch.kept) * n_a
    r.rows = by_rows(&r.W_a, mean_examples(&r.batch), &shares)
    r.joint = r.rows or r.batch.at_once or large(&r.W_x) or large(&r.out.Wy)

    r.operations = 2.0 * n_a * (4.0 * (n_a + n_x) + n_y)
    cdef int threads = worth(r.operations * columns, shares)
    r.W_x.once = r.out.Wy.once = r.batch.columns <= r.batch.most and (r.joint or threads == 1)
    cdef double *scratch = take(carve_forward(&r, NULL) - <double *> NULL)
    carve_forward(&r, scratch)
    sort_batch(&r.batch)
    on_threads(run_forward, &r, threads, r.operations * columns, scratch)


cdef struct Backward:
    Py_ssize_t n_x, n_a
    batch batch
    double operations           # of a column
    bint rows, joint            # as in Forward
    bint dc_given, dc0_wanted
    steps da, dc, x, dx, da0, dc0
    weights W_x, W_a
    const double *a             # what `forward` kept
    const double *c
    const double *gates
    Py_ssize_t sg               # from gate to gate
    double *dW                  # (4, n_a, n_a + n_x)
    double *db                  # (4, n_a)
    double *xs                  # scratch (columns of a block, n_x); dx, when the block's weight gradients are done
    double *dgates              # scratch (4, columns of a block, ld), for m = 1 as gates; da and dc are in do and df
    Py_ssize_t *columns_prev    # scratch (columns of a block), with lengths
    double *da_carry            # scratch (wide, n_a), da of the step before
    double *dc_carry            # scratch (wide, n_a)
    double *rooms               # scratch, one for each thread
    Py_ssize_t sd, ld           # dgates: from gate to gate, from example to example


cdef double *carve_backward(Backward *r, double *scratch, int threads) noexcept nogil:
    cdef Py_ssize_t m = r.batch.m, most = r.batch.most
    carve_weights(&r.W_x, &scratch)
    carve_weights(&r.W_a, &scratch)
    carve_batch(&r.batch, &scratch)
    r.xs = carve(&scratch, most * r.n_x)
    r.dgates = carve(&scratch, most * r.ld if m == 1 else 4 * r.sd)
    r.columns_prev = <Py_ssize_t *> carve(&scratch, 0 if r.batch.lengths == NULL else most)
    r.da_carry = carve(&scratch, r.batch.wide * r.n_a)
    r.dc_carry = carve(&scratch, r.batch.wide * r.n_a)
    r.rooms = carve(&scratch, threads * outer_room(max(r.n_x, r.n_a), most))
    return scratch


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations, from the last step to the first."""
    cdef Backward *r = <Backward *> problem
    cdef const batch *b = &r.batch
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, m = b.m, wide = b.wide, ldW = n_a + n_x, sg = r.sg, sd = r.sd, ld = r.ld
    cdef Py_ssize_t t0, t1 = b.T, t, j, u, g, n, together, ldx
    cdef const double *xs
    cdef const double *a
    cdef const Py_ssize_t *at
    cdef const double *c_prev
    cdef const double *c_next
    cdef const double *f
    cdef double *dW
    cdef double *df
    cdef double *df_j
    cdef double *room = r.rooms + me.thread * outer_room(max(n_x, n_a), b.most)
    cdef span units = share(n_a, 6, me), values = share(wide * n_a, 8, me), mine, of, part
    cdef team step = me if r.rows else by_itself(me), block = me if r.joint else step
    cdef Py_ssize_t mine_units = units.hi - units.lo
    cdef start how = ZERO

    if b.T == 0 and me.thread == 0:
        memset(r.dW, 0, 4 * n_a * ldW * sizeof(double))
    for g in range(4):
        memset(r.db + g * n_a + units.lo, 0, mine_units * sizeof(double))
    memset(r.da_carry + values.lo, 0, (values.hi - values.lo) * sizeof(double))
    memset(r.dc_carry + values.lo, 0, (values.hi - values.lo) * sizeof(double))
    clear_past(r.dx, b, share(n_x, 8, me))
    pack_columns(&r.W_x, me)
    pack_columns(&r.W_a, me)
    barrier(me)
    while t1 > 0 and not halted(me):
        t0 = block_start(b, t1)
        mine = whole(m) if r.rows else share_examples(b, t0, t1, me)
        of = whole(m) if r.joint else mine
        load_batch(r.dgates + 3 * sd, ld, r.da, b, t0, t1, share(n_a, 8, block), of)
        if r.dc_given:
            load_batch(r.dgates, ld, r.dc, b, t0, t1, share(n_a, 8, block), of)
        xs = batch_columns(r.x, n_x, b, t0, t1, r.xs, &ldx, share(n_x, 8, block), of)
        a = r.a + before(b, t0) * n_a
        at = columns_before(b, t0, t1, r.columns_prev, me)
        barrier(block)
        for t in range(t1 - 1, t0 - 1, -1):
            n = examples_at(b, t)
            look_up(me, r.operations * n)
            part = share(n, 1, me) if r.rows else clip(mine, n)
            c_prev, c_next = r.c + before(b, t) * n_a, r.c + (wide + first_of(b, t)) * n_a
            f = r.gates + first_of(b, t) * (n_a if m > 1 else 4 * n_a)
            df = r.dgates + (first_of(b, t) - first_of(b, t0)) * ld
            together = part.hi - part.lo if m > 1 and ld == n_a else 1      # examples of a step as one
            j = part.lo
            while j < part.hi:
                df_j = df + j * ld
                g = j * n_a
                if r.dc_given:
                    for u in range(together * n_a):
                        r.dc_carry[g + u] += df_j[u]
                unit_backward(
                    f + g, f + sg + g, f + 2 * sg + g, f + 3 * sg + g, c_prev + g, c_next + g, r.da_carry + g,
                    r.dc_carry + g, df_j, df_j + sd, df_j + 2 * sd, df_j + 3 * sd, together * n_a,
                )
                j += together
            barrier(step)
            if r.rows:
                part = whole(n)
            multiply_transposed(
                r.da_carry + part.lo * n_a, n_a, &r.W_a, df + part.lo * ld, sd, ld, part.hi - part.lo, step,
            )
            barrier(step)
        barrier(me)
        n = first_of(b, t1) - first_of(b, t0)
        for g in range(4):
            df = r.dgates + g * sd + units.lo
            dW = r.dW + (g * n_a + units.lo) * ldW
            outer(dW, ldW, df, ld, mine_units, a, n_a, at, n_a, n, how, room, me)
            outer(dW + n_a, ldW, df, ld, mine_units, xs, ldx, NULL, n_x, n, how, room, me)
            add_rows(r.db + g * n_a + units.lo, df, ld, mine_units, n)
        how = ADD
        barrier(me)
        settle(me)
        for t in range(runs(b, t0, t1, of)):
            part = run(b, t0, t1, of, t)
            df = r.dgates + part.lo * ld
            multiply_transposed(r.xs + part.lo * n_x, n_x, &r.W_x, df, sd, ld, part.hi - part.lo, block)
        store_batch(r.dx, r.xs, n_x, b, t0, t1, share(n_x, PANEL, block), of)
        barrier(me)
        t1 = t0
    store_state(r.da0, r.da_carry, n_a, b, units)
    if r.dc0_wanted:
        store_state(r.dc0, r.dc_carry, n_a, b, units)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    Py_ssize_t T_cache,     # steps in the cache, at least T_x
    da,             # IN   (n_a, m, T_x)
    dc,             # IN   (n_a, m, T_x); None for zeros
    x,              # IN   (n_x, m, T_x)
    lengths,        # IN   as `forward` had them
    cache,          # IN   (6 columns + 2 wide, n_a), as `forward` left it
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
    cdef Py_ssize_t shares
    if T_cache < T_x:
        raise ValueError("the cache has too few steps")
    r.n_x, r.n_a = n_x, n_a
    r.ld = odd_lines(n_a) if m > 1 else odd_lines(4 * n_a)
    batch_of(&r.batch, lengths, m, T_x, T_cache)
    cdef double columns = r.batch.columns
    cdef double column = n_x + (4 * r.ld if m > 1 else r.ld) + (0 if r.batch.lengths == NULL else 1)
    set_block(&r.batch, column, n_x * <double> m * T_x + 4.0 * n_a * (n_a + n_x), 64)
    r.sd = r.batch.most * r.ld if m > 1 else n_a
    r.sg = r.batch.kept * n_a if m > 1 else n_a
    sequence(da, n_a, m, T_x, False, &r.da)
    r.dc_given, r.dc0_wanted = dc is not None, dc0 is not None
    if r.dc_given:
        sequence(dc, n_a, m, T_x, False, &r.dc)
    sequence(x, n_x, m, T_x, False, &r.x)
    r.a = matrix(cache, 2 * r.batch.wide + 6 * r.batch.kept, n_a)
    r.c = r.a + (r.batch.wide + r.batch.kept) * n_a
    r.gates = r.c + (r.batch.wide + r.batch.kept) * n_a
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, m == 1, &r.W_a, &r.W_x)
    r.W_a.once = r.batch.T == 1
    sequence(dx, n_x, m, T_x, True, &r.dx)
    state(da0, n_a, m, True, &r.da0)
    if r.dc0_wanted:
        state(dc0, n_a, m, True, &r.dc0)
    r.dW, r.db = box(dW, 4, n_a, n_a + n_x), box(db, 4, n_a, 1)
    r.rows = by_rows(&r.W_a, mean_examples(&r.batch), &shares)
    r.joint = r.rows or r.batch.at_once or large(&r.W_x)

    r.operations = 16.0 * n_a * (n_a + n_x)
    cdef int threads = worth(r.operations * columns, shares)
    r.W_x.once = r.batch.columns <= r.batch.most and (r.joint or threads == 1)
    cdef double *scratch = take(carve_backward(&r, NULL, threads) - <double *> NULL)
    carve_backward(&r, scratch, threads)
    sort_batch(&r.batch)
    on_threads(run_backward, &r, threads, r.operations * columns, scratch)
