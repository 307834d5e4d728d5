"""A classifier of sequences in cyrnn.estimators and in skorch with PyTorch: the same network, seconds and accuracy.

    pip install '.[sklearn]' skorch torch
    python benchmarks/estimators.py

Both train in turn in one process, on one thread, in float32, from their own first weights; processor time, medians of
the repetitions and of their ratios.  "dense" are the digits of scikit-learn, 8 steps of 8 numbers; "ragged" are 9
classes of noisy curves in 12 channels, of 7 to 29 steps, which skorch must pad and pack.
"""

import argparse
import time
import warnings

import numpy as np
import torch
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


def ragged():
    rng = np.random.default_rng(0)
    y, lengths = rng.integers(9, size=640), rng.integers(7, 30, 640)
    speed, phase = rng.normal(size=(2, 9, 12))
    X = [np.sin(np.linspace(0, 2, n)[:, None] * speed[k] + phase[k]) for n, k in zip(lengths, y, strict=True)]
    X = [(x + rng.normal(size=x.shape)).astype(np.float32) for x in X]
    return X[:270], X[270:], y[:270], y[270:]


def skorch_model(X, units, classes, epochs):
    batches = ("iterator_train__collate_fn", "iterator_valid__collate_fn")
    lists = {} if isinstance(X, np.ndarray) else dict.fromkeys(batches, padded)
    return NeuralNetClassifier(
        Net, module__n_x=X[0].shape[1], module__units=units, module__classes=classes, lr=0.01, max_epochs=epochs,
        criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, batch_size=32, train_split=None, verbose=0,
        iterator_train__shuffle=True, callbacks=[GradientNormClipping(1.0)], classes=list(range(classes)), **lists,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cyrnn.set_num_threads(1)
    print("data    units   skorch  cyrnn    ratio   accuracy: skorch  cyrnn")
    for name, data in (("dense", dense()), ("ragged", ragged())):
        X, X_test, y, y_test = data
        for units in (16, 32, 64):
            rows = []
            for seed in range(arguments.repetitions):
                torch.manual_seed(seed)
                theirs = skorch_model(X, units, len(set(y)), arguments.epochs)
                ours = SequenceClassifier(
                    "lstm", units, dtype="float32", epochs=arguments.epochs, schedule="constant", random_state=seed
                )
                given = (X, y) if name == "dense" else (Pairs(X, y), None)
                begin = time.process_time()
                theirs.fit(*given)
                middle = time.process_time()
                ours.fit(X, y)
                end = time.process_time()
                asked = X_test if name == "dense" else Pairs(X_test, y_test)
                right = np.mean(theirs.predict(asked) == y_test), ours.score(X_test, y_test)
                rows.append((middle - begin, end - middle, (middle - begin) / (end - middle), *right))
            a, b, ratio, *right = np.median(rows, axis=0)
            print(f"{name:7} {units:5} {a:7.2f} s {b:6.3f} s {ratio:6.1f} {right[0]:18.1%} {right[1]:6.1%}", flush=True)


if __name__ == "__main__":
    main()
