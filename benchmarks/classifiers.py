"""One problem, four libraries: what a user writes to classify sequences of different lengths.

Each function gets float32 sequences (n_steps_i, n_features), their classes as integers, and others; it trains an LSTM
with a linear layer on the hidden state after the last step, by Adam at a rate of 0.01 with gradients clipped at norm 1
and batches of 32, and returns the classes of the others.  All that its user writes stands in it, imports too.
"""


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
