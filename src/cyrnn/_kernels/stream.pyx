"""A network prepared once and stepped many times: the entry points.  The equations: cells/; the time loop: schedule/.

A stream is a layer (schedule/layer.pxd) whose weights are packed once and whose workspace is kept: the state before the
next step is where a block of the time loop leaves it.  So the results are the bits of the sequence functions.  All
buffers are in one block of memory that is allocated at construction.

A single step has no block around it.  Where the input and the recurrent product are added to the same slots, their
weights stand side by side, W = [W_x, W_h], and so do input and hidden state, h = [x, a]: one product makes all sums.

A call checks every argument first; after `begin` nothing can fail, so that `busy` is always cleared and a call that
fails has changed nothing.  Only a call that releases the GIL can be found `busy`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps.
"""

from libc.string cimport memcpy, memset

from .cells.cell cimport MAX_STATES, adds_to, cell, step
from .cells.table cimport cell_named
from .linalg.linalg cimport (
    BIAS, columns_to_steps, matmul, steps_to_columns, weights, weights_alloc, weights_init, weights_unpack,
)
from .runtime.buffers cimport buffer_alloc, buffer_free, new_array, workspace_alloc
from .runtime.limits cimport BLOCK_BYTES, BLOCK_COLUMNS, BLOCK_STEPS, GIL_FLOPS
from .runtime.parallel cimport (
    FP_FLUSH, cancelled, fp_enter, fp_leave, fp_state, full_range, region, serial, thread,
)
from .runtime.threads cimport raise_if_cancelled, region_init
from .runtime.views cimport (
    cube, index_sequence, index_state, indices, matrix, new_cube, new_matrix, new_sequence, new_state, refuse, sequence,
    state, strided,
)
from .schedule.batch cimport batch_init, pack_indices
from .schedule.forward cimport (
    forward_alloc, forward_step, forward_steps, prepare_forward, project_block, step_arrays,
)
from .schedule.layer cimport (
    forward_flops, layer, n_biases, parameters, parameters_init, recurrent_slot, set_input_weights,
    set_recurrent_weights,
)
from .schedule.output cimport NO_OUTPUT, activate_rows, activation, output_init


cdef bint can_join(const cell *c) noexcept nogil:
    """Whether the projection of the input and the recurrent product can be one."""
    return c.n_stages == 1 and c.products[0].first == c.x_first and c.products[0].count == c.x_count


cdef class Stream:
    """A prepared network and its state."""

    cdef layer layer
    cdef Py_ssize_t values                      # of a state: m n_a
    cdef bint busy
    cdef double flops                           # of a step
    cdef double *memory
    cdef bint joined                            # W and h are used
    cdef weights W                              # of which W_x and W_h are parts
    cdef double *h                              # (m, n_x + n_a)
    cdef double *by                             # (n_y)
    cdef double *saved[MAX_STATES]              # (m, n_a), before `run`
    cdef tuple a_shape, y_shape
    cdef tuple out                              # of the last step that was given one, and its views: acquiring two
    cdef double[:, ::1] a_view, y_view          # typed memoryviews takes as long as a small step

    def __cinit__(
        self, str name, Py_ssize_t m,
        const double[:, :, ::1] W not None,     # IN  (n_gates, n_a, n_a + n_x), columns of a before columns of x
        const double[:, :, ::1] b not None,     # IN  (n_biases, n_a, 1), of the first slots
        const double[:, ::1] Wy,                # IN  (n_y, n_a); None without an output
        const double[:, ::1] by,                # IN  (n_y, 1); None without an output
        activation f,                           # of the output
    ):
        cdef cell c = cell_named(name)
        cdef Py_ssize_t n_a = W.shape[1], K = W.shape[2], column
        cdef const double *W_in = cube(W, c.x_count, n_a, K)
        cdef const double *b_in = cube(b, n_biases(&c), n_a, 1)
        cdef parameters *p = &self.layer.p
        cdef int k
        if K < n_a or n_a < 1 or m < 1:
            refuse()
        parameters_init(p, c, K - n_a, n_a, m == 1, False)
        for k in range(c.x_count):
            set_input_weights(p, c.x_first + k, W_in + k * n_a * K + n_a, K)
            set_recurrent_weights(p, recurrent_slot(&c, k), W_in + k * n_a * K, K)
        for k in range(n_biases(&c)):
            p.b[k] = b_in + k * n_a
        self.joined = can_join(&c)
        if self.joined:
            self.W = weights_init(c.x_count, K, n_a, K, p.W_x[0].fused, False)
            p.W_x[0].depth = p.W_h[0].depth = K
            p.W_h[0].k0 = K - n_a
        output_init(&self.layer.output, Wy, by, f, n_a)
        batch_init(&self.layer.batch, None, m, 1, 1)
        column = max(K - n_a, self.layer.output.n_y) + (c.n_states + c.n_slots) * n_a
        self.layer.batch.block_steps = max(1, min(max(BLOCK_STEPS, BLOCK_BYTES // 16 // (m * column)), BLOCK_COLUMNS // m))
        self.layer.batch.max_columns = m * self.layer.batch.block_steps
        self.layer.split_units = self.layer.joint_projection = True     # on one thread it is all the same
        self.layer.flops = forward_flops(p, self.layer.output.n_y)
        self.flops = m * self.layer.flops
        self.values = m * n_a
        self.a_shape, self.y_shape = (n_a, m), (self.layer.output.n_y, m)
        self.memory = buffer_alloc(self.alloc(NULL) - <double *> NULL)
        self.alloc(self.memory)
        prepare_forward(&self.layer, serial)
        if f != NO_OUTPUT:
            memcpy(self.by, self.layer.output.by, self.layer.output.n_y * sizeof(double))
            self.layer.output.by = self.by

    cdef double *alloc(self, double *workspace):
        """Reserve every buffer from `workspace` on; its end."""
        cdef int k
        workspace = forward_alloc(&self.layer, workspace, 1)
        if self.joined:
            weights_alloc(&self.W, &workspace)
            self.layer.p.W_x[0].packed = self.layer.p.W_h[0].packed = self.W.packed
            self.h = workspace_alloc(&workspace, self.layer.batch.m * self.W.K)
        self.by = workspace_alloc(&workspace, self.layer.output.n_y)
        self.layer.x_picked = <Py_ssize_t *> workspace_alloc(&workspace, self.layer.batch.max_columns)
        for k in range(self.layer.p.cell.n_states):
            self.saved[k] = workspace_alloc(&workspace, self.values)
        return workspace

    def __dealloc__(self):
        if self.memory != NULL:
            buffer_free(self.memory)

    cdef void advance(self, Py_ssize_t T_x, thread thr) noexcept nogil:
        """T_x steps of the input, in blocks; fewer if a signal cancels them."""
        cdef fp_state before = fp_enter(FP_FLUSH)
        self.layer.batch.T_x = self.layer.batch.T = T_x
        forward_steps(&self.layer, thr)
        fp_leave(before)

    cdef void advance_one(self) noexcept nogil:
        """One step of the input."""
        cdef layer *task = &self.layer
        cdef Py_ssize_t n_x = task.p.n_x, n_a = task.p.n_a, m = task.batch.m, n_y = task.output.n_y, ld = n_x + n_a, j
        cdef double *a = task.state[0]
        cdef double *z = task.output.y.data if m == 1 else task.output.z
        cdef fp_state before = fp_enter(FP_FLUSH)
        cdef const double *x
        cdef step s
        cdef int k
        if self.joined and not task.p.one_hot:
            steps_to_columns(self.h, ld, task.x, m, 0, 1, full_range(n_x), full_range(m))
            for j in range(m):
                memcpy(self.h + j * ld + n_x, a + j * n_a, n_a * sizeof(double))
            matmul(task.slots, task.slot_stride, task.slot_ld, &self.W, self.h, ld, m, BIAS, task.bias, serial)
            step_arrays(&s, task, 0, m, 0, 0)
            task.p.cell.forward[0](&s, self.values)
        else:
            if task.p.one_hot:
                pack_indices(task.x_picked, task.x_indices, n_x, &task.batch, 0, 1, full_range(m), serial)
            else:
                steps_to_columns(task.x_columns, n_x, task.x, m, 0, 1, full_range(n_x), full_range(m))
            x = task.x_columns
            project_block(task, &x, &n_x, 0, 0, 1, full_range(m), serial)
            forward_step(task, 0, m, 0, full_range(m), full_range(self.values), serial)
        for k in range(task.p.cell.n_states):
            memcpy(task.state[k], task.state[k] + self.values, self.values * sizeof(double))
        if n_y:
            matmul(z, 0, n_y, &task.output.Wy, a, n_a, m, BIAS, self.by, serial)
            activate_rows(task.output.f, z, m, n_y)
        if m == 1:
            memcpy(task.states[0].data, a, n_a * sizeof(double))
        else:
            columns_to_steps(task.states[0], a, n_a, m, 0, 1, full_range(n_a), full_range(m))
            columns_to_steps(task.output.y, z, n_y, m, 0, 1, full_range(n_y), full_range(m))
        fp_leave(before)

    cdef int begin(self) except -1:
        if self.busy:
            raise RuntimeError("this stream is making a step in another thread")
        self.busy = True
        return 0

    cdef void set_input(self, const strided *x, const indices *index) noexcept:
        self.layer.p.one_hot = index != NULL
        if index != NULL:
            self.layer.x_indices = index[0]
        else:
            self.layer.x = x[0]

    cdef tuple make_step(
        self, const strided *x, const indices *index,   # IN   one of the two
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ):
        """One step; a and y, `out` itself where it is given."""
        cdef layer *task = &self.layer
        cdef double[:, ::1] a, y
        cdef strided a_out, y_out
        cdef Py_ssize_t m = task.batch.m, n_y = task.output.n_y
        cdef bint no_output = task.output.f == NO_OUTPUT, keep = False
        y_out.data = NULL
        if out is not None and out is self.out:
            a_out = new_state(self.a_view)
            if not no_output:
                y_out = new_state(self.y_view)
        else:
            keep = out is not None
            if not keep:
                out = new_array(self.a_shape), None if no_output else new_array(self.y_shape)
            a, y = out
            if a is None or (y is None) != no_output:
                refuse()
            matrix(a, task.p.n_a, m)
            a_out = new_state(a)
            if not no_output:
                matrix(y, n_y, m)
                y_out = new_state(y)
            if n_y and a_out.data < y_out.data + n_y * m and y_out.data < a_out.data + self.values:
                raise ValueError("the results overlap")
        self.begin()
        if keep:
            self.a_view, self.y_view = a, y
            self.out = out
        self.set_input(x, index)
        task.states[0], task.output.y = a_out, y_out
        if self.flops < GIL_FLOPS:
            self.advance_one()
        else:
            with nogil:
                self.advance_one()
        self.busy = False
        return out

    cdef tuple make_steps(self, const strided *x, const indices *index, Py_ssize_t T_x):
        """All steps of a block: a (n_a, m, T_x) and y (n_y, m, T_x) or None."""
        cdef layer *task = &self.layer
        cdef double[:, :, ::1] view
        cdef strided a, y
        cdef region interrupts = region_init(self.flops * T_x)
        cdef int k
        cdef thread thr = serial
        a_out, y_out = new_array((task.p.n_a, task.batch.m, T_x)), None
        view = a_out
        a = y = new_sequence(view)
        if task.output.f != NO_OUTPUT:
            y_out = new_array((task.output.n_y, task.batch.m, T_x))
            view = y_out
            y = new_sequence(view)
        self.begin()
        self.set_input(x, index)
        task.states[0], task.output.y = a, y
        thr.region = &interrupts
        with nogil:
            for k in range(task.p.cell.n_states):
                memcpy(self.saved[k], task.state[k], self.values * sizeof(double))
            self.advance(T_x, thr)
            for k in range(task.p.cell.n_states if cancelled(thr) else 0):
                memcpy(task.state[k], self.saved[k], self.values * sizeof(double))
        self.busy = False
        raise_if_cancelled(&interrupts)
        return a_out, y_out

    def step(
        self,
        const double[:, :] xt not None,         # IN   (n_x, m), any strides
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ) -> tuple:
        """One step; a and y, `out` itself where it is given."""
        cdef strided x
        state(xt, self.layer.p.n_x, self.layer.batch.m, False, &x)
        return self.make_step(&x, NULL, out)

    def step_indices(
        self,
        const Py_ssize_t[:] xt not None,        # IN   (m), each from 0 to n_x - 1, any stride
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ) -> tuple:
        """One step whose input is one-hot; likewise."""
        cdef indices x
        index_state(xt, self.layer.p.n_x, self.layer.batch.m, &x)
        return self.make_step(NULL, &x, out)

    def run(
        self,
        const double[:, :, :] x not None,       # IN   (n_x, m, T_x), any strides
    ) -> tuple:
        """All steps of a block: a (n_a, m, T_x) and y (n_y, m, T_x) or None."""
        cdef strided x_in
        sequence(x, self.layer.p.n_x, self.layer.batch.m, x.shape[2], &x_in)
        return self.make_steps(&x_in, NULL, x.shape[2])

    def run_indices(
        self,
        const Py_ssize_t[:, :] x not None,      # IN   (m, T_x), each from 0 to n_x - 1, any strides
    ) -> tuple:
        """All steps of a block whose input is one-hot; likewise."""
        cdef indices x_in
        index_sequence(x, self.layer.p.n_x, self.layer.batch.m, x.shape[1], NULL, x.shape[1], &x_in)
        return self.make_steps(NULL, &x_in, x.shape[1])

    def get(self) -> tuple:
        """Copies of the states, (n_a, m) each."""
        cdef Py_ssize_t n_a = self.layer.p.n_a, m = self.layer.batch.m
        cdef strided out[MAX_STATES]
        cdef double[:, ::1] view
        cdef int k
        states = [new_array(self.a_shape) for _k in range(self.layer.p.cell.n_states)]
        for k in range(self.layer.p.cell.n_states):
            view = states[k]
            out[k] = new_state(view)
        self.begin()
        for k in range(self.layer.p.cell.n_states):
            columns_to_steps(out[k], self.layer.state[k], n_a, m, 0, 1, full_range(n_a), full_range(m))
        self.busy = False
        return tuple(states)

    def set(
        self,
        const double[:, :] a not None,          # IN   (n_a, m) or (n_a, 1)
        const double[:, :] c=None,              # IN   (n_a, m) or (n_a, 1); of an LSTM
    ) -> None:
        """Set the states."""
        cdef Py_ssize_t n_a = self.layer.p.n_a, m = self.layer.batch.m
        cdef strided states[MAX_STATES]
        cdef int k
        if (c is not None) != (self.layer.p.cell.n_states > 1):
            raise TypeError("not the states of this cell")
        state(a, n_a, m, True, &states[0])
        if c is not None:
            state(c, n_a, m, True, &states[1])
        self.begin()
        for k in range(self.layer.p.cell.n_states):
            steps_to_columns(self.layer.state[k], n_a, states[k], m, 0, 1, full_range(n_a), full_range(m))
        self.busy = False

    def reset(
        self,
        const Py_ssize_t[::1] examples=None,    # IN   of them, each from 0 to m - 1; None for all
    ) -> None:
        """Set the states to zeros."""
        cdef Py_ssize_t n_a = self.layer.p.n_a, i
        cdef int k
        cdef bint outside = False
        for i in range(0 if examples is None else examples.shape[0]):
            outside |= <size_t> examples[i] >= <size_t> self.layer.batch.m
        if outside:
            raise IndexError("an index is out of range")
        self.begin()
        for k in range(self.layer.p.cell.n_states):
            if examples is None:
                memset(self.layer.state[k], 0, self.values * sizeof(double))
                continue
            for i in range(examples.shape[0]):
                memset(self.layer.state[k] + examples[i] * n_a, 0, n_a * sizeof(double))
        self.busy = False

    def weights(self) -> tuple:
        """Copies of W, b, Wy and by as they were given."""
        cdef const parameters *p = &self.layer.p
        cdef Py_ssize_t n_a = p.n_a, n_x = p.n_x, K = n_a + n_x, n_y = self.layer.output.n_y
        cdef int k, stage, slot
        W_out, b_out = new_array((p.cell.x_count, n_a, K)), new_array((n_biases(&p.cell), n_a, 1))
        cdef double[:, :, ::1] W = W_out, b = b_out
        cdef double[:, ::1] Wy, by
        for k in range(p.cell.x_count):
            weights_unpack(&p.W_x[0], k, new_cube(W) + k * n_a * K + n_a, K)
            slot = recurrent_slot(&p.cell, k)
            for stage in range(p.cell.n_stages):
                if adds_to(&p.cell.products[stage], slot):
                    weights_unpack(
                        &p.W_h[stage], slot - p.cell.products[stage].first, new_cube(W) + k * n_a * K, K,
                    )
        memcpy(new_cube(b), self.layer.bias, n_biases(&p.cell) * n_a * sizeof(double))
        if self.layer.output.f == NO_OUTPUT:
            return W_out, b_out, None, None
        Wy_out, by_out = new_array((n_y, n_a)), new_array((n_y, 1))
        Wy, by = Wy_out, by_out
        weights_unpack(&self.layer.output.Wy, 0, new_matrix(Wy), n_a)
        memcpy(new_matrix(by), self.by, n_y * sizeof(double))
        return W_out, b_out, Wy_out, by_out
