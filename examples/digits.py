"""Handwritten digits, read row by row: an LSTM on the 8 x 8 images that scikit-learn ships.

    pip install '.[examples]'
    python examples/digits.py                                     97% or better on a held-out third, in seconds
    python examples/digits.py --quick --picture digits.png        a few epochs, and what the gates do

An image is a sequence of 8 steps, one row of 8 pixels each.  The network answers after the last row: only that step
is scored, by a weight of 1 there and 0 elsewhere.  A third of the images is held out.  Sizes, epochs and rate were
chosen on a quarter of the others (`--choose`), never on the ones held out.

Where PyTorch is installed (`pip install torch`), the same network is trained there too: float64, the same weights
to begin with, the same batches, epoch by epoch in turn with ours.  The losses must agree, and the times of both are
printed side by side.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import cyrnn


class Ours:
    """The network in cyrnn: parameters, and the moments of Adam."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.v, self.s = cyrnn.initialize_adam(parameters)
        self.t = 0

    def train(self, x, labels, learning_rate):
        """One step of Adam on a batch; its loss."""
        n_a = len(self.parameters["bf"])
        labels, last = np.repeat(labels[:, None], x.shape[2], axis=1), np.zeros(x.shape[1:])
        last[:, -1] = 1
        a, y, _, caches = cyrnn.lstm_forward(x, np.zeros((n_a, 1)), self.parameters)
        loss, dz = cyrnn.cross_entropy(y, labels, weights=last)
        gradients = cyrnn.output_backward(dz, a, self.parameters)
        gradients |= cyrnn.lstm_backward(gradients["da"], caches)
        self.t += 1
        cyrnn.update_parameters_with_adam(self.parameters, gradients, self.v, self.s, self.t, learning_rate)
        return loss

    def accuracy(self, x, labels):
        """Share of the images whose digit it tells after the last row."""
        _, y, _, _ = cyrnn.lstm_forward(x, np.zeros((len(self.parameters["bf"]), 1)), self.parameters, cache=False)
        return np.mean(y[:, :, -1].argmax(axis=0) == labels)


class Twin:
    """The same network in PyTorch, float64, from the same weights."""

    def __init__(self, parameters):
        import torch

        state_dict = cyrnn.to_torch(parameters)
        (n_y, n_a), n_x = parameters["Wy"].shape, parameters["Wf"].shape[1] - len(parameters["Wf"])
        self.torch = torch
        self.net = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(n_x, n_a), "fc": torch.nn.Linear(n_a, n_y)}).double()
        self.net.load_state_dict(state_dict)
        self.net.rnn.bias_hh_l0.requires_grad_(False)  # the second bias: trained too, it would double the step of b
        trained = [value for value in self.net.parameters() if value.requires_grad]
        self.adam = torch.optim.Adam(trained, fused=True)

    def train(self, x, labels, learning_rate):
        """One step of Adam on a batch; its loss."""
        x, labels = self.torch.from_numpy(x.transpose(2, 1, 0)), self.torch.from_numpy(labels)
        a, _ = self.net.rnn(x)
        loss = self.torch.nn.functional.cross_entropy(self.net.fc(a[-1]), labels)
        self.adam.zero_grad()
        loss.backward()
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        return loss.item()


def digits(choose):
    """x (8, m, 8): pixels of a row, images, rows; and the digits (m,), to train with and held out."""
    images, labels = load_digits(return_X_y=True)
    x = images.reshape(-1, 8, 8).transpose(2, 0, 1) / 16
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    if choose:
        train, test = train_test_split(train, test_size=1 / 4, random_state=0, stratify=labels[train])
    return x[:, train], labels[train], x[:, test], labels[test]


def epoch(network, x, labels, batches, learning_rate):
    """Train on every batch; the losses and the seconds it took."""
    start = time.perf_counter()
    losses = [network.train(x[:, batch], labels[batch], learning_rate) for batch in batches]
    return losses, time.perf_counter() - start


def picture(path, losses, accuracies, network, x, labels):
    """Loss and accuracy; below, two digits: what is read, believed, kept and let through."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n_a = len(network.parameters["bf"])
    _, y, c, (steps, _) = cyrnn.lstm_forward(x, np.zeros((n_a, 1)), network.parameters)
    # A step of the caches is the notebook's tuple: a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters.
    ft, it, ot = (np.stack([step[k] for step in steps], axis=2) for k in (4, 5, 7))
    figure = plt.figure(figsize=(13, 9), layout="constrained")
    top, *below = figure.subfigures(1 + x.shape[1], 1, height_ratios=[1.25] + [1] * x.shape[1])
    left, right = top.subplots(1, 2)
    per_epoch = len(losses) // len(accuracies)
    left.semilogy(np.arange(len(losses)) / per_epoch, losses, color="0.75", linewidth=0.8, label="of a batch")
    left.semilogy(1 + np.arange(len(accuracies)), np.reshape(losses, (-1, per_epoch)).mean(1), label="mean of an epoch")
    left.set(title="cross-entropy of the training digits", xlabel="epoch")
    left.legend(frameon=False)
    right.plot(1 + np.arange(len(accuracies)), 100 * np.array(accuracies), color="C2")
    right.axhline(97, color="0.6", linewidth=0.8, linestyle="--")
    right.set(title="held-out digits told right, %", xlabel="epoch", ylim=(min(90, 100 * accuracies[-1] - 5), 100))
    by_memory = np.argsort(ft.mean(axis=(1, 2)))[::-1]  # the units that keep most come first
    for j, row in enumerate(below):
        panels = row.subplots(1, 6, width_ratios=[1, 1.25, 2, 2, 2, 2])
        maps = [x[:, j].T, y[:, j].T, *(gate[by_memory, j].T for gate in (ft, it, ot)), c[by_memory, j].T]
        names = ["the image", "belief in 0 .. 9", "forget gate", "update gate", "output gate", "memory cell"]
        for k, (axis, values, name) in enumerate(zip(panels, maps, names, strict=True)):
            look = {"cmap": "gray_r", "vmin": 0} if k == 0 else {"cmap": "viridis", "vmin": 0, "vmax": 1}
            look = {"cmap": "RdBu_r", "vmin": -np.abs(c).max(), "vmax": np.abs(c).max()} if k == 5 else look
            shown = axis.imshow(values, aspect="auto", interpolation="nearest", **look)
            axis.set(title=name if j == 0 else None, yticks=[], xticks=range(10) if k == 1 else [])
            axis.tick_params(length=0, labelsize=7)
            if k in (4, 5):
                row.colorbar(shown, ax=axis, pad=0.01)
            if j == len(below) - 1 and k > 1:
                axis.set_xlabel("unit, the most remembering first" if k == 2 else "unit")
        panels[0].set_ylabel(f"a {labels[j]}: rows,\ndownwards in time")
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller network and few epochs, for a test")
    parser.add_argument("--choose", action="store_true", help="hold out a quarter of the training images instead")
    parser.add_argument("--picture", metavar="PNG", help="draw the loss and the gates into this file")
    parser.add_argument("--threads", type=int, default=1, help="of both libraries (default 1)")
    arguments = parser.parse_args()
    n_a, m, epochs, learning_rate = (32, 16, 8, 0.01) if arguments.quick else (64, 32, 30, 0.008)

    rng = np.random.default_rng(0)
    x, labels, x_test, labels_test = digits(arguments.choose)
    parameters = cyrnn.initialize_parameters("lstm", n_x=8, n_a=n_a, n_y=10, rng=rng)
    cyrnn.set_num_threads(arguments.threads)
    networks = {}
    try:
        networks["PyTorch float64"] = Twin(parameters)
        networks["PyTorch float64"].torch.set_num_threads(arguments.threads)
    except ImportError:
        print("PyTorch is not installed: no twin to compare with")
    networks["cyrnn"] = ours = Ours(parameters)  # after the twin: it updates parameters in place

    losses, seconds, accuracies = {name: [] for name in networks}, dict.fromkeys(networks, 0.0), []
    with tqdm(range(epochs), unit="epoch") as bar:
        for k in bar:
            batches = np.split(rng.permutation(len(labels))[: len(labels) // m * m], len(labels) // m)
            for name, network in networks.items():
                found, took = epoch(network, x, labels, batches, learning_rate * (1 - k / epochs))
                losses[name] += found
                seconds[name] += took
            if k == 0 and len(networks) == 2:
                apart = np.abs(np.subtract(*losses.values())).max()
                assert apart < 1e-8, f"the losses of the first epoch differ by {apart}"
            accuracies.append(ours.accuracy(x_test, labels_test))
            speed = (k + 1) * x.shape[1] / seconds["cyrnn"]
            loss = np.mean(losses["cyrnn"][-len(batches) :])
            bar.set_postfix_str(f"loss {loss:.4f}, right {accuracies[-1]:.1%}, {speed:,.0f} images/s")

    print(f"{accuracies[-1]:.1%} of {len(labels_test)} held-out digits told right, after {seconds['cyrnn']:.1f} s")
    if len(networks) == 2:
        print(f"losses of the first epoch: at most {apart:.1e} apart from those of PyTorch")
        print(", ".join(f"{name} {took:.2f} s" for name, took in seconds.items()), end=": ")
        print(f"{seconds['PyTorch float64'] / seconds['cyrnn']:.1f} times as fast, on {arguments.threads} thread(s)")
    if arguments.picture:
        some = [np.flatnonzero(labels_test == digit)[0] for digit in (3, 7)]
        picture(arguments.picture, losses["cyrnn"], accuracies, ours, x_test[:, some], labels_test[some])
        print(f"drawn: {arguments.picture}")


if __name__ == "__main__":
    main()
