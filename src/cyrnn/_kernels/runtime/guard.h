/* What the GIL guards where there is one: on a free-threaded Python a lock and a mark, elsewhere nothing but the mark.
 *
 * A lock is held for a few instructions only, in which the thread does not wait for others; so none is held while
 * Python forks, which stops the other threads first. */
#ifndef CYRNN_GUARD_H
#define CYRNN_GUARD_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

typedef PyMutex guard;

static inline void guard_lock(guard *lock) { PyMutex_Lock(lock); }
static inline void guard_unlock(guard *lock) { PyMutex_Unlock(lock); }

/* Set a mark; whether it was clear. */
static inline int mark_set(int *mark)
{
    int clear = 0;
    return _Py_atomic_compare_exchange_int(mark, &clear, 1);
}

static inline void mark_clear(int *mark) { _Py_atomic_store_int_release(mark, 0); }

#else

typedef char guard;

static inline void guard_lock(guard *lock) { (void)lock; }
static inline void guard_unlock(guard *lock) { (void)lock; }

static inline int mark_set(int *mark)
{
    if (*mark) return 0;
    return *mark = 1;
}

static inline void mark_clear(int *mark) { *mark = 0; }

#endif
#endif
