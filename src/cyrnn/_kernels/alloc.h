/* Memory in whole cache lines; large blocks in huge pages where the system has them. */
#ifndef CYRNN_ALLOC_H
#define CYRNN_ALLOC_H

#include <stddef.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

#define HEADER ((size_t)64) /* of every block, so that the data after it begins on a line */
#define HUGE_PAGE ((size_t)1 << 21)

static inline void *lines_alloc(size_t size)
{
#if defined(_WIN32)
    return _aligned_malloc(size, HEADER);
#else
    void *block = NULL;
    size_t line = size >= HUGE_PAGE ? HUGE_PAGE : HEADER;
    if (posix_memalign(&block, line, size) != 0) return NULL;
#if defined(MADV_HUGEPAGE)
    if (size >= HUGE_PAGE) madvise(block, size, MADV_HUGEPAGE); /* only a wish: its failure is none of ours */
#endif
    return block;
#endif
}

static inline void lines_free(void *block)
{
#if defined(_WIN32)
    _aligned_free(block);
#else
    free(block);
#endif
}

#endif
