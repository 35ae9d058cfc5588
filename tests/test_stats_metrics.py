"""Metrics from weighted counts, against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import task
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from dhrd_bench.metrics import METRICS
from dhrd_bench.stats.counts import ClusterCounts, cluster_counts, influence, known, score


def weighted(table: ClusterCounts, weights, names):
    weights = np.asarray(weights, dtype=np.float32)[None]
    return score(table.unpack((weights @ table.own).astype(float), (weights @ table.shared).astype(float)), names)[0]


def by_sklearn(name, labels, predictions, weights, classes):
    if name == "accuracy":
        return accuracy_score(labels, predictions, sample_weight=weights)
    if name == "f1_macro":
        kinds = list(range(classes))
        return f1_score(
            labels, predictions, labels=kinds, average="macro", sample_weight=weights, zero_division=0
        )  # fmt: skip
    if name in ("f1", "f1a"):
        return f1_score(labels == 1, predictions == 1, sample_weight=weights, zero_division=0)
    return matthews_corrcoef(labels, predictions, sample_weight=weights)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_weighted_metrics_are_those_of_sklearn(data):
    classes = data.draw(st.integers(2, 4))
    n = data.draw(st.integers(2, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    labels = rng.integers(0, classes, n)
    predictions = rng.integers(-1, classes, (2, 2, n))  # -1: not read
    weights = rng.integers(0, 4, n)
    weights[rng.integers(n)] += 1
    for name in ("accuracy", "f1_macro", "f1", "f1a", "matthews_correlation"):
        table = cluster_counts(task(labels, predictions, [name], classes))
        found = weighted(table, weights, [name])
        for m in range(2):
            for s in range(2):
                expected = 100 * by_sklearn(name, labels, predictions[m, s], weights, classes)
                assert found[m, s] == pytest.approx(expected, abs=1e-9), name


def test_clusters_add_up_and_exact_match_counts_whole_questions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    predictions = np.where(rng.random((2, 3, 60)) < 0.8, labels, 1 - labels)
    clusters, groups = np.arange(60) // 12, np.arange(60) // 3
    weights = np.array([2, 0, 1, 1, 3])
    names = ["f1a", "exact_match"]
    found = weighted(cluster_counts(task(labels, predictions, names, 2, clusters, groups)), weights, names)
    for m in range(2):
        for s in range(3):
            right = total = 0
            for group in range(20):
                weight = weights[group // 4]
                total += weight
                right += weight * all(predictions[m, s, i] == labels[i] for i in range(60) if groups[i] == group)
            f1a = by_sklearn("f1a", labels, predictions[m, s], weights[clusters], 2)
            assert found[m, s] == pytest.approx(100 * (f1a + right / total) / 2, abs=1e-9)


def test_an_unread_answer_is_a_miss_and_no_prediction():
    counts = cluster_counts(task([0, 1, 2], [[[0, -1, -1]]], ["f1_macro"], 3))
    assert weighted(counts, [1, 1, 1], ["f1_macro"])[0, 0] == pytest.approx(100 / 3)


def test_accuracy_alone_needs_one_count_per_cell():
    grid = task([0, 1, 1], [[[0, 1, 0]]], ["accuracy"], 2)
    assert cluster_counts(grid).own.shape == (3, 1)
    assert weighted(cluster_counts(grid), [1, 1, 1], ["accuracy"])[0, 0] == pytest.approx(200 / 3)


@pytest.mark.parametrize("names", [["accuracy"], ["f1_macro", "accuracy"], ["f1a", "exact_match"], ["f1"]])
def test_influence_is_the_derivative_and_sums_to_nothing(names):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40)
    predictions = np.where(rng.random((2, 2, 40)) < 0.7, labels, 1 - labels)
    table = cluster_counts(task(labels, predictions, names, 2, np.arange(40) // 4, np.arange(40) // 2))
    found = influence(table, names)
    assert np.abs(found.sum(axis=-1)).max() < 1e-4
    step = 2**-10
    for cluster in (0, 5):
        up, down = np.ones(10), np.ones(10)
        up[cluster] += step
        down[cluster] -= step
        slope = (weighted(table, up, names) - weighted(table, down, names)) / (2 * step)
        assert found[..., cluster] == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_metrics_that_cannot_be_resampled_are_known_to_be():
    assert known(METRICS)
    assert not known(["accuracy", "evaluate:rouge"])


@pytest.mark.parametrize("name", METRICS)
def test_both_forms_of_a_metric_agree(name):
    rng = np.random.default_rng(0)
    classes = 2 if METRICS[name].binary else 3
    labels, predictions = rng.integers(0, classes, 60), rng.integers(-1, classes, 60)
    groups = rng.integers(0, 20, 60)
    groups[:20] = range(20)
    table = cluster_counts(task(labels, predictions[None, None], [name], classes, groups, groups))
    measured = METRICS[name].measure(predictions, labels, [str(group) for group in groups], classes)
    assert weighted(table, np.ones(20), [name])[0, 0] == pytest.approx(100 * measured)
