"""One problem, four libraries: the lines a user writes to classify sequences of different lengths, and the seconds.

    pip install '.[sklearn]' torch skorch keras
    python benchmarks/classifiers.py            a minute or two; --docs writes the table of docs/estimators.md

Each of the first functions gets float32 sequences (n_steps_i, n_features), their classes as integers, and others; it
trains an LSTM with a linear layer on the hidden state after the last step, by Adam at a rate of 0.01 with gradients
clipped at norm 1 and batches of 32, and returns the classes of the others.  All that its user writes stands in it,
imports too.  One whose library is not installed is left out.  Processor time on one thread, in turn in one process:
medians of the repetitions and of their ratios.
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
from run import ROOT, one_process, write_table

EPOCHS = 15


def cyrnn(X, y, X_test, units, epochs, seed):
    from cyrnn.estimators import SequenceClassifier

    model = SequenceClassifier("lstm", units, dtype="float32", epochs=epochs, schedule="constant", random_state=seed)
    return model.fit(X, y).predict(X_test)


def torch(X, y, X_test, units, epochs, seed):
    import numpy as np
    import torch
    from torch.nn.utils.rnn import pack_sequence

    class Net(torch.nn.Module):
        def __init__(self, n_x, classes):
            super().__init__()
            self.rnn = torch.nn.LSTM(n_x, units)
            self.fc = torch.nn.Linear(units, classes)

        def forward(self, sequences):
            packed = pack_sequence(sequences, enforce_sorted=False)
            _, (last, _) = self.rnn(packed)
            return self.fc(last[-1])

    torch.manual_seed(seed)
    classes, labels = np.unique(y, return_inverse=True)
    labels = torch.from_numpy(labels)
    X, X_test = ([torch.from_numpy(x) for x in part] for part in (X, X_test))
    net = Net(X[0].shape[1], len(classes))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            logits = net([X[j] for j in batch])
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    with torch.no_grad():
        return classes[net(X_test).argmax(dim=1).numpy()]


def skorch(X, y, X_test, units, epochs, seed):
    import torch
    from skorch import NeuralNetClassifier
    from skorch.callbacks import GradientNormClipping
    from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
    from torch.utils.data import StackDataset

    class Net(torch.nn.Module):
        def __init__(self, n_x, classes):
            super().__init__()
            self.rnn = torch.nn.LSTM(n_x, units, batch_first=True)
            self.fc = torch.nn.Linear(units, classes)

        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False, batch_first=True)
            _, (last, _) = self.rnn(packed)
            return self.fc(last[-1])

    def collate(pairs):
        X, y = zip(*pairs, strict=True)
        x = pad_sequence([torch.from_numpy(x) for x in X], batch_first=True)
        return {"x": x, "lengths": torch.tensor([len(x) for x in X])}, torch.tensor(y)

    torch.manual_seed(seed)
    classes = sorted(set(y.tolist()))
    model = NeuralNetClassifier(
        Net, module__n_x=X[0].shape[1], module__classes=len(classes), classes=classes,
        criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.01, max_epochs=epochs, batch_size=32,
        train_split=None, verbose=0, callbacks=[GradientNormClipping(1.0)], iterator_train__shuffle=True,
        iterator_train__collate_fn=collate, iterator_valid__collate_fn=collate,
    )  # fmt: skip
    model.fit(StackDataset(X, y.tolist()), None)
    return model.predict(StackDataset(X_test, [0] * len(X_test)))


def keras(X, y, X_test, units, epochs, seed):
    import keras
    import numpy as np

    def padded(X):
        lengths = np.array([len(x) for x in X])
        x = np.zeros((len(X), longest, X[0].shape[1]), np.float32)
        for row, sequence in zip(x, X, strict=True):
            row[: len(sequence)] = sequence
        return [x, np.arange(longest) < lengths[:, None]]

    keras.utils.set_random_seed(seed)
    longest = max(len(x) for x in [*X, *X_test])
    classes, labels = np.unique(y, return_inverse=True)
    x = keras.Input((longest, X[0].shape[1]))
    mask = keras.Input((longest,), dtype="bool")
    last = keras.layers.LSTM(units)(x, mask=mask)
    model = keras.Model([x, mask], keras.layers.Dense(len(classes), activation="softmax")(last))
    model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.fit(padded(X), labels, batch_size=32, epochs=epochs, verbose=0)
    return classes[model.predict(padded(X_test), verbose=0).argmax(axis=1)]


PROGRAMS = {"cyrnn": cyrnn, "PyTorch by hand": torch, "skorch with PyTorch": skorch, "Keras on PyTorch": keras}
MODULES = {"cyrnn": ("sklearn",), "PyTorch by hand": ("torch",), "skorch with PyTorch": ("torch", "skorch")}
MODULES["Keras on PyTorch"] = ("torch", "keras")


def curves():
    rng = np.random.default_rng(0)
    y, lengths = rng.integers(9, size=640), rng.integers(7, 30, 640)
    speed, phase = rng.normal(size=(2, 9, 12))
    X = [np.sin(np.linspace(0, 2, n)[:, None] * speed[k] + phase[k]) for n, k in zip(lengths, y, strict=True)]
    X = [(x + rng.normal(size=x.shape)).astype(np.float32) for x in X]
    return X[:270], X[270:], y[:270], y[270:]


def installed(name):
    return all(importlib.util.find_spec(module) for module in MODULES[name])


def code_lines(function):
    """The lines that are code of a function, without its own first one."""
    lines = [line.strip() for line in inspect.getsource(function).splitlines()[1:]]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def one_thread():
    """For the libraries that do not read it from the environment."""
    from cyrnn import set_num_threads

    set_num_threads(1)
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


def rows(repetitions):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/estimators.md")
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
    lines = list(rows(arguments.repetitions))
    print("\n".join(lines))
    if arguments.docs:
        write_table(ROOT / "docs" / "estimators.md", "\n".join(lines), "programs")
    for name in PROGRAMS:
        if not installed(name):
            print(f"left out: {name}, not installed")


if __name__ == "__main__":
    main()
