"""Threads for one kernel call: see team.h."""


cdef extern from "team.h" nogil:
    ctypedef struct team:
        int thread
        int threads

    ctypedef struct span:
        Py_ssize_t lo
        Py_ssize_t hi

    ctypedef void team_fn(void *problem, team me) noexcept

    const team alone
    span share(Py_ssize_t n, Py_ssize_t unit, team me)
    void barrier(team me)
    void run_team(team_fn *run, void *problem, int threads)
