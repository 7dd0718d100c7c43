"""XGBoost with the callback of wandb.integration.xgboost, stopped early."""

import json

import numpy as np
import xgboost
from reporting import report

import wandb
from wandb.integration.xgboost import WandbCallback

random = np.random.default_rng(0)
inputs = random.normal(size=(200, 5))
targets = (inputs[:, 0] + random.normal(size=200) > 0).astype(int)
train = xgboost.DMatrix(inputs[:150], targets[:150])
test = xgboost.DMatrix(inputs[150:], targets[150:])
run = wandb.init(project="xgboost", config={"depth": 2})
evaluated = {}
booster = xgboost.train(
    {
        "objective": "binary:logistic",
        "eval_metric": ["logloss", "auc"],
        "max_depth": 2,
        "eta": 0.8,
        "nthread": 1,
    },
    train,
    num_boost_round=60,
    evals=[(train, "train"), (test, "test")],
    evals_result=evaluated,
    early_stopping_rounds=4,
    verbose_eval=False,
    callbacks=[WandbCallback(log_model=True)],
)
booster.save_model("model.json")
with open("model.json") as file:
    model = json.load(file)
report(
    run=run.id,
    project=run.project,
    evaluated=evaluated,
    best_score=booster.best_score,
    best_iteration=booster.best_iteration,
    config=json.loads(booster.save_config()),
    importance=booster.get_score(importance_type="gain"),
    model=model,
)
