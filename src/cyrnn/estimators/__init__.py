"""Estimators with scikit-learn's conventions: fit, predict, score, in pipelines and searches.

``pip install 'cyrnn[sklearn]'``.  Nothing of it is imported by ``import cyrnn``.
"""

try:
    import sklearn  # noqa: F401
except ImportError as _error:
    raise ImportError("cyrnn.estimators needs scikit-learn: pip install 'cyrnn[sklearn]'") from _error

from ._models import SequenceClassifier, SequenceRegressor, SequenceTagger
from ._preprocessing import SequenceIndexer, SequenceScaler

__all__ = ["SequenceClassifier", "SequenceIndexer", "SequenceRegressor", "SequenceScaler", "SequenceTagger"]
