"""Networks of LSTMs, forward and backward: against PyTorch float64 and against the functions of one layer, by hand.

    pip install '.[bench]'
    python benchmarks/network.py [--seconds 1] [--sizes 64,128,64,32,100 ...] [--threads 1]

Each number is the median, with its quartiles, of the ratios of rounds in turn, the other's time over ours: above 1 the
network is ahead.  "by hand": two layers of `lstm_forward` and `lstm_backward`, one after the other.  "twice one": two
passes over a layer of one direction, against one over a layer of both.  "without padding": m examples of all steps,
against 2 m examples of 0 to T_x steps, m T_x in all.
"""

import argparse
import itertools
import statistics

import numpy as np
from run import compete, size

import cyrnn

SIZES = [  # n_x, n_a, n_y, m, T_x
    (3, 5, 2, 10, 4),
    (16, 32, 16, 1, 100),
    (32, 64, 32, 16, 50),
    (64, 128, 64, 32, 100),
    (128, 256, 64, 64, 50),
]
DRAWN = 64  # batches of lengths, used in turn


def problem(n, layers, both):
    """A network without an output layer, its input, the gradient of its hidden states."""
    n_x, n_a, _, m, T_x = n
    network = cyrnn.initialize_network("lstm", n_x, [n_a] * layers, None, 0, bidirectional=both)
    rng = np.random.default_rng(0)
    return network, rng.standard_normal((n_x, m, T_x)), rng.standard_normal((n_a * (1 + both), m, T_x))


def ours(network, x, da, lengths=None):
    """Forward and backward; a is the first result."""
    _, a, _, caches = cyrnn.network_forward(x, network, lengths=lengths)
    return a, *cyrnn.network_backward(caches, da=da)


def by_hand(network, x, da):
    """The layers of one direction, one after the other."""
    every = []
    for p in network:
        x, _, _, caches = cyrnn.lstm_forward(x, None, p, output=None)
        every.append(caches)
    gradients = []
    for caches in reversed(every):
        gradients.append(cyrnn.lstm_backward(da, caches))
        da = gradients[-1]["dx"]
    return x, gradients[::-1], da


def torch_call(network, x, da):
    """The same network in PyTorch; a is the first result."""
    import torch

    both, n_a = isinstance(network[0], tuple), len(da) // (1 + isinstance(network[0], tuple))
    net = torch.nn.LSTM(len(x), n_a, num_layers=len(network), bidirectional=both, dtype=torch.float64)
    with torch.no_grad():
        for k, layer in enumerate(network):
            for p, suffix in zip(layer if both else [layer], ("", "_reverse"), strict=False):
                W, b = (np.concatenate([p[part + gate] for gate in "ifco"]) for part in "Wb")
                parts = {"weight_ih": W[:, n_a:], "weight_hh": W[:, :n_a], "bias_ih": b[:, 0], "bias_hh": 0 * b[:, 0]}
                for name, value in parts.items():
                    getattr(net, f"{name}_l{k}{suffix}").copy_(torch.from_numpy(value.copy()))
    x, da = (torch.from_numpy(value.transpose(2, 1, 0).copy()) for value in (x, da))
    x.requires_grad_()

    def call():
        a = net(x)[0]
        return a, torch.autograd.grad(a, [x, *net.parameters()], da)

    return call


def rows(n):
    """What is shown of a size: a title, our call, the others."""
    for layers, both in ((2, False), (1, True), (2, True)):
        q = problem(n, layers, both)
        others = {"PyTorch float64": torch_call(*q)}
        if not both:
            others["by hand"] = lambda q=q: by_hand(*q)
        elif layers == 1:
            one = problem(n, 1, False)
            others["twice one"] = lambda one=one: (ours(*one), ours(*one))
        yield f"{layers} layer{'s' * (layers > 1)}, {'both' if both else 'one'}", lambda q=q: ours(*q), others
    *units, m, T_x = n
    short = np.random.default_rng(0).integers(0, T_x, (DRAWN, m), endpoint=True)
    lengths = itertools.cycle(np.concatenate([short, T_x - short], axis=1))
    padded, q = problem((*units, 2 * m, T_x), 2, True), problem(n, 2, True)
    yield "2 layers, both, lengths", lambda: ours(*padded, next(lengths)), {"without padding": lambda: ours(*q)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each number")
    parser.add_argument("--sizes", type=size, nargs="+", metavar="n_x,n_a,n_y,m,T_x", help="these instead")
    parser.add_argument("--threads", type=int, default=1, help="of both (default 1)")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    cyrnn.set_num_threads(arguments.threads)
    print(f"{'n_x, n_a, n_y, m, T_x':<24}{'layers, directions':<26}{'time':>13}   ratios (quartiles)")
    for n in arguments.sizes or SIZES:
        for title, call, others in rows(n):
            times, ratios = compete(others, call, arguments.seconds / 2, 0.0)
            shown = "   ".join(f"{name} {b:.2f} ({a:.2f} to {c:.2f})" for name, (a, b, c) in ratios.items())
            print(f"{n!s:<24}{title:<26}{statistics.median(times) * 1e6:>10,.1f} us   {shown}", flush=True)


if __name__ == "__main__":
    main()
