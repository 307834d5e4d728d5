"""The accuracy of exp, tanh and sigmoid in every build, and the polynomial under them.

    pip install '.[test]' && python benchmarks/accuracy.py

Prints the largest error found in units in the last place over some millions of arguments, against
the x87 long double (64 bits of mantissa); then the coefficients of vmath.h computed anew.

    pip install torch onnx onnxruntime && python benchmarks/accuracy.py --float32

prints what PyTorch and ONNX Runtime give in float32 on every 97th float32 there is, against float64, and computes the
coefficients of vmath_f32.h anew.  Our own errors are those of `python tests/portable/float32.py`, on every one.

    pip install torch && python benchmarks/accuracy.py --gradients

prints how far the gradients of the weights over 10,000 steps in float32 are from those of the same numbers in float64,
here and in PyTorch.
"""

import argparse
import sys

import mpmath
import numpy as np

from cyrnn import _kernels

REGIONS = {
    "near 0": lambda rng, n: np.ldexp(rng.uniform(-1, 1, n), -rng.integers(0, 300, n)),
    "|x| < 1": lambda rng, n: rng.uniform(-1, 1, n),
    "|x| < 45": lambda rng, n: rng.uniform(-45, 45, n),
    "|x| < 745": lambda rng, n: rng.uniform(-745, 709, n),
}


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


EXACT = {"exp": np.exp, "tanh": np.tanh, "sigmoid": exact_sigmoid}


def errors(name, x):
    got = x.copy()
    getattr(_kernels.f64.activations, name)(got)
    exact = EXACT[name](x.astype(np.longdouble))
    exponent = np.maximum(np.frexp(exact)[1], -1021)
    return np.abs(got - exact) / np.ldexp(np.longdouble(1), exponent - 53)


STRIDE = 97
REGIONS_FLOAT32 = {"|x| < 1": 1.0, "|x| < 17": 17.0, "|x| < 87": 87.0, "all": np.inf}


def peers():
    """What computes the functions in float32: name, then function by function."""
    import onnx
    import onnxruntime
    import torch

    def torch_function(name):
        function = getattr(torch, name)
        return lambda x: function(torch.from_numpy(x)).numpy()

    def onnx_function(name):
        node = onnx.helper.make_node(name.title(), ["x"], ["y"])
        x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n"]) for n in "xy")
        graph = onnx.helper.make_graph([node], name, [x], [y])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {"x": x})[0]

    names = [*EXACT, "log"]
    yield f"PyTorch {torch.__version__.split('+')[0]}", {name: torch_function(name) for name in names}
    yield f"ONNX Runtime {onnxruntime.__version__}", {name: onnx_function(name) for name in names}


def errors_float32(got, exact):
    """In units of float32's last place; infinity counts as 2^128."""
    exact = np.where(np.abs(exact) >= 2.0**128, np.inf, exact)
    got = np.where(np.isinf(got) & np.isfinite(exact), np.copysign(2.0**128, got), got.astype(np.float64))
    unit = np.ldexp(1.0, np.maximum(np.frexp(exact)[1], -125) - 24)
    return np.where(got == exact, 0.0, np.where(np.isnan(got), np.inf, np.abs(got - exact) / unit))


def float32_peers():
    print("Largest error in ulp and the argument:")
    print(f"{'':<22}{'function':<10}" + "".join(f"{region:>20}" for region in REGIONS_FLOAT32))
    chunks = range(0, 2**32, STRIDE * 2**20)
    for peer, functions in peers():
        for name, function in functions.items():
            worst = dict.fromkeys(REGIONS_FLOAT32, (0.0, 0.0))
            for first in chunks:
                x = np.arange(first, min(first + STRIDE * 2**20, 2**32), STRIDE).astype(np.uint32).view(np.float32)
                x = x[np.isfinite(x) & (x >= np.finfo(np.float32).tiny if name == "log" else True)]
                if not x.size:
                    continue
                wide = x.astype(np.float64)
                exact = exact_sigmoid(wide) if name == "sigmoid" else getattr(np, name)(wide)
                found = errors_float32(function(x), exact)
                for region, edge in REGIONS_FLOAT32.items():
                    inside = np.where(np.abs(x) < edge, found, -1.0)
                    at = int(inside.argmax())
                    worst[region] = max(worst[region], (float(inside[at]), float(x[at])))
            row = "".join(f"{f'{error:.4g} ({at:.4g})':>20}" for error, at in worst.values())
            print(f"{peer:<22}{name:<10}{row}", flush=True)


def minimax(function, weight, degree, low, high, exchanges=12):
    """Coefficients, from the highest power down, for which the largest |weight (function - p)| is smallest (Remez)."""
    n = degree + 2
    grid = [low + (high - low) * (1 - mpmath.cos(mpmath.pi * i / 600)) / 2 for i in range(601)]
    values, weights = [function(x) for x in grid], [weight(x) for x in grid]
    nodes = [round(600 * (2 * i + 1) / (2 * n)) for i in range(n)]
    for _ in range(exchanges):
        matrix = mpmath.matrix(n, n)
        for row, i in enumerate(nodes):
            for power in range(n - 1):
                matrix[row, power] = grid[i] ** power
            matrix[row, n - 1] = (-1) ** row / weights[i]
        solution = list(mpmath.lu_solve(matrix, mpmath.matrix([values[i] for i in nodes])))
        p = solution[-2::-1]
        error = [w * (v - mpmath.polyval(p, x)) for x, v, w in zip(grid, values, weights, strict=True)]
        nodes = []  # the largest error of each run of one sign
        for i, e in enumerate(error):
            if not nodes or (e > 0) != (error[nodes[-1]] > 0):
                nodes.append(i)
            elif abs(e) > abs(error[nodes[-1]]):
                nodes[-1] = i
        while len(nodes) > n:
            nodes.pop(0 if abs(error[nodes[0]]) < abs(error[nodes[-1]]) else -1)
    return p, max(map(abs, error))


def float32_coefficients():
    mpmath.mp.dps = 40
    tiny = mpmath.mpf(10) ** -12  # keeps a weight from 0
    edge = mpmath.log(2) / 2 * mpmath.mpf("1.001")

    def s(r):
        return (mpmath.expm1(r) - r) / r**2 if abs(r) > 1e-6 else mpmath.mpf(1) / 2 + r / 6 + r**2 / 24

    def p_tanh(z):
        x = mpmath.sqrt(z)
        return (mpmath.tanh(x) - x) / (x * z) if z > 1e-8 else -mpmath.mpf(1) / 3 + 2 * z / 15 - 17 * z**2 / 315

    def p_log(f):
        return (mpmath.log1p(f) - f + f**2 / 2) / f**3 if abs(f) > 1e-7 else mpmath.mpf(1) / 3 - f / 4 + f**2 / 5

    for text, fit in {
        "expm1(r) = r + r^2 s(r), absolute": (s, lambda r: r**2 + tiny, 4, -edge, edge),
        "tanh(x) = x + x z P(z), z = x^2, relative": (
            p_tanh,
            lambda z: (z + tiny) * (mpmath.sqrt(z) / mpmath.tanh(mpmath.sqrt(z)) if z else 1),
            4, mpmath.mpf(0), mpmath.mpf("0.625") ** 2,
        ),
        "log(1 + f) = f - f^2/2 + f^3 P(f), relative": (
            p_log,
            lambda f: (f**3 / mpmath.log1p(f) if f else 0) + tiny,
            7, mpmath.sqrt(0.5) - 1, mpmath.sqrt(2) - 1,
        ),
    }.items():  # fmt: skip
        p, error = minimax(*fit)
        print(f"\n{text} error {mpmath.nstr(error, 2)}; from the highest power down:")
        for coefficient in p:
            print(f"  {np.float32(float(coefficient))!s}f")


def gradients(T_x=10_000, n_x=8, n_a=32):
    """The distance from float64 over the norm, of all weights and of all biases, of ours and of PyTorch's."""
    import torch

    import cyrnn

    torch.set_num_threads(1)
    print(f"LSTM, n_x = {n_x}, n_a = {n_a}, {T_x} steps\n")
    print(f"| m | gradient | cyrnn | PyTorch {torch.__version__} |\n|---|---|---|---|")
    for m in (1, 8, 32):
        rng = np.random.default_rng(0)
        p = cyrnn.initialize_parameters("lstm", n_x, n_a, 1, rng, dtype=np.float32)
        x = rng.standard_normal((n_x, m, T_x), np.float32)
        da = rng.standard_normal((n_a, m, T_x), np.float32) + np.float32(0.3)
        want = cyrnn.lstm_backward(da, cyrnn.lstm_forward(x, None, p)[-1])
        ours = cyrnn.lstm_backward(da, cyrnn.lstm_forward(x, None, p, dtype=np.float32)[-1])
        layer = torch.nn.LSTM(n_x, n_a)
        order = "ifco"  # PyTorch's i, f, g, o
        W, b = (np.concatenate([p[kind + gate] for gate in order]) for kind in "Wb")
        values = {
            "weight_hh_l0": W[:, :n_a],
            "weight_ih_l0": W[:, n_a:],
            "bias_ih_l0": b[:, 0],
            "bias_hh_l0": 0 * b[:, 0],
        }
        layer.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()})
        out, _ = layer(torch.from_numpy(x.transpose(2, 1, 0).copy()))
        out.backward(torch.from_numpy(da.transpose(2, 1, 0).copy()))
        theirs = {name: value.grad.numpy() for name, value in layer.named_parameters()}
        theirs = {"W": np.hstack([theirs["weight_hh_l0"], theirs["weight_ih_l0"]]), "b": theirs["bias_ih_l0"][:, None]}
        for kind, name in (("W", "weights"), ("b", "biases")):
            exact = np.concatenate([want[f"d{kind}{gate}"] for gate in order])
            mine = np.concatenate([ours[f"d{kind}{gate}"] for gate in order])
            off = [
                np.linalg.norm(found.astype(float) - exact) / np.linalg.norm(exact) for found in (mine, theirs[kind])
            ]
            print(f"| {m} | {name} | {off[0]:.1e} | {off[1]:.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--float32", action="store_true", help="what others give in float32")
    parser.add_argument("--gradients", action="store_true", help="sums over many steps in float32")
    arguments = parser.parse_args()
    if arguments.gradients:
        gradients()
        return
    if arguments.float32:
        with np.errstate(all="ignore"):
            float32_peers()
        float32_coefficients()
        return
    if np.finfo(np.longdouble).nmant < 63:
        sys.exit("this machine's long double is no wider than double: nothing to compare with")
    print(f"{'build':<10}{'function':<10}" + "".join(f"{region:>12}" for region in REGIONS) + "   (largest error, ulp)")
    with np.errstate(all="ignore"):
        for build in _kernels.available():
            _kernels.use(build)
            for name in EXACT:
                worst = []
                for draw in REGIONS.values():
                    rng = np.random.default_rng(1)
                    worst.append(max(float(errors(name, draw(rng, 250_000)).max()) for _ in range(8)))
                print(f"{build:<10}{name:<10}" + "".join(f"{error:>12.3f}" for error in worst))

    mpmath.mp.dps = 40
    edge = mpmath.log(2) / 2 * mpmath.mpf("1.001")

    def s(r):
        if abs(r) < mpmath.mpf("1e-6"):
            return mpmath.mpf(1) / 6 + r / 24 + r**2 / 120 + r**3 / 720
        return (mpmath.expm1(r) - r - r**2 / 2) / r**3

    coefficients, error = mpmath.chebyfit(s, [-edge, edge], 10, error=True)
    relative = mpmath.nstr(error * edge**3 / mpmath.expm1(edge), 2)
    print(f"\nexpm1(r) = r + r^2 (1/2 + r s(r)), relative error {relative}; s from its highest power down:")
    for coefficient in coefficients:
        print(f"  {float(coefficient)!r}")


if __name__ == "__main__":
    main()
