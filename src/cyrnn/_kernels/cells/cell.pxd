"""What a cell is to the code that runs it: a table of its slots, products and pointwise functions.

Its functions are called by `forward_step` and `backward_pointwise` and by a single step (one_step.pxd), all in
schedule/, and by `Stream` (stream.pxi).

A step of a cell goes through one or two stages.  A stage is a recurrent product, which adds W source to some of the
slots, and then a pointwise function.  The source of the first product is the hidden state before the step, that of a
second one is a slot.  A slot is an array of n_a values a column: it begins as the bias and the projection of the input,
the products are added, the activations overwrite it, and it is kept for the backward pass.
"""

from ..runtime.real cimport real


cdef enum:
    MAX_SLOTS = 4
    MAX_STATES = 2      # the hidden state a, the memory c
    MAX_STAGES = 2
    HIDDEN = -1         # the source of the first product: the hidden state before the step
    NO_SLOT = -1


cdef struct step:
    # what a pointwise function gets: n values of each array
    real *slot[MAX_SLOTS]                   # forward: IN sums, OUT activations; backward: IN activations
    const real *before[MAX_STATES]          # IN      the states before the step
    real *after[MAX_STATES]                 # forward: OUT, backward: IN, the states after it
    real *d_slot[MAX_SLOTS]                 # OUT     gradients of the sums; da_slot is IN/OUT: the gradient of a from
    #                                                 outside comes in there
    real *d_state[MAX_STATES]               # IN/OUT  gradients of the states that come from the next step


ctypedef void (*pointwise)(const step *s, Py_ssize_t n) noexcept nogil


cdef struct product:
    int first, count                        # the slots that it is added to: first ... first + count - 1
    int source                              # HIDDEN or a slot


cdef struct cell:
    int n_slots, n_states, n_stages
    int x_first, x_count                    # the slots that the input is projected into
    product products[MAX_STAGES]
    pointwise forward[MAX_STAGES]           # of each stage, after its product
    pointwise backward[MAX_STAGES]          # before its product is taken back
    int da_slot, dc_slot                    # slots in which the gradients of a and c from outside come in; no memory c:
    #                                         dc_slot is NO_SLOT
    bint slot_is_state                      # the one slot becomes the hidden state itself, in its place
    bint keeps_da                           # backward writes to d_state[0] the part of the gradient that reaches the
    #                                         state before the step without a product, and the product is added to
    #                                         it; else backward only reads d_state[0], which may be the caller's
    #                                         array, and the product overwrites it


cdef inline int slots_kept(const cell *c) noexcept nogil:
    """Arrays of n_a values a column that a backward pass needs: states, and slots that are not states."""
    return c.n_states + (0 if c.slot_is_state else c.n_slots)


cdef inline bint gets_input(const cell *c, int slot) noexcept nogil:
    """Whether the input is projected into a slot."""
    return c.x_first <= slot < c.x_first + c.x_count


cdef inline bint adds_to(const product *p, int slot) noexcept nogil:
    """Whether a product is added to a slot."""
    return p.first <= slot < p.first + p.count
