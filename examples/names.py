"""Surnames, letter by letter: two layers of an LSTM learn the 88,799 surnames of a census, and then invent some.

    pip install '.[examples]'
    python examples/names.py                                  two to three minutes on one thread
    python examples/names.py --layers 1                       about a minute
    python examples/names.py --quick --picture names.png      a small network, few names; what the gates do

The names come with the package `names`: the United States' census of 1990, in the public domain.  Each is a sequence
of its own length.  The network reads a letter a step and tells the next one; after the last letter comes the mark of
the end.  Short and long names share a batch in any order: `lengths` says how long each is, and padding costs nothing.

A tenth of the names is held out.  The loss there, in bits a letter, stands beside that of counted pairs, triples and
quadruples of letters (3.20).  One layer of 128 units gets 3.02, two get 2.99.  Sizes, epochs and rate were chosen on
another tenth (`--choose`) with one layer, never on the one held out.
"""

import argparse
import time
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from tqdm import tqdm

import cyrnn

ALPHABET = ".ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # a letter's class is its place; the dot is the end, and what is read first


def surnames():
    """All names, the most frequent first."""
    file = distribution("names").locate_file("names/dist.all.last")  # not imported: this very file has its name
    return [line.split()[0] for line in Path(file).read_text().splitlines()]


def encoded(names):
    """Return the labels (m, T_x), letters and then the end, and the lengths (m,)."""
    letters = np.array(names, dtype=bytes).view(np.uint8).reshape(len(names), -1).astype(int)
    labels = np.pad(np.where(letters, letters - ord("A") + 1, 0), ((0, 0), (0, 1)))
    return labels, np.array([len(name) + 1 for name in names])


def read(labels):
    """Return x (m, T_x): before each label the letter before it, as an index."""
    return np.pad(labels, ((0, 0), (1, 0)))[:, :-1]


def train(network, moments, t, labels, lengths, learning_rate):
    """One step of Adam on a batch; its loss."""
    labels = labels[:, : lengths.max()]
    y, _, _, caches = cyrnn.network_forward(read(labels), network, lengths=lengths)
    loss, dz = cyrnn.cross_entropy(y, labels, lengths)
    gradients, _, _ = cyrnn.network_backward(caches, dz=dz)
    gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
    cyrnn.update_parameters_with_adam(network, gradients, *moments, t, learning_rate)
    return loss


def loss_of(network, labels, lengths):
    """Mean loss of a letter, a thousand names at a time."""
    total = 0.0
    for part in np.array_split(np.arange(len(labels)), -(-len(labels) // 1000)):
        y, *_ = cyrnn.network_forward(read(labels[part]), network, lengths=lengths[part], cache=False)
        total += cyrnn.cross_entropy(y, labels[part], lengths[part])[0] * lengths[part].sum()
    return total / lengths.sum()


def loss_of_counts(order, labels, lengths, held_out_labels, held_out_lengths):
    """Mean loss of a letter when it is told from the `order - 1` before it, by how often they came together."""

    def groups(labels, lengths):
        padded = np.pad(labels, ((0, 0), (order - 1, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, order, axis=1)
        return tuple(windows[np.arange(labels.shape[1]) < lengths[:, None]].T)

    counts = np.full((len(ALPHABET),) * order, 0.1)  # as if each had been seen a little
    np.add.at(counts, groups(labels, lengths), 1)
    share = counts / counts.sum(axis=-1, keepdims=True)
    return -np.log(share[groups(held_out_labels, held_out_lengths)]).mean()


def invent(network, number, rng):
    """Draw as many names, side by side: what is drawn is read in the next step, until each has come to its end."""
    stream = cyrnn.Stream(network, m=number)
    drawn, names = np.zeros(number, int), [""] * number
    ended = np.zeros(number, bool)
    while not ended.all():
        _, y = stream.step(drawn)
        drawn = (y.cumsum(axis=0) > rng.random(number)).argmax(axis=0)
        ended |= drawn == 0
        names = [name if end else name + ALPHABET[k] for name, end, k in zip(names, ended, drawn, strict=True)]
    return names


def picture(path, losses, per_epoch, network, names):
    """The loss; below, for each name: what is expected next, what the first layer keeps, takes in and lets through."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(14, 3 + 3.2 * len(names)), layout="constrained")
    top, *below = figure.subfigures(1 + len(names), 1, height_ratios=[0.9] + [1] * len(names))
    axis = top.subplots()
    axis.plot(np.arange(len(losses)) / per_epoch, np.array(losses) / np.log(2), color="0.75", linewidth=0.8)
    means = np.reshape(losses, (-1, per_epoch)).mean(axis=1) / np.log(2)
    axis.plot(np.arange(len(means)) + 0.5, means, marker="o")
    axis.set(title="loss of the batches, and its mean in every epoch", xlabel="epoch", ylabel="bits a letter")
    for row, name in zip(below, names, strict=True):
        labels, lengths = encoded([name])
        y, *_ = cyrnn.network_forward(read(labels), network, cache=False)
        _, _, c, (steps, _) = cyrnn.lstm_forward(read(labels), None, network[0], output=None)
        # A step of the caches is the notebook's tuple: a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters.
        ft, it, ot = (np.hstack([step[k] for step in steps]) for k in (4, 5, 7))
        order, most = np.argsort(-ft.mean(axis=1)), np.abs(c).max()  # the units that keep most come first
        maps = {"expected next": y[:, 0], "forget gate": ft[order], "update gate": it[order], "output gate": ot[order]}
        maps["memory cell"] = c[order, 0]
        for axis, (title, values) in zip(row.subplots(1, 5, width_ratios=[1.2, 1, 1, 1, 1]), maps.items(), strict=True):
            look = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} if title == "memory cell" else {"vmin": 0, "vmax": 1}
            shown = axis.imshow(values, aspect="auto", interpolation="nearest", **look)
            axis.set(title=title, yticks=[], xticks=range(lengths[0]), xticklabels="." + name)
            if title == "expected next":
                axis.set_yticks(range(len(ALPHABET)), ALPHABET, fontsize=6)
                axis.plot(labels[0], ".", color="C1", markersize=4)  # what did come
                axis.set(ylabel="letter; a dot where it came", xlabel="letter read")
            if title in ("output gate", "memory cell"):
                row.colorbar(shown, ax=axis, pad=0.01)
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network and 6,000 names, for a test")
    parser.add_argument("--choose", action="store_true", help="hold out a tenth of the training names instead")
    parser.add_argument("--layers", type=int, default=2, help="of the network (default 2)")
    parser.add_argument("--picture", metavar="PNG", help="draw the loss and the gates into this file")
    parser.add_argument("--threads", type=int, default=1, help="of cyrnn (default 1)")
    arguments = parser.parse_args()
    n_a, m, epochs, rate, most = (48, 32, 4, 0.01, 6000) if arguments.quick else (128, 128, 5, 0.01, None)
    cyrnn.set_num_threads(arguments.threads)

    rng = np.random.default_rng(0)
    names = surnames()[:most]
    names = [names[j] for j in rng.permutation(len(names))]
    names, held_out = names[len(names) // 10 :], names[: len(names) // 10]
    if arguments.choose:
        names, held_out = names[len(held_out) :], names[: len(held_out)]
    (labels, lengths), unseen = encoded(names), encoded(held_out)

    layers = [n_a] * arguments.layers
    network = cyrnn.initialize_network("lstm", n_x=len(ALPHABET), n_a=layers, n_y=len(ALPHABET), rng=rng)
    moments, losses, per_epoch = cyrnn.initialize_adam(network), [], len(names) // m
    letters, start = 0, time.perf_counter()
    with tqdm(total=epochs * per_epoch, unit="batch") as bar:
        for _ in range(epochs):
            for batch in np.split(rng.permutation(len(names))[: per_epoch * m], per_epoch):
                now = rate * (1 - len(losses) / bar.total)
                losses.append(train(network, moments, len(losses) + 1, labels[batch], lengths[batch], now))
                letters += lengths[batch].sum()
                bar.update()
                if len(losses) % 20 == 0:
                    speed = letters / (time.perf_counter() - start)
                    bar.set_postfix_str(f"loss {np.mean(losses[-20:]) / np.log(2):.3f} bits, {speed:,.0f} letters/s")
    took = time.perf_counter() - start

    ours = loss_of(network, *unseen) / np.log(2)
    print(f"{ours:.3f} bits a letter on {len(held_out)} held-out names, after {took:.1f} s")
    for order, groups in enumerate(("pairs", "triples", "quadruples"), 2):
        print(f"{loss_of_counts(order, labels, lengths, *unseen) / np.log(2):.3f} by counted {groups} of letters")
    invented = invent(network, 1000, rng)
    known, real = set(names), set(held_out)
    new = [name for name in invented if name not in known]
    print(f"{len(new)} of {len(invented)} invented names are not in the training data", end="; ")
    print(f"{len(real.intersection(new))} of those are real, among the held-out ones")
    print("a dozen of the new ones: " + ", ".join(name.capitalize() for name in new[:12]))
    if arguments.picture:
        longest = max(held_out, key=len)
        some = [next(name for name in held_out if len(name) == 5), longest]
        picture(arguments.picture, losses, per_epoch, network, some)
        print(f"drawn: {arguments.picture}")


if __name__ == "__main__":
    main()
