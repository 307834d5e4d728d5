"""Transformers of sequences of different lengths: a scaler, and words to indices."""

from collections import Counter
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .. import _checks
from .._checks import Array
from ..training.sequences import Indices, whole
from ._base import is_ragged, read_sequences


class SequenceScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features with mean 0 and deviation 1 over all steps of all sequences.

    X is as for `SequenceClassifier`, of numbers; the result has the same form.  A two-dimensional X is one feature.

    Parameters
    ----------
    with_mean : bool
        Whether the mean is subtracted.
    with_std : bool
        Whether the deviation is divided by; a feature that is constant is not.

    Attributes
    ----------
    mean_ : numpy.ndarray, shape (n_features,)
        Means.
    scale_ : numpy.ndarray, shape (n_features,)
        Deviations, 1 of a constant feature.
    n_features_in_ : int
        Numbers of a step; of a two-dimensional X the number of columns.

    Examples
    --------
    >>> from cyrnn.estimators import SequenceScaler
    >>> X = [[[1.0, 5.0]], [[2.0, 5.0], [3.0, 5.0]]]
    >>> [x.round(3).tolist() for x in SequenceScaler().fit_transform(X)]
    [[[-1.225, 0.0]], [[0.0, 0.0], [1.225, 0.0]]]
    """

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @available_if(lambda self: getattr(self, "_table", True))  # type: ignore[untyped-decorator]
    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the columns, of a two-dimensional X: others have none, and `set_output` leaves them as they are.

        Parameters
        ----------
        input_features : array_like of str, optional
            Names of the columns; None for those in `fit`.

        Returns
        -------
        numpy.ndarray of str

        Raises
        ------
        AttributeError
            If X had other dimensions in `fit`.
        ValueError
            If there are other names than in `fit`.

        Examples
        --------
        See the class.
        """
        return super().get_feature_names_out(input_features)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find means and deviations.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.
        y : None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X is of a wrong type or shape, or not finite.

        Examples
        --------
        See the class.
        """
        for name in ("with_mean", "with_std"):
            _checks.flag(name, getattr(self, name))
        values, _ = read_sequences(self, X, True)
        self.mean_: Array = values.mean(axis=0)
        deviation = values.std(axis=0)
        constant = deviation <= 10 * np.finfo(float).eps * np.abs(self.mean_)
        self.scale_: Array = np.where(constant | (deviation == 0), 1.0, deviation)
        return self

    def transform(self, X: Any) -> Any:
        """Scale sequences.

        Parameters
        ----------
        X : array_like or list of array_like
            Sequences.

        Returns
        -------
        numpy.ndarray of the shape of X, or list of numpy.ndarray

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        scale, mean = self.scale_ if self.with_std else 1.0, self.mean_ if self.with_mean else 0.0
        return self._each(X, lambda values: (values - mean) / scale)

    def inverse_transform(self, X: Any) -> Any:
        """Undo the scaling.

        Parameters
        ----------
        X : array_like or list of array_like
            Scaled sequences.

        Returns
        -------
        numpy.ndarray of the shape of X, or list of numpy.ndarray

        Raises
        ------
        TypeError, ValueError
            If X is not as in `fit`.

        Examples
        --------
        See the class.
        """
        scale, mean = self.scale_ if self.with_std else 1.0, self.mean_ if self.with_mean else 0.0
        return self._each(X, lambda values: values * scale + mean)

    def _each(self, X: Any, how: Any) -> Any:
        check_is_fitted(self, "scale_")
        values, lengths = read_sequences(self, X, False)
        values = how(values)
        if is_ragged(X):
            return np.split(values, np.cumsum(lengths)[:-1])
        table = self._table or getattr(X, "ndim", None) == 2
        return values.reshape(len(lengths), -1) if table else values.reshape(len(lengths), int(lengths[0]), -1)


class SequenceIndexer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Words, or the characters of strings, to indices.

    X is a list of sequences of words, or of strings.  Index 0 stands for what is not in the vocabulary.

    Parameters
    ----------
    min_count : int
        How many times a word must come in the training data to be in the vocabulary.  With 2 the words that came once
        train what is unknown.

    Attributes
    ----------
    vocabulary_ : list
        ``vocabulary_[i]`` is the word of index i; the first is None.

    Examples
    --------
    >>> from cyrnn.estimators import SequenceIndexer
    >>> indexer = SequenceIndexer().fit([["a", "cat"], ["a", "dog"]])
    >>> indexer.transform([["a", "dog", "barks"]])
    [array([1, 3, 0])]
    >>> indexer.inverse_transform([[1, 2]])
    [['a', 'cat']]
    """

    def __init__(self, *, min_count: int = 1) -> None:
        self.min_count = min_count

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the vocabulary.

        Parameters
        ----------
        X : list of sequences
            Lists of words, or strings.
        y : None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `min_count` is no number of 1 or more, or X is no list of sequences of words that can be sorted.

        Examples
        --------
        See the class.
        """
        least = whole("min_count", self.min_count)
        sequences = self._sequences(X)
        try:
            counts = Counter(word for sequence in sequences for word in sequence)
            words = [word for word, count in counts.items() if count >= least]
            self.vocabulary_: list[Any] = [None, *sorted(words)]
        except TypeError as error:
            raise TypeError(f"X: expected words that can be sorted, got others ({error})") from error
        return self

    def _sequences(self, X: Any) -> list[Any]:
        """Return X, a list of what can be iterated."""
        if isinstance(X, str) or not hasattr(X, "__iter__"):
            raise TypeError(f"X: expected a list of sequences of words, got {type(X).__name__}")
        found = list(X.to_numpy() if hasattr(X, "to_numpy") else X)  # a table is iterated column by column
        for j, sequence in enumerate(found):
            if not hasattr(sequence, "__iter__"):
                raise TypeError(f"X[{j}]: expected a sequence of words, got {type(sequence).__name__}")
        return found

    def transform(self, X: Any) -> list[Indices]:
        """Replace words by indices.

        Parameters
        ----------
        X : list of sequences
            Lists of words, or strings.

        Returns
        -------
        list of numpy.ndarray of numpy.intp

        Raises
        ------
        TypeError
            If X is no list of sequences.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "vocabulary_")
        places = {word: k for k, word in enumerate(self.vocabulary_)}
        return [np.array([places.get(word, 0) for word in sequence], np.intp) for sequence in self._sequences(X)]

    def inverse_transform(self, X: Any) -> list[list[Any]]:
        """Replace indices by words.

        Parameters
        ----------
        X : list of sequences of int
            Indices.

        Returns
        -------
        list of lists
            None where the word was not in the vocabulary.

        Raises
        ------
        ValueError
            If an index is not one of the vocabulary.

        Examples
        --------
        See the class.
        """
        check_is_fitted(self, "vocabulary_")
        last = len(self.vocabulary_) - 1
        for j, sequence in enumerate(X):
            for k in sequence:
                if not 0 <= k <= last:
                    raise ValueError(f"X[{j}]: expected indices from 0 to {last}, got {k}")
        return [[self.vocabulary_[k] for k in sequence] for sequence in X]
