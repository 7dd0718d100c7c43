"""wandb.integration.lightgbm: records what LightGBM evaluates, round by round."""

import os
import tempfile

import lightgbm

import wandb

from ._best import define_best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Tuple

#: Metrics that are better when smaller, or greater. Those with "loss" in the name are of the first kind.
_SMALLER = frozenset(["l1", "l2", "rmse", "quantile", "mape", "huber", "fair", "poisson", "gamma", "tweedie"])
_GREATER = frozenset(["map", "auc", "ndcg", "average_precision"])


class _Callback:
    """Called by LightGBM after each round."""

    #: After LightGBM's own record of evaluations, before early stopping, which leaves by an exception.
    order = 20
    before_iteration = False

    def __init__(self, log_params: bool, define_metric: bool) -> None:
        self._log_params = log_params
        self._define_metric = define_metric

    def __call__(self, env: "Any") -> None:
        values: "Dict[str, Any]" = {}
        names: "Dict[str, str]" = {}
        for result in env.evaluation_result_list or ():
            metric, named = _named(result)
            values.update(named)
            names.update((name, metric) for name in named if not name.endswith("-stdv"))
        if env.iteration == env.begin_iteration:
            if self._log_params:
                wandb.config.update(env.params, allow_val_change=True)
            if self._define_metric:
                define_best(names, _SMALLER, _GREATER)
        values["iteration"] = env.iteration
        wandb.log(values)


def wandb_callback(log_params: bool = True, define_metric: bool = True) -> "Callable[[Any], None]":
    """Return a callback for lightgbm.train(callbacks=[…]), cv() or an estimator's fit().

    Records the parameters as config and each evaluation as "<data>_<metric>" with "iteration"; in
    cross-validation "<data>_<metric>-mean" and "-stdv". define_metric: keep the best value in the summary.
    """
    return _Callback(log_params, define_metric)


def log_summary(model: "Any", feature_importance: bool = True, save_model_checkpoint: bool = False) -> None:
    """Record best_iteration and best_score of a trained booster, and if asked its features and the model."""
    if wandb.run is None:
        raise wandb.Error("call wandb.init() before log_summary()")
    if not isinstance(model, lightgbm.Booster):
        raise wandb.Error("log_summary() takes a lightgbm.Booster, not a %s" % type(model).__name__)
    wandb.run.summary["best_iteration"] = model.best_iteration
    wandb.run.summary["best_score"] = model.best_score
    if feature_importance:
        rows = [list(pair) for pair in zip(model.feature_name(), model.feature_importance().tolist())]
        table = wandb.Table(columns=["Feature", "Importance"], data=rows)
        chart = wandb.plot.bar(table, "Feature", "Importance", title="Feature Importance")
        wandb.log({"Feature Importance": chart}, commit=False)
    if save_model_checkpoint:
        _log_model(model)


def _named(result: "Any") -> "Tuple[str, Dict[str, Any]]":
    """Return what LightGBM calls the metric of one evaluation, and its values by name.

    result: (data, metric, value, greater is better, deviation), the last in cross-validation alone, else
    None or missing. Older versions of LightGBM say ("cv_agg", "<data> <metric>", mean, ...) there.
    """
    data, metric, value = result[:3]
    deviation = result[4] if len(result) > 4 else None
    if deviation is None:
        return metric, {"%s_%s" % (data, metric): value}
    if data == "cv_agg":
        data, _, metric = metric.partition(" ")
    name = "%s_%s" % (data, metric)
    return metric, {name + "-mean": value, name + "-stdv": deviation}


def _log_model(model: "Any") -> None:
    artifact = wandb.Artifact(name="model_" + wandb.run.id, type="model")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "model_ckpt_%d.txt" % model.best_iteration)
        model.save_model(path, num_iteration=model.best_iteration)
        artifact.add_file(path)
        wandb.log_artifact(artifact, aliases=["best"])
