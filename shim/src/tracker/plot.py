"""Charts to log: `run.log({"curve": tracker.plot.line(table, "step", "loss")})`.

Each function returns a value that says which chart shows which columns of a table. What is wrong with
the arguments is said when it is logged; nothing is raised.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence

from ._logged import describe
from ._rich import curves
from ._rich.chart import Chart
from ._rich.table import Table
from ._values import UnsupportedError, to_number_or_text

__all__ = [
    "bar",
    "confusion_matrix",
    "histogram",
    "line",
    "line_series",
    "plot_table",
    "pr_curve",
    "roc_curve",
    "scatter",
    "visualize",
]

#: Digits of the numbers of curves.
_DIGITS = 3


def line(
    table: Any,
    x: str,
    y: str,
    stroke: Optional[str] = None,
    title: str = "",
    split_table: bool = False,  # noqa: ARG001 - accepted: tables are always their own
) -> Chart:
    """Return a line chart of two columns; stroke: a column that tells lines apart."""
    fields = {"x": x, "y": y}
    if stroke is not None:
        fields["stroke"] = stroke
    return Chart("line", table, fields, {"title": title})


def scatter(table: Any, x: str, y: str, title: str = "", split_table: bool = False) -> Chart:  # noqa: ARG001
    """Return a chart of points."""
    return Chart("scatter", table, {"x": x, "y": y}, {"title": title})


def bar(table: Any, label: str, value: str, title: str = "", split_table: bool = False) -> Chart:  # noqa: ARG001
    """Return a chart of a bar for each row."""
    return Chart("bar", table, {"label": label, "value": value}, {"title": title})


def histogram(table: Any, value: str, title: str = "", split_table: bool = False) -> Chart:  # noqa: ARG001
    """Return a chart of how often the values of a column occur."""
    return Chart("histogram", table, {"value": value}, {"title": title})


def line_series(
    xs: Any,
    ys: Any,
    keys: Optional[Sequence[Any]] = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,  # noqa: ARG001
) -> Chart:
    """Return a chart of several lines. xs: the x of all lines, or a list of them for each line in ys."""

    def make() -> Chart:
        lines = [_plain_list(one) for one in _plain_list(ys)]
        given = _plain_list(xs)
        shared = not given or not hasattr(given[0], "__iter__")
        axes = [given] * len(lines) if shared else [_plain_list(one) for one in given]
        names = ["key_%d" % at for at in range(len(lines))] if keys is None else [str(key) for key in keys]
        if not len(axes) == len(lines) == len(names):
            raise UnsupportedError("%d xs, %d ys and %d keys" % (len(axes), len(lines), len(names)))
        for axis, one in zip(axes, lines):
            if len(axis) != len(one):
                raise UnsupportedError("a line has %d x and %d y" % (len(axis), len(one)))
        rows = [[x, name, y] for axis, one, name in zip(axes, lines, names) for x, y in zip(axis, one)]
        table = Table(columns=["step", "lineKey", "lineVal"], data=rows)
        fields = {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}
        return Chart("line_series", table, fields, {"title": title, "xname": xname})

    return _made("line_series", make)


def pr_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Optional[Sequence[Any]] = None,
    classes_to_plot: Optional[Sequence[Any]] = None,
    interp_size: int = 21,
    title: str = "Precision-Recall Curve",
    split_table: bool = False,  # noqa: ARG001
) -> Chart:
    """Return precision over recall for each class. y_true: classes; y_probas: samples x classes."""

    def make() -> Chart:
        rows: List[List[Any]] = []
        for label, positive, scores in curves.scored_classes(y_true, y_probas, labels, classes_to_plot):
            precision, recall = curves.smoothed_precision(
                *curves.precision_recall(positive, scores), points=int(interp_size)
            )
            rows += [[label, round(p, _DIGITS), round(r, _DIGITS)] for p, r in _pairs(precision, recall)]
        table = Table(columns=["class", "precision", "recall"], data=rows)
        fields = {"x": "recall", "y": "precision", "class": "class"}
        return Chart("area", table, fields, _strings(title, "Recall", "Precision"))

    return _made("area", make)


def roc_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Optional[Sequence[Any]] = None,
    classes_to_plot: Optional[Sequence[Any]] = None,
    title: str = "ROC Curve",
    split_table: bool = False,  # noqa: ARG001
) -> Chart:
    """Return the true over the false positive rate for each class."""

    def make() -> Chart:
        found = [
            (label, curves.receiver_operating(positive, scores))
            for label, positive, scores in curves.scored_classes(y_true, y_probas, labels, classes_to_plot)
        ]
        points = curves.ROWS_MAX // max(1, len(found))
        rows: List[List[Any]] = []
        for label, curve in found:
            fpr, tpr = curves.thinned(curve, points)
            rows += [[label, round(f, _DIGITS), round(t, _DIGITS)] for f, t in _pairs(fpr, tpr)]
        table = Table(columns=["class", "fpr", "tpr"], data=rows)
        fields = {"x": "fpr", "y": "tpr", "class": "class"}
        return Chart("area", table, fields, _strings(title, "False positive rate", "True positive rate"))

    return _made("area", make)


def confusion_matrix(
    probs: Any = None,
    y_true: Any = None,
    preds: Any = None,
    class_names: Optional[Sequence[Any]] = None,
    title: str = "Confusion Matrix Curve",
    split_table: bool = False,  # noqa: ARG001
) -> Chart:
    """Return how often each class was taken for each. Either probs (samples x classes) or preds (classes)."""

    def make() -> Chart:
        if (probs is None) == (preds is None):
            raise UnsupportedError("a confusion matrix takes either probs or preds")
        if y_true is None:
            raise UnsupportedError("a confusion matrix takes y_true")
        if preds is not None:
            predicted = _classes(preds)
        else:
            predicted = [_greatest(_plain_list(row)) for row in _plain_list(probs)]
        names, counts = curves.confusion(_classes(y_true), predicted, class_names)
        rows = [
            [actual, guess, counts[i][j]] for i, actual in enumerate(names) for j, guess in enumerate(names)
        ]
        table = Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
        fields = {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}
        return Chart("confusion_matrix", table, fields, {"title": title})

    return _made("confusion_matrix", make)


def plot_table(
    vega_spec_name: str,
    data_table: Any,
    fields: Dict[str, Any],
    string_fields: Optional[Dict[str, Any]] = None,
    split_table: bool = False,  # noqa: ARG001
) -> Chart:
    """Return a chart of any kind: its name, and which columns play which roles in it."""
    return Chart(vega_spec_name, data_table, fields, string_fields)


def visualize(id: str, value: Any) -> Chart:  # noqa: A002 - the name that scripts use
    """Return a chart of any kind of a whole table."""
    return Chart(id, value, {})


def _made(chart: str, make: Callable[[], Chart]) -> Chart:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - foreign arrays raise anything; said when it is logged
        return Chart(chart, None, {}, problem=describe(error))


def _strings(title: str, x: str, y: str) -> Dict[str, str]:
    return {"title": title, "x-axis-title": x, "y-axis-title": y}


def _pairs(one: Any, other: Any) -> Any:
    return zip(one.tolist(), other.tolist())


def _plain_list(values: Any) -> List[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return list(values.tolist() if callable(getattr(values, "tolist", None)) else values)


def _classes(values: Any) -> List[Any]:
    """Return classes as integers where they are any, else as what they are."""
    return [to_number_or_text(one) for one in _plain_list(values)]


def _greatest(scores: List[Any]) -> int:
    return scores.index(max(scores))
