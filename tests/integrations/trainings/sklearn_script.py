"""A plain scikit-learn script as people write them for wandb; only the import was changed."""

import numpy as np
from reporting import report
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import train_test_split

import tracker as wandb

with wandb.init(project="plain-sklearn", config={"alpha": 0.001, "passes": 6}, job_type="train") as run:
    data = load_iris()
    train, test, train_targets, test_targets = train_test_split(data.data, data.target, random_state=0)
    model = SGDClassifier(loss="log_loss", alpha=run.config.alpha, random_state=0)
    losses, accuracies = [], []
    for number in range(run.config.passes):
        model.partial_fit(train, train_targets, classes=np.unique(data.target))
        losses.append(log_loss(test_targets, model.predict_proba(test)))
        accuracies.append(accuracy_score(test_targets, model.predict(test)))
        run.log({"loss": losses[-1], "accuracy": np.float64(accuracies[-1])}, step=number)
    predicted = model.predict(test)
    names = list(data.target_names)
    chart = wandb.plot.confusion_matrix(
        y_true=test_targets.tolist(), preds=predicted.tolist(), class_names=names
    )
    run.log({"confusion": chart}, step=6)
    table = wandb.Table(columns=["true", "predicted"])
    for number, label in enumerate(predicted.tolist()):
        table.add_data(int(test_targets[number]), label)
    run.log({"predictions": table}, step=6)
    run.config.update({"coefficients": model.coef_.shape})
    run.summary.update({"best": max(accuracies)})
report(
    run=run.id,
    project=run.project,
    losses=losses,
    accuracies=accuracies,
    shape=list(model.coef_.shape),
    counts=confusion_matrix(test_targets, predicted).ravel().tolist(),
    predictions={"true": test_targets.tolist(), "predicted": predicted.tolist()},
)
