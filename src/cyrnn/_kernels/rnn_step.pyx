"""Basic RNN: one step, forward and backward.  The equations: `rnn.pyx`.

Everything stays in the caller's order: units by examples.  Threads share the units: see `step.h`.

Who owns which buffer and what is checked: see `_kernels/__init__.py`.

n_x inputs, n_a hidden units, n_y outputs, m examples; index u counts units.
"""

from .arguments cimport matrix, state
from .gemm cimport PANEL, weights, weights_of
from .layout cimport flat_of, steps
from .memory cimport give, take
from .output cimport fill_rows, predict_step
from .step cimport rows_of, step_multiply, step_multiply_transposed, step_outer, sum_rows
from .team cimport barrier, run_team, span, team, watch
from .threads cimport dismiss, hire, step_work, watched, worth
from .vmath cimport tanh


cdef struct Forward:
    Py_ssize_t n_x, n_a, n_y, m
    const double *Wax
    const double *Waa
    const double *ba
    const double *Wya
    const double *by
    const double *x             # (n_x, m)
    const double *a_prev        # (n_a, m)
    double *a_next              # (n_a, m)
    double *z                   # scratch (n_y, m)
    double *y                   # (n_y, m)


cdef void run_forward(void *problem, team me) noexcept nogil:
    """One thread's share of the forward equations."""
    cdef Forward *r = <Forward *> problem
    cdef span mine = rows_of(r.n_a, r.m, me)
    cdef double *a = r.a_next
    cdef Py_ssize_t u
    fill_rows(a, r.ba, r.m, mine)
    step_multiply(a, r.m, r.Wax, r.n_x, r.n_x, r.x, mine)
    step_multiply(a, r.m, r.Waa, r.n_a, r.n_a, r.a_prev, mine)
    for u in range(mine.lo * r.m, mine.hi * r.m):
        a[u] = tanh(a[u])
    barrier(me)
    predict_step(r.Wya, r.by, a, r.z, r.y, r.n_y, r.n_a, r.m, me)


def forward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m,
    xt,             # IN   (n_x, m)
    a_prev,         # IN   (n_a, m) or (n_a, 1)
    Wax,            # IN   (n_a, n_x)
    Waa,            # IN   (n_a, n_a)
    ba,             # IN   (n_a, 1)
    Wya,            # IN   (n_y, n_a)
    by,             # IN   (n_y, 1)
    a_next,         # OUT  (n_a, m)
    yt,             # OUT  (n_y, m)
) -> None:
    """a_next = tanh(Wax xt + Waa a_prev + ba), yt = softmax(Wya a_next + by)."""
    cdef Forward r
    cdef steps x_in, a_in
    r.n_x, r.n_a, r.n_y, r.m = n_x, n_a, n_y, m
    r.Wax, r.Waa, r.ba = matrix(Wax, n_a, n_x), matrix(Waa, n_a, n_a), matrix(ba, n_a, 1)
    r.Wya, r.by = matrix(Wya, n_y, n_a), matrix(by, n_y, 1)
    r.a_next, r.y = matrix(a_next, n_a, m), matrix(yt, n_y, m)
    state(xt, n_x, m, True, &x_in)
    state(a_prev, n_a, m, False, &a_in)

    cdef int threads = worth(step_work(m, 2.0 * n_a * (n_x + n_a + n_y)), n_a // PANEL)
    cdef double *scratch = take((n_x + n_a + n_y) * m)
    r.z = scratch + (n_x + n_a) * m
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        r.x = flat_of(x_in, n_x, m, scratch)
        r.a_prev = flat_of(a_in, n_a, m, scratch + n_x * m)
        run_team(run_forward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)


cdef struct Backward:
    Py_ssize_t n_x, n_a, m
    weights Wax, Waa
    const double *da_next       # (n_a, m)
    const double *a_next        # (n_a, m)
    const double *a_prev        # (n_a, m)
    const double *x             # (n_x, m)
    double *dz                  # scratch (n_a, m)
    double *spare               # scratch (max(n_x, n_a), m)
    double *dx
    double *da
    double *dWax
    double *dWaa
    double *dba


cdef void run_backward(void *problem, team me) noexcept nogil:
    """One thread's share of the backward equations."""
    cdef Backward *r = <Backward *> problem
    cdef Py_ssize_t n_x = r.n_x, n_a = r.n_a, m = r.m, u
    cdef span mine = rows_of(n_a, m, me)
    cdef const double *a = r.a_next
    cdef const double *da = r.da_next
    cdef double *dz = r.dz
    for u in range(mine.lo * m, mine.hi * m):
        dz[u] = (1.0 - a[u] * a[u]) * da[u]
    sum_rows(r.dba, r.dz, m, mine)
    step_outer(r.dWax, n_x, n_x, r.dz, r.x, m, mine)
    step_outer(r.dWaa, n_a, n_a, r.dz, r.a_prev, m, mine)
    barrier(me)
    step_multiply_transposed(r.dx, n_x, m, &r.Wax, r.dz, r.spare, me)
    barrier(me)
    step_multiply_transposed(r.da, n_a, m, &r.Waa, r.dz, r.spare, me)


def backward(
    Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t m,
    da_next,        # IN   (n_a, m)
    a_next,         # IN   (n_a, m)
    a_prev,         # IN   (n_a, m) or (n_a, 1)
    xt,             # IN   (n_x, m)
    Wax,            # IN   (n_a, n_x)
    Waa,            # IN   (n_a, n_a)
    dxt,            # OUT  (n_x, m)
    da_prev,        # OUT  (n_a, m)
    dWax,           # OUT  (n_a, n_x)
    dWaa,           # OUT  (n_a, n_a)
    dba,            # OUT  (n_a, 1)
) -> None:
    """The gradients of one step, given that of its hidden state."""
    cdef Backward r
    cdef steps da_in, next_in, prev_in, x_in
    r.n_x, r.n_a, r.m = n_x, n_a, m
    r.Wax = weights_of(matrix(Wax, n_a, n_x), n_x, n_a, n_x, True)
    r.Waa = weights_of(matrix(Waa, n_a, n_a), n_a, n_a, n_a, True)
    r.dx, r.da, r.dba = matrix(dxt, n_x, m), matrix(da_prev, n_a, m), matrix(dba, n_a, 1)
    r.dWax, r.dWaa = matrix(dWax, n_a, n_x), matrix(dWaa, n_a, n_a)
    state(da_next, n_a, m, True, &da_in)
    state(a_next, n_a, m, True, &next_in)
    state(a_prev, n_a, m, False, &prev_in)
    state(xt, n_x, m, True, &x_in)

    cdef Py_ssize_t row = n_a * m
    cdef int threads = worth(step_work(m, 4.0 * n_a * (n_x + n_a)), n_a // PANEL)
    cdef double *scratch = take(4 * row + (n_x + max(n_x, n_a)) * m)
    cdef double *room = scratch          # n_a m each: da_next, a_next, a_prev; then n_x m: xt
    r.dz = room + 3 * row + n_x * m
    r.spare = r.dz + row
    cdef watch watching = watched(0.0)
    hire(threads)
    with nogil:
        r.da_next = flat_of(da_in, n_a, m, room)
        r.a_next = flat_of(next_in, n_a, m, room + row)
        r.a_prev = flat_of(prev_in, n_a, m, room + 2 * row)
        r.x = flat_of(x_in, n_x, m, room + 3 * row)
        run_team(run_backward, &r, threads, &watching)
    dismiss(threads)
    give(scratch)
