"""A network prepared once and stepped many times: the entry points.  The equations: cells/; the time loop: schedule/.

A stream is layers (schedule/layer.pxd) whose weights are packed once and whose workspace is kept: the state before the
next step is where a block of the time loop leaves it.  So the results are the bits of the sequence functions.  All
buffers are in one block of memory that is allocated at construction.

Between layers nothing is copied: a layer reads the hidden states of the one below where that one computes them, of a
step or of a block, which all layers go through before the next one.  An embedding is read the same way: the columns
that the indices pick are copied to where the first layer reads them.

A single step has no block around it.  Where the input and the recurrent product are added to the same slots, their
weights stand side by side, W = [W_x, W_h], and so do input and hidden state, h = [x, a]: one product makes all sums.

A call checks every argument before it changes anything, and clears `busy` at its end.  Where there is a GIL, only a
call that releases it can be found `busy`.

n_x inputs, n_a hidden units, n_y outputs, m examples, T_x steps; of each layer, k from the first on.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free

from libc.string cimport memcpy, memset

from .cells.cell cimport MAX_STATES, adds_to, cell, step
from .cells.table cimport cell_named
from .linalg.linalg cimport (
    BIAS, columns_to_steps, matmul, steps_to_columns, weights, weights_alloc, weights_init, weights_unpack,
)
from .runtime.buffers cimport buffer_free, index_alloc, new_array, values_alloc, workspace_alloc
from .runtime.guard cimport mark_clear, mark_set
from .runtime.limits cimport BLOCK_BYTES, BLOCK_COLUMNS, BLOCK_STEPS, GIL_FLOPS
from .runtime.parallel cimport (
    FP_FLUSH, cancelled, fp_enter, fp_leave, fp_state, full_range, region, serial, thread,
)
from .runtime.real cimport real
from .runtime.threads cimport raise_if_cancelled, region_init
from .runtime.views cimport (
    cube, index_sequence, index_state, indices, matrix, new_cube, new_matrix, new_sequence, new_state, refuse,
    safe_index, sequence, state, strided,
)
from .schedule.batch cimport batch_init, pack_indices
from .schedule.blocks cimport block_after
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


cdef struct prepared:
    layer layer
    Py_ssize_t values                   # of a state: m n_a
    bint joined                         # W and h are used
    weights W                           # of which W_x and W_h are parts
    real *h                             # (m, n_x + n_a)
    const real *below                   # (m, n_x), the hidden state of the layer below, of one step; NULL: the input
    real *saved[MAX_STATES]             # (m, n_a), before `run`
    strided given[MAX_STATES]           # (n_a, m) or (n_a, 1), in a call that sets the states


cdef int prepared_init(
    prepared *one, str name, Py_ssize_t m,
    const real[:, :, ::1] W,            # IN  (n_gates, n_a, n_a + n_x), columns of a before columns of x
    const real[:, :, ::1] b,            # IN  (n_biases, n_a, 1), of the first slots
) except -1:
    """The sizes and weights of a layer; the weights are still to be packed."""
    cdef cell c = cell_named(name)
    cdef Py_ssize_t n_a = W.shape[1], K = W.shape[2]
    cdef const real *W_in = cube(W, c.x_count, n_a, K)
    cdef const real *b_in = cube(b, n_biases(&c), n_a, 1)
    cdef parameters *p = &one.layer.p
    cdef int k
    if K < n_a or n_a < 1 or m < 1:
        refuse()
    parameters_init(p, c, K - n_a, n_a, m == 1, False)
    for k in range(c.x_count):
        set_input_weights(p, c.x_first + k, W_in + k * n_a * K + n_a, K)
        set_recurrent_weights(p, recurrent_slot(&c, k), W_in + k * n_a * K, K)
    for k in range(n_biases(&c)):
        p.b[k] = b_in + k * n_a
    one.joined = can_join(&c)
    if one.joined:
        one.W = weights_init(c.x_count, K, n_a, K, p.W_x[0].fused, False)
        p.W_x[0].depth = p.W_h[0].depth = K
        p.W_h[0].k0 = K - n_a
    one.layer.split_units = one.layer.joint_projection = True       # on one thread it is all the same
    one.values = m * n_a
    return batch_init(&one.layer.batch, None, m, 1, 1)


cdef void advance_layer(prepared *one) noexcept nogil:
    """One step of a layer; its output is still to come."""
    cdef layer *task = &one.layer
    cdef Py_ssize_t n_x = task.p.n_x, n_a = task.p.n_a, m = task.batch.m, ld = n_x + n_a, j
    cdef real *a = task.state[0]
    cdef const real *x = one.below
    cdef step s
    cdef int k
    if one.joined and not task.p.one_hot:
        if x == NULL:
            steps_to_columns(one.h, ld, task.x, m, 0, 1, full_range(n_x), full_range(m))
        for j in range(m):
            if x != NULL:
                memcpy(one.h + j * ld, x + j * n_x, n_x * sizeof(real))
            memcpy(one.h + j * ld + n_x, a + j * n_a, n_a * sizeof(real))
        matmul(task.slots, task.slot_stride, task.slot_ld, &one.W, one.h, ld, m, BIAS, task.bias, serial)
        step_arrays(&s, task, 0, m, 0, 0)
        task.p.cell.forward[0](&s, one.values)
    else:
        if task.p.one_hot:
            pack_indices(task.x_picked, task.x_indices, n_x, &task.batch, 0, 1, full_range(m), serial)
        elif x == NULL:
            steps_to_columns(task.x_columns, n_x, task.x, m, 0, 1, full_range(n_x), full_range(m))
            x = task.x_columns
        project_block(task, &x, &n_x, 0, 0, 1, full_range(m), serial)
        forward_step(task, 0, m, 0, full_range(m), full_range(one.values), serial)
    for k in range(task.p.cell.n_states):
        memcpy(task.state[k], task.state[k] + one.values, one.values * sizeof(real))


cdef void keep_states(prepared *one, bint put_back) noexcept nogil:
    """Copy the states of a layer to `saved`, or back."""
    cdef int k
    for k in range(one.layer.p.cell.n_states):
        if put_back:
            memcpy(one.layer.state[k], one.saved[k], one.values * sizeof(real))
        else:
            memcpy(one.saved[k], one.layer.state[k], one.values * sizeof(real))


cdef class Stream:
    """A prepared network and its state."""

    cdef int n_layers
    cdef prepared *layers                       # (n_layers), from the one that reads the input on
    cdef layer *first                           # of them
    cdef layer *top
    cdef const real[:, ::1] E                   # (vocabulary, n_x), the embedding transposed; None without one
    cdef const real *vectors                    # its address; NULL without one
    cdef Py_ssize_t vocabulary                  # the indices: of the embedding, or of the one-hot input
    cdef real *embedded                         # (columns of a block, n_x), with an embedding
    cdef Py_ssize_t values                      # of a hidden state of the top layer: m n_a
    cdef Py_ssize_t block_steps, max_columns    # of all layers
    cdef int busy                               # a call uses what follows, and the workspace
    cdef double flops                           # of a step
    cdef real *memory
    cdef real *by                               # (n_y)
    cdef tuple a_shape, y_shape
    cdef tuple out                              # of the last step that was given one, and its views: acquiring two
    cdef real[:, ::1] a_view, y_view            # typed memoryviews takes as long as a small step

    def __cinit__(
        self, Py_ssize_t m,
        list layers not None,                   # IN  the cell's name, W and b of each, as `prepared_init` takes them
        const real[:, ::1] E,                   # IN  (vocabulary, n_x), which is kept; None without an embedding
        const real[:, ::1] Wy,                  # IN  (n_y, n_a); None without an output
        const real[:, ::1] by,                  # IN  (n_y, 1); None without an output
        activation f,                           # of the output
    ):
        cdef layer *task
        cdef Py_ssize_t column, steps
        cdef int k
        if not layers:
            refuse()
        self.n_layers = len(layers)
        self.layers = <prepared *> PyMem_Calloc(self.n_layers, sizeof(prepared))
        if self.layers == NULL:
            raise MemoryError
        self.first, self.top = &self.layers[0].layer, &self.layers[self.n_layers - 1].layer
        for k in range(self.n_layers):
            name, W, b = layers[k]
            prepared_init(&self.layers[k], name, m, W, b)
            if k and self.layers[k].layer.p.n_x != self.layers[k - 1].layer.p.n_a:
                refuse()
            self.layers[k].layer.output.f = NO_OUTPUT
        output_init(&self.top.output, Wy, by, f, self.top.p.n_a)
        self.vocabulary = self.first.p.n_x
        if E is not None:
            self.E, self.vocabulary = E, E.shape[0]
            self.vectors = matrix(E, self.vocabulary, self.first.p.n_x)
        self.block_steps = BLOCK_COLUMNS
        for k in range(self.n_layers):
            task = &self.layers[k].layer
            column = max(task.p.n_x, task.output.n_y) + (task.p.cell.n_states + task.p.cell.n_slots) * task.p.n_a
            steps = min(max(BLOCK_STEPS, BLOCK_BYTES // 16 // (m * column)), BLOCK_COLUMNS // m)
            self.block_steps = max(1, min(self.block_steps, steps))
            task.flops = forward_flops(&task.p, task.output.n_y)
            self.flops += m * task.flops
        self.max_columns = m * self.block_steps
        for k in range(self.n_layers):
            task = &self.layers[k].layer
            task.batch.block_steps, task.batch.max_columns = self.block_steps, self.max_columns
        self.values = m * self.top.p.n_a
        self.a_shape, self.y_shape = (self.top.p.n_a, m), (self.top.output.n_y, m)
        self.memory = values_alloc(self.alloc(NULL) - <real *> NULL)
        self.alloc(self.memory)
        for k in range(self.n_layers):
            prepare_forward(&self.layers[k].layer, serial)
        if f != NO_OUTPUT:
            memcpy(self.by, self.top.output.by, self.top.output.n_y * sizeof(real))
            self.top.output.by = self.by

    cdef real *alloc(self, real *workspace):
        """Reserve every buffer from `workspace` on; its end."""
        cdef prepared *one
        cdef layer *task
        cdef int i, k
        for i in range(self.n_layers):
            one = &self.layers[i]
            task = &one.layer
            for k in range(task.p.cell.n_states):   # first, so that what is `below` is never at NULL
                one.saved[k] = workspace_alloc(&workspace, one.values)
            if i:
                one.below = self.layers[i - 1].layer.state[0]
                task.below[0] = one.below + self.layers[i - 1].values
            elif self.vectors != NULL:
                self.embedded = workspace_alloc(&workspace, self.max_columns * task.p.n_x)
                one.below = task.below[0] = self.embedded
            workspace = forward_alloc(task, workspace, 1)
            if one.joined:
                weights_alloc(&one.W, &workspace)
                task.p.W_x[0].packed = task.p.W_h[0].packed = one.W.packed
                one.h = workspace_alloc(&workspace, task.batch.m * one.W.K)
        self.by = workspace_alloc(&workspace, self.top.output.n_y)
        self.first.x_picked = index_alloc(&workspace, self.max_columns)
        return workspace

    def __dealloc__(self):
        if self.memory != NULL:
            buffer_free(self.memory)
        PyMem_Free(self.layers)

    cdef void embed(self, Py_ssize_t T_x) noexcept nogil:
        """The columns of the embedding that the indices of the next steps pick."""
        cdef Py_ssize_t n_x = self.first.p.n_x, m = self.first.batch.m, j, t, index
        for t in range(T_x):
            for j in range(m):
                index = safe_index(self.first.x_indices, j, t, self.vocabulary)
                memcpy(self.embedded + (t * m + j) * n_x, self.vectors + index * n_x, n_x * sizeof(real))

    cdef void advance(self, Py_ssize_t T_x, thread thr) noexcept nogil:
        """T_x steps of the input, each block by all layers; fewer if a signal cancels them."""
        cdef fp_state before = fp_enter(FP_FLUSH)
        cdef layer *first = self.first
        cdef layer *top = self.top
        cdef Py_ssize_t t = 0, steps
        cdef int k
        while t < T_x and not cancelled(thr):
            steps = block_after(t, T_x, self.block_steps) - t
            if self.vectors != NULL:
                self.embed(steps)
            for k in range(self.n_layers):
                self.layers[k].layer.batch.T_x = self.layers[k].layer.batch.T = steps
                forward_steps(&self.layers[k].layer, thr)
            t += steps
            if first.p.one_hot or self.vectors != NULL:
                first.x_indices.data += steps * first.x_indices.s_step
            else:
                first.x.data += steps * first.x.s_step
            top.states[0].data += steps
            if top.output.y.data != NULL:
                top.output.y.data += steps
        fp_leave(before)

    cdef void advance_one(self) noexcept nogil:
        """One step of the input."""
        cdef layer *top = self.top
        cdef Py_ssize_t n_a = top.p.n_a, n_y = top.output.n_y, m = top.batch.m
        cdef real *a = top.state[0]
        cdef real *z = top.output.y.data if m == 1 else top.output.z
        cdef fp_state before = fp_enter(FP_FLUSH)
        cdef int k
        if self.vectors != NULL:
            self.embed(1)
        for k in range(self.n_layers):
            advance_layer(&self.layers[k])
        if n_y:
            matmul(z, 0, n_y, &top.output.Wy, a, n_a, m, BIAS, self.by, serial)
            activate_rows(top.output.f, z, m, n_y)
        if m == 1:
            memcpy(top.states[0].data, a, n_a * sizeof(real))
        else:
            columns_to_steps(top.states[0], a, n_a, m, 0, 1, full_range(n_a), full_range(m))
            columns_to_steps(top.output.y, z, n_y, m, 0, 1, full_range(n_y), full_range(m))
        fp_leave(before)

    cdef int begin(self) except -1:
        if not mark_set(&self.busy):
            raise RuntimeError("this stream is making a step in another thread")
        return 0

    cdef void end(self) noexcept:
        mark_clear(&self.busy)

    cdef void set_input(self, const strided *x, const indices *index) noexcept:
        self.first.p.one_hot = index != NULL and self.vectors == NULL
        if index != NULL:
            self.first.x_indices = index[0]
        else:
            self.first.x = x[0]

    cdef int refuse_numbers(self) except -1:
        """An embedding has indices as its input."""
        if self.vectors != NULL:
            refuse()
        return 0

    cdef tuple make_step(
        self, const strided *x, const indices *index,   # IN   one of the two
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ):
        """One step; a and y, `out` itself where it is given."""
        self.begin()
        try:
            return self.step_into(x, index, out)
        finally:
            self.end()

    cdef tuple step_into(self, const strided *x, const indices *index, tuple out):
        cdef layer *task = self.top
        cdef real[:, ::1] a, y
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
        return out

    cdef tuple make_steps(self, const strided *x, const indices *index, Py_ssize_t T_x):
        """All steps of a block: a (n_a, m, T_x) and y (n_y, m, T_x) or None."""
        cdef layer *task = self.top
        cdef real[:, :, ::1] view
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
            for k in range(self.n_layers):
                keep_states(&self.layers[k], False)
            self.advance(T_x, thr)
            for k in range(self.n_layers if cancelled(thr) else 0):
                keep_states(&self.layers[k], True)
        self.end()
        raise_if_cancelled(&interrupts)
        return a_out, y_out

    def step(
        self,
        const real[:, :] xt not None,           # IN   (n_x, m), any strides
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ) -> tuple:
        """One step; a and y, `out` itself where it is given."""
        cdef strided x
        self.refuse_numbers()
        state(xt, self.first.p.n_x, self.first.batch.m, False, &x)
        return self.make_step(&x, NULL, out)

    def step_indices(
        self,
        const Py_ssize_t[:] xt not None,        # IN   (m), each from 0 to vocabulary - 1, any stride
        tuple out,                              # OUT  (n_a, m), (n_y, m) or None; None for new arrays
    ) -> tuple:
        """One step whose input is indices, of the embedding or of one-hot columns; likewise."""
        cdef indices x
        index_state(xt, self.vocabulary, self.first.batch.m, &x)
        return self.make_step(NULL, &x, out)

    def run(
        self,
        const real[:, :, :] x not None,         # IN   (n_x, m, T_x), any strides
    ) -> tuple:
        """All steps of a block: a (n_a, m, T_x) and y (n_y, m, T_x) or None."""
        cdef strided x_in
        self.refuse_numbers()
        sequence(x, self.first.p.n_x, self.first.batch.m, x.shape[2], &x_in)
        return self.make_steps(&x_in, NULL, x.shape[2])

    def run_indices(
        self,
        const Py_ssize_t[:, :] x not None,      # IN   (m, T_x), each from 0 to vocabulary - 1, any strides
    ) -> tuple:
        """All steps of a block whose input is indices; likewise."""
        cdef indices x_in
        index_sequence(x, self.vocabulary, self.first.batch.m, x.shape[1], NULL, x.shape[1], &x_in)
        return self.make_steps(NULL, &x_in, x.shape[1])

    def get(self) -> list:
        """Copies of the states, (n_a, m) each, as a tuple of each layer."""
        cdef Py_ssize_t m = self.top.batch.m, n_a
        cdef real[:, ::1] view
        cdef const layer *task
        cdef int i, k
        states = []
        for i in range(self.n_layers):
            task = &self.layers[i].layer
            states.append(tuple([new_array((task.p.n_a, m)) for _k in range(task.p.cell.n_states)]))
        self.begin()
        try:
            for i in range(self.n_layers):
                task, n_a = &self.layers[i].layer, self.layers[i].layer.p.n_a
                for k in range(task.p.cell.n_states):
                    view = states[i][k]
                    columns_to_steps(new_state(view), task.state[k], n_a, m, 0, 1, full_range(n_a), full_range(m))
        finally:
            self.end()
        return states

    def set(
        self,
        list states not None,                   # IN   (n_a, m) or (n_a, 1) of each, as a tuple of each layer
    ) -> None:
        """Set the states."""
        cdef Py_ssize_t m = self.top.batch.m, n_a
        cdef const real[:, :] view
        cdef prepared *one
        cdef const layer *task
        cdef int i, k
        if len(states) != self.n_layers:
            refuse()
        self.begin()                            # no other call may use `given`
        try:
            for i in range(self.n_layers):
                one = &self.layers[i]
                if len(states[i]) != one.layer.p.cell.n_states:
                    raise TypeError("not the states of this cell")
                for k in range(one.layer.p.cell.n_states):
                    view = states[i][k]
                    if view is None:
                        refuse()
                    state(view, one.layer.p.n_a, m, True, &one.given[k])
            for i in range(self.n_layers):
                task, n_a = &self.layers[i].layer, self.layers[i].layer.p.n_a
                for k in range(task.p.cell.n_states):
                    steps_to_columns(
                        task.state[k], n_a, self.layers[i].given[k], m, 0, 1, full_range(n_a), full_range(m),
                    )
        finally:
            self.end()

    def reset(
        self,
        const Py_ssize_t[::1] examples=None,    # IN   of them, each from 0 to m - 1; None for all
    ) -> None:
        """Set the states to zeros."""
        cdef prepared *one
        cdef Py_ssize_t n_a, j
        cdef int i, k
        cdef bint outside = False
        for j in range(0 if examples is None else examples.shape[0]):
            outside |= <size_t> examples[j] >= <size_t> self.top.batch.m
        if outside:
            raise IndexError("an index is out of range")
        self.begin()
        for i in range(self.n_layers):
            one = &self.layers[i]
            n_a = one.layer.p.n_a
            for k in range(one.layer.p.cell.n_states):
                if examples is None:
                    memset(one.layer.state[k], 0, one.values * sizeof(real))
                    continue
                for j in range(examples.shape[0]):
                    memset(one.layer.state[k] + examples[j] * n_a, 0, n_a * sizeof(real))
        self.end()

    def weights(self) -> tuple:
        """Copies of W and b of each layer, Wy and by as they were given, and the embedding (vocabulary, n_x) itself."""
        cdef Py_ssize_t n_y = self.top.output.n_y, n_a = self.top.p.n_a
        cdef real[:, ::1] Wy, by
        cdef int k
        layers = [weights_of(&self.layers[k]) for k in range(self.n_layers)]
        E = None if self.vectors == NULL else self.E.base
        if self.top.output.f == NO_OUTPUT:
            return layers, None, None, E
        Wy_out, by_out = new_array((n_y, n_a)), new_array((n_y, 1))
        Wy, by = Wy_out, by_out
        weights_unpack(&self.top.output.Wy, 0, new_matrix(Wy), n_a)
        memcpy(new_matrix(by), self.by, n_y * sizeof(real))
        return layers, Wy_out, by_out, E


cdef tuple weights_of(const prepared *one):
    """Copies of W and b as they were given."""
    cdef const parameters *p = &one.layer.p
    cdef Py_ssize_t n_a = p.n_a, K = n_a + p.n_x
    cdef int k, stage, slot
    W_out, b_out = new_array((p.cell.x_count, n_a, K)), new_array((n_biases(&p.cell), n_a, 1))
    cdef real[:, :, ::1] W = W_out, b = b_out
    for k in range(p.cell.x_count):
        weights_unpack(&p.W_x[0], k, new_cube(W) + k * n_a * K + n_a, K)
        slot = recurrent_slot(&p.cell, k)
        for stage in range(p.cell.n_stages):
            if adds_to(&p.cell.products[stage], slot):
                weights_unpack(&p.W_h[stage], slot - p.cell.products[stage].first, new_cube(W) + k * n_a * K, K)
    memcpy(new_cube(b), one.layer.bias, n_biases(&p.cell) * n_a * sizeof(real))
    return W_out, b_out
