"""The charts of wandb.sklearn, of a classifier, a regressor and a clusterer."""

import numpy as np
from reporting import report
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, confusion_matrix, r2_score

import wandb

inputs, targets = make_classification(n_samples=120, n_features=5, random_state=0)
train, test, train_targets, test_targets = inputs[:80], inputs[80:], targets[:80], targets[80:]
run = wandb.init(project="sklearn")
model = RandomForestClassifier(n_estimators=5, random_state=0).fit(train, train_targets)
predicted = model.predict(test)
wandb.sklearn.plot_classifier(
    model, train, test, train_targets, test_targets, predicted, model.predict_proba(test), ["no", "yes"],
    is_binary=True, model_name="forest", log_learning_curve=True,
)  # fmt: skip
accuracy = wandb.run.summary["accuracy_score"]
line = Ridge().fit(train, train[:, 0])
wandb.sklearn.plot_regressor(line, train, test, train[:, 0], test[:, 0])
wandb.sklearn.plot_clusterer(KMeans(2, n_init=1, random_state=0).fit(train), train, None, ["left", "right"])
report(
    run=run.id,
    project=run.project,
    accuracy=accuracy_score(test_targets, predicted),
    recorded_accuracy=accuracy,
    r2=r2_score(test[:, 0], line.predict(test)),
    counts=confusion_matrix(test_targets, predicted).tolist(),
    importances=model.feature_importances_.tolist(),
    residuals=(line.predict(train) - train[:, 0]).tolist(),
    classes=np.bincount(train_targets).tolist(),
)
