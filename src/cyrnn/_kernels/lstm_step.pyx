"""LSTM: one step, forward and backward.  The equations: `lstm.pyx`.

Everything stays in the caller's order: units by examples, the gates (4, n_a, m) in the order f, i, c, o.
Threads share the units: see `step.h`.

Who owns which buffer and what is checked: see `_kernels/__init__.py`.

n_x inputs, n_a hidden units, n_y outputs, m examples; index g counts gates.
"""

from libc.string cimport memcpy, memset

from .arguments cimport box, matrix, state
from .gemm cimport PANEL, weights
from .layout cimport flat_of, steps
from .lstm cimport gates_of, step_forward, unit_backward
from .memory cimport give, take
from .output cimport fill_rows, predict_step
from .step cimport rows_of, step_multiply, step_multiply_transposed, step_outer, sum_rows
from .team cimport barrier, run_team, span, team, watch
from .threads cimport dismiss, hire, step_work, watched, worth


cdef struct Forward:
    Py_ssize_t n_x, n_a, n_y, m
    weights W_a, W_x
    const double *b[4]
    const double *Wy
    const double *by
    const double *x             # (n_x, m)
    const double *a_prev        # (n_a, m)
    const double *c_prev        # (n_a, m)
    double *a_next              # (n_a, m)
    double *c_next              # (n_a, m)
    double *gates               # (4, n_a, m)
    double *z                   # scratch (n_y, m)
    double *y                   # (n_y, m)


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations."""
    cdef Forward *r = <Forward *> problem
    cdef Py_ssize_t row = r.n_a * r.m, g
    cdef span mine = rows_of(r.n_a, r.m, me)
    cdef Py_ssize_t k = mine.lo * r.m
    cdef double *f = r.gates + k
    for g in range(4):
        fill_rows(r.gates + g * row, r.b[g], r.m, mine)
        step_multiply(r.gates + g * row, r.m, r.W_x.part[g], r.W_x.ld, r.n_x, r.x, mine)
        step_multiply(r.gates + g * row, r.m, r.W_a.part[g], r.W_a.ld, r.n_a, r.a_prev, mine)
    step_forward(
        f, f + row, f + 2 * row, f + 3 * row, r.c_prev + k, r.c_next + k, r.a_next + k, (mine.hi - mine.lo) * r.m
    )
    barrier(me)
    predict_step(r.Wy, r.by, r.a_next, r.z, r.y, r.n_y, r.n_a, r.m, me)


def forward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m,
    xt,             # IN   (n_x, m)
    a_prev,         # IN   (n_a, m) or (n_a, 1)
    c_prev,         # IN   (n_a, m) or (n_a, 1)
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
    a_next,         # OUT  (n_a, m)
    c_next,         # OUT  (n_a, m)
    yt,             # OUT  (n_y, m)
    gates,          # OUT  (4, n_a, m), f i c o
) -> None:
    """The forward equations for one step."""
    cdef Forward r
    cdef steps x_in, a_in, c_in
    r.n_x, r.n_a, r.n_y, r.m = n_x, n_a, n_y, m
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, False, &r.W_a, &r.W_x)
    r.b[0], r.b[1], r.b[2], r.b[3] = matrix(bf, n_a, 1), matrix(bi, n_a, 1), matrix(bc, n_a, 1), matrix(bo, n_a, 1)
    r.Wy, r.by = matrix(Wy, n_y, n_a), matrix(by, n_y, 1)
    r.a_next, r.c_next, r.y = matrix(a_next, n_a, m), matrix(c_next, n_a, m), matrix(yt, n_y, m)
    r.gates = box(gates, 4, n_a, m)
    state(xt, n_x, m, True, &x_in)
    state(a_prev, n_a, m, False, &a_in)
    state(c_prev, n_a, m, False, &c_in)

    cdef Py_ssize_t row = n_a * m
    cdef int threads = worth(step_work(m, 2.0 * n_a * (4.0 * (n_x + n_a) + n_y)), n_a // PANEL)
    cdef double *scratch = take((n_x + n_y) * m + 2 * row)
    r.z = scratch + n_x * m + 2 * row
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        r.x = flat_of(x_in, n_x, m, scratch)
        r.a_prev = flat_of(a_in, n_a, m, scratch + n_x * m)
        r.c_prev = flat_of(c_in, n_a, m, scratch + n_x * m + row)
        run_team(run_forward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)


cdef struct Backward:
    Py_ssize_t n_x, n_a, m
    weights W_a, W_x
    const double *gates[4]      # (n_a, m) each, f i c o
    const double *c_next        # (n_a, m)
    const double *a_prev        # (n_a, m)
    const double *c_prev        # (n_a, m)
    const double *x             # (n_x, m)
    double *dgates              # scratch (4, n_a, m); da comes in in the place of do
    double *spare               # scratch (max(n_x, n_a), m)
    double *dx
    double *da                  # zeros while it stands for the gradient from the step after
    double *dc                  # comes in as dc_next
    double *dW                  # (4, n_a, n_a + n_x)
    double *db                  # (4, n_a)


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations."""
    cdef Backward *r = <Backward *> problem
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, m = r.m, row = n_a * m, ldW = n_a + n_x, g
    cdef span mine = rows_of(n_a, m, me)
    cdef Py_ssize_t k = mine.lo * m
    cdef double *df = r.dgates + k
    cdef double *dW
    unit_backward(
        r.gates[0] + k, r.gates[1] + k, r.gates[2] + k, r.gates[3] + k, r.c_prev + k, r.c_next + k, r.da + k, r.dc + k,
        df, df + row, df + 2 * row, df + 3 * row, (mine.hi - mine.lo) * m,
    )
    for g in range(4):
        df = r.dgates + g * row
        dW = r.dW + g * n_a * ldW
        sum_rows(r.db + g * n_a, df, m, mine)
        step_outer(dW, ldW, n_a, df, r.a_prev, m, mine)
        step_outer(dW + n_a, ldW, n_x, df, r.x, m, mine)
    barrier(me)
    step_multiply_transposed(r.dx, n_x, m, &r.W_x, r.dgates, r.spare, me)
    barrier(me)
    step_multiply_transposed(r.da, n_a, m, &r.W_a, r.dgates, r.spare, me)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m,
    da_next,        # IN   (n_a, m)
    dc_next,        # IN   (n_a, m)
    c_next,         # IN   (n_a, m), the memory after the step
    a_prev,         # IN   (n_a, m) or (n_a, 1), the state before it
    c_prev,         # IN   (n_a, m) or (n_a, 1), the memory before it
    ft,             # IN   (n_a, m), the gates after their activations
    it,             # IN   (n_a, m)
    cct,            # IN   (n_a, m)
    ot,             # IN   (n_a, m)
    xt,             # IN   (n_x, m)
    Wf,             # IN   (n_a, n_a + n_x), columns of a before columns of x
    Wi,             # IN   (n_a, n_a + n_x)
    Wc,             # IN   (n_a, n_a + n_x)
    Wo,             # IN   (n_a, n_a + n_x)
    dxt,            # OUT  (n_x, m)
    da_prev,        # OUT  (n_a, m)
    dc_prev,        # OUT  (n_a, m)
    dW,             # OUT  (4, n_a, n_a + n_x), f i c o
    db,             # OUT  (4, n_a, 1), f i c o
) -> None:
    """The backward equations for one step."""
    cdef Backward r
    cdef steps da_in, dc_in, next_in, a_in, c_in, f_in, i_in, g_in, o_in, x_in
    r.n_x, r.n_a, r.m = n_x, n_a, m
    gates_of(Wf, Wi, Wc, Wo, n_a, n_x, False, &r.W_a, &r.W_x)
    r.W_a.once = r.W_x.once = True
    r.dx, r.da, r.dc = matrix(dxt, n_x, m), matrix(da_prev, n_a, m), matrix(dc_prev, n_a, m)
    r.dW, r.db = box(dW, 4, n_a, n_a + n_x), box(db, 4, n_a, 1)
    state(da_next, n_a, m, True, &da_in)
    state(dc_next, n_a, m, True, &dc_in)
    state(c_next, n_a, m, True, &next_in)
    state(a_prev, n_a, m, False, &a_in)
    state(c_prev, n_a, m, False, &c_in)
    state(ft, n_a, m, True, &f_in)
    state(it, n_a, m, True, &i_in)
    state(cct, n_a, m, True, &g_in)
    state(ot, n_a, m, True, &o_in)
    state(xt, n_x, m, True, &x_in)

    cdef Py_ssize_t row = n_a * m
    cdef int threads = worth(step_work(m, 16.0 * n_a * (n_x + n_a)), n_a // PANEL)
    cdef double *scratch = take(11 * row + (n_x + max(n_x, n_a)) * m)
    cdef double *room = scratch + 4 * row           # n_a m each: what comes in; then n_x m: xt
    r.dgates = scratch
    r.spare = room + 7 * row + n_x * m
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        memset(r.da, 0, row * sizeof(double))
        memcpy(r.dgates + 3 * row, flat_of(da_in, n_a, m, room), row * sizeof(double))
        memcpy(r.dc, flat_of(dc_in, n_a, m, room), row * sizeof(double))
        r.gates[0], r.gates[1] = flat_of(f_in, n_a, m, room), flat_of(i_in, n_a, m, room + row)
        r.gates[2], r.gates[3] = flat_of(g_in, n_a, m, room + 2 * row), flat_of(o_in, n_a, m, room + 3 * row)
        r.c_prev, r.c_next = flat_of(c_in, n_a, m, room + 4 * row), flat_of(next_in, n_a, m, room + 5 * row)
        r.a_prev, r.x = flat_of(a_in, n_a, m, room + 6 * row), flat_of(x_in, n_x, m, room + 7 * row)
        run_team(run_backward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)
