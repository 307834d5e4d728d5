/* What runtime/cpu.h asks the processor where there is MSVC, against the compiler's own check.  MSVC's intrinsics are
 * written here by those of gcc and clang:
 *
 *     gcc -mxsave -I src/cyrnn/_kernels -I tests/portable/msvc tests/portable/cpu.c && ./a.out
 */
#include <cpuid.h>
#include <immintrin.h>
#include <stdio.h>

static int compilers[4];

static void ask_compiler(void)
{
    __builtin_cpu_init();
    compilers[0] = __builtin_cpu_supports("avx2") != 0;
    compilers[1] = __builtin_cpu_supports("fma") != 0;
    compilers[2] = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    compilers[3] = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
}

static void cpuidex(int r[4], int leaf, int sub)
{
    unsigned int a, b, c, d;
    __cpuid_count(leaf, sub, a, b, c, d);
    r[0] = (int)a, r[1] = (int)b, r[2] = (int)c, r[3] = (int)d;
}

#undef __cpuid
#define __cpuid(r, leaf) cpuidex(r, leaf, 0)
#define __cpuidex cpuidex
#define _M_X64 100
#undef __GNUC__
#include "runtime/cpu.h"

int main(void)
{
    int ours[4] = {cpu_has_avx2(), cpu_has_fma(), cpu_has_bmi2(), cpu_has_avx512()}, failures = 0;
    const char *names[] = {"avx2", "fma", "bmi2", "avx512"};
    ask_compiler();
    for (int i = 0; i < 4; i++) {
        printf("  %s: %d, by the compiler %d\n", names[i], ours[i], compilers[i]);
        failures += ours[i] != compilers[i];
    }
    return failures != 0;
}
