"""A network prepared once and stepped many times: the entry points.  The equations: cells/.

Input and hidden state stand side by side, h = [x, a], and so do their weights, W = [W_x, W_h]: one product makes all
sums of a step.  Their order is that of a sequence (bias, inputs, hidden units), so the results are the same bits.  All
buffers are in one block of memory that is allocated at construction.

A call checks every argument first; after `begin` nothing can fail, so that `busy` is always cleared and a call that
fails has changed nothing.  Only a call that releases the GIL can be found `busy`.

n_x inputs, n_a hidden units, n_y outputs, m examples; slots (n_slots, m, n_a).
"""

from libc.string cimport memcpy, memset

from .cells.cell cimport MAX_STATES, cell, step
from .cells.table cimport cell_named
from .linalg.linalg cimport (
    BIAS, columns_to_steps, matmul, steps_to_columns, weights, weights_alloc, weights_init, weights_pack,
)
from .linalg.softmax cimport softmax_rows
from .runtime.buffers cimport buffer_alloc, buffer_free, new_array, workspace_alloc
from .runtime.limits cimport GIL_FLOPS
from .runtime.parallel cimport (
    FP_FLUSH, cancelled, fp_enter, fp_leave, fp_state, full_range, poll_signals, region, serial, thread,
)
from .runtime.threads cimport raise_if_cancelled, region_init
from .runtime.views cimport cube, matrix, new_sequence, new_state, refuse, sequence, state, strided


cdef class Stream:
    """A prepared network and its state."""

    cdef Py_ssize_t n_x, n_a, n_y, m, values    # values: m n_a
    cdef bint busy
    cdef double flops                           # of a step
    cdef cell cell
    cdef weights W, Wy
    cdef double *memory
    cdef double *h                              # (m, n_x + n_a)
    cdef double *bias                           # (n_slots, n_a)
    cdef double *by                             # (n_y)
    cdef double *slots                          # (n_slots, m, n_a), the state itself where the cell says so
    cdef double *state[MAX_STATES]              # (m, n_a)
    cdef double *before[MAX_STATES]             # (m, n_a)
    cdef double *saved[MAX_STATES]              # (m, n_a), before `run`
    cdef double *z                              # (m, n_y)
    cdef tuple a_shape, y_shape
    cdef tuple out                              # of the last step that was given one, and its views: acquiring two
    cdef double[:, ::1] a_view, y_view          # typed memoryviews takes as long as a small step

    def __cinit__(
        self, str name, Py_ssize_t m,
        const double[:, :, ::1] W not None,     # IN  (n_slots, n_a, n_x + n_a), columns of x before columns of a
        const double[:, :, ::1] b not None,     # IN  (n_slots, n_a, 1)
        const double[:, ::1] Wy not None,       # IN  (n_y, n_a)
        const double[:, ::1] by not None,       # IN  (n_y, 1)
    ):
        cdef Py_ssize_t n_slots = W.shape[0], n_a = W.shape[1], K = W.shape[2], n_y = Wy.shape[0]
        cdef const double *W_in = cube(W, n_slots, n_a, K)
        cdef const double *b_in = cube(b, n_slots, n_a, 1)
        cdef const double *by_in = matrix(by, n_y, 1)
        cdef int k
        self.cell = cell_named(name)
        if n_slots != self.cell.n_slots or K < n_a or m < 1:
            refuse()
        if self.cell.n_stages != 1 or self.cell.products[0].count != self.cell.x_count:
            raise ValueError("a cell whose products cannot be joined into one")
        self.n_x, self.n_a, self.n_y, self.m = K - n_a, n_a, n_y, m
        self.a_shape, self.y_shape = (n_a, m), (n_y, m)
        self.values = m * n_a
        self.flops = 2.0 * m * (n_slots * <double> n_a * K + n_y * <double> n_a)
        self.W = weights_init(n_slots, K, n_a, K, m == 1 and n_slots > 1, False)
        for k in range(n_slots):
            self.W.gate[k] = W_in + k * n_a * K
        self.Wy = weights_init(1, n_a, n_y, n_a, False, False)
        self.Wy.gate[0] = matrix(Wy, n_y, n_a)
        self.memory = buffer_alloc(self.alloc(NULL) - <double *> NULL)
        self.alloc(self.memory)
        weights_pack(&self.W, serial)
        weights_pack(&self.Wy, serial)
        memcpy(self.bias, b_in, n_slots * n_a * sizeof(double))
        memcpy(self.by, by_in, n_y * sizeof(double))
        self.reset()

    cdef double *alloc(self, double *workspace):
        """Reserve every buffer from `workspace` on; its end."""
        cdef int k
        weights_alloc(&self.W, &workspace)
        weights_alloc(&self.Wy, &workspace)
        self.h = workspace_alloc(&workspace, self.m * (self.n_x + self.n_a))
        self.bias = workspace_alloc(&workspace, self.cell.n_slots * self.n_a)
        self.by = workspace_alloc(&workspace, self.n_y)
        for k in range(self.cell.n_states):
            self.state[k] = workspace_alloc(&workspace, self.values)
            self.before[k] = workspace_alloc(&workspace, self.values)
            self.saved[k] = workspace_alloc(&workspace, self.values)
        self.slots = self.state[0]
        if not self.cell.slot_is_state:
            self.slots = workspace_alloc(&workspace, self.cell.n_slots * self.values)
        self.z = workspace_alloc(&workspace, self.m * self.n_y)
        return workspace

    def __dealloc__(self):
        if self.memory != NULL:
            buffer_free(self.memory)

    cdef void advance(self, strided x, Py_ssize_t t) noexcept nogil:
        """The forward equations for step t of x."""
        cdef Py_ssize_t n_a = self.n_a, ld = self.n_x + n_a, j
        cdef step s
        cdef int k
        steps_to_columns(self.h, ld, x, self.m, t, 1, full_range(self.n_x), full_range(self.m))
        for j in range(self.m):
            memcpy(self.h + j * ld + self.n_x, self.state[0] + j * n_a, n_a * sizeof(double))
        matmul(self.slots, self.values, n_a, &self.W, self.h, ld, self.m, BIAS, self.bias, serial)
        for k in range(1, self.cell.n_states):
            self.state[k], self.before[k] = self.before[k], self.state[k]
        for k in range(self.cell.n_slots):
            s.slot[k] = self.slots + k * self.values
        for k in range(self.cell.n_states):
            s.before[k], s.after[k] = self.before[k], self.state[k]
        self.cell.forward[0](&s, self.values)
        matmul(self.z, 0, self.n_y, &self.Wy, self.state[0], n_a, self.m, BIAS, self.by, serial)
        softmax_rows(self.z, self.m, self.n_y)

    cdef void store(self, strided a, strided y, Py_ssize_t t) noexcept nogil:
        """The state and the prediction become step t of a and y."""
        columns_to_steps(a, self.state[0], self.n_a, self.m, t, 1, full_range(self.n_a), full_range(self.m))
        columns_to_steps(y, self.z, self.n_y, self.m, t, 1, full_range(self.n_y), full_range(self.m))

    cdef void advance_all(self, strided x, strided a, strided y, Py_ssize_t T_x, thread thr) noexcept nogil:
        """T_x steps; fewer if a signal cancels them."""
        cdef fp_state before = fp_enter(FP_FLUSH)
        cdef Py_ssize_t t
        for t in range(T_x):
            poll_signals(thr, self.flops)
            if cancelled(thr):
                break
            self.advance(x, t)
            self.store(a, y, t)
        fp_leave(before)

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("this stream is making a step in another thread")
        self.busy = True
        return 0

    def step(
        self,
        const double[:, :] xt not None,         # IN   (n_x, m), any strides
        tuple out,                              # OUT  (n_a, m), (n_y, m); None for new arrays
    ) -> tuple:
        """One step; a and y, `out` itself where it is given."""
        cdef double[:, ::1] a, y
        cdef strided x_in, a_out, y_out
        cdef bint keep = False
        state(xt, self.n_x, self.m, False, &x_in)
        if out is not None and out is self.out:
            a_out, y_out = new_state(self.a_view), new_state(self.y_view)
        else:
            given = out is not None
            if not given:
                out = new_array(self.a_shape), new_array(self.y_shape)
            a, y = out
            matrix(a, self.n_a, self.m)
            matrix(y, self.n_y, self.m)
            a_out, y_out = new_state(a), new_state(y)
            if self.n_y and a_out.data < y_out.data + self.n_y * self.m and y_out.data < a_out.data + self.values:
                raise ValueError("the results overlap")
            keep = given
        self.begin()
        if keep:
            self.a_view, self.y_view = a, y
            self.out = out
        if self.flops < GIL_FLOPS:
            self.advance_all(x_in, a_out, y_out, 1, serial)
        else:
            with nogil:
                self.advance_all(x_in, a_out, y_out, 1, serial)
        self.busy = False
        return out

    def run(
        self,
        const double[:, :, :] x not None,       # IN   (n_x, m, T_x), any strides
    ) -> tuple:
        """All steps of a block: a (n_a, m, T_x) and y (n_y, m, T_x)."""
        cdef Py_ssize_t T_x = x.shape[2]
        cdef strided x_in, a_strided, y_strided
        cdef region interrupts = region_init(self.flops * T_x)
        cdef int k
        cdef thread thr = serial
        sequence(x, self.n_x, self.m, T_x, &x_in)
        a_out, y_out = new_array((self.n_a, self.m, T_x)), new_array((self.n_y, self.m, T_x))
        cdef double[:, :, ::1] a = a_out, y = y_out
        a_strided, y_strided = new_sequence(a), new_sequence(y)
        self.begin()
        thr.region = &interrupts
        with nogil:
            for k in range(self.cell.n_states):
                memcpy(self.saved[k], self.state[k], self.values * sizeof(double))
            self.advance_all(x_in, a_strided, y_strided, T_x, thr)
            for k in range(self.cell.n_states if cancelled(thr) else 0):
                memcpy(self.state[k], self.saved[k], self.values * sizeof(double))
        self.busy = False
        raise_if_cancelled(&interrupts)
        return a_out, y_out

    def get(self) -> tuple:
        """Copies of the states, (n_a, m) each."""
        cdef strided out[MAX_STATES]
        cdef double[:, ::1] view
        cdef int k
        states = [new_array(self.a_shape) for _k in range(self.cell.n_states)]
        for k in range(self.cell.n_states):
            view = states[k]
            out[k] = new_state(view)
        self.begin()
        for k in range(self.cell.n_states):
            columns_to_steps(
                out[k], self.state[k], self.n_a, self.m, 0, 1, full_range(self.n_a), full_range(self.m),
            )
        self.busy = False
        return tuple(states)

    def set(
        self,
        const double[:, :] a not None,          # IN   (n_a, m) or (n_a, 1)
        const double[:, :] c=None,              # IN   (n_a, m) or (n_a, 1); of an LSTM
    ) -> None:
        """Set the states."""
        cdef strided states[MAX_STATES]
        cdef int k
        if (c is not None) != (self.cell.n_states > 1):
            raise TypeError("not the states of this cell")
        state(a, self.n_a, self.m, True, &states[0])
        if c is not None:
            state(c, self.n_a, self.m, True, &states[1])
        self.begin()
        for k in range(self.cell.n_states):
            steps_to_columns(
                self.state[k], self.n_a, states[k], self.m, 0, 1, full_range(self.n_a), full_range(self.m),
            )
        self.busy = False

    def reset(self) -> None:
        """Set the states to zeros."""
        cdef int k
        self.begin()
        for k in range(self.cell.n_states):
            memset(self.state[k], 0, self.values * sizeof(double))
        self.busy = False
