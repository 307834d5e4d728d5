"""The output layer, the losses, dropout and the updates: against plain NumPy, in disguise, and wrongly."""

import math

import fuzz_oracle
import numpy as np
from fuzz_oracle import largest, same
from layouts import NO_NUMBERS, WRONG, disguised

TOLERANCE = 1e-13
TINY = np.finfo(float).tiny
RUBBISH = (np.nan, np.inf, -1e300)  # where nothing is scored
RAGGED = [[1.0], [1.0, 2.0]]
KINDS = {
    "classes": "cross_entropy",
    "probabilities": "cross_entropy",
    "squares": "mean_squared_error",
    "sigmoids": "binary_cross_entropy",
    "logits": "binary_cross_entropy",
}


def check(fuzzer, pick, cell, q, found):
    rng = np.random.default_rng(pick.randrange(1 << 30))
    n_y, (n_a, m, T_x) = len(q.p["by"]), q.da.shape
    if q.lengths is None and n_y and q.output == "softmax":
        z = fuzzer.call("output_forward", found["a"], q.p)
        same("softmax of the output", fuzzer.call("softmax", z), found["y"])
    parameters(fuzzer, pick, cell)
    columns = (m, T_x) if pick.random() < 0.7 else (m,)
    output(fuzzer, pick, rng, {name: q.p[name] for name in cell.output}, n_a, columns)
    losses(fuzzer, pick, rng, n_y, columns)
    dropout(fuzzer, pick, q.x if len(columns) == 2 else q.a0)
    updates(fuzzer, pick, rng, q.p)


def parameters(fuzzer, pick, cell):
    """Orthogonal or uniform recurrent weights, biases of zeros but the forget gate's; and wrongly."""
    n_x, n_a, n_y = (pick.choice((1, 2, 5, 17)) for _ in range(3))
    recurrent, dtype = pick.choice(("orthogonal", "glorot_uniform")), pick.choice((np.float64, np.float32))
    bias = pick.choice((None, 0, 1.5, -2.0)) if cell.kind == "lstm" else None
    args = {"cell": cell.kind, "n_x": n_x, "n_a": n_a, "n_y": n_y, "rng": pick.randrange(1 << 30)}
    how = {"recurrent": recurrent, "forget_bias": bias, "dtype": dtype}
    for key, value in fuzzer.call("initialize_parameters", **args, **how).items():
        if value.dtype != dtype:
            raise AssertionError(f"{key} of {value.dtype}")
        value = value.astype(float)
        if key.startswith("b"):
            same(key, value, np.full(value.shape, 0.0 if key != "bf" else 1.0 if bias is None else bias))
            continue
        width = 0 if key in ("Wax", "Wya", "Wy") else n_a
        square, rest = value[:, :width], value[:, width:]
        if np.abs(rest).max(initial=0.0) > math.sqrt(6 / sum(rest.shape)) * (1 + 1e-6):
            raise AssertionError(f"{key}: not uniform, {rest}")
        uniform = np.abs(square).max(initial=0.0) <= math.sqrt(3 / n_a) * (1 + 1e-6)
        orthogonal = np.abs(square @ square.T - np.eye(n_a)).max(initial=0.0) < 1e-6 if width else True
        if not (orthogonal if recurrent == "orthogonal" else uniform):
            raise AssertionError(f"{key}: not {recurrent}, {square}")
    wrongs = {
        "cell": ("GRU", None, 1), "rng": (-1, 0.5, True, None), "recurrent": ("identity", None, 1, ["orthogonal"]),
        "forget_bias": (np.nan, np.inf, "1", [1.0], 10**400, 1j), "dtype": (np.float16, int, None, "x"),
    }  # fmt: skip
    name = pick.choice([*args, *how])
    wrong = pick.choice(wrongs.get(name, (0, -1, 1.0, None, "3")))
    fuzzer.refused("initialize_parameters", **{**args, **how, name: wrong})


def compare(found, want):
    fuzz_oracle.compare(found, want, largest(*want.values(), 1.0), tolerance=TOLERANCE)


def output(fuzzer, pick, rng, p, n_a, columns):
    """The linear layer, forward and back."""
    key, (W, b) = next(iter(p)), p.values()
    a, dz = rng.standard_normal((n_a, *columns)), rng.standard_normal((len(W), *columns))
    z, gradients = fuzzer.call("output_forward", a, p), fuzzer.call("output_backward", dz, a, p)
    count = math.prod(columns)
    flat_a, flat_dz = a.reshape(n_a, count), dz.reshape(len(W), count)
    want = {"d" + key: flat_dz @ flat_a.T, "dby": flat_dz.sum(1, keepdims=True), "da": (W.T @ flat_dz).reshape(a.shape)}
    compare({"z": z, **gradients}, {"z": (W @ flat_a + b).reshape(z.shape), **want})
    r = [disguised(pick, value, False) for value in (a, dz)]
    same("disguised, z", fuzzer.call("output_forward", r[0], p), z)
    for name, value in fuzzer.call("output_backward", r[1], r[0], p).items():
        same(f"disguised, {name}", value, gradients[name])
    if z.size and n_a:
        fuzzer.refused("output_forward", pick.choice(NO_NUMBERS)(a), p)
        fuzzer.refused("output_backward", pick.choice(WRONG)(dz), a, p)


def losses(fuzzer, pick, rng, n_y, columns):
    """One loss: its value, its gradient, anything where nothing is scored, and something wrong where it is."""
    kind = pick.choice(list(KINDS))
    name, of_outputs = KINDS[kind], kind in ("squares", "sigmoids", "logits")
    options = {"from_logits": True} if kind == "logits" else {}
    given = rng.standard_normal((n_y, *columns)) * 3.0
    if kind == "sigmoids":
        given = 1 / (1 + np.exp(-given))
    elif not of_outputs:
        given = np.exp(given) / np.exp(given).sum(0)
    wanted = rng.integers(0, max(n_y, 1), columns) if kind == "classes" else rng.random((n_y, *columns))
    if kind in ("sigmoids", "logits") and pick.random() < 0.5:
        wanted = np.round(wanted)
    lengths = rng.integers(0, columns[1] + 1, columns[0]) if len(columns) == 2 and pick.random() < 0.5 else None
    shape = pick.choice((columns, given.shape))
    weights = pick.choice((None, rng.random(shape), rng.integers(0, 2, shape) * rng.random()))
    w = np.ones(columns) if weights is None else weights.copy()
    if lengths is not None:
        past = np.arange(columns[1]) >= lengths[:, None]
        w[..., past] = 0.0
    steps = np.broadcast_to(w, given.shape).any(0)  # with a weight of some output
    scored = steps
    if kind == "classes" and w.ndim == given.ndim and n_y:
        scored = np.take_along_axis(w, wanted[None], 0)[0] > 0
    if not scored.any() or n_y == 0:
        return fuzzer.refused(name, given, wanted, lengths, weights=weights, **options)
    loss, dz = plain_loss(kind, given, wanted, w)

    rubbish = pick.choice(RUBBISH)
    given[np.broadcast_to(w > 0 if of_outputs else scored, given.shape) == 0] = rubbish
    if kind == "classes":
        wanted[~steps] = -5
    else:
        wanted[np.broadcast_to(w == 0, wanted.shape)] = rubbish
    if weights is not None and lengths is not None:
        weights[..., past] = rubbish
    found, found_dz = fuzzer.call(name, given, wanted, lengths, weights=weights, **options)
    compare({"loss": np.array(found), "dz": found_dz}, {"loss": np.array(loss), "dz": dz})
    args = [disguised(pick, given, False), wanted if kind == "classes" else disguised(pick, wanted, False), lengths]
    options["weights"] = None if weights is None else disguised(pick, weights, False)
    again, again_dz = fuzzer.call(name, *args, **options)
    same("disguised, dz", again_dz, found_dz)
    if again != found:
        raise AssertionError(f"disguised, loss: {again}, expected {found}")

    one = tuple(pick.choice(np.argwhere(scored)))
    unit = pick.choice(np.flatnonzero(np.broadcast_to(w, given.shape)[(slice(None), *one)]))
    args, options["weights"] = [given.copy(), wanted.copy(), lengths], weights
    way = pick.randrange(7)
    if way == 0:
        args[0] = pick.choice(NO_NUMBERS)(given)
    elif way == 1 and not of_outputs and pick.random() < 0.3:
        args[0][(slice(None), *one)] *= 0.999  # no distribution
    elif way == 1:
        no_number = kind in ("squares", "logits")
        args[0][(unit, *one)] = pick.choice((np.nan, np.inf, -np.inf) if no_number else (np.nan, 1.5, -0.5))
    elif way == 2:
        args[1] = pick.choice(NO_NUMBERS)(wanted)
    elif way == 3 and kind == "classes":
        args[1][one] = pick.choice((-1, n_y))
    elif way == 3:
        args[1][(unit, *one)] = np.inf if kind == "squares" else pick.choice((np.inf, np.nan, -0.5))
    elif way == 4:
        args[2] = [columns[-1] + 1] * columns[0]
    elif way == 5:
        options["weights"] = np.ones(shape)
        options["weights"][(..., *one)] = pick.choice((-1.0, np.nan, np.inf))
    elif name == "binary_cross_entropy" and pick.random() < 0.5:
        options["from_logits"] = pick.choice((0, 1, None, "yes", [True], RAGGED))
    else:
        wrong = pick.choice(WRONG[1:])(np.ones(shape))  # but None
        options["weights"] = RAGGED if getattr(wrong, "shape", None) == given.shape else wrong
    fuzzer.refused(name, *args, **options)


def plain_loss(kind, given, wanted, w):
    """Loss and dz, with the weight of every example and step, or of every output too."""
    n, ws = len(given), np.broadcast_to(w, given.shape)
    if kind in ("classes", "probabilities"):
        labels = wanted == np.arange(n).reshape(n, *[1] * wanted.ndim) if kind == "classes" else wanted
        labels, total = ws * labels, w.sum() if w.ndim < given.ndim else (ws * labels).sum()
        each, slope = -labels * np.log(np.maximum(given, TINY)), given * labels.sum(0) - labels
        return each.sum() / total, slope / total
    if kind == "squares":
        each, slope = (given - wanted) ** 2, 2 * (given - wanted)
    elif kind == "sigmoids":
        each, slope = -wanted * np.log(given) - (1 - wanted) * np.log1p(-given), given - wanted
    else:
        each, slope = np.logaddexp(0, given) - wanted * given, 1 / (1 + np.exp(-given)) - wanted
    return (ws * each).sum() / ws.sum(), ws * slope / ws.sum()


def dropout(fuzzer, pick, a):
    """The mask of a generator's draws; in disguise with the seed, and wrongly."""
    seed, rate = pick.randrange(1 << 30), pick.choice((0.0, 0.5, pick.random()))
    variational = a.ndim == 3 and pick.random() < 0.5
    a = np.nan_to_num(a)
    dropped, mask = fuzzer.call("dropout", a, rate, np.random.default_rng(seed), variational=variational)
    shape = (*a.shape[:2], 1) if variational else a.shape
    want = (np.random.default_rng(seed).random(shape) >= rate) / (1 - rate)
    compare({"dropped": dropped, "mask": mask}, {"dropped": a * want, "mask": want})
    again = fuzzer.call("dropout", disguised(pick, a, False), rate, seed, variational=variational)
    same("disguised, dropped", again[0], dropped)
    same("disguised, mask", again[1], mask)
    args, options = [a, rate, seed], {"variational": variational}
    way = pick.randrange(4)
    if way == 0 and a.size:
        args[0] = pick.choice((*NO_NUMBERS, lambda v: v[None, None], lambda v: 1.0))(a)
    elif way < 2:
        args[1] = pick.choice((-0.1, 1.0, np.nan, np.inf, None, "0.5", [0.5], RAGGED))
    elif way == 2:
        args[2] = pick.choice((-1, 0.5, True, None, "seed", RAGGED))
    else:
        options["variational"] = True if a.ndim == 2 else pick.choice((0, 1, None, "yes", RAGGED))
    fuzzer.refused("dropout", *args, **options)


def updates(fuzzer, pick, rng, p):
    """Clipping, two steps of Adam, one of gradient descent; with something wrong nothing at all is updated."""
    scale = 10.0 ** pick.randint(-3, 3)
    gradients = {"d" + name: scale * rng.standard_normal(value.shape) for name, value in p.items()}
    others = {**gradients, "dx": "not looked at"}
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    limit = float(norm * pick.choice((0.3, 2.0))) or 1.0
    clipped, found = fuzzer.call("clip_gradients", others, norm=limit)
    want = {name: g * min(1.0, limit / norm) if norm else g for name, g in gradients.items()}
    compare({"norm": np.array(found), **clipped}, {"norm": np.array(norm), **want})
    clipped, found = fuzzer.call("clip_gradients", others, value=scale)
    want = {name: np.clip(g, -scale, scale) for name, g in gradients.items()}
    compare({"norm": np.array(found), **clipped}, {"norm": np.array(norm), **want})

    def disguise():
        return {name: disguised(pick, g, False) for name, g in gradients.items()}

    parameters = {name: value.copy() for name, value in p.items()}
    v, s = fuzzer.call("initialize_adam", parameters)
    plain = [{name: value.copy() for name, value in values.items()} for values in (parameters, v, s)]
    rates = 10.0 ** pick.uniform(-5, 0), pick.choice((0.9, 0.0, 0.5)), pick.choice((0.999, 0.0, 0.9)), 1e-8
    first, decay = pick.choice((1, 1, 2, 1000)), pick.choice((0, 0.01, 1.0, 1 / rates[0]))
    for t in (first, first + 1):
        states = parameters, v, s
        how = {"weight_decay": decay} if decay else {}
        found = fuzzer.call("update_parameters_with_adam", *(parameters, disguise(), v, s), t, *rates, **how)
        if any(one is not other for one, other in zip(found, states, strict=True)):
            raise AssertionError("Adam did not return what was passed")
        plain_adam(*plain, gradients, t, *rates, decay)
        for values, expected in zip(states, plain, strict=True):
            compare(values, expected)
    found = fuzzer.call("update_parameters_with_gd", parameters, disguise(), rates[0])
    if found is not parameters:
        raise AssertionError("gradient descent did not return what was passed")
    compare(parameters, {name: value - rates[0] * gradients["d" + name] for name, value in plain[0].items()})

    if all(value.size for value in p.values()):
        before = [{name: value.copy() for name, value in values.items()} for values in (parameters, v, s)]
        wrong_update(fuzzer, pick, parameters, gradients, v, s)
        for values, expected in zip((parameters, v, s), before, strict=True):
            for name, value in expected.items():
                same(f"{name} after a refused update", values[name], value)


def plain_adam(parameters, v, s, gradients, t, rate, beta1, beta2, epsilon, decay):
    for name, parameter in parameters.items():
        parameter *= 1 - rate * decay if name.startswith("W") else 1
        name = "d" + name
        v[name] = beta1 * v[name] + (1 - beta1) * gradients[name]
        s[name] = beta2 * s[name] + (1 - beta2) * gradients[name] ** 2
        parameter -= rate * (v[name] / (1 - beta1**t)) / (np.sqrt(s[name] / (1 - beta2**t)) + epsilon)


def wrong_update(fuzzer, pick, parameters, gradients, v, s):
    key = pick.choice(list(gradients))
    missing = {name: value for name, value in gradients.items() if name != key}
    spoilt = gradients[key].copy()
    spoilt.flat[pick.randrange(spoilt.size)] = pick.choice((np.nan, np.inf, -np.inf, 2e154))
    misfit = pick.choice(WRONG)(gradients[key])
    bad = pick.choice((missing, {**missing, key: spoilt}, {**missing, key: misfit}, [gradients], None))
    fuzzer.refused("update_parameters_with_gd", parameters, bad, 0.1)
    adam = [parameters, gradients, v, s, 3]
    way = pick.randrange(5)
    if way < 2:
        adam[1] = bad
    elif way == 2:
        which, name = pick.choice(((0, key[1:]), (2, key), (3, key)))
        frozen = adam[which][name].view()
        frozen.flags.writeable = False
        unfit = pick.choice((frozen, frozen.astype("f4"), frozen.copy()[None], frozen.tolist()))
        adam[which] = {**adam[which], name: unfit}
    elif way == 3:
        adam[4] = pick.choice((0, -1, 1.0, "1", None))
    else:
        adam += pick.choice(((-1.0,), ("1",), (0.1, 1.0), (0.1, 0.9, -0.1), (0.1, 0.9, 0.9, 0.0), (np.nan,), (RAGGED,)))
    how = {}
    if way == 4 and pick.random() < 0.3:
        how["weight_decay"] = pick.choice((-0.1, np.nan, np.inf, None, "0.1", [0.1], RAGGED, 1e300))
        adam = adam[:5]
    fuzzer.refused("update_parameters_with_adam", *adam, **how)
    limits = pick.choice(({}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}, {"value": -1.0}, {"norm": np.nan}))
    fuzzer.refused("clip_gradients", gradients, **limits)
    fuzzer.refused("clip_gradients", {**missing, key: spoilt}, norm=1.0)
