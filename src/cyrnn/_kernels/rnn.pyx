"""Basic RNN: forward and backward, a whole sequence.  One step: `rnn_step.pyx`.

    a[t+1] = tanh(Wax x[t] + Waa a[t] + ba)                                          (forward)

    dz[t]  = (1 - a[t+1]^2) * (da[t] + Waa' dz[t+1])                                 (backward)
    dx[t]  = Wax' dz[t]
    dWax   = sum_t dz[t] x[t]'      dWaa = sum_t dz[t] a[t]'      dba = sum_t dz[t]

In a sequence time comes first and units are innermost: a is (T_x + 1, m, n_a), row 0 the initial
state.  Wax x[t] + ba is written where a[t+1] will stand, Waa a[t] is added to it, tanh overwrites
it.  Steps are worked on in blocks: a block of x is turned into this order, projected in one
product, stepped through, and its a turned back, all while it is in the cache.

Who owns which buffer and what is checked: see `_kernels/__init__.py`; threads: see `team.h`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; index u counts units, j examples,
t steps.
"""

from libc.string cimport memcpy, memset

from .arguments cimport box, matrix, sequence, state
from .gemm cimport (
    ADD, BIAS, PANEL, ZERO, add_rows, by_rows, carve_weights, multiply, multiply_shared,
    multiply_transposed, outer, outer_room, pack_columns, pack_rows, start, weights, weights_of,
)
from .layout cimport block_of, blocks_of, carve, columns_of, load_steps, odd_lines, steps, store_steps
from .memory cimport give, take
from .output cimport output, output_of, predict
from .team cimport barrier, by_itself, halted, look_up, run_team, settle, share, span, team, watch
from .threads cimport dismiss, hire, unless_stopped, watched, worth
from .vmath cimport tanh


cdef struct Forward:
    Py_ssize_t n_x, n_a, m, T_x, block
    double operations           # of a step
    bint keep                   # all steps of a, or a block of them at a time
    bint rows                   # threads share the units of a step, else its examples
    steps x, a0, a_out
    weights Wax, Waa
    const double *ba
    double *a                   # (T_x + 1 or block + 1, m, n_a)
    double *xs                  # scratch (block * m, n_x); the same place as out.z
    output out


cdef double *carve_forward(Forward *r, double *scratch) noexcept nogil:
    """Give the scratch buffers their places from `scratch` on; the end of the last."""
    carve_weights(&r.Wax, &scratch)
    carve_weights(&r.Waa, &scratch)
    carve_weights(&r.out.Wy, &scratch)
    r.xs = r.out.z = carve(&scratch, r.block * r.m * max(r.n_x, r.out.n_y))
    if not r.keep:
        r.a = carve(&scratch, (r.block + 1) * r.m * r.n_a)
    return scratch


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations for all t."""
    cdef Forward *r = <Forward *> problem
    cdef Py_ssize_t n_a = r.n_a, m = r.m, row = m * n_a, b, t0, t, u, count, ldx
    cdef const double *xs
    cdef double *a
    cdef double *z
    cdef span units = share(n_a, 8, me), flat = share(row, 8, me)
    cdef span mine = share(m, 1, me)            # examples of one step
    cdef team step = me if r.rows else by_itself(me)
    cdef span values = flat                     # and its values
    cdef Py_ssize_t j0 = 0, js = m
    if not r.rows:
        values.lo, values.hi = mine.lo * n_a, mine.hi * n_a
        j0, js = mine.lo, mine.hi - mine.lo

    pack_rows(&r.Wax, me)
    pack_rows(&r.Waa, me)
    pack_rows(&r.out.Wy, me)
    load_steps(r.a, n_a, r.a0, m, 0, 1, units)
    for b in range(blocks_of(m, r.T_x, r.block)):
        if halted(me):
            break
        t0 = b * r.block
        count = min(r.block, r.T_x - t0)
        a = r.a + (t0 * row if r.keep else 0)
        xs = columns_of(r.x, r.n_x, m, t0, count, r.xs, &ldx, share(r.n_x, 8, me))
        barrier(me)
        multiply_shared(a + row, 0, n_a, &r.Wax, xs, ldx, count * m, BIAS, r.ba, me)
        barrier(me)
        for t in range(count):
            look_up(me, r.operations)
            z = a + (t + 1) * row
            multiply(z + j0 * n_a, 0, n_a, &r.Waa, a + t * row + j0 * n_a, n_a, js, ADD, NULL, step)
            barrier(step)
            for u in range(values.lo, values.hi):
                z[u] = tanh(z[u])
            barrier(step)
        barrier(me)
        settle(me)
        store_steps(r.a_out, a + row, n_a, m, t0, count, units)
        if not r.keep:
            memcpy(a + flat.lo, a + count * row + flat.lo, (flat.hi - flat.lo) * sizeof(double))
        predict(&r.out, a + row, n_a, m, t0, count, me)
        barrier(me)


def forward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m, Py_ssize_t T_x,
    x,              # IN   (n_x, m, T_x)
    a0,             # IN   (n_a, m) or (n_a, 1)
    Wax,            # IN   (n_a, n_x)
    Waa,            # IN   (n_a, n_a)
    ba,             # IN   (n_a, 1)
    Wya,            # IN   (n_y, n_a)
    by,             # IN   (n_y, 1)
    a,              # OUT  (n_a, m, T_x)
    y,              # OUT  (n_y, m, T_x)
    a_cache,        # OUT  (T_x + 1, m, n_a), row 0 becomes a0; None to keep nothing
) -> None:
    """a[0] = a0, a[t+1] = tanh(Wax x[t] + Waa a[t] + ba), y[t] = softmax(Wya a[t+1] + by)."""
    cdef Forward r
    cdef Py_ssize_t shares
    r.keep = a_cache is not None
    r.n_x, r.n_a, r.m, r.T_x = n_x, n_a, m, T_x
    r.block = block_of(
        m, T_x, max(n_x, n_y) + (0 if r.keep else n_a), (n_a * (2 if r.keep else 1) + n_y) * <double> m * T_x, 16
    )
    sequence(x, n_x, m, T_x, False, &r.x)
    state(a0, n_a, m, False, &r.a0)
    r.Wax = weights_of(matrix(Wax, n_a, n_x), n_x, n_a, n_x, T_x <= r.block)
    r.Waa = weights_of(matrix(Waa, n_a, n_a), n_a, n_a, n_a, T_x == 1)
    r.ba = matrix(ba, n_a, 1)
    output_of(&r.out, Wya, by, y, n_a, n_y, m, T_x, r.block)
    sequence(a, n_a, m, T_x, True, &r.a_out)
    r.a = box(a_cache, T_x + 1, m, n_a) if r.keep else NULL
    r.rows = by_rows(&r.Waa, m, &shares)

    r.operations = 2.0 * m * n_a * (n_x + n_a + r.out.n_y)
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


cdef void unit_backward(
    const double *restrict a_next, const double *restrict carry,    # IN     (n)
    double *restrict dz,                                            # IN/OUT (n), da comes in
    Py_ssize_t n,
) noexcept nogil:
    cdef Py_ssize_t u
    for u in range(n):
        dz[u] = (1.0 - a_next[u] * a_next[u]) * (dz[u] + carry[u])


cdef struct Backward:
    Py_ssize_t n_x, n_a, m, T_x, block
    double operations           # of a step
    bint rows                   # threads share the units of a step, else its examples
    steps da, x, dx, da0
    weights Wax, Waa
    const double *a             # (T_x + 1, m, n_a), what `forward` kept
    double *dWax
    double *dWaa
    double *dba
    double *xs                  # scratch (block * m, n_x); dx, when the block's dWax is done
    double *dz                  # scratch (block * m, ld); da, until its step comes
    double *carry               # scratch (m, n_a), da of the step before
    double *rooms               # scratch, one for each thread
    Py_ssize_t ld


cdef double *carve_backward(Backward *r, double *scratch, int threads) noexcept nogil:
    cdef Py_ssize_t columns = r.block * r.m
    carve_weights(&r.Wax, &scratch)
    carve_weights(&r.Waa, &scratch)
    r.xs = carve(&scratch, columns * r.n_x)
    r.dz = carve(&scratch, columns * r.ld)
    r.carry = carve(&scratch, r.m * r.n_a)
    r.rooms = carve(&scratch, threads * outer_room(max(r.n_x, r.n_a)))
    return scratch


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations, from the last step to the first."""
    cdef Backward *r = <Backward *> problem
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, m = r.m, row = m * n_a, ld = r.ld
    cdef Py_ssize_t b, t0, t, j, k, count, ldx
    cdef const double *xs
    cdef const double *a
    cdef double *dz
    cdef double *room = r.rooms + me.thread * outer_room(max(n_x, n_a))
    cdef span units = share(n_a, 6, me), inputs = share(n_x, PANEL, me)
    cdef span mine = share(m, 1, me)            # examples of one step
    cdef team step = me if r.rows else by_itself(me)
    cdef Py_ssize_t j0 = 0 if r.rows else mine.lo, js = m if r.rows else mine.hi - mine.lo
    cdef Py_ssize_t mine_units = units.hi - units.lo
    cdef start how = ZERO

    if blocks_of(m, r.T_x, r.block) == 0 and me.thread == 0:
        memset(r.dWax, 0, n_a * n_x * sizeof(double))
        memset(r.dWaa, 0, n_a * n_a * sizeof(double))
    memset(r.dba + units.lo, 0, mine_units * sizeof(double))
    memset(r.carry + mine.lo * n_a, 0, (mine.hi - mine.lo) * n_a * sizeof(double))
    pack_columns(&r.Wax, me)
    pack_columns(&r.Waa, me)
    for b in range(blocks_of(m, r.T_x, r.block) - 1, -1, -1):
        if halted(me):
            break
        t0 = b * r.block
        count = min(r.block, r.T_x - t0)
        a = r.a + t0 * row
        load_steps(r.dz, ld, r.da, m, t0, count, share(n_a, 8, me))
        xs = columns_of(r.x, n_x, m, t0, count, r.xs, &ldx, share(n_x, 8, me))
        barrier(me)
        for t in range(count - 1, -1, -1):
            look_up(me, r.operations)
            dz = r.dz + t * m * ld
            k = (t + 1) * row
            if ld == n_a:       # the examples of a step as one long row
                unit_backward(
                    a + k + mine.lo * n_a, r.carry + mine.lo * n_a, dz + mine.lo * n_a, (mine.hi - mine.lo) * n_a
                )
            else:
                for j in range(mine.lo, mine.hi):
                    unit_backward(a + k + j * n_a, r.carry + j * n_a, dz + j * ld, n_a)
            barrier(step)
            multiply_transposed(r.carry + j0 * n_a, n_a, &r.Waa, dz + j0 * ld, 0, ld, js, step)
            barrier(step)
        barrier(me)
        dz = r.dz + units.lo
        outer(r.dWax + units.lo * n_x, n_x, dz, ld, mine_units, xs, ldx, n_x, count * m, how, room, me)
        outer(r.dWaa + units.lo * n_a, n_a, dz, ld, mine_units, a, n_a, n_a, count * m, how, room, me)
        add_rows(r.dba + units.lo, dz, ld, mine_units, count * m)
        how = ADD
        barrier(me)
        settle(me)
        multiply_transposed(r.xs, n_x, &r.Wax, r.dz, 0, ld, count * m, me)
        store_steps(r.dx, r.xs, n_x, m, t0, count, inputs)
        barrier(me)
    store_steps(r.da0, r.carry, n_a, m, 0, 1, units)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m, Py_ssize_t T_x,
    Py_ssize_t T_cache,     # steps in the cache, at least T_x
    da,             # IN   (n_a, m, T_x)
    x,              # IN   (n_x, m, T_x)
    a_cache,        # IN   (T_cache + 1, m, n_a), as `forward` left it
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
    r.n_x, r.n_a, r.m, r.T_x, r.ld = n_x, n_a, m, T_x, odd_lines(n_a)
    r.block = block_of(m, T_x, n_x + r.ld, <double> n_x * m * T_x + <double> n_a * (n_a + n_x), 64)
    sequence(da, n_a, m, T_x, False, &r.da)
    sequence(x, n_x, m, T_x, False, &r.x)
    r.a = box(a_cache, T_cache + 1, m, n_a)
    r.Wax = weights_of(matrix(Wax, n_a, n_x), n_x, n_a, n_x, T_x <= r.block)
    r.Waa = weights_of(matrix(Waa, n_a, n_a), n_a, n_a, n_a, T_x == 1)
    sequence(dx, n_x, m, T_x, True, &r.dx)
    state(da0, n_a, m, True, &r.da0)
    r.dWax, r.dWaa, r.dba = matrix(dWax, n_a, n_x), matrix(dWaa, n_a, n_a), matrix(dba, n_a, 1)
    r.rows = by_rows(&r.Waa, m, &shares)

    r.operations = 4.0 * m * n_a * (n_x + n_a)
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
