"""cyrnn.estimators beside PyTorch, skorch and Keras: the lines of a program and its seconds, for the same result.

    pip install '.[sklearn]' torch skorch keras
    python benchmarks/estimators.py            about two minutes; --docs writes the tables of docs/estimators.md

The programs are in classifiers.py; one whose library is not installed is left out.  All are on one thread, in float32,
from their own first weights, and in turn in one process; what is shown is processor time, medians of the repetitions
and of their ratios.  "curves" are 9 classes of noisy curves in 12 channels, of 7 to 29 steps; "digits" are those of
scikit-learn, 8 steps of 8 numbers, for which the program with skorch is one without packing.
"""

import argparse
import importlib.util
import inspect
import os
import subprocess
import sys
import time
import warnings

import numpy as np
from classifiers import MODULES, PROGRAMS
from run import ROOT, one_process, write_table

EPOCHS = 15


def curves():
    rng = np.random.default_rng(0)
    y, lengths = rng.integers(9, size=640), rng.integers(7, 30, 640)
    speed, phase = rng.normal(size=(2, 9, 12))
    X = [np.sin(np.linspace(0, 2, n)[:, None] * speed[k] + phase[k]) for n, k in zip(lengths, y, strict=True)]
    X = [(x + rng.normal(size=x.shape)).astype(np.float32) for x in X]
    return X[:270], X[270:], y[:270], y[270:]


def digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, y = load_digits(return_X_y=True)
    X = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    return train_test_split(X, y.astype(np.int64), test_size=1 / 3, random_state=0, stratify=y)


def skorch_without_packing(X, y, X_test, units, epochs, seed):
    import torch
    from skorch import NeuralNetClassifier
    from skorch.callbacks import GradientNormClipping

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(X.shape[2], units, batch_first=True)
            self.fc = torch.nn.Linear(units, len(set(y)))

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    torch.manual_seed(seed)
    model = NeuralNetClassifier(
        Net, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.01, max_epochs=epochs, batch_size=32,
        train_split=None, verbose=0, callbacks=[GradientNormClipping(1.0)], iterator_train__shuffle=True,
    )  # fmt: skip
    return model.fit(X, y).predict(X_test)


def installed(name):
    return all(importlib.util.find_spec(module) for module in MODULES[name])


def code_lines(function):
    """The lines that are code of a function, without its own first one."""
    lines = [line.strip() for line in inspect.getsource(function).splitlines()[1:]]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def one_thread():
    """For the libraries that do not read it from the environment."""
    import cyrnn

    cyrnn.set_num_threads(1)
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def in_turn(contenders, data, units, repetitions):
    """The seconds and the accuracy of each: arrays (repetitions, contenders)."""
    X, X_test, y, y_test = data
    for train in contenders:
        train(X, y, X_test, units, 1, 0)  # what a library does once
    seconds, right = np.empty((2, repetitions, len(contenders)))
    for seed in range(repetitions):
        for k, train in enumerate(contenders):
            begin = time.process_time()
            found = train(X, y, X_test, units, EPOCHS, seed)
            seconds[seed, k] = time.process_time() - begin
            right[seed, k] = np.mean(found == y_test)
    return seconds, right


def whole_program(name):
    """The processor time of a process that does it once: with all imports."""
    done = subprocess.run([sys.executable, __file__, "--program", name], capture_output=True, text=True, check=True)
    return float(done.stdout)


def programs(repetitions):
    """The table of lines and seconds."""
    names = [name for name in PROGRAMS if installed(name)]
    seconds, right = in_turn([PROGRAMS[name] for name in names], curves(), 32, repetitions)
    whole = [[whole_program(name) for name in names] for _ in range(3)]
    times, ratios, total, right = (
        np.median(each, axis=0) for each in (seconds, seconds / seconds[:, :1], whole, right)
    )
    yield "| | lines | training and prediction | ratio | with all imports | held out |"
    yield "|---|---|---|---|---|---|"
    for k, name in enumerate(names):
        shown = f"{code_lines(PROGRAMS[name])} | {times[k]:.2f} s | {ratios[k]:.1f} | {total[k]:.1f} s"
        yield f"| {name} | {shown} | {right[k]:.1%} |"


def by_units(repetitions):
    """The table of skorch."""
    yield "| sequences | units | skorch | cyrnn | ratio | held out, skorch | cyrnn |"
    yield "|---|---|---|---|---|---|---|"
    shown = "1,198 digits, 8 steps of 8 numbers", "270 curves, 7 to 29 steps of 12 numbers"
    cases = (digits, skorch_without_packing), (curves, PROGRAMS["skorch with PyTorch"])
    for title, (data, theirs) in zip(shown, cases, strict=True):
        for units in (16, 32, 64):
            seconds, right = in_turn([theirs, PROGRAMS["cyrnn"]], data(), units, repetitions)
            (a, b), (p, q) = np.median(seconds, axis=0), np.median(right, axis=0)
            ratio = np.median(seconds[:, 0] / seconds[:, 1])
            yield f"| {title} | {units} | {a:.2f} s | {b:.2f} s | {ratio:.1f} | {p:.1%} | {q:.1%} |"
            title = ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/estimators.md")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # the libraries read their limits when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], one_process(1) | {"KERAS_BACKEND": "torch"})
    if arguments.program:
        X, X_test, y, _ = curves()
        if "torch" in MODULES[arguments.program]:
            one_thread()
        PROGRAMS[arguments.program](X, y, X_test, 32, EPOCHS, 0)
        print(time.process_time())
        return
    one_thread()
    tables = {"programs": programs}
    if installed("skorch with PyTorch"):
        tables["skorch"] = by_units
    for name, rows in tables.items():
        found = []
        for line in rows(arguments.repetitions):
            found.append(line)
            print(line, flush=True)
        print()
        if arguments.docs:
            write_table(ROOT / "docs" / "estimators.md", "\n".join(found), name)
    for name in PROGRAMS:
        if not installed(name):
            print(f"left out: {name}, not installed")


if __name__ == "__main__":
    main()
