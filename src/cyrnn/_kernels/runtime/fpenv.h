/* The floating-point environment of a call: round to nearest, nothing traps, and what comes back is what
 * was there before, raised flags too.
 *
 * Within a pass over a network, numbers below the normal ones (2.2e-308) count as zero: a silent input lets
 * a memory cell sink there, and with a forget gate above one half it stays there for good, where every
 * operation may take a hundred times as long.  Every pass does so, so that all give the same bits; the
 * functions of an array (exp, sigmoid, softmax) do not.
 */
#ifndef CYRNN_FPENV_H
#define CYRNN_FPENV_H

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>

typedef unsigned int fp_state;
#define FP_PLAIN 0x1f80u /* nothing traps */
#define FP_FLUSH 0x9fc0u /* subnormal results and operands are zero */

static inline fp_state fp_enter(unsigned int how)
{
    fp_state before = _mm_getcsr();
    _mm_setcsr(how);
    return before;
}

static inline void fp_leave(fp_state before) { _mm_setcsr(before); }

/* Control and raised flags as numbers, for tests. */
static inline unsigned long long fp_word(void) { return _mm_getcsr(); }

#elif defined(__aarch64__) && defined(__GNUC__)
#include <stdint.h>

typedef struct {
    uint64_t control, status;
} fp_state;
#define FP_PLAIN 0u
#define FP_FLUSH (1u << 24)

static inline fp_state fp_enter(unsigned int how)
{
    fp_state before;
    uint64_t control = how;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(before.control), "=r"(before.status));
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
    return before;
}

static inline void fp_leave(fp_state before)
{
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(before.control), "r"(before.status) : "memory");
}

static inline unsigned long long fp_word(void)
{
    fp_state now;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(now.control), "=r"(now.status));
    return now.control << 32 | now.status;
}

#else
#include <fenv.h>

typedef fenv_t fp_state;
#define FP_PLAIN 0u
#define FP_FLUSH 0u /* the standard has no word for it */

static inline fp_state fp_enter(unsigned int how)
{
    fp_state before;
    (void)how;
    feholdexcept(&before);
    return before;
}

static inline void fp_leave(fp_state before) { fesetenv(&before); }

static inline unsigned long long fp_word(void)
{
    return (unsigned long long)fegetround() << 32 | (unsigned)fetestexcept(FE_ALL_EXCEPT);
}
#endif

#endif
