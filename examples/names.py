"""Surnames, letter by letter: two layers of an LSTM learn the 88,799 surnames of a census, and then invent some.

    pip install '.[examples]'
    python examples/names.py                                  about a minute on one thread; with --layers 1 half of it
    python examples/names.py --quick --picture names.png      a small network, few names; the loss, a name

They come with the package `names`: the United States' census of 1990, in the public domain.  The network reads a letter
a step and predicts the next one, after the last the end.  A tenth of the names is held out; the loss there, in bits
per character, is compared with that of 2-, 3- and 4-gram models.  Sizes, epochs and rate were chosen on another tenth.
"""

import argparse
from importlib.metadata import distribution

import numpy as np

import cyrnn
from cyrnn.estimators import SequenceTagger

LETTERS = ".ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # a letter's class is its place; the dot is the end, and what is read first
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small network and 6,000 names, for a test")
parser.add_argument("--layers", type=int, default=2, help="of the network (default 2)")
parser.add_argument("--picture", metavar="PNG", help="draw the loss and the next letters of a name into this file")
arguments = parser.parse_args()
units, most = (48, 6000) if arguments.quick else (128, None)
fit = {"batch_size": 32, "epochs": 4} if arguments.quick else {"batch_size": 128, "epochs": 5}
file = distribution("names").locate_file("names/dist.all.last")  # not imported: this file has its name
names, rng = [line.split()[0] for line in file.read_text().splitlines()[:most]], np.random.default_rng(0)
held_out, names = np.split(rng.permutation(names), [len(names) // 10])
parts = [cyrnn.to_indices([f"...{name}." for name in part], LETTERS)[0] for part in (names, held_out)]
(X, y), (X_test, y_test) = (([row[2:-1] for row in rows], [row[3:] for row in rows]) for rows in parts)
model = SequenceTagger("lstm", [units] * arguments.layers, vocabulary=27, random_state=0, verbose=True, **fit).fit(X, y)
p = np.concatenate(model.predict_proba(X_test))
fours = [np.concatenate([np.lib.stride_tricks.sliding_window_view(row, 4) for row in rows]) for rows in parts]
print(f"{-np.log2(p[range(len(p)), fours[1][:, -1]]).mean():.3f} bits per character on {len(held_out)} held-out names")
for width, groups in enumerate(("pairs", "triples", "quadruples"), 2):
    counts = np.full((len(LETTERS),) * width, 0.1)  # as if each had been seen a little
    np.add.at(counts, tuple(fours[0][:, -width:].T), 1)
    share = (counts / counts.sum(axis=-1, keepdims=True))[tuple(fours[1][:, -width:].T)]
    print(f"{-np.log2(share).mean():.3f} by counted {groups} of letters")
stream, drawn = model.to_stream(1000), np.zeros(1000, int)
text = [drawn := cyrnn.sample(stream.step(drawn)[1], rng) for _ in range(30)]  # what is drawn is read next
invented = np.array(["".join(LETTERS[k] for k in row).partition(".")[0] for row in np.transpose(text)])
new = invented[~np.isin(invented, names)]
print(f"{len(new)} of 1000 invented names are not in the training data; {np.isin(new, held_out).sum()} are held out")
print("a dozen of the new ones:", ", ".join(name.capitalize() for name in new[:12]))
if arguments.picture:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 4.8), layout="constrained", width_ratios=[3, 4])
    left.plot(epochs := range(1, model.n_iter_ + 1), model.history_["loss"], color="#0072B2")
    left.set(xlabel="epoch", ylabel="training loss (nats per letter)", xticks=epochs)
    figure.colorbar(right.imshow(p[: len(y_test[0])].T, aspect="auto", cmap="cividis", vmin=0), label="probability")
    right.plot(y_test[0], "wo", markersize=5, markeredgecolor="black")
    right.set_xticks(range(len(y_test[0])), [LETTERS[k] for k in X_test[0]])
    right.set_yticks(range(len(LETTERS)), LETTERS, fontsize=8)
    right.set(xlabel="letter that is read, of a held-out name", ylabel="next letter (circle: that of the name)")
    figure.savefig(arguments.picture, dpi=150)
