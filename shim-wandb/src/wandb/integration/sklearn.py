"""wandb.integration.sklearn: charts of what scikit-learn models do, as tables with the values behind them."""

import numpy as np
from sklearn import base, calibration, metrics, model_selection

import wandb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

#: Charts have no more points than this; the rest is left out at random places.
POINTS_MAX = 1000


def plot_classifier(  # noqa: PLR0913, PLR0917 - wandb's signature
    model: "Any",
    X_train: "Any",  # noqa: N803 - the names that scripts use, here and below
    X_test: "Any",  # noqa: N803
    y_train: "Any",
    y_test: "Any",
    y_pred: "Any",
    y_probas: "Any",
    labels: "Any",
    is_binary: bool = False,
    model_name: str = "Classifier",
    feature_names: "Any" = None,
    log_learning_curve: bool = False,
) -> None:
    """Record all charts of a classifier that was fitted."""
    if log_learning_curve:
        plot_learning_curve(model, X_train, y_train)
    plot_feature_importances(model, feature_names)
    plot_confusion_matrix(y_test, y_pred, labels)
    plot_summary_metrics(model, X=X_train, y=y_train, X_test=X_test, y_test=y_test)
    plot_class_proportions(y_train, y_test, labels)
    plot_roc(y_test, y_probas, labels)
    plot_precision_recall(y_test, y_probas, labels)
    if is_binary:
        plot_calibration_curve(model, X_test, y_test, model_name)


def plot_regressor(
    model: "Any",
    X_train: "Any",  # noqa: N803
    X_test: "Any",  # noqa: N803
    y_train: "Any",
    y_test: "Any",
    model_name: str = "Regressor",  # noqa: ARG001 - wandb's signature
) -> None:
    """Record all charts of a regressor that was fitted."""
    plot_summary_metrics(model, X_train, y_train, X_test, y_test)
    plot_residuals(model, X_train, y_train)


def plot_clusterer(
    model: "Any",
    X_train: "Any",  # noqa: N803
    cluster_labels: "Any",
    labels: "Any" = None,
    model_name: str = "Clusterer",  # noqa: ARG001 - wandb's signature
) -> None:
    """Record all charts of a clusterer that was fitted."""
    if hasattr(model, "n_clusters"):
        plot_elbow_curve(model, X_train)
    plot_silhouette(model, X_train, cluster_labels, labels)


def plot_confusion_matrix(
    y_true: "Any" = None,
    y_pred: "Any" = None,
    labels: "Any" = None,
    true_labels: "Any" = None,  # noqa: ARG001 - wandb's signature
    pred_labels: "Any" = None,  # noqa: ARG001
    normalize: bool = False,
) -> None:
    """Record "confusion_matrix": how often each true class was taken for which."""
    classes = np.unique(np.concatenate([np.asarray(y_true), np.asarray(y_pred)]))
    counts = metrics.confusion_matrix(y_true, y_pred, labels=classes, normalize="true" if normalize else None)
    names = _names(labels, classes)
    rows = [
        [names[i], names[j], counts[i, j].item()] for i in range(len(classes)) for j in range(len(classes))
    ]
    table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
    fields = {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}
    chart = wandb.plot.plot_table("confusion_matrix", table, fields, {"title": "Confusion Matrix"})
    wandb.log({"confusion_matrix": chart})


def plot_roc(
    y_true: "Any" = None,
    y_probas: "Any" = None,
    labels: "Any" = None,
    plot_micro: bool = True,  # noqa: ARG001 - wandb's signature
    plot_macro: bool = True,  # noqa: ARG001
    classes_to_plot: "Any" = None,
) -> None:
    """Record "roc", a curve for each class."""
    wandb.log({"roc": wandb.plot.roc_curve(y_true, y_probas, labels, classes_to_plot)})


def plot_precision_recall(
    y_true: "Any" = None,
    y_probas: "Any" = None,
    labels: "Any" = None,
    plot_micro: bool = True,  # noqa: ARG001 - wandb's signature
    classes_to_plot: "Any" = None,
) -> None:
    """Record "precision_recall", a curve for each class."""
    wandb.log({"precision_recall": wandb.plot.pr_curve(y_true, y_probas, labels, classes_to_plot)})


def plot_feature_importances(
    model: "Any" = None,
    feature_names: "Any" = None,
    title: str = "Feature Importance",
    max_num_features: int = 50,
) -> None:
    """Record "feature_importances", where the model tells them."""
    importances = getattr(model, "feature_importances_", None)
    if importances is None:
        weights = getattr(model, "coef_", None)
        if weights is None:
            wandb.termwarn("a %s tells no importance of features" % type(model).__name__, repeat=False)
            return
        importances = np.abs(np.atleast_2d(weights)).mean(axis=0)
    order = np.argsort(importances)[::-1][:max_num_features]
    names = [str(i) for i in range(len(importances))] if feature_names is None else list(feature_names)
    rows = [[str(names[i]), float(importances[i])] for i in order]
    table = wandb.Table(columns=["feature_names", "importances"], data=rows)
    wandb.log({"feature_importances": wandb.plot.bar(table, "feature_names", "importances", title=title)})


def plot_summary_metrics(
    model: "Any" = None,
    X: "Any" = None,  # noqa: N803
    y: "Any" = None,
    X_test: "Any" = None,  # noqa: N803
    y_test: "Any" = None,
) -> None:
    """Record "summary_metrics": scores on the test data, which also go into the run's summary."""
    fitted = model.fit(X, y) if X is not None and not hasattr(model, "n_features_in_") else model
    predicted = fitted.predict(X_test)
    scores = _scores(base.is_classifier(model), y_test, predicted)
    wandb.run.summary.update(scores)
    table = wandb.Table(columns=["metric_name", "metric_value"], data=[list(pair) for pair in scores.items()])
    chart = wandb.plot.bar(table, "metric_name", "metric_value", title="Summary Metrics")
    wandb.log({"summary_metrics": chart})


def plot_class_proportions(y_train: "Any" = None, y_test: "Any" = None, labels: "Any" = None) -> None:
    """Record "class_proportions": how many of each class there are."""
    classes = np.unique(np.concatenate([np.asarray(y_train), np.asarray(y_test)]))
    names = _names(labels, classes)
    rows = [
        [names[i], part, int(np.sum(np.asarray(y) == each))]
        for part, y in (("train", y_train), ("test", y_test))
        for i, each in enumerate(classes)
    ]
    table = wandb.Table(columns=["class", "dataset", "count"], data=rows)
    wandb.log({"class_proportions": wandb.plot.bar(table, "class", "count", title="Class Proportions")})


def plot_calibration_curve(
    clf: "Any" = None,
    X: "Any" = None,  # noqa: N803
    y: "Any" = None,
    clf_name: str = "Classifier",
) -> None:
    """Record "calibration_curve" of a classifier of two classes that was fitted."""
    true, predicted = calibration.calibration_curve(y, clf.predict_proba(X)[:, 1], n_bins=10)
    rows = [[clf_name, float(p), float(t)] for p, t in zip(predicted, true)]
    table = wandb.Table(columns=["model", "mean_predicted_value", "fraction_of_positives"], data=rows)
    chart = wandb.plot.line(table, "mean_predicted_value", "fraction_of_positives", title="Calibration Curve")
    wandb.log({"calibration_curve": chart})


def plot_learning_curve(
    model: "Any" = None,
    X: "Any" = None,  # noqa: N803
    y: "Any" = None,
    cv: "Any" = None,
    shuffle: bool = False,
    random_state: "Any" = None,
    train_sizes: "Any" = None,
    n_jobs: int = 1,
    scoring: "Any" = None,
) -> None:
    """Record "learning_curve": scores by the size of the training data. The model is fitted many times."""
    sizes, train, test = model_selection.learning_curve(
        model, X, y, cv=cv, n_jobs=n_jobs, scoring=scoring, shuffle=shuffle, random_state=random_state,
        train_sizes=np.linspace(0.1, 1.0, 5) if train_sizes is None else train_sizes,
    )[:3]  # fmt: skip
    rows = [
        [name, int(size), float(score)]
        for name, scores in (("train", train), ("test", test))
        for size, score in zip(sizes, scores.mean(axis=1))
    ]
    table = wandb.Table(columns=["dataset", "train_size", "score"], data=rows)
    chart = wandb.plot.line(table, "train_size", "score", stroke="dataset", title="Learning Curve")
    wandb.log({"learning_curve": chart})


def plot_residuals(regressor: "Any" = None, X: "Any" = None, y: "Any" = None) -> None:  # noqa: N803
    """Record "residuals" by predicted value."""
    predicted = regressor.predict(X)
    pairs = zip(predicted.tolist(), (predicted - np.asarray(y)).tolist())
    table = wandb.Table(columns=["predicted", "residual"], data=_some([list(pair) for pair in pairs]))
    wandb.log({"residuals": wandb.plot.scatter(table, "predicted", "residual", title="Residuals")})


def plot_elbow_curve(
    clusterer: "Any" = None,
    X: "Any" = None,  # noqa: N803
    cluster_ranges: "Any" = None,
    n_jobs: int = 1,  # noqa: ARG001 - wandb's signature
    show_cluster_time: bool = True,  # noqa: ARG001
) -> None:
    """Record "elbow_curve": the score by the number of clusters. The model is fitted for each."""
    numbers = range(1, min(10, len(X)) + 1, 2) if cluster_ranges is None else sorted(cluster_ranges)
    rows = []
    for number in numbers:
        fitted = base.clone(clusterer).set_params(n_clusters=number).fit(X)
        rows.append([number, float(abs(fitted.score(X)))])
    table = wandb.Table(columns=["cluster_ranges", "errors"], data=rows)
    wandb.log({"elbow_curve": wandb.plot.line(table, "cluster_ranges", "errors", title="Elbow Plot")})


def plot_silhouette(
    clusterer: "Any" = None,
    X: "Any" = None,  # noqa: N803
    cluster_labels: "Any" = None,
    labels: "Any" = None,
    metric: str = "euclidean",
    kmeans: bool = True,  # noqa: ARG001 - wandb's signature
) -> None:
    """Record "silhouette": how well each point lies in its cluster."""
    found = clusterer.fit_predict(X) if cluster_labels is None else np.asarray(cluster_labels)
    names = dict(zip(np.unique(found).tolist(), _names(labels, np.unique(found))))
    values = metrics.silhouette_samples(X, found, metric=metric)
    rows = [[names[cluster], float(value)] for cluster, value in zip(found.tolist(), values)]
    table = wandb.Table(columns=["cluster", "silhouette"], data=_some(rows))
    wandb.log({"silhouette": wandb.plot.scatter(table, "cluster", "silhouette", title="Silhouette")})


def _scores(is_classifier: bool, true: "Any", predicted: "Any") -> "Dict[str, float]":
    if is_classifier:
        return {
            "accuracy_score": float(metrics.accuracy_score(true, predicted)),
            "precision": float(metrics.precision_score(true, predicted, average="weighted", zero_division=0)),
            "recall": float(metrics.recall_score(true, predicted, average="weighted", zero_division=0)),
            "f1_score": float(metrics.f1_score(true, predicted, average="weighted", zero_division=0)),
        }
    return {
        "mae": float(metrics.mean_absolute_error(true, predicted)),
        "mse": float(metrics.mean_squared_error(true, predicted)),
        "r2_score": float(metrics.r2_score(true, predicted)),
    }


def _names(labels: "Any", classes: "Any") -> "List[str]":
    """Return what classes are called: by position where there is a label for each, else by themselves."""
    if labels is not None and len(labels) == len(classes):
        return [str(label) for label in labels]
    return [str(each) for each in classes.tolist()]


def _some(rows: "List[List[Any]]", most: int = POINTS_MAX) -> "List[List[Any]]":
    """Return all rows, or as many of them as a chart has points, in their order."""
    if len(rows) <= most:
        return rows
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
    return [rows[i] for i in chosen]
