"""The vector instructions that this machine can run.  Compiled for the baseline only."""


cdef extern from "runtime/cpu.h" nogil:
    bint cpu_has_avx2()
    bint cpu_has_fma()
    bint cpu_has_bmi2()
    bint cpu_has_avx512()


cdef extern from *:
    """
    #include "runtime/fpenv.h"
    #ifdef _OPENMP
    #include <omp.h>
    #endif
    static void fp_words(unsigned long long *words, int threads)
    {
    #ifdef _OPENMP
    #pragma omp parallel num_threads(threads)
        words[omp_get_thread_num()] = fp_word();
    #else
        for (int k = 0; k < threads; k++) words[k] = fp_word();
    #endif
    }
    """
    void fp_words(unsigned long long *words, int threads) nogil


def floating_point(threads: int = 1) -> list:
    """The floating-point control words, each with the raised flags, of the calling thread and of those of OpenMP
    that would work for it; for tests, 8 threads at most."""
    cdef unsigned long long words[8]
    cdef int count = max(1, min(threads, 8)), k
    fp_words(words, count)
    return [words[k] for k in range(count)]


def features() -> dict:
    """Name of each feature that decides on a build, and whether it is there."""
    return {
        "avx2": cpu_has_avx2(),
        "fma": cpu_has_fma(),
        "bmi2": cpu_has_bmi2(),
        "avx512": cpu_has_avx512(),
    }
