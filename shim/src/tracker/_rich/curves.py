"""Precision, recall and ROC curves of a classifier, class by class, with NumPy alone.

As scikit-learn counts (sklearn.metrics.precision_recall_curve and roc_curve): a point for each
distinct score, from the threshold at which nothing is found to that at which everything is.
"""

from typing import Any, Iterator, List, Optional, Sequence, Tuple

from .._values import UnsupportedError
from .libraries import needed

#: Rows of one chart. Longer curves are thinned out evenly.
ROWS_MAX = 10000

Curve = Tuple[Any, Any]


def scored_classes(
    y_true: Any, y_probas: Any, labels: Optional[Sequence[Any]], classes_to_plot: Optional[Sequence[Any]]
) -> Iterator[Tuple[Any, Any, Any]]:
    """Yield (label, whether each sample is of the class, its scores for the class).

    y_probas: samples x classes; a column's class is its number where classes are numbers, else its
    place among the sorted ones. Raise UnsupportedError.
    """
    numpy = needed("numpy", "a curve")
    truth, scores = _array(y_true), _array(y_probas)
    if truth.ndim != 1 or scores.ndim != 2 or len(truth) != len(scores) or not len(truth):
        raise UnsupportedError(
            "a curve takes y_true of the shape samples and y_probas of samples x classes, not %s and %s"
            % (truth.shape, scores.shape)
        )
    if not numpy.isfinite(scores).all():
        raise UnsupportedError("y_probas holds NaN or infinities")
    classes = numpy.unique(truth)
    numbered = truth.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < scores.shape[1] != len(classes)
    if not numbered and len(classes) > scores.shape[1]:
        raise UnsupportedError("y_true has %d classes, y_probas %d" % (len(classes), scores.shape[1]))
    for at, one in enumerate(classes):
        if classes_to_plot is None or one in list(classes_to_plot):
            yield _label(one, labels), truth == one, scores[:, int(one) if numbered else at]


def _array(values: Any) -> Any:
    numpy = needed("numpy", "a curve")
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return numpy.asarray(values)


def _label(one: Any, labels: Optional[Sequence[Any]]) -> Any:
    plain = one.item() if hasattr(one, "item") else one
    if labels is not None and isinstance(plain, int) and 0 <= plain < len(labels):
        return str(labels[plain])
    return plain


def precision_recall(positive: Any, scores: Any) -> Curve:
    """Return precision and recall, from recall 1 to recall 0 (where the precision is 1 by definition)."""
    numpy = needed("numpy", "a curve")
    found, found_true = _counts(positive, scores)
    precision = found_true / found
    # Without a single sample of the class its recall is 1 by definition.
    recall = found_true / found_true[-1] if found_true[-1] else numpy.ones(len(found))
    return numpy.append(precision[::-1], 1.0), numpy.append(recall[::-1], 0.0)


def smoothed_precision(precision: Any, recall: Any, points: int) -> Curve:
    """Return precision at evenly spaced recalls: the best that is reached at that recall or a greater one."""
    numpy = needed("numpy", "a curve")
    best = numpy.maximum.accumulate(precision)[::-1]
    wanted = numpy.linspace(0, 1, points)
    return best[numpy.searchsorted(recall[::-1], wanted, side="left")], wanted


def receiver_operating(positive: Any, scores: Any) -> Curve:
    """Return false and true positive rates, from (0, 0) to (1, 1); points on a straight line are left out."""
    numpy = needed("numpy", "a curve")
    found, found_true = _counts(positive, scores)
    found_false = found - found_true
    if len(found) > 2:
        bends = numpy.logical_or(numpy.diff(found_false, 2), numpy.diff(found_true, 2))
        kept = numpy.where(numpy.r_[True, bends, True])[0]
        found_true, found_false = found_true[kept], found_false[kept]
    found_true, found_false = numpy.r_[0, found_true], numpy.r_[0, found_false]
    return _rate(found_false), _rate(found_true)


def thinned(curve: Curve, points: int) -> Curve:
    """Return at most so many points of a curve, its ends among them."""
    numpy = needed("numpy", "a curve")
    if len(curve[0]) <= points:
        return curve
    kept = numpy.linspace(0, len(curve[0]) - 1, max(points, 2)).round().astype(int)
    return curve[0][kept], curve[1][kept]


def _counts(positive: Any, scores: Any) -> Curve:
    """Return how many samples have at least each distinct score, and how many of these are of the class."""
    numpy = needed("numpy", "a curve")
    order = numpy.argsort(-scores, kind="mergesort")
    scores, positive = scores[order], positive[order]
    last = numpy.r_[numpy.where(numpy.diff(scores))[0], len(scores) - 1]
    return 1.0 + last, numpy.cumsum(positive, dtype=float)[last]


def _rate(counts: Any) -> Any:
    numpy = needed("numpy", "a curve")
    return counts / counts[-1] if counts[-1] else numpy.full(len(counts), numpy.nan)


def confusion(
    truth: Sequence[Any], predicted: Sequence[Any], names: Optional[Sequence[Any]]
) -> Tuple[List[str], List[List[int]]]:
    """Return class names and how often each (actual) was taken for each (predicted).

    Classes are the numbers 0 … n-1 of `names`, where there are any; else what occurs, in order.
    """
    if len(truth) != len(predicted):
        raise UnsupportedError("y_true has %d samples, the predictions %d" % (len(truth), len(predicted)))
    occurring = sorted(set(truth) | set(predicted), key=lambda one: (str(type(one)), one))
    if names is not None and all(isinstance(one, int) and 0 <= one < len(names) for one in occurring):
        classes: List[Any] = list(range(len(names)))
        shown = [str(name) for name in names]
    elif names is not None and len(names) == len(occurring):
        classes, shown = occurring, [str(name) for name in names]
    elif names is not None:
        raise UnsupportedError("%d class_names for %d classes" % (len(names), len(occurring)))
    else:
        classes = occurring
        integers = all(isinstance(one, int) for one in occurring)
        shown = ["Class_%d" % (one + 1) if integers else str(one) for one in occurring]
    index = {one: at for at, one in enumerate(classes)}
    counts = [[0] * len(classes) for _ in classes]
    for actual, guess in zip(truth, predicted):
        counts[index[actual]][index[guess]] += 1
    return shown, counts
