"""The products of one step: see step.h."""

from .gemm cimport weights
from .team cimport span, team


cdef extern from "step.h" nogil:
    span rows_of(Py_ssize_t n, Py_ssize_t m, team me)
    void step_multiply(
        double *c, Py_ssize_t m, const double *w, Py_ssize_t ld, Py_ssize_t K, const double *x, span mine,
    )
    void step_multiply_transposed(
        double *c, Py_ssize_t K, Py_ssize_t m, const weights *W, const double *d, double *room, team me,
    )
    void sum_rows(double *db, const double *d, Py_ssize_t m, span mine)
    void step_outer(
        double *dW, Py_ssize_t lddW, Py_ssize_t K, const double *d, const double *x, Py_ssize_t m, span mine,
    )
