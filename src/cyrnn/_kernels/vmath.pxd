"""exp, tanh and sigmoid that vectorise in a loop: see vmath.h."""


cdef extern from "vmath.h" nogil:
    double exp "vexp"(double x)
    double tanh "vtanh"(double x)
    double sigmoid "vsigmoid"(double x)
