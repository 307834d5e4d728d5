"""Surnames, letter by letter: two layers of an LSTM learn the 88,799 surnames of a census, and then invent some.

    pip install '.[examples]'
    python examples/names.py                                  about a minute on one thread; with --layers 1 half of it
    python examples/names.py --quick --picture names.png      a small network, few names; the loss, a name

The names come with the package `names`: the United States' census of 1990, in the public domain.  Each is a sequence
of its own length: the network reads a letter a step and predicts the next one; after the last one comes a mark of the
end.  A tenth of the names is held out; the loss there, in bits per character, is compared with that of counted pairs,
triples and quadruples of letters (2-, 3- and 4-gram models).  Sizes, epochs and rate were chosen on another tenth.
"""

import argparse
from importlib.metadata import distribution

import numpy as np

import cyrnn
from cyrnn.estimators import SequenceTagger

LETTERS = ".ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # a letter's class is its place; the dot is the end, and what is read first


def windows(names, width):
    """Each letter, and the end, with those before it: an array (letters, width) of each name."""
    rows, _ = cyrnn.to_indices(["." * (width - 1) + name + "." for name in names], LETTERS)
    return [np.lib.stride_tricks.sliding_window_view(row, width) for row in rows]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small network and 6,000 names, for a test")
parser.add_argument("--layers", type=int, default=2, help="of the network (default 2)")
parser.add_argument("--picture", metavar="PNG", help="draw the loss and the next letters of a name into this file")
arguments = parser.parse_args()
units, batch_size, epochs, most = (48, 32, 4, 6000) if arguments.quick else (128, 128, 5, None)
file = distribution("names").locate_file("names/dist.all.last")  # not imported: this file has its name
names, rng = [line.split()[0] for line in file.read_text().splitlines()[:most]], np.random.default_rng(0)
held_out, names = np.split(rng.permutation(names), [len(names) // 10])
(X, y), (X_test, y_test) = (zip(*[row.T for row in windows(part, 2)], strict=True) for part in (names, held_out))
network = {"units": [units] * arguments.layers, "vocabulary": len(LETTERS), "random_state": 0, "verbose": True}
model = SequenceTagger("lstm", epochs=epochs, batch_size=batch_size, **network).fit(X, y)
p = np.concatenate(model.predict_proba(X_test))[np.arange(sum(map(len, y_test))), np.concatenate(y_test)]
print(f"{-np.log2(p).mean():.3f} bits per character on {len(held_out)} held-out names")
for width, groups in enumerate(("pairs", "triples", "quadruples"), 2):
    counts = np.full((len(LETTERS),) * width, 0.1)  # as if each had been seen a little
    np.add.at(counts, tuple(np.concatenate(windows(names, width)).T), 1)
    share = (counts / counts.sum(axis=-1, keepdims=True))[tuple(np.concatenate(windows(held_out, width)).T)]
    print(f"{-np.log2(share).mean():.3f} by counted {groups} of letters")

stream, drawn, text = model.to_stream(1000), np.zeros(1000, int), []
for _ in range(30):  # what is drawn is read in the next step
    text.append(drawn := cyrnn.sample(stream.step(drawn)[1], rng))
invented = ["".join(LETTERS[k] for k in row).partition(".")[0] for row in np.transpose(text)]
new = [name for name in invented if name not in set(names.tolist())]
real = set(held_out.tolist()).intersection(new)
print(f"{len(new)} of 1000 invented names are not in the training data; {len(real)} of those are real, held-out ones")
print("a dozen of the new ones:", ", ".join(name.capitalize() for name in new[:12]))
if arguments.picture:
    import matplotlib.pyplot as plt

    letters, (probabilities,) = X_test[0], model.predict_proba(X_test[:1])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 4.8), layout="constrained", width_ratios=[3, 4])
    left.plot(np.arange(1, epochs + 1), model.history_["loss"], color="#0072B2")
    left.set(xlabel="epoch", ylabel="training loss (nats per letter)", xticks=range(1, epochs + 1))
    shown = right.imshow(probabilities.T, aspect="auto", cmap="cividis", vmin=0)
    right.plot(y_test[0], "wo", markersize=5, markeredgecolor="black", label="the next letter of the name")
    right.set_xticks(range(len(letters)), [LETTERS[k] for k in letters])
    right.set_yticks(range(len(LETTERS)), LETTERS, fontsize=8)
    right.set(xlabel="letter that is read, of a held-out name", ylabel="next letter")
    figure.legend(loc="outside upper right", frameon=False)
    figure.colorbar(shown, ax=right, label="probability")
    figure.savefig(arguments.picture, dpi=150)
