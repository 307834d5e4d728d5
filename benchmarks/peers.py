"""The contenders: one function for each library that makes the calls of one problem.

Each gives a dict from "f" (a forward pass that keeps what the backward pass needs), "fb" (that and the
backward pass from a gradient of every hidden state), "h" (hidden states alone, for inference), "cell f" and
"cell b" (one step) to a call without arguments; what a library cannot do is left out.  Every library gets
its arrays in its own layout and weights in its own order, prepared beforehand.
"""

import importlib.util
from types import SimpleNamespace

import numpy as np

KINDS = ("rnn", "lstm", "gru_after", "gru_before")
TITLES = {"rnn": "RNN", "lstm": "LSTM", "gru_after": "GRU", "gru_before": "GRU, reset before,"}
GATES = {"rnn": "", "lstm": "fico", "gru_after": "urc", "gru_before": "urc"}
WORDS = {
    "f": "forward", "fb": "forward + backward", "h": "hidden states",
    "cell f": "cell forward", "cell b": "cell backward",
}  # fmt: skip


def problem(kind, n_x, n_a, n_y, m, T_x):
    """Random input of a size, weights scaled as for training.

    The kind is one of `KINDS`: "gru_after" is PyTorch's GRU, with its reset after the product, "gru_before" the other.
    """
    rng = np.random.default_rng(0)
    scale = 1 / np.sqrt(n_a + n_x)
    if kind == "rnn":
        shapes = {"Wax": (n_a, n_x), "Waa": (n_a, n_a), "Wya": (n_y, n_a), "ba": (n_a, 1), "by": (n_y, 1)}
    else:
        gates = GATES[kind]
        shapes = {"W" + gate: (n_a, n_a + n_x) for gate in gates} | {"b" + gate: (n_a, 1) for gate in gates}
        shapes |= {"bca": (n_a, 1)} if kind == "gru_after" else {}
        shapes |= {"Wy": (n_y, n_a), "by": (n_y, 1)}
    return SimpleNamespace(
        kind=kind,
        prefix=kind.partition("_")[0],  # of the functions
        p={name: rng.standard_normal(shape) * scale for name, shape in shapes.items()},
        x=rng.standard_normal((n_x, m, T_x)),
        xt=rng.standard_normal((n_x, m)),
        a0=rng.standard_normal((n_a, m)),
        c0=rng.standard_normal((n_a, m)),
        da=rng.standard_normal((n_a, m, T_x)),
        z=rng.standard_normal((n_y, m)),
    )


def functions(module, q):
    """The notebook's functions, of `cyrnn` or of `cyrnn.numpy_reference`."""
    names = ("forward", "backward", "cell_forward", "cell_backward")
    forward, backward, cell, cell_back = (getattr(module, f"{q.prefix}_{name}") for name in names)
    states = (q.a0, q.c0) if q.kind == "lstm" else (q.a0,)
    cache = cell(q.xt, *states, q.p)[-1]
    return {
        "f": lambda: forward(q.x, q.a0, q.p),
        "fb": lambda: backward(q.da, forward(q.x, q.a0, q.p)[-1]),
        "cell f": lambda: cell(q.xt, *states, q.p),
        "cell b": lambda: cell_back(*states, cache),
    }


def in_dtype(q, dtype):
    """`cyrnn` in one precision, all arrays of it."""
    import cyrnn

    forward, backward = (getattr(cyrnn, f"{q.prefix}_{name}") for name in ("forward", "backward"))
    x, a0, da = (value.astype(dtype) for value in (q.x, q.a0, q.da))
    p = {key: value.astype(dtype) for key, value in q.p.items()}
    return {
        "h": lambda: forward(x, a0, p, output=None, cache=False, dtype=dtype),
        "f": lambda: forward(x, a0, p, dtype=dtype),
        "fb": lambda: backward(da, forward(x, a0, p, dtype=dtype)[-1]),
    }


def activations(module, q):
    return {"softmax": lambda: module.softmax(q.z), "sigmoid": lambda: module.sigmoid(q.z)}


def stacked(q, orders, flipped=""):
    """Weights of x, weights of a, biases of both, with the gates one below the other in the order for q's kind.

    The gates in `flipped` change sign: the update gate of a GRU is elsewhere 1 - ours.
    """
    n_a = len(q.a0)
    if q.kind == "rnn":
        return q.p["Wax"], q.p["Waa"], q.p["ba"][:, 0], 0 * q.p["ba"][:, 0], q.p["Wya"], q.p["by"][:, 0]
    signs = {gate: -1.0 if gate in flipped else 1.0 for gate in orders[q.prefix]}
    W = np.concatenate([sign * q.p["W" + gate] for gate, sign in signs.items()])
    b = np.concatenate([sign * q.p["b" + gate] for gate, sign in signs.items()])[:, 0]
    second = {"c": q.p["bca"]} if q.kind == "gru_after" else {}
    b_a = np.concatenate([second.get(gate, 0 * q.p["bc"]) for gate in signs])[:, 0]
    return W[:, n_a:], W[:, :n_a], b, b_a, q.p["Wy"], q.p["by"][:, 0]


def torch_calls(q, dtype):
    import torch

    def tensor(value):
        return torch.tensor(np.ascontiguousarray(value), dtype=getattr(torch, dtype))

    n_x, n_a = len(q.x), len(q.a0)
    W_x, W_a, b, b_a, W_y, b_y = map(tensor, stacked(q, {"lstm": "ifco", "gru": "ruc"}, "u"))  # i, f, g, o; r, z, n
    net, one = (
        getattr(torch.nn, q.prefix.upper() + suffix)(n_x, n_a, dtype=getattr(torch, dtype)) for suffix in ("", "Cell")
    )
    with torch.no_grad():
        for layer, suffix in ((net, "_l0"), (one, "")):
            for name, value in (("weight_ih", W_x), ("weight_hh", W_a), ("bias_ih", b), ("bias_hh", b_a)):
                getattr(layer, name + suffix).copy_(value)
    x, xt, a0, c0 = tensor(q.x.transpose(2, 1, 0)), tensor(q.xt.T), tensor(q.a0.T), tensor(q.c0.T)
    da = tensor(q.da.transpose(2, 1, 0))
    x.requires_grad_(), a0.requires_grad_()
    start = (a0[None], torch.zeros_like(a0)[None]) if q.kind == "lstm" else a0[None]
    state = (a0, c0) if q.kind == "lstm" else a0

    def forward():
        a = net(x, start)[0]
        return a, torch.softmax(torch.nn.functional.linear(a, W_y, b_y), -1)

    def hidden():
        with torch.inference_mode():
            return net(x, start)[0]

    def both():
        return torch.autograd.grad(forward()[0], [x, a0, *net.parameters()], da)

    def step():
        out = one(xt, state)
        a = out[0] if q.kind == "lstm" else out
        return out, torch.softmax(torch.nn.functional.linear(a, W_y, b_y), -1)

    return {"f": forward, "fb": both, "h": hidden, "cell f": step}


def jax_calls(q, dtype="float64"):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    n_a = len(q.a0)
    W_x, W_a, b, b_a, W_y, b_y = (jnp.asarray(v, dtype) for v in stacked(q, {"lstm": "fico", "gru": "urc"}))
    x, xt, a0, c0, da = (jnp.asarray(v.T, dtype) for v in (q.x, q.xt, q.a0, q.c0, q.da))

    def step(weights, state, z):
        a, c = state
        if q.kind == "gru_after":
            z, h = jnp.split(z, 3, 1), jnp.split(a @ weights[1].T + weights[3], 3, 1)
            u, r = jax.nn.sigmoid(z[0] + h[0]), jax.nn.sigmoid(z[1] + h[1])
            a = u * jnp.tanh(z[2] + r * h[2]) + (1 - u) * a
            return (a, c), (a, c)
        z = z + a @ weights[1].T
        if q.kind == "rnn":
            a = jnp.tanh(z)
        else:
            f, i, g, o = (z[:, k * n_a : (k + 1) * n_a] for k in range(4))
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            a = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (a, c), (a, c)

    def states(weights, x, a0):
        z = x @ weights[0].T + weights[2]  # the inputs of all steps in one product
        return jax.lax.scan(lambda s, zt: step(weights, s, zt), (a0, jnp.zeros_like(a0)), z)[1]

    @jax.jit
    def forward(weights, x, a0):
        a, c = states(weights, x, a0)
        return a, c, jax.nn.softmax(a @ W_y.T + b_y)

    @jax.jit
    def both(weights, x, a0, da):
        a, back = jax.vjp(lambda *v: states(*v)[0], weights, x, a0)
        return jax.nn.softmax(a @ W_y.T + b_y), back(da)

    @jax.jit
    def cell(weights, xt, a0, c0):
        (a, c), _ = step(weights, (a0, c0), xt @ weights[0].T + weights[2])
        return a, c, jax.nn.softmax(a @ W_y.T + b_y)

    hidden = jax.jit(lambda *v: states(*v)[0])
    weights = (W_x, W_a, b, b_a) if q.kind == "gru_after" else (W_x, W_a, b)
    return {
        "f": lambda: jax.block_until_ready(forward(weights, x, a0)),
        "fb": lambda: jax.block_until_ready(both(weights, x, a0, da)),
        "h": lambda: jax.block_until_ready(hidden(weights, x, a0)),
        "cell f": lambda: jax.block_until_ready(cell(weights, xt, a0, c0)),
    }


def onnxruntime_calls(q, threads):
    import onnx
    import onnxruntime

    n_x, m, T_x = q.x.shape
    n_a, n_y = len(q.a0), len(q.z)
    orders = {"lstm": "iofc", "gru": "urc"}  # ONNX's i, o, f, c; z, r, h; inference alone, float32 alone
    W_x, W_a, b, b_a, W_y, b_y = stacked(q, orders, "u")
    form = {"linear_before_reset": 1} if q.kind == "gru_after" else {}
    values = {
        "W": W_x[None], "R": W_a[None], "B": np.concatenate([b, b_a])[None], "Wy": W_y.T, "by": b_y,
        "axis": np.array([1]),
    }  # fmt: skip
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(v, np.int64 if v.dtype.kind == "i" else np.float32), name)
        for name, v in values.items()
    ]
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make(q.prefix.upper(), ["x", "W", "R", "B", "", "a0"], ["Y"], hidden_size=n_a, **form),
        make("Squeeze", ["Y", "axis"], ["a"]),
        make("MatMul", ["a", "Wy"], ["s"]),
        make("Add", ["s", "by"], ["z"]),
        make("Softmax", ["z"], ["y"], axis=-1),
    ]
    real = onnx.TensorProto.FLOAT
    inputs = [info("x", real, [T_x, m, n_x]), info("a0", real, [1, m, n_a])]
    outputs = [info("a", real, [T_x, m, n_a]), info("y", real, [T_x, m, n_y])]
    graph = onnx.helper.make_graph(nodes, q.prefix, inputs, outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take the others' processors
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ascontiguousarray(q.x.T, np.float32), "a0": np.ascontiguousarray(q.a0.T[None], np.float32)}
    return {"f": lambda: session.run(None, feed), "h": lambda: session.run(["a"], feed)}


PEERS = ("PyTorch float64", "JAX float64", "PyTorch float32", "ONNX Runtime float32")
PEERS_FLOAT32 = ("PyTorch float32", "ONNX Runtime float32", "JAX float32")


def contenders(threads, names):
    """What is installed of the peers named, by the name shown: a function from a problem to its calls."""
    every = {
        "PyTorch float64": ("torch", lambda q: torch_calls(q, "float64")),
        "JAX float64": ("jax", jax_calls),
        "PyTorch float32": ("torch", lambda q: torch_calls(q, "float32")),
        "ONNX Runtime float32": ("onnxruntime", lambda q: onnxruntime_calls(q, threads)),
        "JAX float32": ("jax", lambda q: jax_calls(q, "float32")),
    }
    every = {name: every[name] for name in names}
    found = {name: make for name, (module, make) in every.items() if importlib.util.find_spec(module)}
    if any("PyTorch" in name for name in found):
        import torch

        torch.set_num_threads(threads)
    return found
