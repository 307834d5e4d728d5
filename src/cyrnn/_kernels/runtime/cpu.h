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
#else
static int cpu_has_avx2(void) { return 0; }
static int cpu_has_fma(void) { return 0; }
static int cpu_has_bmi2(void) { return 0; }
static int cpu_has_avx512(void) { return 0; }
#endif

#endif
