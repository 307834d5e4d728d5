"""A classifier of sequences in cyrnn.estimators and in PyTorch, by skorch and by hand: seconds and accuracy.

    pip install '.[sklearn]' skorch torch
    python benchmarks/estimators.py             prints the table
    python benchmarks/estimators.py --docs      writes it into docs/estimators.md, and README's sentence

The same network for all. They train in turn in one process, on one thread, in float32, from their own first weights;
processor time, medians of the repetitions.  "dense" are the digits of scikit-learn, 8 steps of 8 numbers; "ragged" are
9 classes of noisy curves in 12 channels, of 7 to 29 steps, which are padded and packed for PyTorch.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from classifiers import curves as ragged
from run import ROOT, write_table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping

import cyrnn
from cyrnn.estimators import SequenceClassifier


class Net(torch.nn.Module):
    """What PyTorch's user writes: the network, ..."""

    def __init__(self, n_x, units, classes):
        super().__init__()
        self.rnn, self.fc = torch.nn.LSTM(n_x, units, batch_first=True), torch.nn.Linear(units, classes)

    def forward(self, x, lengths=None):
        if lengths is None:
            return self.fc(self.rnn(x)[0][:, -1])
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.fc(self.rnn(packed)[1][0][-1])


class Pairs(torch.utils.data.Dataset):
    """... sequences with labels ..."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, j):
        return self.X[j], int(self.y[j])


def padded(pairs):
    """... and how to make a batch of them."""
    X, y = zip(*pairs, strict=True)
    x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in X], batch_first=True)
    return {"x": x, "lengths": torch.tensor([len(x) for x in X])}, torch.tensor(y)


def dense():
    images, y = load_digits(return_X_y=True)
    X = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    return train_test_split(X, y.astype(np.int64), test_size=1 / 3, random_state=0, stratify=y)


def skorch_model(X, units, classes, epochs):
    batches = ("iterator_train__collate_fn", "iterator_valid__collate_fn")
    lists = {} if isinstance(X, np.ndarray) else dict.fromkeys(batches, padded)
    return NeuralNetClassifier(
        Net, module__n_x=X[0].shape[1], module__units=units, module__classes=classes, lr=0.01, max_epochs=epochs,
        criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, batch_size=32, train_split=None, verbose=0,
        iterator_train__shuffle=True, callbacks=[GradientNormClipping(1.0)], classes=list(range(classes)), **lists,
    )  # fmt: skip


def by_hand(X, y, units, classes, epochs):
    """The shortest loop in PyTorch that does the same; returns what predicts."""
    net = Net(X[0].shape[1], units, classes)
    adam, pairs = torch.optim.Adam(net.parameters(), lr=0.01), Pairs(X, y)
    lists = not isinstance(X, np.ndarray)
    whole, labels = None if lists else torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(32):
            given = padded([pairs[j] for j in batch])[0] if lists else {"x": whole[batch]}
            adam.zero_grad()
            torch.nn.functional.cross_entropy(net(**given), labels[batch]).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            adam.step()

    @torch.inference_mode()
    def predict(X, y):
        return net(**padded(Pairs(X, y))[0] if lists else {"x": torch.from_numpy(X)}).argmax(dim=1).numpy()

    return predict


CONTENDERS = "skorch", "PyTorch", "cyrnn"


def measure(name, data, units, repetitions, epochs):
    """The medians of seconds and of accuracy, for each contender."""
    X, X_test, y, y_test = data
    rows = []
    for seed in range(repetitions):
        torch.manual_seed(seed)
        theirs = skorch_model(X, units, len(set(y)), epochs)
        ours = SequenceClassifier(
            "lstm", units, dtype="float32", epochs=epochs, schedule="constant", random_state=seed
        )
        given = (X, y) if name == "dense" else (Pairs(X, y), None)
        times = [time.process_time()]
        theirs.fit(*given)
        times.append(time.process_time())
        predict = by_hand(X, y, units, len(set(y)), epochs)
        times.append(time.process_time())
        ours.fit(X, y)
        times.append(time.process_time())
        asked = X_test if name == "dense" else Pairs(X_test, y_test)
        right = [np.mean(theirs.predict(asked) == y_test), np.mean(predict(X_test, y_test) == y_test)]
        rows.append([*np.diff(times), *right, ours.score(X_test, y_test)])
    return np.split(np.median(rows, axis=0), 2)


def sentence(data, units, epochs, seconds, right):
    """README's sentence, from the last row."""
    *_, torch_seconds, our_seconds = seconds
    *_, torch_right, our_right = right
    return (
        f"End to end: {len(data[0])} curves of 12 channels and 7 to 29 steps, 9 classes. Training an LSTM of {units}"
        f" units ({epochs} epochs, float32,\n"
        f"one thread) takes {our_seconds:.2f} s, in PyTorch {torch_seconds:.2f} s; of {len(data[1])} held-out curves"
        f" {our_right:.1%} are classified correctly, in PyTorch\n"
        f"{torch_right:.1%} ([table](docs/estimators.md#what-it-costs))."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--docs", action="store_true", help="write the table of docs/estimators.md, README's sentence")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cyrnn.set_num_threads(1)
    shown = {"dense": "{} digits, 8 steps of 8 numbers", "ragged": "{} curves, 7 to 29 steps of 12 numbers"}
    head = ["sequences", "units", *CONTENDERS, *(f"held out, {name}" for name in CONTENDERS)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    print("\n".join(lines))
    for name, data in (("dense", dense()), ("ragged", ragged())):
        for units in (16, 32, 64):
            seconds, right = measure(name, data, units, arguments.repetitions, arguments.epochs)
            cells = [shown[name].format(len(data[0])), units, *(f"{s:.2f} s" for s in seconds)]
            lines.append(f"| {' | '.join(map(str, [*cells, *(f'{share:.1%}' for share in right)]))} |")
            print(lines[-1], flush=True)
    if arguments.docs:
        write_table(ROOT / "docs" / "estimators.md", "\n".join(lines))
        write_table(ROOT / "README.md", sentence(data, units, arguments.epochs, seconds, right))


if __name__ == "__main__":
    main()
