"""Locks where there is no GIL, and the mark of an object in use: see guard.h."""


cdef extern from "runtime/guard.h" nogil:
    ctypedef struct guard:              # to be zero at first
        pass

    void guard_lock(guard *lock)
    void guard_unlock(guard *lock)
    bint mark_set(int *mark)
    void mark_clear(int *mark)
