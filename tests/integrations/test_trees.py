"""The callbacks for XGBoost and LightGBM, compared with what the libraries keep of their evaluations."""

from __future__ import annotations

import hashlib
import json

from tests.integrations.stored import StoredRun
from tests.integrations.training import Services, Train


def test_xgboost_callback_stores_every_evaluation_and_the_model(train: Train) -> None:
    told, run, _ = train("xgboost_train")

    rounds = len(told["evaluated"]["test"]["auc"])
    assert rounds < 60, "it was to stop early"
    for data, metrics in told["evaluated"].items():
        for metric, values in metrics.items():
            stored = run.values_by("epoch", f"{data}-{metric}")
            assert stored == dict(enumerate(values)), (data, metric)
    assert run.summary["best_score"] == told["best_score"]
    assert run.summary["best_iteration"] == told["best_iteration"]
    assert run.summary["test-logloss"] == {"min": min(told["evaluated"]["test"]["logloss"])}
    assert run.summary["test-auc"] == {"max": max(told["evaluated"]["test"]["auc"])}
    assert run.config["depth"] == 2
    learner, theirs = run.config["learner"], told["config"]["learner"]
    assert learner["objective"] == theirs["objective"]
    booster, of_theirs = learner["gradient_booster"], theirs["gradient_booster"]
    assert booster["tree_train_param"] == of_theirs["tree_train_param"]
    assert booster["tree_train_param"]["eta"].startswith("0.8")
    features = run.columns("Feature Importance")
    assert dict(zip(features["Feature"], features["Importance"], strict=True)) == told["importance"]
    name = f"{told['run']}_model.json"
    [model] = run.artifact_files(name, name)
    assert json.loads(model) == told["model"]


def test_lightgbm_callback_stores_every_evaluation_and_the_best_model(
    train: Train, services: Services
) -> None:
    told, run, _ = train("lightgbm_train")

    assert len(told["evaluated"]["test"]["auc"]) < 40, "it was to stop early"
    for data, metrics in told["evaluated"].items():
        for metric, values in metrics.items():
            stored = run.values_by("iteration", f"{data}_{metric}")
            assert stored == dict(enumerate(values)), (data, metric)
    for name, value in told["parameters"].items():
        if name in run.config:
            assert run.config[name] == value, name
    assert set(told["parameters"]) - {"metric", "num_threads", "seed"} <= set(run.config)
    assert run.summary["best_score"] == told["best_score"]
    assert run.summary["best_iteration"] == told["best_iteration"]
    assert run.summary["test_auc"] == {"max": max(told["evaluated"]["test"]["auc"])}
    assert run.columns("Feature Importance")["Importance"] == told["importance"]
    [model] = run.artifact_files(f"model_{told['run']}", f"model_ckpt_{told['best_iteration']}.txt")
    assert hashlib.sha256(model).hexdigest() == told["model"]

    folds = StoredRun(*services, told["project"], told["folds_run"])
    folds.wait()
    for name, values in told["folds"].items():
        assert folds.values_by("iteration", name.replace(" ", "_")) == dict(enumerate(values)), name
