"""LightGBM with the callback of wandb.integration.lightgbm, stopped early; then its cross-validation."""

import lightgbm
import numpy as np
from reporting import report, sha256

import wandb
from wandb.integration.lightgbm import log_summary, wandb_callback

random = np.random.default_rng(0)
inputs = random.normal(size=(200, 5))
targets = (inputs[:, 0] + random.normal(size=200) > 0).astype(int)
train = lightgbm.Dataset(inputs[:150], targets[:150])
test = lightgbm.Dataset(inputs[150:], targets[150:], reference=train)
parameters = {
    "objective": "binary",
    "metric": ["binary_logloss", "auc"],
    "num_leaves": 4,
    "learning_rate": 0.5,
    "verbose": -1,
    "num_threads": 1,
    "seed": 1,
}
run = wandb.init(project="lightgbm")
evaluated = {}
booster = lightgbm.train(
    parameters,
    train,
    num_boost_round=40,
    valid_sets=[train, test],
    valid_names=["train", "test"],
    callbacks=[
        wandb_callback(),
        lightgbm.record_evaluation(evaluated),
        lightgbm.early_stopping(5, verbose=False),
    ],
)
log_summary(booster, save_model_checkpoint=True)
booster.save_model("model.txt", num_iteration=booster.best_iteration)
wandb.finish()
with wandb.init(project="lightgbm", id="folds-of-" + run.id) as second:
    folds = lightgbm.cv(
        parameters,
        lightgbm.Dataset(inputs, targets),
        num_boost_round=5,
        nfold=3,
        callbacks=[wandb_callback()],
    )
report(
    run=run.id,
    project=run.project,
    folds_run=second.id,
    folds=folds,
    evaluated=evaluated,
    best_score=booster.best_score,
    best_iteration=booster.best_iteration,
    parameters=parameters,
    importance=booster.feature_importance().tolist(),
    model=sha256("model.txt"),
)
