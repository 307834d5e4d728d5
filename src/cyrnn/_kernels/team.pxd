"""Threads for one kernel call: see team.h."""


cdef extern from "team.h" nogil:
    ctypedef struct watch:
        int stop
        int halt
        double left
        double operations
        double last
        void (*look)(watch *watch) noexcept
        int waiting
        int round

    ctypedef struct team:
        int thread
        int threads
        watch *watch

    ctypedef struct span:
        Py_ssize_t lo
        Py_ssize_t hi

    ctypedef void team_fn(void *problem, team me) noexcept

    const team alone
    team by_itself(team me)
    bint stopped(team me)
    bint halted(team me)
    void settle(team me)
    void look_up(team me, double operations)
    span share(Py_ssize_t n, Py_ssize_t unit, team me)
    span whole(Py_ssize_t n)
    span clip(span mine, Py_ssize_t n)
    void barrier(team me)
    void run_team(team_fn *run, void *problem, int threads, watch *watch)


cdef extern from "fpenv.h" nogil:
    ctypedef struct fp_state:
        pass

    const unsigned int FP_PLAIN
    const unsigned int FP_FLUSH
    fp_state fp_enter(unsigned int how)
    void fp_leave(fp_state before)
