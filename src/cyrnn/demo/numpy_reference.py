"""The notebook's algorithm in plain NumPy: the yardstick of `python -m cyrnn` and the benchmarks.

Written the way a reader of the notebook would write it: one step at a time, one product per weight
matrix, caches in a list.  No hidden speed-up and no hidden slow-down.  The names are those of the
package's own functions, so that both can be called in the same way.
"""

from typing import Any

import numpy as np


def sigmoid(x: Any) -> Any:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def softmax(x: Any) -> Any:
    """Softmax over the first axis."""
    e = np.exp(x - np.max(x, axis=0))
    return e / e.sum(axis=0)


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> Any:
    """One step of the basic RNN."""
    Wax, Waa, Wya = parameters["Wax"], parameters["Waa"], parameters["Wya"]
    a_next = np.tanh(np.dot(Wax, xt) + np.dot(Waa, a_prev) + parameters["ba"])
    yt_pred = softmax(np.dot(Wya, a_next) + parameters["by"])
    return a_next, yt_pred, (a_next, a_prev, xt, parameters)


def rnn_forward(x: Any, a0: Any, parameters: Any) -> Any:
    """All steps of the basic RNN."""
    _, m, T_x = x.shape
    n_y, n_a = parameters["Wya"].shape
    a = np.zeros((n_a, m, T_x))
    y_pred = np.zeros((n_y, m, T_x))
    a_next, steps = a0, []
    for t in range(T_x):
        a_next, yt_pred, cache = rnn_cell_forward(x[:, :, t], a_next, parameters)
        a[:, :, t] = a_next
        y_pred[:, :, t] = yt_pred
        steps.append(cache)
    return a, y_pred, (steps, x)


def rnn_cell_backward(da_next: Any, cache: Any) -> Any:
    """Gradients of one step of the basic RNN."""
    a_next, a_prev, xt, parameters = cache
    dz = (1 - a_next**2) * da_next
    return {
        "dxt": np.dot(parameters["Wax"].T, dz),
        "da_prev": np.dot(parameters["Waa"].T, dz),
        "dWax": np.dot(dz, xt.T),
        "dWaa": np.dot(dz, a_prev.T),
        "dba": np.sum(dz, axis=1, keepdims=True),
    }


def rnn_backward(da: Any, caches: Any) -> Any:
    """Gradients through all steps of the basic RNN."""
    steps, _ = caches
    n_a, m, T_x = da.shape
    n_x = steps[0][2].shape[0]
    dx = np.zeros((n_x, m, T_x))
    sums = {"dWax": np.zeros((n_a, n_x)), "dWaa": np.zeros((n_a, n_a)), "dba": np.zeros((n_a, 1))}
    da_prev = np.zeros((n_a, m))
    for t in reversed(range(T_x)):
        step = rnn_cell_backward(da[:, :, t] + da_prev, steps[t])
        dx[:, :, t] = step["dxt"]
        da_prev = step["da_prev"]
        for name in sums:
            sums[name] += step[name]
    return {"dx": dx, "da0": da_prev, **sums}


def lstm_cell_forward(xt: Any, a_prev: Any, c_prev: Any, parameters: Any) -> Any:
    """One step of the LSTM."""
    n_x, m = xt.shape
    n_a = a_prev.shape[0]
    joined = np.zeros((n_a + n_x, m))
    joined[:n_a] = a_prev
    joined[n_a:] = xt
    ft = sigmoid(np.dot(parameters["Wf"], joined) + parameters["bf"])
    it = sigmoid(np.dot(parameters["Wi"], joined) + parameters["bi"])
    cct = np.tanh(np.dot(parameters["Wc"], joined) + parameters["bc"])
    ot = sigmoid(np.dot(parameters["Wo"], joined) + parameters["bo"])
    c_next = ft * c_prev + it * cct
    a_next = ot * np.tanh(c_next)
    yt_pred = softmax(np.dot(parameters["Wy"], a_next) + parameters["by"])
    return a_next, c_next, yt_pred, (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)


def lstm_forward(x: Any, a0: Any, parameters: Any) -> Any:
    """All steps of the LSTM, the memory starting at zero."""
    _, m, T_x = x.shape
    n_y, n_a = parameters["Wy"].shape
    a = np.zeros((n_a, m, T_x))
    c = np.zeros((n_a, m, T_x))
    y = np.zeros((n_y, m, T_x))
    a_next, c_next, steps = a0, np.zeros(a0.shape), []
    for t in range(T_x):
        a_next, c_next, yt, cache = lstm_cell_forward(x[:, :, t], a_next, c_next, parameters)
        a[:, :, t] = a_next
        c[:, :, t] = c_next
        y[:, :, t] = yt
        steps.append(cache)
    return a, y, c, (steps, x)


def lstm_cell_backward(da_next: Any, dc_next: Any, cache: Any) -> Any:
    """Gradients of one step of the LSTM."""
    _, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters = cache
    n_a = a_prev.shape[0]
    tanh_c = np.tanh(c_next)
    dc = dc_next + da_next * ot * (1 - tanh_c**2)
    d = {
        "f": dc * c_prev * ft * (1 - ft),
        "i": dc * cct * it * (1 - it),
        "c": dc * it * (1 - cct**2),
        "o": da_next * tanh_c * ot * (1 - ot),
    }
    joined = np.concatenate((a_prev, xt))
    d_joined = sum(np.dot(parameters["W" + gate].T, d[gate]) for gate in d)
    gradients = {"dxt": d_joined[n_a:], "da_prev": d_joined[:n_a], "dc_prev": dc * ft}
    for gate in d:
        gradients["dW" + gate] = np.dot(d[gate], joined.T)
        gradients["db" + gate] = np.sum(d[gate], axis=1, keepdims=True)
    return gradients


def lstm_backward(da: Any, caches: Any) -> Any:
    """Gradients through all steps of the LSTM."""
    steps, _ = caches
    n_a, m, T_x = da.shape
    n_x = steps[0][8].shape[0]
    dx = np.zeros((n_x, m, T_x))
    sums = {}
    for gate in "fico":
        sums["dW" + gate] = np.zeros((n_a, n_a + n_x))
        sums["db" + gate] = np.zeros((n_a, 1))
    da_prev, dc_prev = np.zeros((n_a, m)), np.zeros((n_a, m))
    for t in reversed(range(T_x)):
        step = lstm_cell_backward(da[:, :, t] + da_prev, dc_prev, steps[t])
        dx[:, :, t] = step["dxt"]
        da_prev, dc_prev = step["da_prev"], step["dc_prev"]
        for name in sums:
            sums[name] += step[name]
    return {"dx": dx, "da0": da_prev, **sums}


def gru_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> Any:
    """One step of the GRU: with an entry bca its reset is after the product, without one before it."""
    n_x, m = xt.shape
    n_a = a_prev.shape[0]
    joined = np.zeros((n_a + n_x, m))
    joined[:n_a] = a_prev
    joined[n_a:] = xt
    Wca, Wcx = parameters["Wc"][:, :n_a], parameters["Wc"][:, n_a:]
    ut = sigmoid(np.dot(parameters["Wu"], joined) + parameters["bu"])
    rt = sigmoid(np.dot(parameters["Wr"], joined) + parameters["br"])
    if "bca" in parameters:
        hct = np.dot(Wca, a_prev) + parameters["bca"]
        cct = np.tanh(np.dot(Wcx, xt) + parameters["bc"] + rt * hct)
    else:
        hct = rt * a_prev
        cct = np.tanh(np.dot(Wca, hct) + np.dot(Wcx, xt) + parameters["bc"])
    a_next = ut * cct + (1 - ut) * a_prev
    yt_pred = softmax(np.dot(parameters["Wy"], a_next) + parameters["by"])
    return a_next, yt_pred, (a_next, a_prev, cct, ut, rt, hct, xt, parameters)


def gru_forward(x: Any, a0: Any, parameters: Any) -> Any:
    """All steps of the GRU."""
    _, m, T_x = x.shape
    n_y, n_a = parameters["Wy"].shape
    a = np.zeros((n_a, m, T_x))
    y_pred = np.zeros((n_y, m, T_x))
    a_next, steps = a0, []
    for t in range(T_x):
        a_next, yt_pred, cache = gru_cell_forward(x[:, :, t], a_next, parameters)
        a[:, :, t] = a_next
        y_pred[:, :, t] = yt_pred
        steps.append(cache)
    return a, y_pred, (steps, x)


def gru_cell_backward(da_next: Any, cache: Any) -> Any:
    """Gradients of one step of the GRU."""
    _, a_prev, cct, ut, rt, hct, xt, parameters = cache
    n_a = a_prev.shape[0]
    Wca, Wcx = parameters["Wc"][:, :n_a], parameters["Wc"][:, n_a:]
    du = da_next * (cct - a_prev) * ut * (1 - ut)
    dc = da_next * ut * (1 - cct**2)
    if "bca" in parameters:
        dh = dc * rt
        dr = dc * hct * rt * (1 - rt)
        da_through_h = np.dot(Wca.T, dh)
        dWca = np.dot(dh, a_prev.T)
    else:
        dh = np.dot(Wca.T, dc)
        dr = dh * a_prev * rt * (1 - rt)
        da_through_h = dh * rt
        dWca = np.dot(dc, hct.T)
    joined = np.concatenate((a_prev, xt))
    d_joined = np.dot(parameters["Wu"].T, du) + np.dot(parameters["Wr"].T, dr)
    gradients = {
        "dxt": d_joined[n_a:] + np.dot(Wcx.T, dc),
        "da_prev": d_joined[:n_a] + da_through_h + da_next * (1 - ut),
        "dWu": np.dot(du, joined.T),
        "dbu": np.sum(du, axis=1, keepdims=True),
        "dWr": np.dot(dr, joined.T),
        "dbr": np.sum(dr, axis=1, keepdims=True),
        "dWc": np.concatenate((dWca, np.dot(dc, xt.T)), axis=1),
        "dbc": np.sum(dc, axis=1, keepdims=True),
    }
    if "bca" in parameters:
        gradients["dbca"] = np.sum(dh, axis=1, keepdims=True)
    return gradients


def gru_backward(da: Any, caches: Any) -> Any:
    """Gradients through all steps of the GRU."""
    steps, _ = caches
    n_a, m, T_x = da.shape
    n_x = steps[0][6].shape[0]
    dx = np.zeros((n_x, m, T_x))
    parameters = steps[0][7]
    sums = {"d" + name: np.zeros(parameters[name].shape) for name in ("Wu", "bu", "Wr", "br", "Wc", "bc")}
    if "bca" in parameters:
        sums["dbca"] = np.zeros((n_a, 1))
    da_prev = np.zeros((n_a, m))
    for t in reversed(range(T_x)):
        step = gru_cell_backward(da[:, :, t] + da_prev, steps[t])
        dx[:, :, t] = step["dxt"]
        da_prev = step["da_prev"]
        for name in sums:
            sums[name] += step[name]
    return {"dx": dx, "da0": da_prev, **sums}
