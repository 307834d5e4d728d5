"""Large buffers that are reused: results, caches and workspace.  Compiled for the baseline only.

A fresh page of memory costs a page fault and a write of zeros, and it is in no cache: up to a third of a pass over a
sequence.  So freed buffers go into a pool: those of `buffer_alloc` and `buffer_free` (workspace), and those of
`new_array`, which are freed with the last view of the array.  The pool holds POOL_BYTES at most; the oldest buffer
leaves it first.

Everything here runs with the GIL held, which guards the pool; without a GIL a lock does.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uintptr_t
from libc.string cimport memmove, memset

from .guard cimport guard, guard_lock, guard_unlock
from .limits cimport CACHE_LINE, POOL_BUFFERS, POOL_BYTES, POOL_FROM

from numpy import dtype as numpy_dtype, empty, full, nan, ndarray


cdef extern from "runtime/alloc.h" nogil:
    void *aligned_block_alloc(size_t size)
    void aligned_block_free(void *block)


cdef extern from "Python.h":
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t ptr, size_t size) nogil
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t ptr) nogil


cdef void *array_type = <void *> ndarray
cdef object float32 = numpy_dtype("float32"), float64 = numpy_dtype("float64")

cdef enum:
    TRACEMALLOC_DOMAIN = 0xC712
    NUMPY_BYTES = 1LL << 52             # the error for more is NumPy's

cdef struct Block:                      # the first cache line of a buffer, before its data
    size_t size

cdef guard pool_guard
cdef Block *pool[POOL_BUFFERS]
cdef int pool_count = 0
cdef size_t pool_bytes = 0
cdef bint nan_first = False             # for tests: what is read before it is written shows


cdef Block *pool_remove(int index) noexcept:
    global pool_count, pool_bytes
    cdef Block *block = pool[index]
    pool_count -= 1
    pool_bytes -= block.size
    memmove(&pool[index], &pool[index + 1], (pool_count - index) * sizeof(pool[0]))
    return block


cdef Block *pool_take(size_t size) noexcept:
    """A buffer of the pool of that size or a little more; NULL if there is none."""
    cdef int index, best = -1
    cdef Block *block
    guard_lock(&pool_guard)
    for index in range(pool_count):
        if size <= pool[index].size <= size + size // 4 and (best < 0 or pool[index].size < pool[best].size):
            best = index
    block = pool_remove(best) if best >= 0 else NULL
    guard_unlock(&pool_guard)
    return block


cdef void *buffer_alloc(Py_ssize_t bytes) except NULL:
    """So many bytes, uninitialised, aligned to a cache line; to be freed by `buffer_free`."""
    cdef size_t size = bytes + CACHE_LINE
    cdef Block *block = pool_take(size) if size > POOL_FROM else NULL
    if block == NULL:
        block = <Block *> aligned_block_alloc(size)
        if block == NULL:
            raise MemoryError(f"no memory for {size} bytes")
        block.size = size
    PyTraceMalloc_Track(TRACEMALLOC_DOMAIN, <uintptr_t> block, block.size)
    if nan_first:
        memset(<char *> block + CACHE_LINE, 0xff, bytes)
    return <char *> block + CACHE_LINE


cdef void buffer_free(void *data) noexcept:
    """Put a buffer of `buffer_alloc` into the pool, or give it back to the system."""
    global pool_count, pool_bytes
    cdef Block *block = <Block *> (<char *> data - CACHE_LINE)
    PyTraceMalloc_Untrack(TRACEMALLOC_DOMAIN, <uintptr_t> block)
    if block.size <= POOL_FROM or block.size > POOL_BYTES:
        aligned_block_free(block)
        return
    guard_lock(&pool_guard)
    while pool_count == POOL_BUFFERS or pool_bytes + block.size > POOL_BYTES:
        aligned_block_free(pool_remove(0))
    pool[pool_count] = block
    pool_count += 1
    pool_bytes += block.size
    guard_unlock(&pool_guard)


cdef class Memory:
    """The owner of the memory of an array made by `new_array`."""

    cdef void *data
    cdef Py_ssize_t bytes

    def __cinit__(self, Py_ssize_t bytes):
        self.data = buffer_alloc(bytes)
        self.bytes = bytes

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.bytes, False, flags)

    def __dealloc__(self):
        if self.data != NULL:
            buffer_free(self.data)


cdef object array_of(tuple shape, Py_ssize_t itemsize):
    """An uninitialised C-contiguous array of float64, or of float32 if a value has 4 bytes."""
    cdef double bytes = itemsize        # a product that cannot overflow
    cdef Py_ssize_t n
    cdef object dtype = float64 if itemsize == 8 else float32
    for n in shape:
        bytes *= n
    if POOL_FROM < bytes < NUMPY_BYTES:
        return ndarray(shape, dtype, Memory(<Py_ssize_t> bytes))
    return full(shape, nan, dtype) if nan_first else empty(shape, dtype)


def arrays(*shapes: tuple[int, ...], itemsize: int = 8) -> list[ndarray]:
    """Uninitialised C-contiguous arrays of these shapes, of float64 or of float32."""
    cdef list made = []
    cdef tuple shape
    for shape in shapes:
        made.append(array_of(shape, itemsize))
    return made


def fill_with_nan(bint on) -> None:
    """Whether new arrays and workspace begin as NaN; for tests."""
    global nan_first
    nan_first = on


def release_pool() -> None:
    """Give the pooled buffers back to the system."""
    guard_lock(&pool_guard)
    while pool_count:
        aligned_block_free(pool_remove(0))
    guard_unlock(&pool_guard)


def pooled_bytes() -> int:
    """The bytes in the pool."""
    guard_lock(&pool_guard)
    cdef size_t bytes = pool_bytes
    guard_unlock(&pool_guard)
    return bytes
