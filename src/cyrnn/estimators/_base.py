"""What the estimators have in common: reading sequences, the training, files and other libraries."""

import json
import os
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from .. import _checks
from .._checks import Array
from .._threads import checked as number_of_threads
from .._threads import get_num_threads, set_num_threads
from ..interop.keras_weights import to_keras
from ..interop.onnx import export_onnx
from ..interop.torch_weights import to_torch
from ..plots import plot_history
from ..recurrent.stream import Stream
from ..training.checkpoints import load_checkpoint, save_checkpoint
from ..training.networks import initialize_network
from ..training.optimizers import clip_gradients, initialize_adam, update_parameters_with_adam
from ..training.sequences import POOL, all_sequences, make_batches, whole
from ._examples import Examples, Places, Sequences, gradient_of, loss_of, outputs, total_gradient

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + float(np.cos(np.pi * done))),
}
Gradients = Callable[[list[Any], Places], tuple[float, list[Any], float] | None]  # of the network and a batch
DIVERGED = 10.0  # times the loss of a network that has learnt nothing
MOST = 1.7e308
DRAWN_BY = ("cell", "units", "bidirectional", "dtype", "vocabulary", "embedding", "values")


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Set the number of threads for a while; None leaves it."""
    before = get_num_threads()
    if n is not None:
        set_num_threads(n)
    try:
        yield
    finally:
        if n is not None:
            set_num_threads(before)


@contextmanager
def unchanged(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it is where its arguments are refused."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def copied(nested: Any) -> Any:
    """Return nested arrays with a copy of each."""
    if isinstance(nested, dict):
        return {key: value.copy() for key, value in nested.items()}
    return type(nested)(copied(entry) for entry in nested)


@dataclass
class Training:
    """A network with Adam's moments and the number of updates."""

    network: list[Any]
    v: list[Any]
    s: list[Any]
    t: int = 0

    def copy(self) -> "Training":
        return Training(copied(self.network), copied(self.v), copied(self.s), self.t)


def of_column(X: Any) -> Any:
    """Return the array of objects that a column of a table holds, a pandas.Series say; anything else as it is."""
    if len(getattr(X, "shape", ())) == 1 and hasattr(X, "to_numpy"):
        objects = X.to_numpy()
        return objects if objects.dtype == object else X
    return X


def is_ragged(X: Any, numbers: bool = True) -> bool:
    """Whether X is a list of sequences, and not an array; lists of numbers of one length are one written as lists."""
    X = of_column(X)
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim != 1):
        return False
    if not isinstance(X, (list, tuple, np.ndarray)) or len(X) == 0:
        return False
    lists = numbers and not isinstance(X, np.ndarray)
    if lists and all(isinstance(x, (list, tuple)) and len(x) == len(X[0]) > 0 and np.isscalar(x[0]) for x in X):
        return False
    return all(isinstance(x, (list, tuple)) or getattr(x, "ndim", 0) > 0 for x in X)


def has_words(X: Any) -> bool:
    """Whether X is of strings, or of lists of strings, that are no numbers."""
    word = X.head(1).to_numpy() if hasattr(X, "head") else X
    for _ in range(2):
        if (isinstance(word, (list, tuple)) and word) or (isinstance(word, np.ndarray) and word.ndim and word.size):
            word = word[0]
    if not isinstance(word, str):
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def where(lengths: NDArray[Any], step: int) -> str:
    """Return the name of one of all steps, as the caller would spell it."""
    ends = np.cumsum(lengths)
    j = int(np.searchsorted(ends, step, side="right"))
    return f"X[{j}] at step {step - int(ends[j] - lengths[j])}"


def read_sequences(estimator: Any, X: Any, reset: bool, vocabulary: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the steps of all sequences one after another, and the lengths; sets or checks `n_features_in_`.

    With a vocabulary the steps are indices (number,), without one numbers (number, n_x).

    Raises
    ------
    TypeError, ValueError
        If X is no array of numbers, nor a list of such; if it has NaN, or another number of features than in `fit`.
    """
    name = type(estimator).__name__
    like_arrays = hasattr(X, "__len__") or hasattr(X, "__array__") or hasattr(X, "shape")
    if type(X) in (str, bytes, dict) or not like_arrays:
        raise TypeError(f"X: expected an array or a list of sequences, got {type(X).__name__}")
    if isinstance(X, np.ma.MaskedArray):
        X = _checks.any_array("X", X)
    X = of_column(X)
    if isinstance(X, (list, tuple)) and len(X) == 0:
        raise ValueError("X: expected one sequence at least, got none")
    if has_words(X):
        advice = f"SequenceIndexer makes indices of them, for {name}(vocabulary='auto')"
        raise TypeError(f"X: expected numbers, got words; {advice}")
    if is_ragged(X, vocabulary is None):
        lengths = np.array([len(x) for x in X], np.intp)
        for j in np.flatnonzero(lengths == 0)[:1]:
            raise ValueError(f"X[{j}]: expected one step at least, got none")
        values = np.concatenate(all_sequences("X", X))
    else:
        dimensions = getattr(X, "ndim", None) or np.asarray(X).ndim
        if dimensions > 3:
            raise ValueError(f"X: expected two or three dimensions, got shape {np.shape(X)}")
        table = vocabulary is None and dimensions != 3
        if table and (reset or estimator._table):
            array = validate_data(estimator, X, reset=reset, dtype=np.float64)
            estimator._table = True
            return np.ascontiguousarray(array).reshape(-1, 1), np.full(len(array), array.shape[1])
        dtype = np.float64 if vocabulary is None else None
        array = check_array(X, dtype=dtype, allow_nd=True, input_name="X", estimator=name)
        for size, what in zip(array.shape[1:], ("step", "feature"), strict=False):
            if size == 0:
                raise ValueError(f"X: expected one {what} at least, got none")
        lengths = np.full(len(array), array.shape[1])
        values = np.ascontiguousarray(array).reshape(-1, *array.shape[2:])
    if vocabulary is None:
        values = np.ascontiguousarray(values.reshape(len(values), -1) if values.size else values, np.float64)
        if values.shape[1] == 0:
            raise ValueError("X[0]: expected one feature at least, got none")
        for step in np.flatnonzero(~np.isfinite(values).all(axis=1))[:1]:
            what = "NaN" if np.isnan(values[step]).any() else "infinity"
            raise ValueError(f"Input X contains {what}: {where(lengths, step)}")
    else:
        if values.ndim != 1 or values.dtype.kind not in "iu":
            got = f"dtype {values.dtype}" if values.dtype.kind not in "iu" else f"{values.shape[1]} numbers a step"
            raise TypeError(f"X: expected indices, integers of one dimension a sequence, got {got}")
        most = np.inf if vocabulary == "auto" else vocabulary
        for step in np.flatnonzero((values < 0) | (values >= most))[:1]:
            expected = "0 or more" if vocabulary == "auto" else f"from 0 to vocabulary - 1 = {most - 1}"
            raise ValueError(f"X: expected indices {expected}, got {values[step]}: {where(lengths, step)}")
        values = values.astype(np.intp, copy=False)
    width = values.shape[1] if values.ndim == 2 else 1
    if reset:
        estimator.n_features_in_, estimator._table = width, False
        estimator.__dict__.pop("feature_names_in_", None)
    wanted = 1 if estimator._table else estimator.n_features_in_
    if width != wanted:
        hint = ""
        if getattr(X, "ndim", None) == 2 and X.shape[1] == wanted:
            hint = f"; two dimensions are {X.shape[0]} sequences of one feature: one sequence of several is [X]"
        raise ValueError(f"X has {width} features, but {name} is expecting {wanted} features as input{hint}")
    return values, lengths


def is_missing(value: Any) -> bool:
    """Whether an object stands for no value: None, NaN, or pandas' NA, whose comparison has no truth."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def with_missing(labels: Any) -> Any:
    """Return labels as they are, or an array of objects where NaN stands among strings: NumPy makes a string of it."""
    if isinstance(labels, (list, tuple)) and np.asarray(labels).dtype.kind == "U" and any(map(is_missing, labels)):
        return np.array(labels, object)
    return labels


def finite_targets(y: NDArray[Any]) -> None:
    """Refuse targets with NaN, infinity or None."""
    if y.dtype == object:
        for value in filter(is_missing, y.flat):
            raise ValueError(f"Input y contains {'None' if value is None else 'NaN'}.")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"Input y contains {'NaN' if np.isnan(y).any() else 'infinity'}.")


class _Diverged(Exception):
    """Something is not finite any more, or the loss is far above that of no knowledge at all."""


class SequenceEstimator(BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]
    """The training of a network, for `SequenceClassifier`, `SequenceRegressor` and `SequenceTagger`."""

    _each_step = False
    _vocabulary: Any  # the number of indices; None if X is of numbers
    network_: list[Any]
    history_: dict[str, list[float]]
    _single: bool  # whether y was of one dimension
    n_iter_: int
    best_epoch_: int

    def __init__(
        self,
        cell: str = "lstm",
        units: Any = 64,
        *,
        bidirectional: bool = False,
        dtype: str = "float64",
        vocabulary: Any = None,
        embedding: int | None = None,
        epochs: int = 50,
        batch_size: int = 32,
        similar_lengths: bool = False,
        learning_rate: float = 0.01,
        schedule: Any = "linear",
        clip_norm: float | None = 1.0,
        alpha: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        n_threads: int | None = None,
        n_shards: int = 1,
    ) -> None:
        self.cell = cell
        self.units = units
        self.bidirectional = bidirectional
        self.dtype = dtype
        self.vocabulary = vocabulary
        self.embedding = embedding
        self.epochs = epochs
        self.batch_size = batch_size
        self.similar_lengths = similar_lengths
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.alpha = alpha
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.n_threads = n_threads
        self.n_shards = n_shards

    # What a subclass fills in

    @abstractmethod
    def _read_targets(self, y: Any, sequences: Sequences, first: bool) -> NDArray[Any]:
        """Return the targets as `Examples` holds them; at first set what depends on them."""

    def _columns(self, values: NDArray[Any], first: bool) -> NDArray[Any]:
        """Return values as (number, n_outputs)."""
        if first:
            self._single = values.ndim == 1
        targets = values.reshape(len(values), -1)
        if targets.shape[1] == 0:
            raise ValueError("y: expected one output at least, got none")
        if not first and targets.shape[1] != len(self.network_[-1]["by"]):
            raise ValueError(f"y: expected {len(self.network_[-1]['by'])} outputs as before, got {targets.shape[1]}")
        return targets

    def _weights(self, y: Any, targets: NDArray[Any], weights: Array | None) -> Array | None:
        """Return the weight of each target, from those of the caller."""
        return weights

    @abstractmethod
    def _score(self, targets: NDArray[Any], z: Array, weights: Array | None) -> float:
        """Return the score of predictions."""

    def _n_outputs(self, targets: NDArray[Any]) -> int:
        """Return the number of outputs of the network."""
        return int(targets.shape[1])

    # Reading

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    def _check_parameters(self) -> None:
        """Refuse parameters that are out of range, by name."""
        for name in ("epochs", "batch_size", "patience", "n_shards"):
            whole(name, getattr(self, name))
        one = np.ndim(self.units) == 0
        for k, size in enumerate([self.units] if one else self.units):
            whole("units" if one else f"units[{k}]", size)
        if not one and len(self.units) == 0:
            raise ValueError("units: expected those of one layer at least, got none")
        if self.verbose:
            bars()
        if self.n_threads is not None:
            number_of_threads("n_threads", self.n_threads)
        for name in ("bidirectional", "early_stopping", "similar_lengths", "warm_start"):
            _checks.flag(name, getattr(self, name))
        above_0 = "a finite number above 0", 5e-324, MOST
        rate = _checks.number("learning_rate", self.learning_rate, *above_0)
        decay = _checks.number("alpha", self.alpha, "a finite number, 0 or more", 0.0, MOST)
        if rate * decay > 1.0:
            raise ValueError(f"alpha: expected at most 1 / learning_rate = {1 / rate}, got {decay}")
        if self.clip_norm is not None:
            _checks.number("clip_norm", self.clip_norm, *above_0)
        if self.early_stopping:
            expected = "a number between 0 and 1"
            _checks.number("validation_fraction", self.validation_fraction, expected, 1e-300, 1.0 - 1e-16)
        if not callable(self.schedule) and self.schedule not in SCHEDULES:
            names = ", ".join(map(repr, SCHEDULES))
            raise ValueError(f"schedule: expected {names} or a function, got {self.schedule!r}")
        _checks.kernels(self.dtype)
        if self.vocabulary is not None and self.vocabulary != "auto":
            whole("vocabulary", self.vocabulary)
        if self.embedding is not None:
            whole("embedding", self.embedding)
            if self.vocabulary is None:
                raise ValueError("embedding: expected None without a vocabulary, since X is of numbers then")

    def _drawn(self) -> dict[str, Any]:
        """Return the parameters that a network is drawn by."""
        found = {name: value for name, value in self.get_params(deep=False).items() if name in DRAWN_BY}
        return found | {"units": np.ravel(self.units).tolist(), "dtype": np.dtype(self.dtype).name}

    def _check_network(self) -> None:
        """Refuse other parameters than those of the network whose training goes on."""
        for name, value in self._drawn().items():
            kept = self._network_of[name]
            if value != kept:
                raise ValueError(f"{name}: expected {kept!r}, as the network has whose training goes on, got {value!r}")

    def _sequences(self, X: Any, first: bool = False) -> Sequences:
        """Return X as sequences, checked."""
        vocabulary = self.vocabulary if first or self.vocabulary is None else self._vocabulary
        values, lengths = read_sequences(self, X, first, vocabulary)
        dtype = np.dtype(self.dtype if first else self.network_[-1]["Wy"].dtype)
        if values.dtype.kind == "f" and dtype != values.dtype:
            most = np.finfo(dtype).max
            for step in np.flatnonzero((np.abs(values) > most).any(axis=1))[:1]:
                raise ValueError(f"X: expected numbers up to {most:.2g}, as {dtype} has: {where(lengths, step)}")
        if first:
            self._vocabulary = int(values.max()) + 1 if vocabulary == "auto" else vocabulary
        return Sequences.of(values, lengths)

    def _examples(self, X: Any, y: Any, sample_weight: Any, first: bool) -> Examples:
        """Return the examples of a training."""
        if y is None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
        sequences = self._sequences(X, first)
        check_consistent_length(np.empty(len(sequences)), y)
        targets = self._read_targets(y, sequences, first)
        if targets.dtype.kind == "f":
            most = float(np.sqrt(np.finfo(self.dtype).max))
            if np.abs(targets).max() > most:
                raise ValueError(f"y: expected values up to {most:.1e}, whose squares {np.dtype(self.dtype)} has")
        if sample_weight is not None:
            sample_weight = self._read_weights(sample_weight, sequences)
        weights = self._weights(y, targets, sample_weight)
        if weights is not None and not weights.any():
            name = "class_weight" if sample_weight is None else "sample_weight"
            raise ValueError(f"{name}: expected one weight above 0 at least, got zeros")
        return Examples(sequences, targets, weights, self._each_step).of_type(self.dtype)

    def _read_weights(self, sample_weight: Any, sequences: Sequences) -> Array:
        weights: Array = _check_sample_weight(
            sample_weight, np.empty((len(sequences), 1)), dtype=np.float64, ensure_non_negative=True
        )
        return weights

    # Training

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None) -> Self:
        """Train a network.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences, see the class.
        y : array_like
            What is to be predicted of them.
        sample_weight : array_like, shape (n_samples,), optional
            Weight of each sequence, not negative.
        client : distributed.Client, optional
            A Dask cluster whose workers compute the gradients; `n_shards` says how many parts a batch has.  The bits
            are those of one process with the same number.  Its workers need cyrnn.

        Returns
        -------
        self
            With `network_`, `history_` and the others.

        Raises
        ------
        TypeError, ValueError
            If an argument or a parameter is of a wrong type, shape or range, or not finite; the message names it.

        Examples
        --------
        See the class.
        """
        with unchanged(self):
            self._check_parameters()
            if client is not None and not (hasattr(client, "submit") and hasattr(client, "gather")):
                raise TypeError(f"client: expected a distributed.Client, got {type(client).__name__}")
            again = self.warm_start and hasattr(self, "network_")
            if again:
                self._check_network()
            examples = self._examples(X, y, sample_weight, not again)
            self._rng = self._generator()
            if not again:
                self._begin(examples)
            validation = None
            if self.early_stopping:
                seed = int(self._rng.integers(1 << 31))
                self._held_out_by = getattr(self, "_held_out_by", seed) if again else seed  # what was held out, stays
                try:
                    train, held_out = train_test_split(
                        np.arange(len(examples.sequences)), test_size=self.validation_fraction,
                        random_state=self._held_out_by, stratify=self._strata(examples),
                    )  # fmt: skip
                except ValueError as error:
                    given = f"{len(examples.sequences)} sequences with validation_fraction={self.validation_fraction}"
                    expected = "expected a part that can be held out, with an example of each class here and there"
                    raise ValueError(f"early_stopping: {expected}, got {given}: {error}") from error
                examples, validation = examples.subset(np.sort(train)), examples.subset(np.sort(held_out))
            gradients = self._gradients(examples, client)
        factor = self.schedule if callable(self.schedule) else SCHEDULES[self.schedule]
        self._train(examples, validation, self.epochs, factor, gradients)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these examples, from where the training is.

        `learning_rate` is constant here, whatever the schedule, and nothing is held out.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.
        y : array_like
            What is to be predicted of them.
        sample_weight : array_like, optional
            Weights, as for `fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`.

        Examples
        --------
        See the class.
        """
        with unchanged(self):
            self._check_parameters()
            first = not hasattr(self, "network_")
            if not first:
                self._check_network()
            examples = self._examples(X, y, sample_weight, first)
            if first:
                self._rng = self._generator()
                self._begin(examples)
        self._train(examples, None, 1, SCHEDULES["constant"], self._gradients(examples, None))
        return self

    def _generator(self) -> np.random.Generator:
        """Return the generator of a training."""
        try:
            return np.random.default_rng(check_random_state(self.random_state).randint(1 << 31))
        except ValueError as error:
            expected = "an integer from 0 to 2**32 - 1, a numpy.random.RandomState or None"
            raise ValueError(f"random_state: expected {expected}, got {self.random_state!r}") from error

    def _strata(self, examples: Examples) -> Any:
        return None

    def _begin(self, examples: Examples) -> None:
        """Draw a network."""
        width = self._vocabulary if self._vocabulary is not None else examples.sequences.values.shape[1]
        network = initialize_network(
            self.cell, self.embedding or width, self.units, self._n_outputs(examples.targets), self._rng,
            bidirectional=self.bidirectional, vocabulary=width if self.embedding else None,
            reset="after" if self.cell == "gru" else None, dtype=self.dtype,
        )  # fmt: skip
        self.network_ = network
        self._training, self._network_of = Training(network, *initialize_adam(network)), self._drawn()
        self.history_ = {"loss": [], "validation_loss": [], "validation_score": []}
        self.n_iter_ = self.best_epoch_ = 0

    def _gradients(self, examples: Examples, client: Any) -> Gradients:
        """Return the function of the network and a batch that gives its loss, gradients and weight."""
        if client is None and self.n_shards == 1:
            return lambda network, batch: gradient_of(examples, network, batch)
        n = min(self.n_shards, len(examples.sequences))
        shards = [examples.subset(np.arange(k, len(examples.sequences), n)) for k in range(n)]

        def parts(batch: Places) -> list[tuple[int, Places]]:
            cut = [(k, batch[batch % n == k] // n) for k in range(n)]
            return [(k, own) for k, own in cut if len(own)]

        if client is None:
            return lambda network, batch: total_gradient(
                [gradient_of(shards[k], network, own) for k, own in parts(batch)]
            )
        # A task that gives back its argument: the scheduler runs it again where a worker is lost.
        kept = [client.submit(Examples.itself, shard, pure=False) for shard in shards]

        def on_workers(network: list[Any], batch: Places) -> Any:
            tasks = [client.submit(gradient_of, kept[k], network, own, pure=False) for k, own in parts(batch)]
            return total_gradient(client.gather(tasks))

        return on_workers

    def _train(
        self,
        examples: Examples,
        validation: Examples | None,
        epochs: int,
        factor: Callable[[float], float],
        gradients: Gradients,
    ) -> None:
        """Train for some epochs; afterwards the network that is kept is `network_`."""
        now, best = self._training, self._training.copy()
        lowest, patience, first = np.inf, 0, self.n_iter_
        best_epoch = first
        some = examples.subset(np.arange(min(len(examples.sequences), self.batch_size)))
        some = Examples(some.sequences, some.targets, None, some.each_step)
        with threads(self.n_threads):
            untrained = loss_of(now.network, some, outputs(now.network, some))
        hopeless = DIVERGED * max(untrained, self._loss_of_nothing(examples))
        batches = -(-len(examples.sequences) // self.batch_size)
        bar = bars()(total=epochs, unit="epoch") if self.verbose else None
        stopped = None
        with threads(self.n_threads):
            try:
                for epoch in range(epochs):
                    rates = [self._rate(factor((epoch + k / batches) / epochs)) for k in range(batches)]
                    found = {"loss": self._epoch(now, examples, gradients, rates)}
                    if not found["loss"] <= hopeless:
                        raise _Diverged(f"the mean loss is {found['loss']:.3g}")
                    if validation is not None:
                        found |= self._validated(now.network, validation)
                    self.n_iter_ += 1
                    for name, value in found.items():
                        self.history_[name].append(value)
                    loss = found.get("validation_loss", found["loss"])
                    if bar is not None:
                        bar.set_postfix({name: f"{values[-1]:.4g}" for name, values in self.history_.items() if values})
                        bar.update()
                    patience += 1
                    if loss < lowest:
                        lowest, best, best_epoch, patience = loss, now.copy(), self.n_iter_, 0
                    if validation is not None and patience >= self.patience:
                        break
                if validation is None:
                    best, best_epoch = now, self.n_iter_
            except (_Diverged, KeyboardInterrupt) as error:
                stopped = error
            finally:
                if bar is not None:
                    bar.close()
                self._training, self.network_, self.best_epoch_ = best, best.network, best_epoch
        if stopped is not None:
            kept = f"the network of epoch {best_epoch} is kept" if best_epoch else "the untrained network is kept"
            at = f"in epoch {self.n_iter_ + 1} of {first + epochs}"
            if isinstance(stopped, _Diverged):
                advice = "a smaller learning_rate or scaled inputs may help"
                told = f"the training diverged {at} ({stopped}); {kept}; {advice}"
                warnings.warn(told, ConvergenceWarning, stacklevel=3)
            else:
                warnings.warn(f"the training was interrupted {at}; {kept}", UserWarning, stacklevel=3)

    def _validated(self, network: list[Any], validation: Examples) -> dict[str, float]:
        """Return the loss and the score of the held-out part."""
        try:
            z = outputs(network, validation)
            loss = loss_of(network, validation, z)
            return {"validation_loss": loss, "validation_score": self._score(validation.targets, z, validation.weights)}
        except ValueError as error:
            raise _Diverged(f"on the held-out part: {error}") from error

    def _rate(self, factor: Any) -> float:
        """Return the rate of an update, from what the schedule says."""
        rate = self.learning_rate * _checks.number("schedule", factor, "a result from 0 on", 0.0, MOST)
        if not rate * self.alpha <= 1.0:
            raise ValueError(f"schedule: expected rates of at most 1 / alpha = {1 / self.alpha}, got {rate}")
        return rate

    def _epoch(self, now: Training, examples: Examples, gradients: Gradients, rates: list[float]) -> float:
        """Make an update for each batch; return the mean loss."""
        total = count = 0.0
        pool = POOL if self.similar_lengths else 1
        batches = make_batches(examples.sequences.lengths, self.batch_size, self._rng, pool=pool)
        for batch, rate in zip(batches, rates, strict=True):
            try:
                found = gradients(now.network, batch)
                if found is None:  # all of its weights are 0
                    continue
                loss, gradient, weight = found
                if self.clip_norm is not None:
                    gradient, _ = clip_gradients(gradient, norm=self.clip_norm)
                update_parameters_with_adam(
                    now.network, gradient, now.v, now.s, now.t + 1, rate, weight_decay=self.alpha
                )
            except ValueError as error:  # all else has been checked: a number is not finite
                raise _Diverged(f"at update {now.t + 1}: {error}") from error
            now.t += 1
            total, count = total + weight * loss, count + weight
        return total / count

    def _loss_of_nothing(self, examples: Examples) -> float:
        """Return the loss of equal probabilities, or of zeros."""
        if examples.classes:
            return float(np.log(max(2, self._n_outputs(examples.targets))))
        squares = float(np.average((examples.targets**2).mean(axis=1), weights=examples.weights))
        return squares if squares > 0 else MOST

    # Predicting

    def _predicted(self, X: Any) -> tuple[Sequences, Array]:
        """Return X as sequences, and the outputs of the network."""
        check_is_fitted(self, "network_")
        sequences = self._sequences(X)
        nothing = np.empty(0)
        with threads(self.n_threads):
            examples = Examples(sequences, nothing, None, self._each_step).of_type(self.network_[-1]["Wy"].dtype)
            return sequences, outputs(self.network_, examples)

    # Afterwards

    def to_stream(self, m: int = 1) -> Stream:
        """Return the network as a `Stream`, which is fed one step at a time.

        Parameters
        ----------
        m : int
            Number of sequences that are stepped side by side.

        Returns
        -------
        Stream
            Its y at a step are the probabilities, or values, of the sequence up to there.

        Raises
        ------
        ValueError
            If the network is bidirectional.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        return Stream(self.network_, m, output=self._activation(), dtype=self.network_[-1]["Wy"].dtype)

    def to_torch(self, *, layer: Any = None) -> dict[str, Any]:
        """Return the weights as PyTorch has them, see `cyrnn.to_torch`.

        Parameters
        ----------
        layer : str or list of str, optional
            The name of the module, or of one for each layer where their sizes differ; None for "rnn".

        Returns
        -------
        dict of torch.Tensor
            For ``load_state_dict``.

        Raises
        ------
        ImportError
            If PyTorch is not installed.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        return to_torch(self.network_, layer=layer)

    def to_keras(self) -> list[Array]:
        """Return the weights as Keras has them, see `cyrnn.to_keras`.

        Returns
        -------
        list of numpy.ndarray
            For ``set_weights``.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        return to_keras(self.network_)

    def to_onnx(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Write the network as an ONNX model, see `cyrnn.export_onnx`.

        Its output ``y`` has the predictions of every step, (n_y, m, T_x); of a classifier or regressor of both
        directions, whose prediction is none of a step, (n_y, m).

        Parameters
        ----------
        path : str or path-like
            The file.
        dtype : {"float32", "float64"}
            Of the model.

        Raises
        ------
        ImportError
            If the package onnx is not installed.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        last = not self._each_step and isinstance(self.network_[-2], tuple)
        export_onnx(path, self.network_, output=self._activation(), dtype=dtype, last=last)

    def _activation(self) -> str:
        return "linear"

    def plot(self) -> Any:
        """Draw the loss of every epoch, and the validation's loss and score where there are, by `cyrnn.plot_history`.

        Returns
        -------
        matplotlib.figure.Figure
            With a dashed line at the epoch whose network is kept.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        last = len(self.history_["loss"])  # with warm_start the validation may have begun later
        padded = {name: [np.nan] * (last - len(values)) + values for name, values in self.history_.items() if values}
        figure = plot_history({name.replace("_", " "): values for name, values in padded.items()}, ylabel="loss, score")
        figure.axes[0].axvline(self.best_epoch_, color="0.7", linewidth=0.8, linestyle="--")
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, without pickled objects; `load` reads it.

        Parameters
        ----------
        path : str or path-like
            The file, which `cyrnn.load_checkpoint` reads too; one that exists is replaced.

        Raises
        ------
        TypeError
            If a parameter is a function or another object that no file can keep; the message names it.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "network_")
        parameters = self.get_params(deep=False) | {"dtype": np.dtype(self.dtype).name}
        fitted = {name: value for name, value in self.__dict__.items() if name not in parameters}
        now, rng = fitted.pop("_training"), fitted.pop("_rng")
        del fitted["network_"]
        arrays = {name: value for name, value in fitted.items() if isinstance(value, np.ndarray)}
        kept = {
            "class": type(self).__name__,
            "parameters": {name: plain(name, value) for name, value in parameters.items()},
            "attributes": {name: plain(name, value) for name, value in fitted.items() if name not in arrays},
            "objects": {name: plain(name, value) for name, value in arrays.items() if value.dtype == object},
            "rng": rng.bit_generator.state,
        }
        arrays = {name: value for name, value in arrays.items() if name not in kept["objects"]}
        save_checkpoint(path, now.network, moments=(now.v, now.s), step=now.t, estimator=json.dumps(kept), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        estimator
            Fitted, of this class; with `warm_start` or `partial_fit` its training goes on where it was.

        Raises
        ------
        OSError, ValueError
            If the file cannot be opened, or is none of an estimator of this class; the message names the path.

        Examples
        --------
        See the class.
        """
        found = load_checkpoint(path)
        kept = json.loads(str(found.arrays.pop("estimator", "{}")))
        if kept.get("class") != cls.__name__ or found.moments is None:
            got = kept.get("class", "another one")
            raise ValueError(f"{os.fsdecode(path)}: expected a file that {cls.__name__}.save wrote, got {got}")
        estimator = cls(**{name: restored(value) for name, value in kept["parameters"].items()})
        for name, value in kept["attributes"].items():
            setattr(estimator, name, restored(value))
        for name, value in found.arrays.items():
            setattr(estimator, name, value)
        for name, value in kept.get("objects", {}).items():
            setattr(estimator, name, np.array(value, object))
        estimator._rng = np.random.default_rng()
        estimator._rng.bit_generator.state = kept["rng"]
        estimator._training = Training(found.network, *found.moments, found.step)
        estimator.network_ = found.network
        return estimator


def plain(name: str, value: Any) -> Any:
    """Return a parameter or attribute as JSON keeps it; refuse what it does not."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {"items": [[plain(name, key), plain(name, each)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return [plain(name, each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name}: expected numbers and strings, which a file can keep, got {type(value).__name__}")


def restored(value: Any) -> Any:
    """Return what `plain` was given; tuples and arrays as lists."""
    if isinstance(value, dict):
        return {key: restored(each) for key, each in value["items"]}
    return [restored(each) for each in value] if isinstance(value, list) else value


def bars() -> Any:
    """Return the class of bars, which tell the time left."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("verbose needs tqdm: pip install 'cyrnn[sklearn]'") from error
    return tqdm
