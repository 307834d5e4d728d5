"""A stream over the steps of a problem, made in every way: what the function of the sequence gives, bit for bit."""

import copy
import pickle

import numpy as np
from fuzz_oracle import same
from layouts import WRONG, disguised

import cyrnn

OUTPUTS = ("softmax", "softmax", "sigmoid", "linear", None)
WAYS = ("step", "step", "out", "out", "run", "again", "wrong", "reset", "copy")
COPIES = (copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream)))


def check(fuzzer, pick, cell, q):
    """Steps, steps into arrays of the caller's, blocks, states read and set, copies, refusals in between."""
    n_x, m, T_x = q.x.shape
    kind, lstm, output = cell.name.partition("_")[0], cell.name == "lstm", pick.choice(OUTPUTS)
    if m == 0 or len(q.a0) == 0:
        return fuzzer.refused("Stream", q.p, m, output=output)
    fuzzer.refused("Stream", q.p, m, output=pick.choice(("relu", 1, True, ["linear"])))
    start = (q.a0, q.c0) if lstm else q.a0
    how = {"cache": False, "output": output} | ({"c0": q.c0} if lstm else {})
    a, y, *c = fuzzer.call(f"{kind}_forward", q.x, q.a0, q.p, **how)[: 2 + lstm]
    p = {name: disguised(pick, value, q.whole) for name, value in q.p.items()}
    if output is None:
        p |= dict.fromkeys(pick.choice(((), cell.output)), None)
    stream = fuzzer.call("Stream", p, m, output=output)
    set_state(fuzzer, stream, start)
    t = 0
    while t < T_x:
        way, xt, stop = pick.choice(WAYS), q.x[:, :, t], t + 1
        if way == "step":
            found = fuzzer.call(stream.step, disguised(pick, xt, q.whole))
        elif way == "out":
            out = np.full((len(a), m), 7.0), None if y is None else np.full((len(y), m), 7.0)
            found = fuzzer.call(stream.step, disguised(pick, xt, q.whole), out=out)
            if found[0] is not out[0] or found[1] is not out[1]:
                raise AssertionError("out= was not returned")
        elif way == "run":
            stop = pick.randint(t, T_x)
            found = fuzzer.call(stream.run, disguised(pick, q.x[:, :, t:stop], q.whole))
        elif way == "copy":
            other = pick.choice(COPIES)(stream)
            fuzzer.call(stream.run, q.x[:, :, t:])  # which the copy does not see
            stream = other
            continue
        else:
            kept = state(fuzzer, stream)
            if way == "again":  # other steps, and then back to where it was
                fuzzer.call(stream.run, q.x[:, :, t:])
                set_state(fuzzer, stream, kept)
            elif way == "reset":
                reset(fuzzer, pick, stream, m, kept)
            elif 0 not in (n_x, len(a)) and (y is None or len(y)):
                wrong(fuzzer, pick, stream, kept, xt, a.shape[:2], None if y is None else y.shape[:2])
            continue
        for name, value, whole in zip("ay", found, (a, y), strict=True):
            if whole is None:
                if value is not None:
                    raise AssertionError(f"{name} of a stream without an output")
                continue
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
        same("a after reset", first, fuzzer.call(f"{kind}_cell_forward", q.x[:, :, 0], *zeros, q.p)[0])
    for name, value in stream.parameters.items():
        same(f"parameters[{name!r}]", value, np.asarray(q.p[name], np.float64))
    if n_x and T_x:
        indices(fuzzer, pick, stream, (n_x, m, T_x))
    p = {name: q.p[name] for name in q.p if name not in cell.output}
    if min(map(np.size, p.values())):
        network(fuzzer, pick, p, q.x, output)
    return None


def network(fuzzer, pick, p, x, output):
    """Layers on top of this one, perhaps of another cell, perhaps with an embedding: the bits of `network_forward`."""
    n_x, m, T_x = x.shape
    rng = np.random.default_rng(pick.randrange(1 << 32))
    layers, n_a, embedded = [p], len(p["bf" if "Wf" in p else "bu" if "Wu" in p else "ba"]), pick.random() < 0.5
    for _ in range(pick.randint(0, 2)):
        units = pick.randint(1, 9)
        more = cyrnn.initialize_parameters(pick.choice(("rnn", "lstm", "gru")), n_a, units, 1, rng)
        layers.append({name: more[name] for name in more if name not in ("Wy", "Wya", "by")})
        n_a = units
    if pick.random() < 0.7:
        n_y = pick.randint(0, 5)
        layers.append({"Wy": rng.normal(size=(n_y, n_a)), "by": rng.normal(size=(n_y, 1))})
    if embedded:
        layers.insert(0, {"E": rng.normal(size=(n_x, 7))})
        x = rng.integers(0, 7, (m, T_x))
    y, a, states, _ = fuzzer.call("network_forward", x, layers, output=output)
    stream = fuzzer.call("Stream", layers, m, output=output)
    t = 0
    while t < T_x:
        way, stop = pick.choice(("step", "run", "copy", "again", "wrong")), t + 1
        kept = state(fuzzer, stream)
        if way == "step":
            found = fuzzer.call(stream.step, x[..., t])
        elif way == "run":
            stop = pick.randint(t, T_x)
            found = fuzzer.call(stream.run, x[..., t:stop])
        elif way == "copy":
            stream = pick.choice(COPIES)(stream)
            continue
        else:
            if way == "again":
                fuzzer.call(stream.run, x[..., t:])
                fuzzer.call(stream.reset)
                set_state(fuzzer, stream, kept)
            else:
                fuzzer.refused(stream.run, np.full((m, 1), 1 << 40))
                fuzzer.refused(cyrnn.Stream.state.fset, stream, pick.choice((None, kept[1:], [*kept, None])))
            continue
        for name, value, whole in zip("ay", found, (a, y), strict=True):
            if whole is None:
                if value is not None:
                    raise AssertionError(f"{name} of a stream of a network without an output")
                continue
            same(f"{name} of a stream of a network ({way}) from step {t}", value.reshape(whole[:, :, t:stop].shape),
                 whole[:, :, t:stop])  # fmt: skip
        t = stop
    if T_x:
        for one, other in zip(state(fuzzer, stream), states, strict=True):
            for value, expected in zip(arrays(one), arrays(other), strict=True):
                same("a state of a stream of a network", value, expected)
    direction = layers[embedded]
    fuzzer.refused("Stream", [*layers[:embedded], (direction, direction), *layers[embedded + 1 :]], m)


def indices(fuzzer, pick, stream, size):
    """Indices give what their one-hot columns give, in blocks and steps; one that is out of range is refused."""
    n_x, m, T_x = size
    index = np.array([[pick.randrange(n_x) for _ in range(T_x)] for _ in range(m)])
    kept = state(fuzzer, stream)
    dense = fuzzer.call(stream.run, (index == np.arange(n_x)[:, None, None]).astype(float))
    set_state(fuzzer, stream, kept)
    t = pick.randrange(T_x)
    given = pick.choice((np.asarray, np.asfortranarray, np.ndarray.tolist, np.int32, np.uint64))(index)
    found = [fuzzer.call(stream.run, np.asarray(given)[:, :t] if t else np.empty((m, 0), int))]
    step = fuzzer.call(
        stream.step, np.asarray(given)[:, t].tolist() if pick.random() < 0.5 else np.asarray(given)[:, t]
    )
    for k, name in enumerate("ay"):
        if dense[k] is not None:
            same(f"{name} of indices", found[0][k], dense[k][:, :, :t])
            same(f"{name} of an index", step[k], dense[k][:, :, t])
    kept = state(fuzzer, stream)
    index[pick.randrange(m), pick.randrange(T_x)] = pick.choice((-1, n_x, n_x + 7, -(1 << 62), 1 << 62))
    fuzzer.refused(stream.run, index)
    fuzzer.refused(stream.step, pick.choice((np.append(index[:, 0], 0), np.full(m, n_x), np.full(m, -1))))
    for value, before in zip(arrays(state(fuzzer, stream)), arrays(kept), strict=True):
        same("the state of a stream after a refusal", value, before)


def reset(fuzzer, pick, stream, m, kept):
    """Some examples become zero and the others stay; then all are as before."""
    mask = np.array([pick.random() < 0.5 for _ in range(m)])
    chosen = np.flatnonzero(mask)
    fuzzer.call(stream.reset, pick.choice((mask, mask.tolist(), chosen, chosen.astype("u1"), chosen[::-1].tolist())))
    for value, before in zip(arrays(state(fuzzer, stream)), arrays(kept), strict=True):
        same("the state of a stream after a reset of some examples", value, np.where(mask, 0.0, before))
    set_state(fuzzer, stream, kept)
    fuzzer.refused(stream.reset, pick.choice((m, -1, [0, m], [-1], 0.5, "0", np.ones(m + 1, bool), [[0]])))
    for value, before in zip(arrays(state(fuzzer, stream)), arrays(kept), strict=True):
        same("the state of a stream after a refusal", value, before)


def arrays(value):
    return value if isinstance(value, tuple) else (value,)


def state(fuzzer, stream):
    return fuzzer.call(cyrnn.Stream.state.fget, stream)


def set_state(fuzzer, stream, value):
    fuzzer.call(cyrnn.Stream.state.fset, stream, value)


def wrong(fuzzer, pick, stream, kept, xt, shape_a, shape_y):
    """Refused, and neither the state nor `out` has changed."""
    a, y = out = np.full(shape_a, 7.0), None if shape_y is None else np.full(shape_y, 7.0)
    way = pick.randrange(5)
    misfit = pick.choice(WRONG)
    if way == 0:
        fuzzer.refused(stream.step, misfit(xt))
    elif way == 1:
        fuzzer.refused(stream.step, misfit(xt), out=out)
    elif way == 2:
        no_out = [(a,), (a, y, a), (a.astype("f4"), y), (a, a), 7, (misfit(a), y)]
        if y is not None:
            frozen = y.copy()
            frozen.flags.writeable = False
            no_out += [(a, None), (a, y[None]), (a, frozen), (a, y[:, :0]), (a, misfit(y))]
        fuzzer.refused(stream.step, xt, out=pick.choice(no_out))
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
    if (a != 7.0).any() or (y is not None and (y != 7.0).any()):
        raise AssertionError("a refused step wrote into out=")
