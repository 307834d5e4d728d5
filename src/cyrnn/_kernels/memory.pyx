"""Large buffers that are used again.  Compiled for the baseline only.

A fresh page of memory costs a fault and a write of zeros, and it is in no cache.  For the results and
caches of a pass over a sequence that is up to a third of the whole time, so what one call gives
back serves the next: `take` and `give` for scratch, `arrays` for what the caller keeps, whose memory comes back when
the last view of it is gone.  At most KEEP bytes wait for their next use; the oldest goes first.

Everything here runs with the GIL held, which guards the table.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uintptr_t
from libc.string cimport memmove

from numpy import empty as small, ndarray


cdef extern from "alloc.h" nogil:
    const size_t HEADER
    void *lines_alloc(size_t size)
    void lines_free(void *block)


cdef extern from "Python.h":
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t ptr, size_t size) nogil
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t ptr) nogil


cdef enum:
    DOMAIN = 0xC712                     # ours in tracemalloc
    SLOTS = 16                          # buffers that wait
    SMALL = 1 << 16                     # bytes up to which malloc is as good
    MOST = 1LL << 52                    # bytes; the error for more is NumPy's

cdef size_t KEEP = 1 << 28              # 256 MB

cdef struct Block:
    size_t size

cdef Block *waiting[SLOTS]
cdef int count_waiting = 0
cdef size_t bytes_waiting = 0


cdef Block *forget(int slot) noexcept:
    """Take a buffer out of the table."""
    global count_waiting, bytes_waiting
    cdef Block *block = waiting[slot]
    count_waiting -= 1
    bytes_waiting -= block.size
    memmove(&waiting[slot], &waiting[slot + 1], (count_waiting - slot) * sizeof(waiting[0]))
    return block


cdef double *take(Py_ssize_t count) except NULL:
    """`count` doubles, uninitialised, on a cache line; to be given back."""
    cdef size_t size = count * sizeof(double) + HEADER
    cdef int slot, best = -1
    cdef Block *block
    if size > SMALL:
        for slot in range(count_waiting):
            if size <= waiting[slot].size <= size + size // 4 and (best < 0 or waiting[slot].size < waiting[best].size):
                best = slot
    if best >= 0:
        block = forget(best)
    else:
        block = <Block *> lines_alloc(size)
        if block == NULL:
            raise MemoryError(f"no memory for {size} bytes")
        block.size = size
    PyTraceMalloc_Track(DOMAIN, <uintptr_t> block, block.size)
    return <double *> (<char *> block + HEADER)


cdef void give(double *data) noexcept:
    """Give back what `take` gave."""
    global count_waiting, bytes_waiting
    cdef Block *block = <Block *> (<char *> data - HEADER)
    PyTraceMalloc_Untrack(DOMAIN, <uintptr_t> block)
    if block.size <= SMALL or block.size > KEEP:
        lines_free(block)
        return
    while count_waiting == SLOTS or bytes_waiting + block.size > KEEP:
        lines_free(forget(0))
    waiting[count_waiting] = block
    count_waiting += 1
    bytes_waiting += block.size


cdef class Memory:
    """What owns the memory of an array made by `arrays`."""

    cdef double *data
    cdef Py_ssize_t bytes

    def __cinit__(self, Py_ssize_t count):
        self.data = take(count)
        self.bytes = count * sizeof(double)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.bytes, False, flags)

    def __dealloc__(self):
        if self.data != NULL:
            give(self.data)


cdef object empty(tuple shape):
    cdef double count = 1.0  # a product that cannot overflow
    cdef Py_ssize_t n
    for n in shape:
        count *= n
    if SMALL < count * sizeof(double) < MOST:
        return ndarray(shape, buffer=Memory(<Py_ssize_t> count))
    return small(shape)


def arrays(*shapes: tuple[int, ...]) -> list[ndarray]:
    """Uninitialised C-contiguous float64 arrays of these shapes."""
    cdef list made = []
    cdef tuple shape
    for shape in shapes:
        made.append(empty(shape))
    return made


def free_kept() -> None:
    """Give the buffers that wait back to the system."""
    while count_waiting:
        lines_free(forget(0))


def bytes_kept() -> int:
    """The bytes that wait for their next use."""
    return bytes_waiting
