"""A stream over the steps of a problem, made in every way: what the function of the sequence gives, bit for bit."""

import numpy as np
from fuzz_oracle import same
from layouts import WRONG, disguised

import cyrnn


def check(fuzzer, pick, cell, q):
    """Steps, steps into arrays of the caller's, blocks, states read and set, refusals in between."""
    n_x, m, T_x = q.x.shape
    lstm = cell.name == "lstm"
    if m == 0 or len(q.a0) == 0:
        return fuzzer.refused("Stream", q.p, m)
    start = (q.a0, q.c0) if lstm else q.a0
    *want, _ = fuzzer.call(f"{cell.name}_forward", q.x, q.a0, q.p, cache=False, **({"c0": q.c0} if lstm else {}))
    a, y, *c = want
    stream = fuzzer.call("Stream", {name: disguised(pick, value, q.whole) for name, value in q.p.items()}, m)
    set_state(fuzzer, stream, start)
    t = 0
    while t < T_x:
        way, xt, stop = pick.choice(("step", "step", "out", "out", "run", "again", "wrong")), q.x[:, :, t], t + 1
        if way == "step":
            found = fuzzer.call(stream.step, disguised(pick, xt, q.whole))
        elif way == "out":
            out = np.full((len(a), m), 7.0), np.full((len(y), m), 7.0)
            found = fuzzer.call(stream.step, disguised(pick, xt, q.whole), out=out)
            if found[0] is not out[0] or found[1] is not out[1]:
                raise AssertionError("out= was not returned")
        elif way == "run":
            stop = pick.randint(t, T_x)
            found = fuzzer.call(stream.run, disguised(pick, q.x[:, :, t:stop], q.whole))
        else:
            kept = state(fuzzer, stream)
            if way == "again":  # other steps, and then back to where it was
                fuzzer.call(stream.run, q.x[:, :, t:])
                set_state(fuzzer, stream, kept)
            elif 0 not in (n_x, len(a), len(y)):
                wrong(fuzzer, pick, stream, kept, xt, a.shape[:2], y.shape[:2])
            continue
        for name, value, whole in zip("ay", found, (a, y), strict=True):
            part = whole[:, :, t:stop]
            same(f"{name} of a stream ({way}) from step {t}", value.reshape(part.shape), part)
        t = stop
        if pick.random() < 0.5 and t:
            whole = (a, *c) if lstm else (a,)
            for value, expected in zip(arrays(state(fuzzer, stream)), whole, strict=True):
                same(f"the state of a stream after step {t}", value, expected[:, :, t - 1])
    fuzzer.call(stream.reset)
    if any(value.any() for value in arrays(state(fuzzer, stream))):
        raise AssertionError("the state of a stream after reset is not zero")
    if T_x:
        first = fuzzer.call(stream.step, q.x[:, :, 0])[0]
        zeros = [np.zeros((len(a), m))] * (1 + lstm)
        same("a after reset", first, fuzzer.call(f"{cell.name}_cell_forward", q.x[:, :, 0], *zeros, q.p)[0])


def arrays(value):
    return value if isinstance(value, tuple) else (value,)


def state(fuzzer, stream):
    return fuzzer.call(cyrnn.Stream.state.fget, stream)


def set_state(fuzzer, stream, value):
    fuzzer.call(cyrnn.Stream.state.fset, stream, value)


def wrong(fuzzer, pick, stream, kept, xt, shape_a, shape_y):
    """Refused, and neither the state nor `out` has changed."""
    a, y = out = np.full(shape_a, 7.0), np.full(shape_y, 7.0)
    way = pick.randrange(5)
    misfit = pick.choice(WRONG)
    if way == 0:
        fuzzer.refused(stream.step, misfit(xt))
    elif way == 1:
        fuzzer.refused(stream.step, misfit(xt), out=out)
    elif way == 2:
        frozen = y.copy()
        frozen.flags.writeable = False
        no_out = [(a,), (a, y, a), (a, None), (a.astype("f4"), y), (a, y[None]), (a, frozen), (a, y[:, :0]), (a, a), 7]
        fuzzer.refused(stream.step, xt, out=pick.choice([*no_out, (misfit(a), y), (a, misfit(y))]))
    elif way == 3:
        fuzzer.refused(stream.run, misfit(xt[:, :, None]))
    elif isinstance(kept, tuple):
        first, second = kept
        no_state = (misfit(first), second), (first, misfit(second)), first, kept[:1], (*kept, first), None
        fuzzer.refused(cyrnn.Stream.state.fset, stream, pick.choice(no_state))
    else:
        fuzzer.refused(cyrnn.Stream.state.fset, stream, misfit(kept))
    for value, before in zip(arrays(state(fuzzer, stream)), arrays(kept), strict=True):
        same("the state of a stream after a refusal", value, before)
    if (a != 7.0).any() or (y != 7.0).any():
        raise AssertionError("a refused step wrote into out=")
