"""The vector instructions that this machine can run.  Compiled for the baseline only."""


cdef extern from "cpu.h" nogil:
    bint cpu_has_avx2()
    bint cpu_has_fma()
    bint cpu_has_bmi2()
    bint cpu_has_avx512()


cdef extern from "fpenv.h" nogil:
    unsigned long long fp_word()


def floating_point() -> int:
    """The calling thread's floating-point control word and raised flags."""
    return fp_word()


def features() -> dict:
    """Name of each feature that decides on a build, and whether it is there."""
    return {
        "avx2": cpu_has_avx2(),
        "fma": cpu_has_fma(),
        "bmi2": cpu_has_bmi2(),
        "avx512": cpu_has_avx512(),
    }
