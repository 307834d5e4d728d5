"""The three estimators: one label of a sequence, one value of it, or a label or value of each of its steps."""

from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from .. import _checks
from .._checks import Array
from ..recurrent.activations import softmax
from ._base import MOST, SequenceEstimator, finite_targets, is_ragged, with_missing
from ._examples import Examples, Sequences

PARAMETERS = """cell : {"lstm", "gru", "rnn"}
        The recurrent cell.  A GRU has its reset gate after the recurrent product, as in PyTorch and Keras.
    units : int or list of int
        Hidden units of the layer, or of each of several layers.
    bidirectional : bool
        Whether every layer reads the sequence in both directions.
    dtype : {"float64", "float32"}
        Of the network, and of predicted numbers.
    vocabulary : int or "auto", optional
        X is of indices from 0 to `vocabulary` - 1; "auto" for the largest of the training data.  None: X is of numbers.
    embedding : int, optional
        Size of the column that stands for an index and is trained too; None for one-hot columns.
    <VALUES>epochs : int
        How many times the training reads all sequences.
    batch_size : int
        Sequences of an update.
    similar_lengths : bool
        Whether a batch has sequences of similar lengths, see `cyrnn.make_batches`.  It saves memory and no arithmetic;
        where the length depends on y, the network learns less.
    learning_rate : float
        Of Adam, at the beginning.
    schedule : {"linear", "constant", "cosine"} or function
        How the rate falls to zero: a function of the share of the training that is done, from 0 to 1, whose result is
        multiplied with `learning_rate`.
    clip_norm : float, optional
        Largest norm of the gradients; None not to clip them.
    alpha : float
        Weight decay (AdamW): the share of a weight, in units of the rate, that each update takes from it."""
VALUES = """values : bool
        Whether y is of values, whose squared error is made small, and not of labels.
    """
TRAINING = """early_stopping : bool
        Whether a part of the training data is held out.  Then the network of the epoch with the lowest loss on it is
        kept, and the training ends after `patience` epochs without a lower one.
    validation_fraction : float
        The part.
    patience : int
        See there.
    warm_start : bool
        Whether `fit` goes on with the network of the `fit` before.
    random_state : int, RandomState instance or None
        Of the first weights, the batches and the held-out part.  The same seed gives the same bits, for any number of
        threads and processes.
    verbose : bool
        Whether to show a bar with the loss, the validation's score and the time left; needs tqdm.
    n_threads : int, optional
        The most threads of a call meanwhile, see `cyrnn.set_num_threads`; None for the setting.
    n_shards : int
        Parts of a batch whose gradients are summed, see `client` of `fit`."""
ATTRIBUTES = """network_ : list
        The trained network, as `cyrnn.network_forward` takes it.
    history_ : dict of lists
        "loss" of every epoch, the mean while it was trained; with `early_stopping` "validation_loss" and
        "validation_score" after it.
    n_features_in_ : int
        Numbers of a step, 1 of indices; of a two-dimensional X of numbers the number of columns.
    feature_names_in_ : numpy.ndarray of str
        The names of the columns, if X was a table with names.
    n_iter_ : int
        Epochs that were trained.
    best_epoch_ : int
        The epoch whose network is kept, from 1 on."""
X_FORMS = """X is an array (n_samples, n_steps, n_features), or (n_samples, n_steps) for one feature, or a list of
    arrays (n_steps_i, n_features) or (n_steps_i,).  With a `vocabulary` it is of integers, (n_samples, n_steps) or a
    list of (n_steps_i,).  Sequences are not padded."""


C = TypeVar("C", bound=type)


def documented(cls: C) -> C:
    """Put the common parts into a class's docstring."""
    assert cls.__doc__ is not None
    for name in ("PARAMETERS", "TRAINING", "ATTRIBUTES", "X_FORMS"):
        cls.__doc__ = cls.__doc__.replace(f"<{name}>", globals()[name])
    cls.__doc__ = cls.__doc__.replace("<VALUES>", VALUES if cls.__name__ == "SequenceTagger" else "")
    return cls


def _logits(z: Array) -> Array:
    """Return logits as scikit-learn has them: of two classes their difference."""
    return z[1] - z[0] if len(z) == 2 else np.ascontiguousarray(z.T)


class _ClassWeights(SequenceEstimator):
    """What needs `class_weight`."""

    class_weight: Any
    classes_: NDArray[Any]

    def _read_classes(self, y: NDArray[Any], first: bool) -> NDArray[np.int64]:
        """Return labels as the places of their classes."""
        finite_targets(y)
        named: Any = self.__dict__.get("_first_classes")
        try:
            if first and named is None:
                self.classes_, found = np.unique(y, return_inverse=True)
                return np.asarray(found, np.int64).reshape(-1)
            classes = self.classes_ = named if first else self.classes_
            for unknown in np.setdiff1d(y, classes)[:1].tolist():
                if first:
                    raise ValueError(f"classes: expected all labels of y, got none that is {unknown!r}")
                raise ValueError(f"y: expected the classes of before, {classes.tolist()}, got {unknown!r} as well")
            return np.searchsorted(classes, y)
        except TypeError as error:
            raise TypeError(f"y: expected labels of one kind, which can be sorted, got others ({error})") from error

    def _class_weights(self, y: Any, weights: Array | None) -> Array | None:
        """Return the weights of labels, with those of their classes."""
        if self.class_weight is None:
            return weights
        if isinstance(self.class_weight, dict):
            for label, weight in self.class_weight.items():
                _checks.number(f"class_weight[{label!r}]", weight, "a finite number, 0 or more", 0.0, MOST)
        elif self.class_weight != "balanced":
            expected = "None, 'balanced' or a dict from labels to weights"
            raise ValueError(f"class_weight: expected {expected}, got {self.class_weight!r}")
        try:
            found: Array = compute_sample_weight(self.class_weight, y)
        except ValueError as error:
            raise ValueError(f"class_weight: expected weights of the classes, got others: {error}") from error
        return found if weights is None else found * weights

    def partial_fit(  # type: ignore[override]  # as every classifier has it
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one epoch on these examples, from where the training is.

        `learning_rate` is constant here, whatever the schedule, and nothing is held out.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.
        y : array_like
            Their labels, as for `fit`.
        classes : array_like, optional
            All labels that may come, needed in the first call unless `y` has them all.
        sample_weight : array_like, optional
            Weights, as for `fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`; "balanced" classes are refused, since they need all labels.

        Examples
        --------
        See the class.
        """
        if self._of_labels():
            if isinstance(self.class_weight, str) and self.class_weight == "balanced":
                raise ValueError("class_weight: expected weights of each class for partial_fit, got 'balanced'")
            if classes is not None:
                classes = np.unique(classes)
                if hasattr(self, "network_") and not np.array_equal(classes, self.classes_):
                    before, got = self.classes_.tolist(), classes.tolist()
                    raise ValueError(f"classes: expected those of before, {before}, got {got}")
                self._first_classes = classes
        elif classes is not None:
            raise ValueError("classes: expected None of a tagger of values, which has no classes")
        try:
            return super().partial_fit(X, y, sample_weight)
        finally:
            self.__dict__.pop("_first_classes", None)

    def _of_labels(self) -> bool:
        """Whether the targets are labels."""
        return True


@documented
class SequenceClassifier(ClassifierMixin, _ClassWeights):  # type: ignore[misc]
    """A recurrent network that predicts the class of a sequence, after its last step.

    <X_FORMS>

    The prediction is the softmax of a linear layer that reads the hidden state after the last step; with both
    directions also that from right to left after the first step.

    Parameters
    ----------
    <PARAMETERS>
    class_weight : dict or "balanced", optional
        Weights of the classes; "balanced" for inverse frequencies.
    <TRAINING>

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels.
    <ATTRIBUTES>

    Examples
    --------
    >>> import numpy as np
    >>> from cyrnn.estimators import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(n, 2)) for n in rng.integers(5, 15, 200)]
    >>> y = np.where([x[:, 0].sum() > 0 for x in X], "up", "down")
    >>> model = SequenceClassifier("gru", units=16, epochs=20, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.9
    True
    """

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
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        n_threads: int | None = None,
        n_shards: int = 1,
    ) -> None:
        super().__init__(
            cell, units, bidirectional=bidirectional, dtype=dtype, vocabulary=vocabulary, embedding=embedding,
            epochs=epochs, batch_size=batch_size, similar_lengths=similar_lengths, learning_rate=learning_rate,
            schedule=schedule, clip_norm=clip_norm, alpha=alpha, early_stopping=early_stopping,
            validation_fraction=validation_fraction, patience=patience, warm_start=warm_start,
            random_state=random_state, verbose=verbose, n_threads=n_threads, n_shards=n_shards,
        )  # fmt: skip
        self.class_weight = class_weight

    def _read_targets(self, y: Any, sequences: Sequences, first: bool) -> NDArray[Any]:
        y = column_or_1d(with_missing(y), warn=True)
        found = self._read_classes(y, first)
        check_classification_targets(y)
        return found

    def _weights(self, y: Any, targets: NDArray[Any], weights: Array | None) -> Array | None:
        return self._class_weights(column_or_1d(y), weights)

    def _n_outputs(self, targets: NDArray[Any]) -> int:
        return len(self.classes_)

    def _strata(self, examples: Examples) -> Any:
        return examples.targets

    def _score(self, targets: NDArray[Any], z: Array, weights: Array | None) -> float:
        return float(accuracy_score(targets, z.argmax(axis=0), sample_weight=weights))

    def _activation(self) -> str:
        return "softmax"

    def decision_function(self, X: Any) -> Array:
        """Logits of the classes.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples, n_classes), or (n_samples,) of two classes
            Of two classes the difference: above 0 for the second.

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        _, z = self._predicted(X)
        return _logits(z)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples, n_classes)

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        _, z = self._predicted(X)
        return np.ascontiguousarray(softmax(z).T)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each sequence.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples,)

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        _, z = self._predicted(X)
        found: NDArray[Any] = self.classes_[z.argmax(axis=0)]
        return found


@documented
class SequenceRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """A recurrent network that predicts one value, or several, of a sequence, after its last step.

    <X_FORMS>

    The prediction is a linear layer that reads the hidden state after the last step; with both directions also that
    from right to left after the first step.  Targets should be of the order of 1
    (`sklearn.compose.TransformedTargetRegressor` scales them).

    Parameters
    ----------
    <PARAMETERS>
    <TRAINING>

    Attributes
    ----------
    <ATTRIBUTES>

    Examples
    --------
    >>> import numpy as np
    >>> from cyrnn.estimators import SequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 10, 2))
    >>> y = X[:, :, 0].mean(axis=1)
    >>> model = SequenceRegressor("gru", units=16, epochs=20, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.9
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _read_targets(self, y: Any, sequences: Sequences, first: bool) -> NDArray[Any]:
        given = np.asarray(y)
        if given.dtype.kind in "USc":
            raise TypeError(f"y: expected real numbers, got dtype {given.dtype}")
        for value in (value for value in given.flat if isinstance(value, str)) if given.dtype == object else ():
            raise TypeError(f"y: expected real numbers, got {value!r}")
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=type(self).__name__)
        if y.ndim not in (1, 2):
            raise ValueError(f"y: expected shape (n_samples,) or (n_samples, n_outputs), got {y.shape}")
        return self._columns(y, first)

    def _score(self, targets: NDArray[Any], z: Array, weights: Array | None) -> float:
        return float(r2_score(targets, z.T, sample_weight=weights))

    def predict(self, X: Any) -> Array:
        """Predict the value of each sequence.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples,), or (n_samples, n_outputs) if y had two dimensions

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        _, z = self._predicted(X)
        found: Array = z[0] if self._single else np.ascontiguousarray(z.T)
        return found


def _has_classes(tagger: "SequenceTagger") -> bool:
    """Whether there are logits and probabilities."""
    if tagger.values:
        raise AttributeError("expected a tagger of labels, got one of values")
    return True


@documented
class SequenceTagger(_ClassWeights):
    """A recurrent network that predicts a label, or a value, at every step of a sequence.

    <X_FORMS>

    y is an array (n_samples, n_steps), or a list of (n_steps_i,); of several values a step there is one more dimension.
    Predictions are an array where X is one, and an array of arrays, one for each sequence, where X is a list.

    Parameters
    ----------
    <PARAMETERS>
    class_weight : dict or "balanced", optional
        Weights of the labels; "balanced" for inverse frequencies.
    <TRAINING>

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels; not of values.
    <ATTRIBUTES>

    Examples
    --------
    >>> import numpy as np
    >>> from cyrnn.estimators import SequenceTagger
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.integers(10, size=n) for n in rng.integers(3, 12, 200)]
    >>> y = [np.where(np.append(x[1:] > 4, False), "before large", "before small") for x in X]
    >>> model = SequenceTagger(
    ...     "gru", units=16, bidirectional=True, vocabulary=10, embedding=4, epochs=20, random_state=0
    ... ).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.95
    True
    >>> model.predict([[1, 7, 2]])[0]
    array(['before large', 'before small', 'before small'], dtype='<U12')
    """

    _each_step = True

    def __init__(
        self,
        cell: str = "lstm",
        units: Any = 64,
        *,
        bidirectional: bool = False,
        dtype: str = "float64",
        vocabulary: Any = None,
        embedding: int | None = None,
        values: bool = False,
        epochs: int = 50,
        batch_size: int = 32,
        similar_lengths: bool = False,
        learning_rate: float = 0.01,
        schedule: Any = "linear",
        clip_norm: float | None = 1.0,
        alpha: float = 0.0,
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        n_threads: int | None = None,
        n_shards: int = 1,
    ) -> None:
        super().__init__(
            cell, units, bidirectional=bidirectional, dtype=dtype, vocabulary=vocabulary, embedding=embedding,
            epochs=epochs, batch_size=batch_size, similar_lengths=similar_lengths, learning_rate=learning_rate,
            schedule=schedule, clip_norm=clip_norm, alpha=alpha, early_stopping=early_stopping,
            validation_fraction=validation_fraction, patience=patience, warm_start=warm_start,
            random_state=random_state, verbose=verbose, n_threads=n_threads, n_shards=n_shards,
        )  # fmt: skip
        self.values = values
        self.class_weight = class_weight

    def _flat(self, name: str, y: Any, sequences: Sequences) -> NDArray[Any]:
        """Return what belongs to the steps, one after another, of a list or an array of sequences."""
        y = y.to_numpy() if hasattr(y, "to_numpy") else y  # of a table, which is iterated column by column
        if len(y) != len(sequences):
            raise ValueError(f"{name}: expected {len(sequences)} sequences, as X, got {len(y)}")
        rows = [np.asarray(list(row) if isinstance(row, str) else with_missing(row)) for row in y]
        for j, (row, length) in enumerate(zip(rows, sequences.lengths.tolist(), strict=True)):
            if row.ndim == 0 or len(row) != length:
                raise ValueError(f"{name}[{j}]: expected {length} steps, as X[{j}], got shape {row.shape}")
            if row.shape[1:] != rows[0].shape[1:]:
                expected = f"{rows[0].shape[1:]} at each step, as {name}[0]"
                raise ValueError(f"{name}[{j}]: expected {expected}, got {row.shape[1:]}")
        return np.concatenate(rows)

    def _read_targets(self, y: Any, sequences: Sequences, first: bool) -> NDArray[Any]:
        flat = self._flat("y", y, sequences)
        if not _checks.flag("values", self.values):
            if flat.ndim != 1:
                raise ValueError(f"y: expected one label a step, got shape {flat.shape[1:]}")
            finite_targets(flat)
            if flat.dtype.kind == "f" and (flat != np.floor(flat)).any():
                raise ValueError("y: expected labels, got numbers that are not whole; values=True is for those")
            return self._read_classes(flat, first)
        flat = _checks.real("y", flat)
        finite_targets(flat)
        if flat.ndim > 2:
            raise ValueError(f"y: expected one value a step, or several of one dimension, got shape {flat.shape[1:]}")
        return self._columns(flat, first)

    def _weights(self, y: Any, targets: NDArray[Any], weights: Array | None) -> Array | None:
        return weights if self.values else self._class_weights(self.classes_[targets], weights)

    def _read_weights(self, sample_weight: Any, sequences: Sequences) -> Array:
        if is_ragged(sample_weight, False) or getattr(sample_weight, "ndim", 1) > 1:
            flat = _checks.real("sample_weight", self._flat("sample_weight", sample_weight, sequences))
            if not ((flat >= 0) & (flat < np.inf)).all():
                raise ValueError("sample_weight: expected finite numbers that are not negative")
            return flat
        return np.repeat(super()._read_weights(sample_weight, sequences), sequences.lengths)

    def _n_outputs(self, targets: NDArray[Any]) -> int:
        return super()._n_outputs(targets) if self.values else len(self.classes_)

    def _score(self, targets: NDArray[Any], z: Array, weights: Array | None) -> float:
        if self.values:
            return float(r2_score(targets, z.T, sample_weight=weights))
        return float(accuracy_score(targets, z.argmax(axis=0), sample_weight=weights))

    def _activation(self) -> str:
        return "linear" if self.values else "softmax"

    def _of_labels(self) -> bool:
        return not self.values

    def _as_given(self, X: Any, sequences: Sequences, flat: NDArray[Any]) -> NDArray[Any]:
        """Return what belongs to the steps, sequence by sequence."""
        if not is_ragged(X, False):
            return flat.reshape(len(sequences), -1, *flat.shape[1:])
        found = np.empty(len(sequences), object)
        for j, (start, length) in enumerate(zip(sequences.starts, sequences.lengths, strict=True)):
            found[j] = flat[start : start + length]
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label, or value, of each step.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples, n_steps), or of objects, shape (n_samples,), the arrays of the sequences

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        sequences, z = self._predicted(X)
        if self.values:
            return self._as_given(X, sequences, z[0] if self._single else np.ascontiguousarray(z.T))
        return self._as_given(X, sequences, self.classes_[z.argmax(axis=0)])

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Logits of the labels at each step.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples, n_steps, n_classes), or of objects, the arrays (n_steps_i, n_classes)
            Of two labels the difference, without the last dimension: above 0 for the second.

        Raises
        ------
        AttributeError
            If the tagger is of values.
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        sequences, z = self._predicted(X)
        return self._as_given(X, sequences, _logits(z))

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the labels at each step.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray, shape (n_samples, n_steps, n_classes), or of objects, the arrays (n_steps_i, n_classes)

        Raises
        ------
        AttributeError
            If the tagger is of values.
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        sequences, z = self._predicted(X)
        return self._as_given(X, sequences, np.ascontiguousarray(softmax(z).T))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the steps whose label is right, or the coefficient of determination of the values.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.
        y : array_like
            What is to be predicted at their steps.
        sample_weight : array_like, optional
            Weight of each sequence, or of each step, nested as y.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If X or y is not as in `fit`.

        Examples
        --------
        See the class.
        """
        sequences, z = self._predicted(X)
        weights = None if sample_weight is None else self._read_weights(sample_weight, sequences)
        flat = self._flat("y", y, sequences)
        finite_targets(flat)
        if self.values:
            return self._score(_checks.real("y", flat).reshape(len(flat), -1), z, weights)
        return float(accuracy_score(flat, self.classes_[z.argmax(axis=0)], sample_weight=weights))
