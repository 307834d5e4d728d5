/* Memory aligned to cache lines; large blocks in huge pages where the system has them. */
#ifndef CYRNN_ALLOC_H
#define CYRNN_ALLOC_H

#include <stddef.h>
#include <stdlib.h>
#include "limits.h"

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

static inline void *aligned_block_alloc(size_t size)
{
#if defined(_WIN32)
    return _aligned_malloc(size, CACHE_LINE);
#else
    void *block = NULL;
    size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
    if (posix_memalign(&block, alignment, size) != 0) return NULL;
#if defined(MADV_HUGEPAGE)
    if (size >= HUGE_PAGE) madvise(block, size, MADV_HUGEPAGE); /* a hint: its failure does not matter */
#endif
    return block;
#endif
}

static inline void aligned_block_free(void *block)
{
#if defined(_WIN32)
    _aligned_free(block);
#else
    free(block);
#endif
}

#endif
