"""exp, tanh, sigmoid and log that vectorise in a loop: see vmath.h."""


cdef extern from "vmath.h" nogil:
    double exp "vexp"(double x)
    double tanh "vtanh"(double x)
    double sigmoid "vsigmoid"(double x)
    double log "vlog"(double x)
