"""The estimators: scikit-learn's conventions, and the right training behind them."""

import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from networks import leaves
from numpy.testing import assert_allclose, assert_array_equal

import cyrnn

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from cyrnn.estimators import SequenceClassifier, SequenceIndexer, SequenceRegressor, SequenceScaler, SequenceTagger
from cyrnn.estimators._examples import Examples, Sequences, gradient_of, loss_of, outputs, total_gradient

SOURCE = str(Path(cyrnn.__file__).parent.parent)
QUICK = {"units": 8, "epochs": 3, "random_state": 0}


class RowTagger(SequenceTagger):
    """A tagger for the checks, whose y has one label for a sequence: it is that of all steps."""

    def _flat(self, name, y, sequences):
        if name == "sample_weight":
            return super()._flat(name, y, sequences)
        rows = [np.full(n, value) for n, value in zip(sequences.lengths, np.asarray(y), strict=True)]
        return super()._flat(name, rows, sequences)


def expected_failures(estimator):
    if isinstance(estimator, RowTagger):
        return {"check_sample_weights_shape": "weights of two dimensions are those of the steps"}
    if isinstance(estimator, SequenceRegressor):
        why = "an example twice is in other batches than one of weight 2; in one batch it is the same (test_weights)"
        return {"check_sample_weight_equivalence_on_dense_data": why}
    return {}


ESTIMATORS = [
    SequenceClassifier(units=16, epochs=25), SequenceRegressor(units=16, epochs=60, learning_rate=0.02, batch_size=16),
    RowTagger(units=8, epochs=2), SequenceScaler(),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_conventions(estimator, check):
    check(estimator)


def ragged(n=60, n_x=3, seed=0, most=9):
    """Sequences of different lengths, and whether the first feature's sum is above 0."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(length, n_x)) for length in rng.integers(2, most + 1, n)]
    return X, np.array([int(x[:, 0].sum() > 0) for x in X])


def signs(X):
    """A label of every step."""
    return [np.where(x[:, 0].cumsum() > 0, "up", "down") for x in X]


def same(some, others):
    for one, other in zip(leaves(some), leaves(others), strict=True):
        assert_array_equal(one, other)


def examples(kind, weights=None, n=12):
    """Examples of different lengths of every kind of target."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 7, n)
    number = lengths.sum() if "tags" in kind else n
    targets = rng.normal(size=(number, 2)) if "values" in kind else rng.integers(3, size=number)
    if weights is not None:
        weights = rng.random(number) if weights == "random" else np.ones(number)
    return Examples(Sequences.of(rng.normal(size=(lengths.sum(), 3)), lengths), targets, weights, "tags" in kind)


KINDS = ["classes", "values", "tags", "tags of values"]


@pytest.mark.parametrize("weights", [None, "random"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cell", "both"), [("lstm", True), ("lstm", False), ("gru", True), ("rnn", False)])
def test_gradient_is_that_of_the_loss(kind, weights, cell, both):
    """Against central differences of the loss of the predictions, which are made by other code."""
    e = examples(kind, weights)
    n_y = 3 if e.classes else 2
    network = cyrnn.initialize_network(cell, n_x=3, n_a=[4, 5], n_y=n_y, rng=1, bidirectional=both)
    loss, gradients, _ = gradient_of(e, network, np.arange(12))
    assert_allclose(loss, loss_of(network, e, outputs(network, e)), rtol=1e-14)
    rng = np.random.default_rng(2)
    for array, gradient in zip(leaves(network), leaves(gradients), strict=True):
        at = tuple(rng.integers(size) for size in array.shape)
        before, losses = array[at], []
        for step in (1e-5, -1e-5):
            array[at] = before + step
            losses.append(loss_of(network, e, outputs(network, e)))
        array[at] = before
        assert_allclose(gradient[at], (losses[0] - losses[1]) / 2e-5, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_shards_is_that_of_the_batch(kind):
    e = examples(kind, "random")
    network = cyrnn.initialize_network("gru", n_x=3, n_a=4, n_y=3 if e.classes else 2, rng=1)
    parts = [gradient_of(e, network, np.arange(k, 12, 5)) for k in range(5)]
    for some, others in zip(total_gradient(parts), gradient_of(e, network, np.arange(12)), strict=True):
        for one, other in zip(leaves(some), leaves(others), strict=True):
            assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_training_is_that_of_the_bare_calls():
    """Written out with other functions: the loss of the last step by weights."""
    X = np.random.default_rng(0).normal(size=(50, 6, 3))
    y = (X[:, :, 0].sum(axis=1) > 0).astype(int)
    model = SequenceClassifier("lstm", 8, epochs=3, batch_size=16, alpha=0.1, random_state=3, schedule="constant")
    model.fit(X, y)
    rng = np.random.default_rng(np.random.RandomState(3).randint(1 << 31))
    network = cyrnn.initialize_network("lstm", n_x=3, n_a=8, n_y=2, rng=rng)
    (v, s), t, last = cyrnn.initialize_adam(network), 0, np.zeros((50, 6))
    last[:, -1] = 1
    for _ in range(3):
        for batch in cyrnn.make_batches(np.full(50, 6), 16, rng, pool=1):
            predicted, _, _, caches = cyrnn.network_forward(X[batch].transpose(2, 0, 1), network)
            labels = np.repeat(y[batch, None], 6, axis=1)
            _, dz = cyrnn.cross_entropy(predicted, labels, weights=last[batch])
            gradients, _, _ = cyrnn.network_backward(caches, dz=dz)
            gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
            t += 1
            cyrnn.update_parameters_with_adam(network, gradients, v, s, t, 0.01, weight_decay=0.1)
    for one, other in zip(leaves(model.network_), leaves(network), strict=True):
        assert_allclose(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.alone
@pytest.mark.parametrize(("dtype", "units", "T_x", "epochs"), [("float64", 64, 30, 4), ("float32", 32, 12, 20)])
def test_an_epoch_costs_its_bare_calls(dtype, units, T_x, epochs):
    """Processor time of `fit`, in turn with the functions it calls on batches that are made beforehand.

    So many epochs that reading the arguments and drawing the network, some milliseconds, are little.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(960, T_x, 8)).astype(dtype)
    y = rng.integers(4, size=960)
    batches = [(np.ascontiguousarray(X[j : j + 32].transpose(2, 0, 1)), y[j : j + 32]) for j in range(0, 960, 32)]
    network = cyrnn.initialize_network("lstm", n_x=8, n_a=units, n_y=4, rng=0, dtype=dtype)
    (v, s), steps = cyrnn.initialize_adam(network), itertools.count(1)

    def bare():
        for _ in range(epochs):
            for x, labels in batches:
                _, _, states, caches = cyrnn.network_forward(x, network, output=None, dtype=dtype)
                last = states[0][0]
                predicted = cyrnn.softmax(cyrnn.output_forward(last, network[-1]))
                _, dz = cyrnn.cross_entropy(predicted, labels)
                top = cyrnn.output_backward(dz, last, network[-1])
                gradients, _, _ = cyrnn.network_backward(caches, dstates=[(top["da"], None)])
                gradients[-1] = {"dWy": top["dWy"], "dby": top["dby"]}
                gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
                cyrnn.update_parameters_with_adam(network, gradients, v, s, next(steps), 0.01)

    model = SequenceClassifier("lstm", units, dtype=dtype, epochs=epochs, random_state=0, n_threads=1)
    before, times = cyrnn.get_num_threads(), []
    cyrnn.set_num_threads(1)
    try:
        for _ in range(12):
            begin = time.process_time()
            bare()
            middle = time.process_time()
            model.fit(X, y)
            times.append((middle - begin, time.process_time() - middle))
    finally:
        cyrnn.set_num_threads(before)
    least, ours = np.min(times, axis=0)  # what other processes disturb least
    assert ours < 1.25 * least, times  # 1.1 where nothing else runs


@pytest.mark.parametrize("Model", [SequenceClassifier, SequenceRegressor, SequenceTagger])
def test_same_seed_same_bits(Model):
    """For any number of threads, here and in other processes, which compute all of it again."""
    X, y = ragged(40, most=40)
    y = signs(X) if Model is SequenceTagger else y
    model = Model("lstm", [96, 96], epochs=1, random_state=0)
    before = cyrnn.get_num_threads()
    networks = [clone(model).set_params(n_threads=n).fit(X, y).network_ for n in (1, 2, 3)]
    assert cyrnn.get_num_threads() == before
    same(networks[0], networks[1])
    same(networks[0], networks[2])
    code = (
        "import pickle, sys; from cyrnn import estimators; "
        "model, X, y = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps(model.fit(X, y).network_))"
    )
    environment = os.environ | {"PYTHONPATH": SOURCE, "CYRNN_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((clone(model), X, y)), capture_output=True, env=environment,
        check=True,
    )  # fmt: skip
    same(networks[0], pickle.loads(done.stdout))
    assert (leaves(clone(model).set_params(random_state=1).fit(X, y).network_)[0] != leaves(networks[0])[0]).any()


def test_as_many_threads_as_are_named(monkeypatch):
    from cyrnn.estimators import _base

    X, y = ragged(20)
    seen = {"gradient_of": [], "outputs": []}
    for name, function in ((name, getattr(_base, name)) for name in seen):

        def watched(*arguments, name=name, function=function):
            seen[name].append(cyrnn.get_num_threads())
            return function(*arguments)

        monkeypatch.setattr(_base, name, watched)
    before = cyrnn.get_num_threads()
    model = SequenceClassifier(n_threads=before + 1, early_stopping=True, validation_fraction=0.3, **QUICK).fit(X, y)
    assert set(seen["gradient_of"]) == set(seen["outputs"]) == {before + 1}
    model.predict(X)
    assert seen["outputs"][-1] == before + 1
    model.set_params(n_threads=None).predict(X)
    assert seen["outputs"][-1] == before == cyrnn.get_num_threads()


@pytest.mark.parametrize("both", [False, True])
def test_a_sequence_is_predicted_as_if_alone(both):
    X, y = ragged()
    model = SequenceClassifier(bidirectional=both, **QUICK).fit(X, y)
    assert_array_equal(model.decision_function(X), [model.decision_function([x])[0] for x in X])
    tagger = SequenceTagger(bidirectional=both, **QUICK).fit(X, signs(X))
    for x, found in zip(X, tagger.predict_proba(X), strict=True):
        assert_array_equal(tagger.predict_proba(x[None])[0], found)


def test_forms_of_the_input():
    """An array, a list of arrays, one feature in three forms, indices: the same network."""
    X, y = np.random.default_rng(0).normal(size=(40, 5, 1)), np.arange(40) % 3
    model = SequenceClassifier(**QUICK)
    forms = [X, list(X), X[:, :, 0], X[:, :, 0].tolist(), list(X[:, :, 0]), np.array([*X, None], object)[:-1]]
    fitted = [clone(model).fit(form, y) for form in forms]
    for other, form in zip(fitted, forms, strict=True):
        same(fitted[0].network_, other.network_)
        assert_array_equal(fitted[0].predict_proba(X), other.predict_proba(form))
        assert_array_equal(fitted[0].predict_proba(X), other.predict_proba(X))  # whatever it was fitted on
        assert_array_equal(fitted[0].predict_proba(X[:, :3]), other.predict_proba([x[:3] for x in X]))
    assert [m.n_features_in_ for m in fitted] == [1, 1, 5, 5, 1, 1]
    for table in (fitted[2], fitted[3]):
        with pytest.raises(ValueError, match="X has 3 features, but SequenceClassifier is expecting 5 features"):
            table.predict(X[:, :3, 0])
    words = np.random.default_rng(0).integers(7, size=(40, 5))
    model.set_params(vocabulary=7)
    one_hot = cyrnn.one_hot(words, 7).transpose(1, 2, 0)
    found = [clone(model).fit(words, y), clone(model).fit(list(words), y), clone(model).set_params(vocabulary="auto")]
    found += [SequenceClassifier(**QUICK).fit(one_hot, y)]
    found[2].fit(words.tolist(), y)
    for other in found[1:]:
        same(found[0].network_, other.network_)
    embedded = clone(model).set_params(embedding=4).fit(words, y)
    assert embedded.network_[0]["E"].shape == (4, 7)
    assert_array_equal(embedded.predict(words), embedded.predict(list(words)))


def test_pandas():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "b", "c"])
    model = SequenceRegressor(**QUICK).fit(X, X["a"])
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["b", "a", "c"]])
    assert clone(model).fit(X, X["a"].to_numpy()).feature_names_in_.dtype == object
    scaled = SequenceScaler().set_output(transform="pandas").fit_transform(X)
    assert list(scaled.columns) == ["a", "b", "c"]


def test_tables_and_columns():
    """What pandas holds is what arrays and lists hold: a column of sequences, tables of steps, weights and words."""
    pandas = pytest.importorskip("pandas")
    X, y = ragged(20)
    odd = {"index": range(40, 20, -1)}
    for form in (X, list(np.stack([np.resize(x, (4, 3)) for x in X])), [x[:, 0].tolist() for x in X]):
        model = SequenceClassifier(**QUICK).fit(form, y)
        column = clone(model).fit(pandas.Series(form, **odd), pandas.Series(y, **odd))
        same(column.network_, model.network_)
        assert_array_equal(column.predict_proba(pandas.Series(form[:1])), model.predict_proba(form[:1]))
        scaled = SequenceScaler().fit_transform(pandas.Series(form))
        same(scaled, SequenceScaler().fit_transform([np.asarray(x) for x in form]))
    tags, steps = signs(X), [np.arange(1.0, len(x) + 1) for x in X]
    tagger = SequenceTagger(**QUICK).fit(X, tags, steps)
    column = clone(tagger).fit(pandas.Series(X, **odd), pandas.Series(tags, **odd), pandas.Series(steps, **odd))
    same(column.network_, tagger.network_)
    for one, other in zip(column.predict(pandas.Series(X)), tagger.predict(X), strict=True):
        assert_array_equal(one, other)
    rows = np.array([np.resize(x[:, 0], 4) for x in X])
    tagger = SequenceTagger(**QUICK).fit(rows, rows > 0, rows**2)
    table = clone(tagger).fit(*map(pandas.DataFrame, (rows, rows > 0, rows**2)))
    same(table.network_, tagger.network_)
    assert table.score(*map(pandas.DataFrame, (rows, rows > 0))) == tagger.score(rows, rows > 0)
    letters = SequenceTagger(**QUICK).fit(rows, ["ABBA"] * 20).predict(rows[:1])
    assert letters.dtype == SequenceTagger(**QUICK).fit(rows, [list("ABBA")] * 20).predict(rows[:1]).dtype
    words = pandas.DataFrame([["tea", "pot"], ["a", "pot"]], columns=["b", "c"])
    assert [row.tolist() for row in SequenceIndexer().fit_transform(words)] == [[3, 2], [1, 2]]


def test_sequences_stay_as_they_are_where_tables_are_wanted():
    pytest.importorskip("pandas")
    X, _ = ragged()
    scaler = SequenceScaler().set_output(transform="pandas")
    assert isinstance(scaler.fit_transform(X), list)
    assert scaler.fit_transform(np.ones((5, 4, 3))).shape == (5, 4, 3)
    assert not hasattr(scaler, "get_feature_names_out")
    assert scaler.fit_transform(np.ones((5, 4))).shape == (5, 4)
    assert scaler.get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("form", ["dense", "ragged"])
def test_pipelines_searches_and_processes(form):
    X, y = ragged(60)
    X = np.stack([np.resize(x, (6, 3)) for x in X]) if form == "dense" else X
    model = make_pipeline(SequenceScaler(), SequenceClassifier(**QUICK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of joblib's workers
        scores = [cross_val_score(model, X, y, cv=3, n_jobs=n) for n in (1, 2)]
        assert_array_equal(*scores)
        search = GridSearchCV(model, {"sequenceclassifier__units": [2, [4, 4]]}, cv=2, n_jobs=2).fit(X, y)
        assert search.best_score_ == search.cv_results_["mean_test_score"].max()
        assert len(search.best_estimator_[-1].network_) in (2, 3)
        tagger = SequenceTagger(**QUICK)
        steps = np.array([np.arange(6) % 2] * 60) if form == "dense" else signs(X)
        assert_array_equal(*[cross_val_score(tagger, X, steps, cv=3, n_jobs=n) for n in (1, 2)])
        assert GridSearchCV(tagger, {"units": [2, 4]}, cv=2).fit(X, steps).best_score_ > 0
        assert [len(row) for row in cross_val_predict(tagger, X, steps, cv=3)] == [len(x) for x in X]


def test_copies_have_the_same_bits(tmp_path):
    joblib = pytest.importorskip("joblib")
    X, y = ragged()
    model = SequenceClassifier(warm_start=True, **QUICK).fit(X, y)
    want = model.predict_proba(X)
    joblib.dump(model, tmp_path / "model")
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(tmp_path / "model")]
    for other in copies:
        assert_array_equal(other.predict_proba(X), want)
        same(other.fit(X, y).network_, copies[0].network_)
    assert_array_equal(model.predict_proba(X), want)
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_scaler():
    X, _ = ragged()
    scaler = SequenceScaler().fit(X)
    stacked = np.concatenate(X)
    assert_allclose(scaler.mean_, stacked.mean(axis=0), atol=1e-15)
    assert_allclose(np.concatenate(scaler.transform(X)), (stacked - stacked.mean(0)) / stacked.std(0), atol=1e-14)
    assert_allclose(np.concatenate(scaler.inverse_transform(scaler.transform(X))), stacked, atol=1e-14)
    dense = np.random.default_rng(0).normal(size=(5, 4, 3))
    assert scaler.transform(dense).shape == (5, 4, 3)
    assert_allclose(SequenceScaler(with_mean=False).fit(dense).transform(dense) * dense.std((0, 1)), dense)
    constant = SequenceScaler().fit_transform(np.full((2, 3, 1), 0.1))
    assert_allclose(constant, 0, atol=1e-15)
    with pytest.raises(ValueError, match="X has 2 features, but SequenceScaler is expecting 3"):
        scaler.transform(dense[:, :, :2])


def test_indexer():
    X = ["abca", "ab"]
    indexer = SequenceIndexer(min_count=2).fit(X)
    assert indexer.vocabulary_ == [None, "a", "b"]
    assert [row.tolist() for row in indexer.transform(["cab"])] == [[0, 1, 2]]
    assert indexer.inverse_transform([[2, 0]]) == [["b", None]]
    with pytest.raises(NotFittedError):
        SequenceIndexer().transform(X)
    for bad, message in (
        ("abc", "X: expected a list of sequences of words, got str"),
        ([["a"], 2], r"X\[1\]: expected a sequence of words, got int"),
        ([["a", 1]], "X: expected words that can be sorted"),
    ):
        with pytest.raises(TypeError, match=message):
            SequenceIndexer().fit(bad)
    for k in (-1, 3):
        with pytest.raises(ValueError, match=rf"X\[1\]: expected indices from 0 to 2, got {k}"):
            indexer.inverse_transform([[1], [k]])


def test_words_in_a_pipeline():
    rng = np.random.default_rng(0)
    words = [[str(w) for w in rng.choice(["the", "a", "cat", "dog", "sees"], n)] for n in rng.integers(2, 8, 150)]
    tags = [["D" if w in ("the", "a") else "V" if w == "sees" else "N" for w in row] for row in words]
    model = make_pipeline(SequenceIndexer(), SequenceTagger("gru", 8, vocabulary="auto", embedding=4, epochs=20))
    model.set_params(sequencetagger__random_state=0)
    assert model.fit(words, tags).score(words, tags) == 1.0
    assert model.predict([["a", "dog", "unseen"]])[0][:2].tolist() == ["D", "N"]


def test_weights():
    """A weight of 2 is an example twice; class weights are weights of the examples of a class."""
    e = examples("classes", "ones")
    network = cyrnn.initialize_network("gru", n_x=3, n_a=4, n_y=3, rng=1)
    e.weights[3] = 2.0
    twice = gradient_of(Examples(e.sequences, e.targets, None, False), network, np.append(np.arange(12), 3))
    for one, other in zip(leaves(list(twice)), leaves(list(gradient_of(e, network, np.arange(12)))), strict=True):
        assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    X, y = ragged()
    models = [
        SequenceClassifier(class_weight={0: 1, 1: 3}, **QUICK).fit(X, y),
        SequenceClassifier(**QUICK).fit(X, y, np.where(y == 1, 3.0, 1.0)),
        SequenceClassifier(class_weight={0: 1, 1: 1.5}, **QUICK).fit(X, y, np.where(y == 1, 2.0, 1.0)),
    ]
    same(models[0].network_, models[1].network_)
    same(models[0].network_, models[2].network_)
    y[:6] = 2
    share = SequenceClassifier(class_weight="balanced", **QUICK).fit(X, y)
    same(share.network_, SequenceClassifier(**QUICK).fit(X, y, (60 / 3 / np.bincount(y))[y]).network_)
    tags, steps = signs(X), [np.where(row == "up", 2.0, 1.0) for row in signs(X)]
    tagger = SequenceTagger(class_weight={"up": 2.0, "down": 1.0}, **QUICK).fit(X, tags)
    same(tagger.network_, SequenceTagger(**QUICK).fit(X, tags, steps).network_)
    right = np.concatenate([a == b for a, b in zip(tagger.predict(X), tags, strict=True)])
    assert_allclose(tagger.score(X, tags, steps), np.average(right, weights=np.concatenate(steps)))
    assert_allclose(tagger.score(X, tags), right.mean())


def test_a_batch_without_weight_is_skipped():
    X, y = ragged()
    weight = np.zeros(60)
    weight[:3] = 1
    model = SequenceClassifier(batch_size=4, **QUICK).fit(X, y, weight)
    assert np.isfinite(model.history_["loss"]).all()
    late = np.zeros(60)
    late[50:] = 1
    assert SequenceClassifier(batch_size=4, **QUICK).fit(X, y, late).n_iter_ == 3
    with pytest.raises(ValueError, match=r"(?i)sample.weight.*zero"):
        model.fit(X, y, np.zeros(60))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_logits(n):
    """Their softmax, of two classes the sigmoid of their difference, is what is predicted."""
    X, _ = ragged()
    y, tags = np.arange(60) % n, [np.arange(len(x)) % n for x in X]
    found = [SequenceClassifier(**QUICK).fit(X, y), SequenceTagger(**QUICK).fit(X, tags)]
    logits = [found[0].decision_function(X), np.concatenate(found[1].decision_function(X))]
    wanted = [found[0].predict_proba(X), np.concatenate(found[1].predict_proba(X))]
    labels = [found[0].predict(X), np.concatenate(found[1].predict(X))]
    for z, p, y in zip(logits, wanted, labels, strict=True):
        assert z.shape == (p.shape if n != 2 else p.shape[:1])
        if n == 2:
            assert_allclose(1 / (1 + np.exp(-z)), p[:, 1], rtol=1e-14)
            assert_array_equal(z > 0, y == 1)
        else:
            assert_allclose(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), p, rtol=1e-13)
    dense = np.ones((5, 2, 3))
    assert found[1].decision_function(dense).shape == ((5, 2) if n == 2 else (5, 2, n))


def test_values_and_several_outputs():
    X, _ = ragged(120)
    values = [np.column_stack([x[:, 0].cumsum(), x[:, 1]]) / 3 for x in X]
    tagger = SequenceTagger("gru", 16, values=True, epochs=30, random_state=0).fit(X, values)
    assert tagger.predict(X)[0].shape == values[0].shape
    assert tagger.score(X, values) > 0.9
    single = SequenceTagger("gru", values=True, **QUICK).fit(X, [v[:, 0] for v in values])
    assert single.predict(X)[0].shape == values[0][:, 0].shape
    for name in ("predict_proba", "decision_function"):
        with pytest.raises(AttributeError, match=name):
            getattr(single, name)
        assert not hasattr(single, name)
    with pytest.raises(ValueError, match="classes: expected None of a tagger of values"):
        single.partial_fit(X, [v[:, 0] for v in values], classes=[0, 1])
    y = np.array([v[-1] for v in values])
    model = SequenceRegressor("gru", 16, epochs=30, random_state=0).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.8


def test_early_stopping():
    X, y = ragged(200)
    y[:60] = 1 - y[:60]  # so that it learns by heart
    fit = {"units": 32, "early_stopping": True, "validation_fraction": 0.3, "random_state": 0, "schedule": "constant"}
    model = SequenceClassifier(epochs=100, patience=5, **fit).fit(X, y)
    losses = model.history_["validation_loss"]
    assert model.n_iter_ == len(losses) == len(model.history_["loss"]) < 100
    assert model.best_epoch_ == 1 + np.argmin(losses) == model.n_iter_ - 5
    shorter = SequenceClassifier(epochs=model.best_epoch_, patience=100, **fit).fit(X, y)
    same(shorter.network_, model.network_)
    for kind, Model in (("values", SequenceRegressor), ("tags", SequenceTagger)):
        y = signs(X) if kind == "tags" else y * 1.0
        model = Model(early_stopping=True, **QUICK).fit(X, y)
        assert len(model.history_["validation_score"]) == 3


@pytest.mark.parametrize("random_state", [0, None])
def test_what_was_held_out_is_not_trained_on_later(monkeypatch, tmp_path, random_state):
    from cyrnn.estimators import _base

    parts, split = [], _base.train_test_split

    def watched(*arrays, **named):
        parts.append(split(*arrays, **named))
        return parts[-1]

    monkeypatch.setattr(_base, "train_test_split", watched)
    X, y = ragged()
    fit = {"units": 2, "epochs": 1, "early_stopping": True, "validation_fraction": 0.3, "warm_start": True}
    model = SequenceClassifier(random_state=random_state, **fit)
    model.fit(X, y).fit(X, y).save(tmp_path / "model")
    SequenceClassifier.load(tmp_path / "model").fit(X, y)
    for train, held_out in parts:
        assert_array_equal(held_out, parts[0][1])
        assert not set(train) & set(held_out)
        assert len(held_out) == 18
        assert abs(y[held_out].sum() - 0.3 * y.sum()) < 1  # as many of each class
    model.set_params(warm_start=False, random_state=1).fit(X, y)
    assert set(parts[3][1]) != set(parts[0][1])


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        ("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25]), ("cosine", [1, 0.853553, 0.5, 0.146447]),
        (lambda done: 1 - done**2, [1, 0.9375, 0.75, 0.4375]),
    ],
)  # fmt: skip
def test_schedules(monkeypatch, schedule, want):
    from cyrnn.estimators import _base

    rates, update = [], _base.update_parameters_with_adam

    def watched(parameters, gradients, v, s, t, rate, **named):
        rates.append(rate)
        assert t == len(rates)
        return update(parameters, gradients, v, s, t, rate, **named)

    monkeypatch.setattr(_base, "update_parameters_with_adam", watched)
    X, y = ragged(20)
    SequenceClassifier(units=2, epochs=2, batch_size=10, schedule=schedule, learning_rate=0.02).fit(X, y)
    assert_allclose(rates, 0.02 * np.array(want), rtol=1e-5)


def test_warm_start_and_partial_fit():
    X, y = ragged()
    fit = {"units": 8, "schedule": "constant", "batch_size": 60, "random_state": 0}
    whole = SequenceClassifier(epochs=4, **fit).fit(X, y)
    parts = SequenceClassifier(epochs=2, warm_start=True, **fit).fit(X, y)
    parts.fit(X, y)
    assert parts.n_iter_ == len(parts.history_["loss"]) == 4
    for one, other in zip(leaves(whole.network_), leaves(parts.network_), strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-11)  # a batch of all in another order
    partial = SequenceClassifier(**fit)
    for _ in range(4):
        partial.partial_fit(X, y, classes=[0, 1])
    same(partial.network_, whole.network_)
    first = SequenceClassifier(**fit).partial_fit(X[:1], y[:1], classes=[2, 1, 0])
    assert first.predict_proba(X).shape == (60, 3)
    with pytest.raises(ValueError, match=r"y: expected the classes of before, \[0, 1, 2\], got .*3"):
        first.partial_fit(X, y + 2)
    with pytest.raises(ValueError, match=r"classes: expected those of before, \[0, 1, 2\], got \[0, 1\]"):
        first.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes: expected all labels of y, got none that is 1"):
        SequenceClassifier(**fit).partial_fit(X, y, classes=[0, 2])
    tags = signs(X)
    tagger = SequenceTagger(**fit).partial_fit(X[:1], [["up"] * len(X[0])], classes=["up", "down", "left"])
    assert tagger.partial_fit(X, tags, classes=["down", "left", "up"]).classes_.tolist() == ["down", "left", "up"]
    assert SequenceTagger(**fit).partial_fit(X, tags).classes_.tolist() == ["down", "up"]
    with pytest.raises(ValueError, match="class_weight: expected weights of each class"):
        SequenceTagger(class_weight="balanced", **fit).partial_fit(X, tags)
    failed = SequenceClassifier(**fit)
    with pytest.raises(ValueError, match=r"X\[0\]: expected one step"):
        failed.partial_fit([x[:0] for x in X], y, classes=[0, 1, 2])
    assert failed.fit(X, y).classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match="class_weight: expected weights of each class"):
        SequenceClassifier(class_weight="balanced", **fit).partial_fit(X, y)
    regressor = SequenceRegressor(**fit).partial_fit(X, y * 1.0)
    assert regressor.partial_fit(X, y * 1.0).n_iter_ == 2
    tagger = SequenceTagger(values=True, **fit).partial_fit(X, [x[:, :2] for x in X])
    for model, wide in ((regressor, np.ones((60, 3))), (tagger, X)):
        with pytest.raises(ValueError, match=r"y: expected [12] outputs as before, got 3"):
            model.partial_fit(X, wide)
    with pytest.raises(ValueError, match="y: expected one output at least, got none"):
        SequenceTagger(values=True, **fit).fit(X, [x[:, :0] for x in X])
    with pytest.raises(ValueError, match=r"y: expected one value a step, or several .*, got shape \(3, 1\)"):
        SequenceTagger(values=True, **fit).fit(X, [x[:, :, None] for x in X])


OTHERS = {"cell": "gru", "units": [8, 8], "bidirectional": True, "dtype": "float32", "embedding": 5, "vocabulary": 9}


@pytest.mark.parametrize("name", [*OTHERS, "values"])
def test_a_training_does_not_go_on_with_another_network(tmp_path, name):
    X = [rng.integers(7, size=5) for rng in map(np.random.default_rng, range(20))]
    y = [x % 2 for x in X]
    model = SequenceTagger(vocabulary=7, embedding=4, warm_start=True, **QUICK).fit(X, y)
    model.save(tmp_path / "model")
    for trained in (model, SequenceTagger.load(tmp_path / "model")):
        trained.set_params(units=[8], dtype=np.float64).fit(X, y)  # the same in other words
        trained.set_params(**{name: OTHERS.get(name, True)})
        for train in (trained.fit, trained.partial_fit):
            with pytest.raises(ValueError, match=f"{name}: expected .* as the network has whose training goes on, got"):
                train(X, y)
        assert trained.set_params(warm_start=False).fit(X, y).n_iter_ == 3


def test_bar(capsys):
    pytest.importorskip("tqdm")
    X, y = ragged()
    SequenceClassifier(verbose=True, early_stopping=True, **QUICK).fit(X, y)
    shown = capsys.readouterr().err
    for word in ("3/3", "epoch/s", "loss=", "validation_score="):
        assert word in shown


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("at", [1, 4, 9])  # of 3 updates an epoch
def test_interrupt_keeps_the_best_network(monkeypatch, at, early_stopping):
    from cyrnn.estimators import _base

    X, y = ragged(60)
    fit = {"units": 4, "batch_size": 20, "random_state": 0, "early_stopping": early_stopping, "schedule": "constant"}
    model, gradient, calls = SequenceClassifier(epochs=50, **fit), _base.gradient_of, []

    def interrupted(*arguments):
        calls.append(0)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return gradient(*arguments)

    monkeypatch.setattr(_base, "gradient_of", interrupted)
    epochs = (at - 1) // 3
    kept = f"the network of epoch {epochs} is kept" if epochs else "the untrained network is kept"
    with pytest.warns(UserWarning, match=f"interrupted in epoch {epochs + 1} of 50; {kept}"):
        model.fit(X, y)
    monkeypatch.undo()
    assert model.n_iter_ == model.best_epoch_ == len(model.history_["loss"]) == epochs
    assert model.predict(X).shape == (60,)
    if epochs:
        same(model.network_, SequenceClassifier(epochs=epochs, **fit).fit(X, y).network_)
    assert model.set_params(warm_start=True, epochs=1).fit(X, y).n_iter_ == epochs + 1


def test_a_real_interrupt():
    X, y = ragged(200)
    timers = []

    def schedule(done):  # called in the training, so that the signal comes neither before nor after it
        if not timers:
            timers.append(threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()
        return 1.0

    with pytest.warns(UserWarning, match="interrupted in epoch"):
        model = SequenceClassifier(units=64, epochs=100_000, schedule=schedule, random_state=0).fit(X, y)
    assert model.predict(X).shape == (200,)


@pytest.mark.parametrize("rate", [1e155, 50.0])
def test_divergence_stops_and_keeps_the_last_good_network(rate):
    """A loss that overflows, and one that is far above that of zeros."""
    X, y = ragged()
    fit = {"units": 4, "batch_size": 10, "clip_norm": None, "random_state": 0}
    schedule = lambda done: 1e-3 if done < 0.5 else rate  # noqa: E731
    model = SequenceRegressor(epochs=4, learning_rate=1.0, schedule=schedule, **fit)
    with pytest.warns(ConvergenceWarning, match=r"diverged in epoch 3 of 4 \(.*\); the network of epoch 2 is kept"):
        model.fit(X, y * 1.0)
    assert (model.best_epoch_, model.n_iter_) == (2, 2)
    good = SequenceRegressor(epochs=2, learning_rate=1.0, schedule=lambda done: 1e-3, **fit).fit(X, y * 1.0)
    same(model.network_, good.network_)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_that_the_held_out_part_shows(dtype):
    """One update an epoch: finite weights, whose predictions have squares that are not."""
    X, y = ragged()
    size = float(np.finfo(dtype).max) ** 0.9
    schedule = lambda done: 1e-3 if done < 0.5 else size  # noqa: E731
    fit = {"units": 4, "batch_size": 60, "clip_norm": None, "dtype": dtype, "early_stopping": True, "random_state": 0}
    model = SequenceRegressor(epochs=4, learning_rate=1.0, schedule=schedule, **fit)
    with pytest.warns(ConvergenceWarning, match=r"in epoch 3 of 4 \(on the held-out part: .*the network of epoch 2 is"):
        model.fit(X, y * 1.0)
    assert [len(values) for values in model.history_.values()] == [2, 2, 2]
    assert np.isfinite(model.predict(X)).all()


def test_without_a_held_out_part_the_last_network_is_kept():
    X, y = ragged()
    fit = {"units": 8, "epochs": 3, "batch_size": 60, "random_state": 0, "clip_norm": None}
    model = SequenceClassifier(schedule=lambda done: 1.0 if done < 0.3 else 60.0, **fit).fit(X, y)
    assert model.history_["loss"][2] > model.history_["loss"][1]
    assert model.best_epoch_ == model.n_iter_ == 3
    assert not np.array_equal(model.network_[-1]["Wy"], model.set_params(epochs=2).fit(X, y).network_[-1]["Wy"])


def test_an_interrupt_before_the_first_update_leaves_the_untrained_network(monkeypatch):
    from cyrnn.estimators import _base

    def interrupted(*arguments):
        raise KeyboardInterrupt

    X, y = ragged()
    model = SequenceClassifier(**QUICK).fit(X, y)
    monkeypatch.setattr(_base, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit([x[:, :2] for x in X], np.arange(60) % 3)
    monkeypatch.undo()
    assert model.predict_proba([x[:, :2] for x in X]).shape == (60, 3)
    assert model.n_iter_ == model.best_epoch_ == len(model.history_["loss"]) == 0


def test_an_interrupt_of_the_validation_leaves_the_history_whole(monkeypatch):
    from cyrnn.estimators import _base

    calls, loss_of = [], _base.loss_of

    def interrupted(*arguments):
        calls.append(0)
        if len(calls) == 4:  # the first is that of the untrained network
            raise KeyboardInterrupt
        return loss_of(*arguments)

    monkeypatch.setattr(_base, "loss_of", interrupted)
    X, y = ragged()
    with pytest.warns(UserWarning, match="interrupted in epoch 3 of 9"):
        model = SequenceClassifier(units=4, epochs=9, early_stopping=True, random_state=0).fit(X, y)
    assert [len(values) for values in model.history_.values()] == [2, 2, 2]
    assert model.n_iter_ == 2


def test_a_schedule_out_of_range_is_an_error():
    X, y = ragged()
    for result, alpha in ((-0.1, 0.0), (np.nan, 0.0), (1e4, 1.0), ("x", 0.0)):
        with pytest.raises((TypeError, ValueError), match="schedule: expected"):
            SequenceClassifier(schedule=lambda done, result=result: result, alpha=alpha, **QUICK).fit(X, y)


def test_small_targets_are_no_divergence():
    X, y = ragged()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SequenceRegressor(**QUICK).fit(X, y * 1e-6)
    assert model.n_iter_ == 3


class Client:
    """A cluster whose only worker is here: what it computed stays there and is known here by its number."""

    def __init__(self):
        self.kept, self.sent = [], []

    def submit(self, function, first, *others, pure):
        assert not pure  # else Dask would hash all of the network at every update
        if isinstance(first, int):
            first = self.kept[first]
        self.sent.append(pickle.dumps(others))
        self.kept.append(function(first, *others))
        return len(self.kept) - 1

    def gather(self, numbers):
        return [self.kept[k] for k in numbers]


@pytest.mark.parametrize("Model", [SequenceClassifier, SequenceTagger])
def test_cluster(Model):
    """The bits of one process with as many shards; the sequences travel once."""
    X, y = ragged(50, most=20)
    y = signs(X) if Model is SequenceTagger else y
    model, client = Model("gru", units=4, n_shards=3, batch_size=25, epochs=3, random_state=0), Client()
    near = clone(model).set_params(n_shards=1).fit(X, y).network_
    same(clone(model).fit(X, y, client=client).network_, model.fit(X, y).network_)
    for one, other in zip(leaves(near), leaves(model.network_), strict=True):
        assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    assert len(client.sent) == 3 + 3 * 3 * 2  # the shards; then three parts of two batches in three epochs
    assert max(map(len, client.sent[3:])) < 20_000


@pytest.mark.parametrize("n_shards", [12, 100])
def test_more_shards_than_sequences(n_shards):
    X, y = ragged(12)
    one = SequenceClassifier(n_shards=12, **QUICK).fit(X, y)
    same(SequenceClassifier(n_shards=n_shards, **QUICK).fit(X, y, client=Client()).network_, one.network_)


BAD = [
    ({"epochs": 0}, "epochs: expected an integer of 1 or more, got 0"),
    ({"batch_size": 1.5}, "batch_size: expected an integer, got float"),
    ({"learning_rate": 0.0}, "learning_rate: expected a finite number above 0"),
    ({"alpha": 1e6}, "alpha: expected at most 1 / learning_rate"),
    ({"clip_norm": -1}, "clip_norm: expected"),
    ({"schedule": "steep"}, "schedule: expected 'constant', 'linear', 'cosine' or a function, got 'steep'"),
    ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction: expected a number between 0 and 1"),
    ({"embedding": 3}, "embedding: expected None without a vocabulary"),
    ({"vocabulary": 0}, "vocabulary: expected an integer of 1 or more"),
    ({"vocabulary": 5}, "X: expected indices, integers of one dimension a sequence, got dtype float64"),
    ({"cell": "tree"}, "cell: expected 'rnn' or 'lstm' or 'gru', got 'tree'"),
    ({"units": [3, 0]}, r"units\[1\]: expected an integer of 1 or more, got 0"),
    ({"units": 8.0}, "units: expected an integer, got float"),
    ({"units": []}, "units: expected those of one layer at least, got none"),
    ({"n_threads": 0}, "n_threads: expected 1 to 1024 threads"),
    ({"n_shards": 0}, "n_shards: expected an integer of 1 or more"),
    ({"dtype": "float16"}, r"dtype: expected numpy.float64 or numpy.float32, got 'float16'"),
    ({"warm_start": 1}, "warm_start: expected True or False"),
    ({"class_weight": {1: -2.0}}, r"class_weight\[1\]: expected a finite number, 0 or more, got -2.0"),
    ({"class_weight": {0: np.nan}}, r"class_weight\[0\]: expected a finite number, 0 or more, got nan"),
    ({"class_weight": {0: 0, 1: 0}}, "class_weight: expected one weight above 0 at least, got zeros"),
    ({"class_weight": "equal"}, "class_weight: expected None, 'balanced' or a dict from labels to weights"),
    ({"class_weight": {5: 1.0}}, r"class_weight: expected weights of the classes, got others: .*\[0, 1\]"),
    ({"random_state": -1}, "random_state: expected an integer from 0 to .*, got -1"),
    ({"random_state": np.random.default_rng(0)}, "random_state: expected .* numpy.random.RandomState or None, got Gen"),
    ({"early_stopping": True, "validation_fraction": 0.01}, "early_stopping: .*12 .*validation_fraction=0.01"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_parameters_are_refused_by_name(parameters, message):
    X, y = ragged(12)
    with pytest.raises((TypeError, ValueError), match=message):
        SequenceClassifier(**(QUICK | parameters)).fit(X, y)


def test_data_are_refused_by_name():
    X, y = ragged(12)
    model = SequenceClassifier(**QUICK).fit(X, y)

    def refused(message, X=X, y=y, model=model, weight=None):
        with pytest.raises((TypeError, ValueError), match=message):
            clone(model).fit(X, y, weight)

    broken = [x.copy() for x in X]
    broken[4][1, 2] = np.nan
    refused(r"Input X contains NaN: X\[4\] at step 1", broken)
    with pytest.raises(ValueError, match=r"Input X contains NaN: X\[4\] at step 1"):
        model.predict(broken)
    broken[4][1, 2] = np.inf
    refused(r"Input X contains infinity: X\[4\] at step 1", broken)
    dense = np.ones((12, 4, 3))
    dense[7, 2, 1] = np.nan
    refused("Input X contains NaN", dense)
    refused(r"X\[3\]: expected one step at least, got none", [x if j != 3 else x[:0] for j, x in enumerate(X)])
    refused("X: expected one step at least, got none", np.ones((12, 0, 3)))
    refused(r"X\[11\]: expected n_x = 3, as X\[0\], got n_x = 2", [*X[:11], X[11][:, :2]])
    refused("Input y contains NaN", y=np.where(np.arange(12) == 3, np.nan, 1.0))
    refused("Input y contains", y=np.where(np.arange(12) == 3, np.nan, 1.5), model=SequenceRegressor(**QUICK))
    for missing, name in ((np.nan, "NaN"), (None, "None")):
        refused(f"Input y contains {name}", y=["a", missing] * 6)
        refused(f"Input y contains {name}", y=[[*row[1:], missing] for row in signs(X)], model=SequenceTagger(**QUICK))
    refused("y: expected labels of one kind, which can be sorted", y=np.array(["a", 1] * 6, object))
    for odd, kind in ((None, "NoneType"), (iter(X), "list_iterator"), ({"a": 1}, "dict"), (3, "int"), ("tea", "str")):
        refused(f"X: expected an array or a list of sequences, got {kind}", odd)
    refused("X: expected one feature at least, got none", np.ones((12, 4, 0)))
    refused(r"X\[0\]: expected one feature at least, got none", [x[:, :0] for x in X])
    refused(r"X\[0\]: expected one step at least, got none", [[], *X[1:]])
    refused(r"X: expected an array of valid numbers, got one with 1 of 144 masked",
            np.ma.array(np.ones((12, 4, 3)), mask=np.arange(144).reshape(12, 4, 3) == 5))  # fmt: skip
    refused("inconsistent numbers of samples", y=y[:5])
    refused(r"X: expected indices from 0 to vocabulary - 1 = 4, got 9: X\[1\] at step 2",
            [[1, 2], [3, 4, 9]] * 6, model=SequenceClassifier(vocabulary=5, **QUICK))  # fmt: skip
    tagger, tags = SequenceTagger(**QUICK), signs(X)
    refused(r"y\[2\]: expected \d+ steps, as X\[2\], got shape \(1,\)", y=[*tags[:2], ["up"], *tags[3:]], model=tagger)
    refused("inconsistent numbers of samples", y=tags[:3], model=tagger)
    refused("sample_weight", y=tags, model=tagger, weight=[np.ones(len(x)) for x in X[:3]])
    refused("sample_weight: expected finite numbers", y=tags, model=tagger, weight=[-np.ones(len(x)) for x in X])
    refused("Negative values in data passed to `sample_weight`", weight=-np.ones(12))
    values = [np.full(len(x), np.nan) for x in X]
    refused("Input y contains NaN", y=values, model=SequenceTagger(values=True, **QUICK))
    with pytest.raises(ValueError, match="X has 2 features, but SequenceClassifier is expecting 3 features"):
        model.predict([x[:, :2] for x in X])
    with pytest.raises(ValueError, match=r"expecting 3 features.*: one sequence of several is \[X\]"):
        model.predict(X[0])
    refused("X: expected one sequence at least, got none", [], [])
    refused(r"X: expected two or three dimensions, got shape \(12, 4, 3, 2\)", np.ones((12, 4, 3, 2)))
    sentences = [["tea", "pot"]] * 12
    for words in (["tea", "pot"] * 6, [["a", "cat"], ["sleeps"]] * 6, np.array(sentences), np.array(sentences, object)):
        refused("X: expected numbers, got words; SequenceIndexer makes indices of them", words)
    large = [x * (1e300 if j == 5 else 1) for j, x in enumerate(X)]
    single = SequenceClassifier(dtype="float32", **QUICK).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(r"X: expected numbers up to 3.4e\+38, as float32 has: X\[5\] at step 0", large, model=single)
        with pytest.raises(ValueError, match=r"as float32 has: X\[5\] at step 0"):
            single.predict(large)
    refused("y: expected real numbers, got dtype <U4", y=["more", "less"] * 6, model=SequenceRegressor(**QUICK))
    refused("y: expected real numbers, got 'a'", y=np.array(["a", 1] * 6, object), model=SequenceRegressor(**QUICK))
    refused("y: expected values up to 1.3e.154", y=np.full(12, 1e200), model=SequenceRegressor(**QUICK))
    refused("y: expected labels, got numbers that are not whole; values=True", y=[x[:, 0] for x in X], model=tagger)
    mixed = [x[:, :2] if j == 0 else x[:, 0] for j, x in enumerate(X)]
    valued = SequenceTagger(values=True, **QUICK).fit(X, [x[:, 0] for x in X])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        valued.score(X, values)
    refused(r"y\[1\]: expected \(2,\) at each step, as y\[0\]", y=mixed, model=SequenceTagger(values=True, **QUICK))


@pytest.mark.parametrize("warm_start", [False, True])
def test_after_an_error_the_estimator_is_as_before(warm_start):
    X, y = ragged(12)
    model = SequenceClassifier(warm_start=warm_start, **QUICK).fit(X, y)
    other = copy.deepcopy(model)
    narrow = [x[:, :2] for x in X]
    for parameters, wrong in (
        ({}, (narrow, y[:5])), ({}, (narrow, np.full(12, np.nan))),
        ({"early_stopping": True, "validation_fraction": 0.01}, (X, y)), ({"schedule": "steep"}, (X, y)),
        ({}, (narrow, y, None, "no client")),
    ):  # fmt: skip
        model.set_params(**parameters)
        for train in (model.fit, model.partial_fit) if not parameters else (model.fit,):
            if len(wrong) == 4:
                with pytest.raises(TypeError, match=r"client: expected a distributed.Client, got str"):
                    model.fit(*wrong[:3], client=wrong[3])
                continue
            with pytest.raises(ValueError):  # noqa: PT011  # any
                train(*wrong)
        model.set_params(early_stopping=False, validation_fraction=0.1, schedule="linear")
        assert_array_equal(model.predict_proba(X), other.predict_proba(X))
    assert model.history_ == other.history_
    same(model.partial_fit(X, y).network_, other.partial_fit(X, y).network_)


def test_batches_of_similar_lengths(monkeypatch):
    from cyrnn.estimators import _base

    seen, gradient = [], _base.gradient_of

    def watched(examples, network, batch):
        seen.append(examples.sequences.lengths[batch])
        return gradient(examples, network, batch)

    monkeypatch.setattr(_base, "gradient_of", watched)
    X, y = ragged(64, most=60)
    for similar, least, most in ((True, 0.0, 0.2), (False, 0.7, 1.1)):
        seen.clear()
        fit = {"units": 2, "epochs": 1, "batch_size": 8, "random_state": 0}
        SequenceClassifier(similar_lengths=similar, **fit).fit(X, y)
        assert sum(map(len, seen)) == 64
        assert least < np.mean([lengths.std() for lengths in seen]) / np.std([len(x) for x in X]) < most


def test_other_libraries(tmp_path):
    X, y = ragged()
    model = SequenceClassifier("gru", 8, vocabulary=None, epochs=2, random_state=0).fit(X, y)
    stream = model.to_stream()
    for x, want in zip(X[:5], model.predict_proba(X), strict=False):
        stream.reset()
        for step in x:
            _, found = stream.step(step[:, None])
        assert_allclose(found[:, 0], want, rtol=1e-14)
    if find_spec("torch"):
        import torch

        both = SequenceClassifier("lstm", [4, 4], bidirectional=True, epochs=2, random_state=0).fit(X, y)
        for fitted, net in ((model, torch.nn.GRU(3, 8)), (both, torch.nn.LSTM(3, 4, 2, bidirectional=True))):
            top = torch.nn.Linear(8, 2)
            torch.nn.ModuleDict({"rnn": net, "fc": top}).double().load_state_dict(fitted.to_torch())
            for x, want in zip(X[:5], fitted.predict_proba(X), strict=False):
                _, last = net(torch.from_numpy(x[:, None]))
                last = last[0] if isinstance(last, tuple) else last
                found = torch.softmax(top(torch.cat(list(last[-2:] if fitted is both else last[-1:]), dim=1)), dim=1)
                assert_allclose(found.detach().numpy()[0], want, rtol=1e-13)
        other = SequenceClassifier("lstm", [4, 5], epochs=1).fit(X, y)
        assert "rnn1.weight_hh_l0" in other.to_torch(layer=["rnn0", "rnn1"])
    if find_spec("keras"):
        same(cyrnn.from_keras(model.to_keras(), network=True), model.network_)
    if find_spec("onnx"):
        model.to_onnx(tmp_path / "model.onnx", dtype="float64")
        same(cyrnn.import_onnx(tmp_path / "model.onnx"), model.network_)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_onnx_predicts_the_same(tmp_path, cell, both):
    """By its reference evaluator: a class of the sequence, a value of it, a label of each step."""
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    X, y = ragged()
    fit = {"cell": cell, "units": [4, 3], "bidirectional": both, "epochs": 2, "random_state": 0}
    for Model, given in ((SequenceClassifier, y), (SequenceRegressor, y), (SequenceTagger, signs(X))):
        model = Model(**fit).fit(X, given)
        model.to_onnx(tmp_path / "model.onnx", dtype="float64")
        session = ReferenceEvaluator(str(tmp_path / "model.onnx"))
        for x in X[:3]:
            zeros = {name: np.zeros((3 if name[3] == "1" else 4, 1)) for name in session.input_names if name != "x"}
            found = session.run(["y"], {"x": x.T[:, None], **zeros})[0][:, 0]
            if Model is SequenceTagger:
                want = model.predict_proba([x])[0].T
            else:
                assert found.ndim == (1 if both else 2)
                found = found if both else found[:, -1]
                want = model.predict_proba([x])[0] if Model is SequenceClassifier else model.predict([x])
            assert_allclose(found, want, atol=1e-15)


@pytest.mark.parametrize("Model", [SequenceClassifier, SequenceRegressor, SequenceTagger])
def test_float32(tmp_path, Model):
    """All of it in float32, near the float64 network of the same seed after some updates."""
    X, y = ragged(40)
    y = signs(X) if Model is SequenceTagger else y
    weights = np.linspace(0.5, 1.5, 40)
    model, double = (
        Model("lstm", [8, 8], bidirectional=True, dtype=dtype, epochs=2, early_stopping=True, random_state=0)
        .fit(X, y, weights) for dtype in ("float32", "float64")
    )  # fmt: skip
    assert {array.dtype for array in leaves([model.network_, model._training.v])} == {np.dtype(np.float32)}
    for one, other in zip(leaves(model.network_), leaves(double.network_), strict=True):
        assert_allclose(one, other, atol=2e-4)
    if Model is SequenceRegressor:
        assert model.predict(X).dtype == np.float32
    else:
        found, want = (np.concatenate([np.atleast_2d(p) for p in m.predict_proba(X)]) for m in (model, double))
        assert found.dtype == np.float32
        assert_allclose(found, want, atol=2e-4)
    same(clone(model).set_params(n_threads=2).fit(X, y, weights).network_, model.network_)
    model.save(tmp_path / "model")
    same(Model.load(tmp_path / "model").network_, model.network_)
    assert leaves(Model.load(tmp_path / "model").network_)[0].dtype == np.float32


MODELS = [
    (SequenceClassifier(class_weight={0: 1.0, 1: 2.0}, units=[4, 3], bidirectional=True, epochs=2, random_state=0), 1),
    (SequenceRegressor("gru", units=np.int64(4), epochs=2, random_state=0), 1.0),
    (SequenceTagger("rnn", units=4, epochs=2, early_stopping=True, random_state=0), None),
]


@pytest.mark.parametrize(("model", "factor"), MODELS, ids=["classifier", "regressor", "tagger"])
def test_files(tmp_path, model, factor):
    X, y = ragged()
    y = signs(X) if factor is None else y * factor
    path = tmp_path / "model.npz"
    model = clone(model).set_params(warm_start=True).fit(X, y)
    model.save(path)
    again = type(model).load(path)
    assert repr(again.get_params()) == repr(type(model)(**again.get_params()).get_params())
    assert again.history_ == model.history_
    assert_array_equal(np.concatenate(list(map(np.atleast_1d, again.predict(X)))),
                       np.concatenate(list(map(np.atleast_1d, model.predict(X)))))  # fmt: skip
    assert cyrnn.load_checkpoint(path).step == 2 * 2
    copied = pickle.loads(pickle.dumps(model))
    same(type(model).load(path).fit(X, y).network_, model.fit(X, y).network_)
    same(again.partial_fit(X, y).network_, copied.partial_fit(X, y).network_)  # whose batches go on
    model.set_params(warm_start=False, dtype=np.float64).fit(X, y).save(path)
    assert type(model).load(path).dtype == "float64"
    with pytest.raises(ValueError, match="expected a file that"):
        (SequenceRegressor if factor != 1.0 or type(factor) is int else SequenceClassifier).load(path)
    if type(factor) is int:
        model.set_params(class_weight=None).fit(X, np.array(["no", "yes"], object)[y]).save(path)
        assert type(model).load(path).predict(X).dtype == object
        assert type(model).load(path).predict(X).tolist() == model.predict(X).tolist()
    if factor is None:
        numbers = [np.array([int(label == "up") for label in row], object) for row in y]
        model.fit(X, numbers).save(path)
        assert type(model).load(path).predict(X)[0].tolist() == model.predict(X)[0].tolist()
        with pytest.raises(TypeError, match="schedule: expected numbers and strings"):
            model.set_params(schedule=lambda done: 1.0).fit(X, y).save(path)


def test_plot():
    pytest.importorskip("matplotlib")
    X, y = ragged()
    model = SequenceClassifier(warm_start=True, **QUICK).fit(X, y)
    lines = {line.get_label(): line.get_ydata() for line in model.plot().axes[0].get_lines()[:-1]}
    assert list(lines) == ["loss"]
    axes = model.set_params(early_stopping=True).fit(X, y).plot().axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()[:-1]}
    assert list(lines) == ["loss", "validation loss", "validation score"]
    assert_array_equal(np.isnan(lines["validation loss"]), [True] * 3 + [False] * 3)
    assert axes.get_lines()[-1].get_xdata()[0] == model.best_epoch_


def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None\nimport cyrnn\nimport cyrnn.estimators"
    environment = os.environ | {"PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "ImportError: cyrnn.estimators needs scikit-learn: pip install 'cyrnn[sklearn]'" in done.stderr


def test_the_programs_of_the_page_are_short():
    page = Path(__file__).parent.parent / "docs" / "estimators.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    programs = page.read_text().split("```python\n")[1:4]
    for program, model in zip(programs, ("Classifier", "Tagger", "Regressor"), strict=True):
        lines = [line for line in program.partition("```")[0].splitlines() if line]
        assert f"Sequence{model}" in program
        assert 5 <= len(lines) <= 10


def test_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    X, y = ragged(12)
    with pytest.raises(ImportError, match=r"verbose needs tqdm: pip install 'cyrnn\[sklearn\]'"):
        SequenceClassifier(verbose=True, **QUICK).fit(X, y)
