"""wandb.integration.xgboost: records what XGBoost evaluates, round by round."""

import json
import os
import tempfile

import xgboost

import wandb

from ._best import define_best

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

#: Metrics that are better when smaller, or greater. Those with "loss" in the name are of the first kind.
_SMALLER = frozenset(["rmse", "rmsle", "mae", "mape", "mphe", "error", "merror"])
_GREATER = frozenset(["auc", "aucpr", "ndcg", "map"])


class WandbCallback(xgboost.callback.TrainingCallback):  # type: ignore[misc]  # XGBoost need not be there
    """Give it to xgboost.train(callbacks=[…]) or to an estimator's `callbacks`.

    Records the booster's settings as config, each evaluation as "<data>-<metric>" with "epoch", and at the
    end the importance of features, best_score and best_iteration; with log_model the model as an artifact.
    """

    def __init__(
        self,
        log_model: bool = False,
        log_feature_importance: bool = True,
        importance_type: str = "gain",
        define_metric: bool = True,
    ) -> None:
        """define_metric: keep the best value of each metric in the summary, in place of the last."""
        super().__init__()
        if wandb.run is None:
            raise wandb.Error("call wandb.init() before WandbCallback()")
        self.log_model = log_model
        self.log_feature_importance = log_feature_importance
        self.importance_type = importance_type
        self.define_metric = define_metric

    def before_training(self, model: "Any") -> "Any":
        """Record the booster's settings."""
        wandb.config.update(json.loads(model.save_config()), allow_val_change=True)
        return model

    def after_iteration(
        self,
        model: "Any",  # noqa: ARG002 - XGBoost's signature
        epoch: int,
        evals_log: "Dict[str, Dict[str, Any]]",
    ) -> bool:
        """Record one round; never stops the training."""
        values: "Dict[str, Any]" = {}
        names = {}
        for data, metrics in evals_log.items():
            for metric, history in metrics.items():
                name = "%s-%s" % (data, metric)
                names[name] = metric
                values[name] = _last(history)
        if self.define_metric:
            define_best(names, _SMALLER, _GREATER)
            self.define_metric = False
        values["epoch"] = epoch
        wandb.log(values)
        return False

    def after_training(self, model: "Any") -> "Any":
        """Record what is known only at the end."""
        if self.log_model:
            _log_model(model)
        if self.log_feature_importance:
            scores = model.get_score(importance_type=self.importance_type)
            table = wandb.Table(
                columns=["Feature", "Importance"], data=[list(pair) for pair in scores.items()]
            )
            chart = wandb.plot.bar(table, "Feature", "Importance", title="Feature Importance")
            wandb.log({"Feature Importance": chart})
        score = model.attr("best_score")
        if score is not None:
            wandb.log({"best_score": float(score), "best_iteration": int(model.attr("best_iteration"))})
        return model


def wandb_callback() -> "Any":
    """Return a callback of the kind that XGBoost took before 1.3; use WandbCallback."""
    return lambda env: wandb.log(dict(env.evaluation_result_list))


def _last(history: "Any") -> "Any":
    """Return the last of a metric's values; in cross-validation each is (mean, deviation)."""
    value = history[-1]
    return value[0] if isinstance(value, tuple) else value


def _log_model(model: "Any") -> None:
    name = "%s_model.json" % wandb.run.id
    artifact = wandb.Artifact(name=name, type="model")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, name)
        model.save_model(path)
        artifact.add_file(path)
        wandb.log_artifact(artifact)
