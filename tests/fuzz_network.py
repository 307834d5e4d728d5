"""Random networks: each example as its layers one by one, alone and unpadded; in disguise the same; misfits refused."""

import copy
from types import SimpleNamespace

import networks
import numpy as np
from cells import CELLS, FLOAT32
from fuzz_oracle import same
from layouts import NO_NUMBERS, WRONG, disguised

import cyrnn

OUTPUTS = ("softmax", "softmax", "sigmoid", "linear", None)


def check(fuzzer, pick):
    """One network, forward and backward, in disguise, and wrongly."""
    q = networks.draw(np.random.default_rng(pick.randrange(1 << 30)), pick.choice((CELLS, FLOAT32)), most=9)
    before, output = copy.deepcopy(q), pick.choice(OUTPUTS)
    out, back = run(fuzzer, q, output)
    for j in pick.sample(range(q.m), min(q.m, 2)):
        r = networks.part(q, j)
        want = networks.by_layers(r, output)
        for name in "ay":
            value = getattr(out, name)
            if value is not None:
                same(f"{name} of example {j} of a network", value[:, j : j + 1, : r.T_x], getattr(want, name))
        alike(f"states of example {j} of a network", networks.column(out.states, j), want.states)
        _, alone = run(fuzzer, r, output)
        alike(f"dstates of example {j} of a network", networks.column(back.dstates, j), alone.dstates)
        if q.input == "dense":
            same(f"dx of example {j} of a network", back.dx[:, j : j + 1, : r.T_x], alone.dx)
    r = copy.copy(q)
    r.network, r.states, r.dstates, r.dz, r.da = (
        None if value is None else networks.changed(value, lambda v: disguised(pick, v, False))
        for value in (q.network, q.states, q.dstates, q.dz, q.da)
    )
    if q.input == "dense":
        r.x = disguised(pick, q.x, False)
    for found, want in zip(run(fuzzer, r, output), (out, back), strict=True):
        alike("a network in disguise", list(vars(found).values()), list(vars(want).values()))
    if q.lengths is None:
        stream(fuzzer, pick, q, out, output)
    for _ in range(3):
        wrong(fuzzer, pick, q)
    alike("the arguments of a network", list(vars(q).values())[4:], list(vars(before).values())[4:])
    fuzzer.done["networks"] += 1


def run(fuzzer, q, output):
    """A forward and a backward pass, counted by the fuzzer."""
    how = {"states": q.states, "output": output} | ({} if q.lengths is None else {"lengths": q.lengths})
    how |= q.cells[0].keywords()
    y, a, states, caches = fuzzer.call("network_forward", q.x, q.network, **how)
    gradients, dx, dstates = fuzzer.call("network_backward", caches, dz=q.dz, da=q.da, dstates=q.dstates)
    back = SimpleNamespace(gradients=gradients, dx=dx, dstates=dstates)
    return SimpleNamespace(y=y, a=a, states=states), back


def stream(fuzzer, pick, q, out, output):
    """Of one direction a stream gives the same, in blocks and steps; of both it is refused."""
    if any(q.pairs):
        return fuzzer.refused("Stream", q.network, q.m, output=output, **q.cells[0].keywords())
    fed, t = fuzzer.call("Stream", q.network, q.m, output=output, **q.cells[0].keywords()), 0
    if q.states is not None:
        fuzzer.call(cyrnn.Stream.state.fset, fed, q.states)
    while t < q.T_x:
        stop = t + 1 if pick.random() < 0.5 else pick.randint(t, q.T_x)
        x = q.x[..., t:stop]
        found = fuzzer.call(fed.step, x[..., 0]) if x.shape[-1] == 1 else fuzzer.call(fed.run, x)
        for name, value in zip("ay", found, strict=True):
            whole = getattr(out, name)
            if whole is not None:
                part = whole[:, :, t:stop]
                same(f"{name} of a stream of a network from step {t}", value.reshape(part.shape), part)
        t = stop
    return alike("the state of a stream of a network", fuzzer.call(cyrnn.Stream.state.fget, fed), out.states)


def alike(name, found, want):
    """The same nesting of the same bits."""
    found, want = networks.leaves(found), networks.leaves(want)
    if len(found) != len(want):
        raise AssertionError(f"{name}: expected {len(want)} arrays, got {len(found)}")
    for ours, theirs in zip(found, want, strict=True):
        if isinstance(theirs, np.ndarray):
            same(name, ours, theirs)


def spoilt(pick, nested, wrongs):
    """The nested arrays with one of them replaced, removed or put elsewhere."""
    if isinstance(nested, dict):
        key = pick.choice(list(nested))
        if pick.random() < 0.3:
            fewer = {name: value for name, value in nested.items() if name != key} if key != "bca" else None
            return pick.choice((fewer, {**nested, "Wy": 1.0}, None))
        return {**nested, key: spoilt(pick, nested[key], wrongs)}
    if isinstance(nested, np.ndarray):
        return pick.choice(wrongs)(nested)
    k = pick.randrange(len(nested))
    if pick.random() < 0.1:
        return pick.choice((7, "text", nested[:-1] if len(nested) == 1 else [*nested, {}], {"a": nested}))
    return type(nested)([*nested[:k], spoilt(pick, nested[k], wrongs), *nested[k + 1 :]])


def wrong(fuzzer, pick, q):
    """One thing that does not fit: refused with a message."""
    how = {"states": q.states, "lengths": q.lengths, **q.cells[0].keywords()}
    way = pick.choice(("network", "network", "states", "x", "lengths", "backward"))
    if way == "network":
        fuzzer.refused("network_forward", q.x, spoilt(pick, q.network, WRONG), **how)
    elif way == "states" and q.states is not None:
        fuzzer.refused("network_forward", q.x, q.network, **{**how, "states": spoilt(pick, q.states, WRONG[1:])})
    elif way == "x" and q.x.size:
        wrongs = WRONG if q.input == "dense" else NO_NUMBERS  # the others may be a dense input, or another batch
        fuzzer.refused("network_forward", pick.choice(wrongs)(q.x), q.network, states=q.states)
    elif way == "lengths":
        lengths = pick.choice(([q.T_x + 1] * q.m, [-1] * q.m, [q.T_x] * (q.m + 1), [0.5] * q.m))
        fuzzer.refused("network_forward", q.x, q.network, **{**how, "lengths": lengths})
    elif way == "backward":
        caches = fuzzer.call("network_forward", q.x, q.network, **how)[-1]
        fuzzer.refused("network_backward", pick.choice((None, 7, [caches], q.network)))
        fuzzer.refused("network_backward", caches, da=pick.choice(WRONG[1:])(q.da))
        fuzzer.refused("network_backward", caches, dstates=spoilt(pick, q.dstates, WRONG[1:]))
        if q.dz is not None:
            fuzzer.refused("network_backward", caches, dz=pick.choice(WRONG[1:])(q.dz))
