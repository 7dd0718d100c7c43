"""Curves and matrices of classifiers, compared with scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tracker import _rich, plot
from tracker._rich import curves
from tracker._rich.chart import Chart
from tracker._values import UnsupportedError

SEED = 20261121


def scores(kind: str, samples: int, classes: int) -> tuple[Any, Any]:
    """Return (truth, scores). ties: many equal scores; sure: only 0 and 1; one: a single class occurs."""
    random = np.random.default_rng(SEED)
    truth = np.arange(samples) % classes
    random.shuffle(truth)
    probabilities = random.dirichlet(np.ones(classes), samples)
    probabilities[np.arange(samples), truth] += 0.3
    probabilities /= probabilities.sum(1, keepdims=True)
    if kind == "ties":
        probabilities = probabilities.round(1)
    if kind == "sure":
        probabilities = probabilities.round()
    if kind == "one":
        truth[:] = 0
    return truth, probabilities


def rows_of(chart: Chart) -> list[list[Any]]:
    assert chart.problem is None, chart.problem
    assert chart.table is not None
    return chart.table.data


KINDS = pytest.mark.parametrize("kind", ["plain", "ties", "sure"])
SIZES = pytest.mark.parametrize(("samples", "classes"), [(2, 2), (7, 2), (100, 3), (501, 10)])


@KINDS
@SIZES
def test_points_of_both_curves_are_those_of_sklearn(kind: str, samples: int, classes: int) -> None:
    truth, probabilities = scores(kind, samples, classes)

    for one in range(classes):
        positive, score = truth == one, probabilities[:, one]
        precision, recall = curves.precision_recall(positive, score)
        expected = metrics.precision_recall_curve(positive, score)
        np.testing.assert_allclose(precision, expected[0])
        np.testing.assert_allclose(recall, expected[1])
        fpr, tpr = curves.receiver_operating(positive, score)
        expected = metrics.roc_curve(positive, score)
        np.testing.assert_allclose(fpr, expected[0])
        np.testing.assert_allclose(tpr, expected[1])


@KINDS
@SIZES
def test_the_precision_shown_is_the_best_at_that_recall_or_beyond(
    kind: str, samples: int, classes: int
) -> None:
    truth, probabilities = scores(kind, samples, classes)

    rows = rows_of(plot.pr_curve(truth, probabilities, interp_size=11))

    assert [row[0] for row in rows] == [one for one in range(classes) for _ in range(11)]
    for one in range(classes):
        precision, recall, _ = metrics.precision_recall_curve(truth == one, probabilities[:, one])
        for (_, shown, at), wanted in zip(rows[one * 11 : one * 11 + 11], np.linspace(0, 1, 11), strict=True):
            assert at == round(wanted, 3)
            assert shown == round(max(p for p, r in zip(precision, recall, strict=True) if r >= wanted), 3)


def test_a_roc_curve_names_its_classes_and_rounds() -> None:
    truth, probabilities = scores("plain", 200, 3)

    chart = plot.roc_curve(
        truth, probabilities.tolist(), labels=["a", "b", "c"], classes_to_plot=[0, 2], title="T"
    )

    rows = rows_of(chart)
    assert sorted({row[0] for row in rows}) == ["a", "c"]
    fpr, tpr, _ = metrics.roc_curve(truth == 2, probabilities[:, 2])
    assert [row[1:] for row in rows if row[0] == "c"] == np.stack([fpr, tpr], 1).round(3).tolist()
    assert chart.fields == {"x": "fpr", "y": "tpr", "class": "class"}
    assert chart.strings == {
        "title": "T",
        "x-axis-title": "False positive rate",
        "y-axis-title": "True positive rate",
    }


def test_classes_are_columns_by_number_or_by_order() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])

    # Class 0 does not occur: columns are found by number all the same.
    numbered = rows_of(plot.roc_curve([2, 1, 2], probabilities))
    named = rows_of(plot.roc_curve(["z", "y", "z"], probabilities[:, 1:]))
    shifted = rows_of(plot.roc_curve([20, 10, 20], probabilities[:, 1:]))

    assert [row[1:] for row in numbered] == [row[1:] for row in named] == [row[1:] for row in shifted]
    assert {row[0] for row in named} == {"y", "z"}
    assert {row[0] for row in shifted} == {10, 20}
    assert {row[0] for row in numbered} == {1, 2}


def test_long_curves_are_thinned_out_but_for_their_ends() -> None:
    truth, probabilities = scores("plain", 60_000, 2)

    rows = rows_of(plot.roc_curve(truth, probabilities))

    assert 1000 < len(rows) <= curves.ROWS_MAX
    for one in (0, 1):
        own = [row[1:] for row in rows if row[0] == one]
        assert (own[0], own[-1]) == ([0, 0], [1, 1])
        assert own == sorted(own)


def test_a_class_that_is_everything_or_nothing_has_a_curve_as_far_as_there_is_one() -> None:
    truth, probabilities = scores("one", 10, 2)

    assert {row[1] for row in rows_of(plot.pr_curve(truth, probabilities))} == {1.0}
    assert all(np.isnan(row[1]) for row in rows_of(plot.roc_curve(truth, probabilities)))


@pytest.mark.parametrize("names", [None, ["x", "y", "z"]])
def test_a_confusion_matrix_counts_as_sklearn_does(names: list[str] | None) -> None:
    truth, probabilities = scores("plain", 300, 3)
    guess = probabilities.argmax(1)
    expected = metrics.confusion_matrix(truth, guess).reshape(-1).tolist()

    by_probability = rows_of(plot.confusion_matrix(probs=probabilities, y_true=truth, class_names=names))
    by_class = rows_of(plot.confusion_matrix(preds=guess, y_true=truth.tolist(), class_names=names))

    assert by_probability == by_class
    assert [row[2] for row in by_class] == expected
    shown = names or ["Class_1", "Class_2", "Class_3"]
    assert [row[:2] for row in by_class] == [[actual, guessed] for actual in shown for guessed in shown]


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [([0, 1], [[1, 0]]), ([], []), ([0, 1, 2], [[1, 0]] * 3), ([0, 1], [[np.nan, 0]] * 2), (None, None)],
)
def test_what_is_no_classifier_is_refused_when_it_is_logged(truth: Any, probabilities: Any) -> None:
    for chart in (plot.roc_curve(truth, probabilities), plot.pr_curve(truth, probabilities)):
        with pytest.raises(UnsupportedError):
            _rich.encode(chart, _rich.Media("", "name", 0))
