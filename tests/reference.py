"""The oracle: the equations in NumPy, one line each, one step at a time, no cleverness.

Gradients come in their own words too, from the chain rule of the equations below (with the sums over
the examples written out by einsum), so that a misreading in the package is not repeated here.
"""

from types import SimpleNamespace

import numpy as np


def sigmoid(z):
    return np.where(z >= 0, 1, np.exp(-np.abs(z))) / (1 + np.exp(-np.abs(z)))


def softmax(z):
    e = np.exp(z - z.max(axis=0, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


def rnn(x, a0, p, da=None):
    """Forward, and backward where da is given; T_x of the backward is that of da."""
    T_x = x.shape[2]
    a = [np.broadcast_to(a0, (a0.shape[0], x.shape[1]))]
    y = []
    for t in range(T_x):
        a.append(np.tanh(p["Wax"] @ x[:, :, t] + p["Waa"] @ a[t] + p["ba"]))
        y.append(softmax(p["Wya"] @ a[t + 1] + p["by"]))
    out = SimpleNamespace(a=np.stack(a[1:], 2), y=np.stack(y, 2))
    if da is None:
        return out
    T = da.shape[2]
    dz = [None] * T
    into = np.zeros_like(a[0])
    for t in reversed(range(T)):
        dz[t] = (da[:, :, t] + into) * (1 - a[t + 1] ** 2)
        into = p["Waa"].T @ dz[t]
    out.gradients = {
        "dx": np.stack([p["Wax"].T @ dz[t] for t in range(T)], 2),
        "da0": into,
        "dWax": sum(np.einsum("um,vm->uv", dz[t], x[:, :, t]) for t in range(T)),
        "dWaa": sum(np.einsum("um,vm->uv", dz[t], a[t]) for t in range(T)),
        "dba": sum(dz[t].sum(axis=1, keepdims=True) for t in range(T)),
    }
    return out


def lstm(x, a0, c0, p, da=None, dc_last=0.0, dc=None):
    """Forward, and backward where da is given; dc_last is the gradient of the last memory, dc of all."""
    n_a, m, T_x = a0.shape[0], x.shape[1], x.shape[2]
    a, c, y = [np.broadcast_to(a0, (n_a, m))], [np.broadcast_to(c0, (n_a, m))], []
    f, i, g, o = [], [], [], []
    for t in range(T_x):
        both = np.vstack([a[t], x[:, :, t]])
        f.append(sigmoid(p["Wf"] @ both + p["bf"]))
        i.append(sigmoid(p["Wi"] @ both + p["bi"]))
        g.append(np.tanh(p["Wc"] @ both + p["bc"]))
        o.append(sigmoid(p["Wo"] @ both + p["bo"]))
        c.append(f[t] * c[t] + i[t] * g[t])
        a.append(o[t] * np.tanh(c[t + 1]))
        y.append(softmax(p["Wy"] @ a[t + 1] + p["by"]))
    out = SimpleNamespace(a=np.stack(a[1:], 2), c=np.stack(c[1:], 2), y=np.stack(y, 2), gates=(f, i, g, o))
    if da is None:
        return out
    T = da.shape[2]
    into_a, into_c = np.zeros((n_a, m)), np.zeros((n_a, m)) + dc_last
    dx = np.zeros((x.shape[0], m, T))
    dW = {q: np.zeros((n_a, n_a + x.shape[0])) for q in "fico"}
    db = {q: np.zeros((n_a, 1)) for q in "fico"}
    for t in reversed(range(T)):
        da_t = da[:, :, t] + into_a
        dc_t = into_c + da_t * o[t] / np.cosh(c[t + 1]) ** 2 + (0 if dc is None else dc[:, :, t])
        dz = {
            "f": dc_t * c[t] * f[t] * (1 - f[t]),
            "i": dc_t * g[t] * i[t] * (1 - i[t]),
            "c": dc_t * i[t] * (1 - g[t] ** 2),
            "o": da_t * np.tanh(c[t + 1]) * o[t] * (1 - o[t]),
        }
        both = np.vstack([a[t], x[:, :, t]])
        into = sum(p["W" + q].T @ dz[q] for q in "fico")
        into_a, dx[:, :, t], into_c = into[:n_a], into[n_a:], dc_t * f[t]
        for q in "fico":
            dW[q] += np.einsum("um,vm->uv", dz[q], both)
            db[q] += dz[q].sum(axis=1, keepdims=True)
    out.gradients = {"dx": dx, "da0": into_a, "dc0": into_c}
    for q in "fico":
        out.gradients |= {"dW" + q: dW[q], "db" + q: db[q]}
    return out


def gru(x, a0, p, da=None):
    """Both forms: with p["bca"] the reset is after the product, without it before the product."""
    n_a, m, T_x = a0.shape[0], x.shape[1], x.shape[2]
    after = "bca" in p
    Wca, Wcx = p["Wc"][:, :n_a], p["Wc"][:, n_a:]
    a, y = [np.broadcast_to(a0, (n_a, m))], []
    u, r, g, h = [], [], [], []
    for t in range(T_x):
        both = np.vstack([a[t], x[:, :, t]])
        u.append(sigmoid(p["Wu"] @ both + p["bu"]))
        r.append(sigmoid(p["Wr"] @ both + p["br"]))
        h.append(Wca @ a[t] + p["bca"] if after else r[t] * a[t])
        if after:
            g.append(np.tanh(Wcx @ x[:, :, t] + p["bc"] + r[t] * h[t]))
        else:
            g.append(np.tanh(p["Wc"] @ np.vstack([h[t], x[:, :, t]]) + p["bc"]))
        a.append(u[t] * g[t] + (1 - u[t]) * a[t])
        y.append(softmax(p["Wy"] @ a[t + 1] + p["by"]))
    out = SimpleNamespace(a=np.stack(a[1:], 2), y=np.stack(y, 2), gates=(g, u, r, h))
    if da is None:
        return out
    T = da.shape[2]
    into = np.zeros((n_a, m))
    dx = np.zeros((x.shape[0], m, T))
    dW = {q: np.zeros((n_a, n_a + x.shape[0])) for q in "urc"}
    db = {q: np.zeros((n_a, 1)) for q in ("u", "r", "c", "ca")}
    for t in reversed(range(T)):
        da_t = da[:, :, t] + into
        dg = da_t * u[t] / np.cosh(np.arctanh(np.clip(g[t], -1 + 1e-16, 1 - 1e-16))) ** 2
        du = da_t * (g[t] - a[t]) * u[t] * (1 - u[t])
        dh = dg * r[t] if after else Wca.T @ dg
        dr = (dg * h[t] if after else dh * a[t]) * r[t] * (1 - r[t])
        both = np.vstack([a[t], x[:, :, t]])
        back = p["Wu"].T @ du + p["Wr"].T @ dr
        into = da_t * (1 - u[t]) + back[:n_a] + (Wca.T @ dh if after else dh * r[t])
        dx[:, :, t] = back[n_a:] + Wcx.T @ dg
        dW["c"][:, :n_a] += np.einsum("um,vm->uv", dh, a[t]) if after else np.einsum("um,vm->uv", dg, h[t])
        dW["c"][:, n_a:] += np.einsum("um,vm->uv", dg, x[:, :, t])
        for q, dz in (("u", du), ("r", dr)):
            dW[q] += np.einsum("um,vm->uv", dz, both)
        for q, dz in (("u", du), ("r", dr), ("c", dg), ("ca", dh)):
            db[q] += dz.sum(axis=1, keepdims=True)
    out.gradients = {"dx": dx, "da0": into}
    for q in "urc":
        out.gradients |= {"dW" + q: dW[q], "db" + q: db[q]}
    if after:
        out.gradients["dbca"] = db["ca"]
    return out


def close(got, expected, tolerance):
    """Assert that two arrays agree as `within` does, in float32 to as many units in the last place as in float64."""
    within(got, expected, tolerance * (np.finfo(got.dtype).eps / np.finfo(np.float64).eps))


def within(got, expected, tolerance):
    """Assert that two arrays agree, relative to the largest expected value (at least 1)."""
    assert got.shape == expected.shape
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    assert np.abs(got - expected).max(initial=0.0) <= tolerance * scale


def problem(cell, n_x, n_a, n_y, m, T_x, seed=0):
    """Random input of one cell: every size different where it is called, nothing zero.

    The cell is "rnn", "lstm", or a GRU by its form: "gru_before", "gru_after".
    """
    rng = np.random.default_rng([seed, n_x, n_a, n_y, m, T_x])

    def draw(*shape):
        return rng.standard_normal(shape)

    spread = 1 / np.sqrt(max(n_a + n_x, 1))
    if cell == "rnn":
        p = {"Wax": draw(n_a, n_x) * spread, "Waa": draw(n_a, n_a) * spread, "ba": draw(n_a, 1)}
        p |= {"Wya": draw(n_y, n_a), "by": draw(n_y, 1)}
    else:
        p = {}
        for gate in "fico" if cell == "lstm" else "urc":
            p |= {"W" + gate: draw(n_a, n_a + n_x) * spread, "b" + gate: draw(n_a, 1)}
        if cell == "gru_after":
            p["bca"] = draw(n_a, 1)
        p |= {"Wy": draw(n_y, n_a), "by": draw(n_y, 1)}
    return SimpleNamespace(
        x=draw(n_x, m, T_x), a0=draw(n_a, m), c0=draw(n_a, m), p=p, da=draw(n_a, m, T_x), dc=draw(n_a, m)
    )
