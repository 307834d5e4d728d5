"""Handwritten digits, read row by row: an LSTM on the 8 x 8 images that scikit-learn ships.

    pip install '.[examples]'
    python examples/digits.py                                     97% or better on a held-out third, in seconds
    python examples/digits.py --quick --picture digits.png        a few epochs, and the probabilities row by row

An image is a sequence of 8 steps, one row of 8 pixels each; the network answers after the last one.  A third of the
images is held out; sizes, epochs and rate were chosen on a quarter of the others (`--choose`).  Where PyTorch is
installed, it gets the weights, and the predictions of both are compared.
"""

import argparse
from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cyrnn.estimators import SequenceClassifier

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a smaller network and few epochs, for a test")
parser.add_argument("--choose", action="store_true", help="hold out a quarter of the training images instead")
parser.add_argument("--picture", metavar="PNG", help="draw the loss and two digits into this file")
arguments = parser.parse_args()

images, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(images.reshape(-1, 8, 8) / 16, y, test_size=1 / 3, random_state=0, stratify=y)
if arguments.choose:
    X, X_test, y, y_test = train_test_split(X, y, test_size=1 / 4, random_state=0, stratify=y)
size = {"units": 32, "epochs": 8, "batch_size": 16, "learning_rate": 0.01} if arguments.quick else {
    "units": 64, "epochs": 30, "batch_size": 32, "learning_rate": 0.008}  # fmt: skip
model = SequenceClassifier("lstm", **size, random_state=0, verbose=True).fit(X, y)
print(f"{model.score(X_test, y_test):.1%} of {len(y_test)} held-out digits classified correctly")

if find_spec("torch"):
    import torch

    net = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(8, size["units"]), "fc": torch.nn.Linear(size["units"], 10)})
    net.double().load_state_dict(model.to_torch())
    a, _ = net.rnn(torch.from_numpy(X_test).transpose(0, 1))
    apart = np.abs(torch.softmax(net.fc(a[-1]), dim=1).detach().numpy() - model.predict_proba(X_test)).max()
    print(f"PyTorch with these weights: probabilities at most {apart:.1e} apart")
if arguments.picture:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic("LAB;LCD", figsize=(7.4, 4.2), layout="constrained", width_ratios=[2, 1, 1.6])
    axes["L"].plot(range(1, model.n_iter_ + 1), model.history_["loss"], color="#0072B2")
    axes["L"].set(xlabel="epoch", ylabel="training loss (nats)")
    for places, digit in {"AB": 3, "CD": 7}.items():
        image, probabilities = axes[places[0]], axes[places[1]]
        rows = X_test[y_test == digit][0]
        image.imshow(rows, cmap="gray_r")
        image.set(title=f"a {digit}", xticks=[], yticks=range(8), ylabel="row")
        _, y_rows, *_ = model.to_stream().run(rows.T[:, None])
        shown = probabilities.imshow(y_rows[:, 0].T, vmin=0, vmax=1, aspect="auto", cmap="cividis")
        probabilities.set(title="after each row", xlabel="class", xticks=range(10), yticks=[])
        figure.colorbar(shown, ax=probabilities, label="probability")
    figure.savefig(arguments.picture, dpi=150)
