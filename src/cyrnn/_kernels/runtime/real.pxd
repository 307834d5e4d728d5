"""The precision of a build, and the constants of expressions: see real.h."""


cdef extern from "runtime/real.h" nogil:
    ctypedef double real

    const real REAL_MIN
    const real REAL_MAX
    real fabs "REAL_FABS"(real x)
    real sqrt "REAL_SQRT"(real x)
    const real zero "((real)0)"
    const real half "((real)0.5)"
    const real one "((real)1)"
    const real two "((real)2)"
