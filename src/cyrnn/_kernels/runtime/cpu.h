/* Which vector instructions may be used here: what the processor has and the system saves on a
 * context switch.  The compilers' own check knows both (it reads CPUID and XGETBV). */
#ifndef CYRNN_CPU_H
#define CYRNN_CPU_H

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define HAS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature) != 0)
static int cpu_has_avx2(void) { return HAS("avx2"); }
static int cpu_has_fma(void) { return HAS("fma"); }
static int cpu_has_bmi2(void) { return HAS("bmi") && HAS("bmi2"); }
static int cpu_has_avx512(void)
{
    return HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl");
}
#elif defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>

/* Bits of a register (EAX, EBX, ECX, EDX: 0 to 3) of a leaf of CPUID, all of them set? */
static int cpuid_has(int leaf, int reg, unsigned int bits)
{
    int r[4];
    __cpuid(r, 0);
    if (r[0] < leaf) return 0;
    __cpuidex(r, leaf, 0);
    return ((unsigned int)r[reg] & bits) == bits;
}

/* Whether the system saves these registers: 0x6 those of AVX, 0xe6 those of AVX-512 too. */
static int system_saves(unsigned int state)
{
    return cpuid_has(1, 2, 1u << 27) && ((unsigned int)_xgetbv(0) & state) == state; /* OSXSAVE */
}

static int cpu_has_avx2(void) { return system_saves(0x6) && cpuid_has(7, 1, 1u << 5); }
static int cpu_has_fma(void) { return system_saves(0x6) && cpuid_has(1, 2, 1u << 12); }
static int cpu_has_bmi2(void) { return cpuid_has(7, 1, 1u << 3 | 1u << 8); }
static int cpu_has_avx512(void) /* F, DQ, CD, BW, VL */
{
    return system_saves(0xe6) && cpuid_has(7, 1, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31);
}
#else
static int cpu_has_avx2(void) { return 0; }
static int cpu_has_fma(void) { return 0; }
static int cpu_has_bmi2(void) { return 0; }
static int cpu_has_avx512(void) { return 0; }
#endif

#endif
