"""One step after another of a network that is prepared once: see `rnn.pyx` and `lstm.pyx` for the equations.

Inputs and hidden state stand side by side, h = [x, a], and so do their weights, W = [W_x, W_a], so that
one product makes the sums of a step.  Their order is that of a sequence (bias, inputs, hidden units), so
the results are the same bits.  Everything is in one block of memory that is taken at construction.

A call looks at every argument first; from `begin` on nothing can fail, so that `busy` is always cleared and
a call that fails has changed nothing.  Only a call that lets go of the GIL can be found `busy`.

n_x inputs, n_a hidden units, n_y outputs, m examples; gates f, i, c, o: (4, m, n_a), an RNN has one.
"""

from libc.string cimport memcpy, memset

from .arguments cimport box, matrix, sequence, state
from .gemm cimport BIAS, carve_weights, multiply, pack_rows, weights, weights_of
from .layout cimport carve, load_steps, steps, store_steps
from .lstm cimport step_forward
from .memory cimport give, take
from .output cimport softmax_rows
from .team cimport FP_FLUSH, alone, fp_enter, fp_leave, fp_state, look_up, span, stopped, team, watch, whole
from .threads cimport unless_stopped, watched
from .vmath cimport tanh

from numpy import empty

cdef double LONG = 2e5      # operations of a step from which on it lets go of the GIL


cdef class Stream:
    """A prepared network and its state."""

    cdef Py_ssize_t n_x, n_a, n_y, m, gate
    cdef bint busy
    cdef double work
    cdef weights W, Wy
    cdef double *memory
    cdef double *h                  # (m, n_x + n_a)
    cdef double *bias               # (gates, n_a)
    cdef double *by                 # (n_y)
    cdef double *gates              # (gates, m, n_a)
    cdef double *a                  # (m, n_a)
    cdef double *c                  # (m, n_a)
    cdef double *c_prev             # (m, n_a)
    cdef double *z                  # (m, n_y)
    cdef tuple a_shape, y_shape

    def __cinit__(
        self, Py_ssize_t n_x, Py_ssize_t n_a, Py_ssize_t n_y, Py_ssize_t m,
        W,              # IN   (gates, n_a, n_x + n_a), columns of x before columns of a
        b,              # IN   (gates, n_a, 1)
        Wy,             # IN   (n_y, n_a)
        by,             # IN   (n_y, 1)
    ):
        cdef Py_ssize_t parts = len(W), K = n_x + n_a, g
        cdef const double *W_in = box(W, parts, n_a, K)
        cdef const double *b_in = box(b, parts, n_a, 1)
        cdef const double *by_in = matrix(by, n_y, 1)
        self.n_x, self.n_a, self.n_y, self.m = n_x, n_a, n_y, m
        self.a_shape, self.y_shape = (n_a, m), (n_y, m)
        self.gate = m * n_a
        self.work = 2.0 * m * (parts * <double> n_a * K + n_y * <double> n_a)
        self.W = weights_of(W_in, K, n_a, K, False)
        self.W.parts = parts
        self.W.joined = m == 1
        for g in range(parts):
            self.W.part[g] = W_in + g * n_a * K
        self.Wy = weights_of(matrix(Wy, n_y, n_a), n_a, n_y, n_a, False)
        self.memory = take(self.places(NULL) - <double *> NULL)
        self.places(self.memory)
        pack_rows(&self.W, alone)
        pack_rows(&self.Wy, alone)
        memcpy(self.bias, b_in, parts * n_a * sizeof(double))
        memcpy(self.by, by_in, n_y * sizeof(double))
        self.reset()

    cdef double *places(self, double *rest):
        """Give every buffer its place from `rest` on; the end of the last."""
        carve_weights(&self.W, &rest)
        carve_weights(&self.Wy, &rest)
        self.h = carve(&rest, self.m * (self.n_x + self.n_a))
        self.bias = carve(&rest, self.W.parts * self.n_a)
        self.by = carve(&rest, self.n_y)
        self.gates = carve(&rest, self.W.parts * self.gate)
        self.a = carve(&rest, self.gate)
        self.c = carve(&rest, self.gate)
        self.c_prev = carve(&rest, self.gate)
        self.z = carve(&rest, self.m * self.n_y)
        return rest

    def __dealloc__(self):
        if self.memory != NULL:
            give(self.memory)

    cdef void advance(self, steps x, Py_ssize_t t) noexcept nogil:
        """The forward equations for step t of x."""
        cdef Py_ssize_t n_a = self.n_a, ld = self.n_x + n_a, u, j
        cdef double *f = self.gates
        load_steps(self.h, ld, x, self.m, t, 1, whole(self.n_x), whole(self.m))
        for j in range(self.m):
            memcpy(self.h + j * ld + self.n_x, self.a + j * n_a, n_a * sizeof(double))
        multiply(f, self.gate, n_a, &self.W, self.h, ld, self.m, BIAS, self.bias, alone)
        if self.W.parts == 1:
            for u in range(self.gate):
                self.a[u] = tanh(f[u])
        else:
            self.c, self.c_prev = self.c_prev, self.c
            step_forward(
                f, f + self.gate, f + 2 * self.gate, f + 3 * self.gate, self.c_prev, self.c, self.a, self.gate
            )
        multiply(self.z, 0, self.n_y, &self.Wy, self.a, n_a, self.m, BIAS, self.by, alone)
        softmax_rows(self.z, self.m, self.n_y)

    cdef void put(self, steps a, steps y, Py_ssize_t t) noexcept nogil:
        """The state and the prediction become step t of a and y."""
        store_steps(a, self.a, self.n_a, self.m, t, 1, whole(self.n_a), whole(self.m))
        store_steps(y, self.z, self.n_y, self.m, t, 1, whole(self.n_y), whole(self.m))

    cdef void go(self, steps x, steps a, steps y, Py_ssize_t T_x, team me) noexcept nogil:
        """So many steps; fewer if a signal stops them, and the state is that of the last one made."""
        cdef fp_state before = fp_enter(FP_FLUSH)
        cdef Py_ssize_t t
        for t in range(T_x):
            look_up(me, self.work)
            if stopped(me):
                break
            self.advance(x, t)
            self.put(a, y, t)
        fp_leave(before)

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("this stream is making a step in another thread")
        self.busy = True
        return 0

    def step(
        self,
        xt,             # IN   (n_x, m), any strides
        tuple out,      # OUT  (n_a, m), (n_y, m); None for new arrays
    ) -> tuple:
        """One step; a and y, `out` itself where it is given."""
        cdef steps x_in, a_out, y_out
        if out is None:
            out = empty(self.a_shape), empty(self.y_shape)
        a, y = out
        state(xt, self.n_x, self.m, True, &x_in)
        a_out.data, a_out.su, a_out.sj, a_out.st = matrix(a, self.n_a, self.m, True), self.m, 1, 1
        y_out.data, y_out.su, y_out.sj, y_out.st = matrix(y, self.n_y, self.m, True), self.m, 1, 1
        if self.n_y and a_out.data < y_out.data + self.n_y * self.m and y_out.data < a_out.data + self.gate:
            raise ValueError("the results overlap")
        self.begin()
        if self.work < LONG:
            self.go(x_in, a_out, y_out, 1, alone)
        else:
            with nogil:
                self.go(x_in, a_out, y_out, 1, alone)
        self.busy = False
        return out

    def run(
        self, Py_ssize_t T_x,
        x,              # IN   (n_x, m, T_x), any strides
        a,              # OUT  (n_a, m, T_x)
        y,              # OUT  (n_y, m, T_x)
    ) -> None:
        """All steps of a block."""
        cdef steps x_in, a_out, y_out
        cdef watch watching = watched(self.work * T_x)
        cdef team me = alone
        sequence(x, self.n_x, self.m, T_x, False, &x_in)
        sequence(a, self.n_a, self.m, T_x, True, &a_out)
        sequence(y, self.n_y, self.m, T_x, True, &y_out)
        self.begin()
        me.watch = &watching
        with nogil:
            self.go(x_in, a_out, y_out, T_x, me)
        self.busy = False
        unless_stopped(&watching)

    def get(
        self,
        a,              # OUT  (n_a, m)
        c=None,         # OUT  (n_a, m); of an LSTM
    ) -> None:
        """Copy the state."""
        cdef steps a_out, c_out
        cdef span units = whole(self.n_a), examples = whole(self.m)
        a_out.data, a_out.su, a_out.sj, a_out.st = matrix(a, self.n_a, self.m), self.m, 1, 1
        c_out = a_out
        if c is not None:
            c_out.data = matrix(c, self.n_a, self.m)
        self.begin()
        store_steps(a_out, self.a, self.n_a, self.m, 0, 1, units, examples)
        if c is not None:
            store_steps(c_out, self.c, self.n_a, self.m, 0, 1, units, examples)
        self.busy = False

    def set(
        self,
        a,              # IN   (n_a, m) or (n_a, 1)
        c=None,         # IN   (n_a, m) or (n_a, 1); of an LSTM
    ) -> None:
        """Set the state."""
        cdef steps a_in, c_in
        cdef span units = whole(self.n_a), examples = whole(self.m)
        state(a, self.n_a, self.m, False, &a_in)
        if c is not None:
            state(c, self.n_a, self.m, False, &c_in)
        self.begin()
        load_steps(self.a, self.n_a, a_in, self.m, 0, 1, units, examples)
        if c is not None:
            load_steps(self.c, self.n_a, c_in, self.m, 0, 1, units, examples)
        self.busy = False

    def reset(self) -> None:
        """Set the state to zeros."""
        self.begin()
        memset(self.a, 0, self.gate * sizeof(double))
        memset(self.c, 0, self.gate * sizeof(double))
        self.busy = False
