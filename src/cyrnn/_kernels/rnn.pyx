"""Basic RNN: forward and backward, a whole sequence.  One step: `rnn_step.pyx`.

    a[t+1] = tanh(Wax x[t] + Waa a[t] + ba)                                          (forward)

    dz[t]  = (1 - a[t+1]^2) * (da[t] + Waa' dz[t+1])                                 (backward)
    dx[t]  = Wax' dz[t]
    dWax   = sum_t dz[t] x[t]'      dWaa = sum_t dz[t] a[t]'      dba = sum_t dz[t]

In a sequence time comes first and units are innermost: a is (T_x + 1, m, n_a), row 0 the initial
state. Wax x[t] + ba is written where a[t+1] will stand, Waa a[t] is added to it, tanh overwrites
it. Steps are worked on in blocks: a block of x is turned into this order, projected in one product
(or one a step, where each thread has its own examples), stepped through, and its a turned back, all
while it is in the cache.

Who owns which buffer and what is checked: see `_kernels/__init__.py`; threads: see `team.h`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; index u counts units, j examples,
t steps.
"""

from libc.string cimport memcpy, memset

from .arguments cimport matrix, sequence, state
from .batch cimport (
    batch, batch_columns, batch_of, before, block_end, block_start, carve_batch, clear_past, columns_before,
    examples_at, first_of, load_batch, load_state, mean_examples, run, runs, set_block, share_examples, sort_batch,
    store_batch, store_state, times,
)
from .gemm cimport (
    ADD, BIAS, PANEL, ZERO, add_rows, by_rows, carve_weights, large, multiply, multiply_shared,
    multiply_transposed, outer, outer_room, pack_columns, pack_rows, start, weights, weights_of,
)
from .layout cimport carve, odd_lines, steps
from .memory cimport take
from .output cimport output, output_of, predict
from .team cimport barrier, by_itself, clip, halted, look_up, settle, share, span, team, whole
from .threads cimport on_threads, worth
from .vmath cimport tanh


cdef struct Forward:
    Py_ssize_t n_x, n_a
    batch batch
    double operations           # of a column
    bint keep                   # all steps of a, or a block of them at a time
    bint rows                   # threads share the units of a step, else its examples
    bint joint                  # and what is done for a block at once, else each does it for its examples
    steps x, a0, a_out
    weights Wax, Waa
    const double *ba
    double *a                   # (wide + columns, n_a), of all steps or of a block
    double *xs                  # scratch (columns of a block, n_x); the same place as out.z
    output out


cdef double *carve_forward(Forward *r, double *scratch) noexcept nogil:
    """Give the scratch buffers their places from `scratch` on; the end of the last."""
    carve_weights(&r.Wax, &scratch)
    carve_weights(&r.Waa, &scratch)
    carve_weights(&r.out.Wy, &scratch)
    carve_batch(&r.batch, &scratch)
    r.xs = r.out.z = carve(&scratch, r.batch.most * max(r.n_x, r.out.n_y))
    if not r.keep:
        r.a = carve(&scratch, (r.batch.wide + r.batch.most) * r.n_a)
    return scratch


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations for all t."""
    cdef Forward *r = <Forward *> problem
    cdef const batch *b = &r.batch
    cdef Py_ssize_t n_a = r.n_a, t0 = 0, t1, t, u, n = 0, begin, old, new, ldx
    cdef const double *xs
    cdef double *z
    cdef span units = share(n_a, 8, me), values = units, mine, of, part
    cdef team step = me if r.rows else by_itself(me), block = me if r.joint else step

    pack_rows(&r.Wax, me)
    pack_rows(&r.Waa, me)
    pack_rows(&r.out.Wy, me)
    clear_past(r.a_out, b, units)
    clear_past(r.out.y, b, share(r.out.n_y, 8, me))
    load_state(r.a, n_a, r.a0, b, units)
    barrier(me)
    while t0 < b.T and not halted(me):
        t1 = block_end(b, t0)
        old = before(b, t0) if r.keep else 0        # columns of a: before a step, and after it
        new = begin = b.wide + (first_of(b, t0) if r.keep else 0)
        mine = whole(b.m) if r.rows else share_examples(b, t0, t1, me)
        of = whole(b.m) if r.joint else mine
        xs = batch_columns(r.x, r.n_x, b, t0, t1, r.xs, &ldx, share(r.n_x, 8, block), of)
        barrier(block)
        for t in range(runs(b, t0, t1, of)):
            part = run(b, t0, t1, of, t)
            z = r.a + (begin + part.lo) * n_a
            multiply_shared(z, 0, n_a, &r.Wax, xs + part.lo * ldx, ldx, part.hi - part.lo, BIAS, r.ba, block)
        barrier(me)             # out.z stands where the xs of others does; and between two barriers one can `settle`
        for t in range(t0, t1):
            n = examples_at(b, t)
            look_up(me, r.operations * n)
            part = clip(mine, n)
            values = share(n * n_a, 8, me) if r.rows else times(part, n_a)
            z = r.a + new * n_a
            multiply(
                z + part.lo * n_a, 0, n_a, &r.Waa, r.a + (old + part.lo) * n_a, n_a, part.hi - part.lo, ADD, NULL, step,
            )
            barrier(step)
            for u in range(values.lo, values.hi):
                z[u] = tanh(z[u])
            barrier(step)
            old = new
            new += n
        barrier(block)
        settle(me)
        store_batch(r.a_out, r.a + begin * n_a, n_a, b, t0, t1, share(n_a, 8, block), of)
        if not r.keep:
            memcpy(r.a + values.lo, r.a + old * n_a + values.lo, (values.hi - values.lo) * sizeof(double))
        predict(&r.out, r.a + begin * n_a, n_a, b, t0, t1, of, block)
        barrier(me)
        t0 = t1


def forward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x,
    x,              # IN   (n_x, m, T_x)
    a0,             # IN   (n_a, m) or (n_a, 1)
    Wax,            # IN   (n_a, n_x)
    Waa,            # IN   (n_a, n_a)
    ba,             # IN   (n_a, 1)
    Wya,            # IN   (n_y, n_a)
    by,             # IN   (n_y, 1)
    lengths,        # IN   (m), as `arguments.lengths` returns them; None if every example has all steps
    a,              # OUT  (n_a, m, T_x)
    y,              # OUT  (n_y, m, T_x)
    a_cache,        # OUT  (wide + columns, n_a), the first of them a0; wide is m, with lengths the number of
                    #      examples that have a step, in their order; None to keep nothing
) -> None:
    """a[0] = a0, a[t+1] = tanh(Wax x[t] + Waa a[t] + ba), y[t] = softmax(Wya a[t+1] + by)."""
    cdef Forward r
    cdef Py_ssize_t shares
    r.keep = a_cache is not None
    r.n_x, r.n_a = n_x, n_a
    batch_of(&r.batch, lengths, m, T_x, T_x)
    cdef double columns = r.batch.columns
    set_block(
        &r.batch, max(n_x, n_y) + (0 if r.keep else n_a),
        (n_a + n_y) * <double> m * T_x + (n_a * columns if r.keep else 0), 16,
    )
    sequence(x, n_x, m, T_x, False, &r.x)
    state(a0, n_a, m, False, &r.a0)
    r.Wax = weights_of(matrix(Wax, n_a, n_x), n_x, n_a, n_x, False)
    r.Waa = weights_of(matrix(Waa, n_a, n_a), n_a, n_a, n_a, r.batch.T == 1)
    r.ba = matrix(ba, n_a, 1)
    output_of(&r.out, Wya, by, y, n_a, n_y, m, T_x)
    sequence(a, n_a, m, T_x, True, &r.a_out)
    r.a = matrix(a_cache, r.batch.wide + r.batch.kept, n_a) if r.keep else NULL
    r.rows = by_rows(&r.Waa, mean_examples(&r.batch), &shares)
    r.joint = r.rows or r.batch.at_once or large(&r.Wax) or large(&r.out.Wy)

    r.operations = 2.0 * n_a * (n_x + n_a + n_y)
    cdef int threads = worth(r.operations * columns, shares)
    r.Wax.once = r.out.Wy.once = r.batch.columns <= r.batch.most and (r.joint or threads == 1)
    cdef double *scratch = take(carve_forward(&r, NULL) - <double *> NULL)
    carve_forward(&r, scratch)
    sort_batch(&r.batch)
    on_threads(run_forward, &r, threads, r.operations * columns, scratch)


cdef void unit_backward(
    const double *restrict a_next, const double *restrict carry,    # IN     (n)
    double *restrict dz,                                            # IN/OUT (n), da comes in
    Py_ssize_t n,
) noexcept nogil:
    cdef Py_ssize_t u
    for u in range(n):
        dz[u] = (1.0 - a_next[u] * a_next[u]) * (dz[u] + carry[u])


cdef struct Backward:
    Py_ssize_t n_x, n_a
    batch batch
    double operations           # of a column
    bint rows, joint            # as in Forward
    steps da, x, dx, da0
    weights Wax, Waa
    const double *a             # (wide + columns, n_a), what `forward` kept
    double *dWax
    double *dWaa
    double *dba
    double *xs                  # scratch (columns of a block, n_x); dx, when the block's dWax is done
    double *dz                  # scratch (columns of a block, ld); da, until its step comes
    Py_ssize_t *columns_prev    # scratch (columns of a block), with lengths
    double *carry               # scratch (wide, n_a), da of the step before
    double *rooms               # scratch, one for each thread
    Py_ssize_t ld


cdef double *carve_backward(Backward *r, double *scratch, int threads) noexcept nogil:
    cdef Py_ssize_t most = r.batch.most
    carve_weights(&r.Wax, &scratch)
    carve_weights(&r.Waa, &scratch)
    carve_batch(&r.batch, &scratch)
    r.xs = carve(&scratch, most * r.n_x)
    r.dz = carve(&scratch, most * r.ld)
    r.columns_prev = <Py_ssize_t *> carve(&scratch, 0 if r.batch.lengths == NULL else most)
    r.carry = carve(&scratch, r.batch.wide * r.n_a)
    r.rooms = carve(&scratch, threads * outer_room(max(r.n_x, r.n_a), most))
    return scratch


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations, from the last step to the first."""
    cdef Backward *r = <Backward *> problem
    cdef const batch *b = &r.batch
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, ld = r.ld, t0, t1 = b.T, t, j, n, ldx
    cdef const double *xs
    cdef const double *a
    cdef const Py_ssize_t *at
    cdef const double *a_next
    cdef double *dz
    cdef double *room = r.rooms + me.thread * outer_room(max(n_x, n_a), b.most)
    cdef span units = share(n_a, 6, me), values = share(b.wide * n_a, 8, me), mine, of, part
    cdef team step = me if r.rows else by_itself(me), block = me if r.joint else step
    cdef Py_ssize_t mine_units = units.hi - units.lo
    cdef start how = ZERO

    if b.T == 0 and me.thread == 0:
        memset(r.dWax, 0, n_a * n_x * sizeof(double))
        memset(r.dWaa, 0, n_a * n_a * sizeof(double))
    memset(r.dba + units.lo, 0, mine_units * sizeof(double))
    memset(r.carry + values.lo, 0, (values.hi - values.lo) * sizeof(double))
    clear_past(r.dx, b, share(n_x, 8, me))
    pack_columns(&r.Wax, me)
    pack_columns(&r.Waa, me)
    barrier(me)
    while t1 > 0 and not halted(me):
        t0 = block_start(b, t1)
        mine = whole(b.m) if r.rows else share_examples(b, t0, t1, me)
        of = whole(b.m) if r.joint else mine
        load_batch(r.dz, ld, r.da, b, t0, t1, share(n_a, 8, block), of)
        xs = batch_columns(r.x, n_x, b, t0, t1, r.xs, &ldx, share(n_x, 8, block), of)
        a = r.a + before(b, t0) * n_a
        at = columns_before(b, t0, t1, r.columns_prev, me)
        barrier(block)
        for t in range(t1 - 1, t0 - 1, -1):
            n = examples_at(b, t)
            look_up(me, r.operations * n)
            part = share(n, 1, me) if r.rows else clip(mine, n)
            dz = r.dz + (first_of(b, t) - first_of(b, t0)) * ld
            a_next = r.a + (b.wide + first_of(b, t)) * n_a
            if ld == n_a:       # the examples of a step as one long row
                j = part.lo * n_a
                unit_backward(a_next + j, r.carry + j, dz + j, (part.hi - part.lo) * n_a)
            else:
                for j in range(part.lo, part.hi):
                    unit_backward(a_next + j * n_a, r.carry + j * n_a, dz + j * ld, n_a)
            barrier(step)
            if r.rows:
                part = whole(n)
            multiply_transposed(
                r.carry + part.lo * n_a, n_a, &r.Waa, dz + part.lo * ld, 0, ld, part.hi - part.lo, step,
            )
            barrier(step)
        barrier(me)
        n = first_of(b, t1) - first_of(b, t0)
        dz = r.dz + units.lo
        outer(r.dWax + units.lo * n_x, n_x, dz, ld, mine_units, xs, ldx, NULL, n_x, n, how, room, me)
        outer(r.dWaa + units.lo * n_a, n_a, dz, ld, mine_units, a, n_a, at, n_a, n, how, room, me)
        add_rows(r.dba + units.lo, dz, ld, mine_units, n)
        how = ADD
        barrier(me)
        settle(me)
        for t in range(runs(b, t0, t1, of)):
            part = run(b, t0, t1, of, t)
            multiply_transposed(
                r.xs + part.lo * n_x, n_x, &r.Wax, r.dz + part.lo * ld, 0, ld, part.hi - part.lo, block,
            )
        store_batch(r.dx, r.xs, n_x, b, t0, t1, share(n_x, PANEL, block), of)
        barrier(me)
        t1 = t0
    store_state(r.da0, r.carry, n_a, b, units)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    Py_ssize_t T_cache,     # steps in the cache, at least T_x
    da,             # IN   (n_a, m, T_x)
    x,              # IN   (n_x, m, T_x)
    lengths,        # IN   as `forward` had them
    a_cache,        # IN   (wide + columns, n_a), as `forward` left it
    Wax,            # IN   (n_a, n_x)
    Waa,            # IN   (n_a, n_a)
    dx,             # OUT  (n_x, m, T_x)
    da0,            # OUT  (n_a, m)
    dWax,           # OUT  (n_a, n_x)
    dWaa,           # OUT  (n_a, n_a)
    dba,            # OUT  (n_a, 1)
) -> None:
    """The gradients, given those of all hidden states, from the last step to the first."""
    cdef Backward r
    cdef Py_ssize_t shares
    if T_cache < T_x:
        raise ValueError("the cache has too few steps")
    r.n_x, r.n_a, r.ld = n_x, n_a, odd_lines(n_a)
    batch_of(&r.batch, lengths, m, T_x, T_cache)
    cdef double columns = r.batch.columns
    cdef double column = n_x + r.ld + (0 if r.batch.lengths == NULL else 1)
    set_block(&r.batch, column, n_x * <double> m * T_x + <double> n_a * (n_a + n_x), 64)
    sequence(da, n_a, m, T_x, False, &r.da)
    sequence(x, n_x, m, T_x, False, &r.x)
    r.a = matrix(a_cache, r.batch.wide + r.batch.kept, n_a)
    r.Wax = weights_of(matrix(Wax, n_a, n_x), n_x, n_a, n_x, False)
    r.Waa = weights_of(matrix(Waa, n_a, n_a), n_a, n_a, n_a, r.batch.T == 1)
    sequence(dx, n_x, m, T_x, True, &r.dx)
    state(da0, n_a, m, True, &r.da0)
    r.dWax, r.dWaa, r.dba = matrix(dWax, n_a, n_x), matrix(dWaa, n_a, n_a), matrix(dba, n_a, 1)
    r.rows = by_rows(&r.Waa, mean_examples(&r.batch), &shares)
    r.joint = r.rows or r.batch.at_once or large(&r.Wax)

    r.operations = 4.0 * n_a * (n_x + n_a)
    cdef int threads = worth(r.operations * columns, shares)
    r.Wax.once = r.batch.columns <= r.batch.most and (r.joint or threads == 1)
    cdef double *scratch = take(carve_backward(&r, NULL, threads) - <double *> NULL)
    carve_backward(&r, scratch, threads)
    sort_batch(&r.batch)
    on_threads(run_backward, &r, threads, r.operations * columns, scratch)
