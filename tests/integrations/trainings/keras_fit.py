"""Keras' fit() with the callbacks of wandb.integration.keras."""

import keras
import numpy as np
from reporting import report, sha256

import wandb
from wandb.integration.keras import WandbMetricsLogger, WandbModelCheckpoint

keras.utils.set_random_seed(3)
inputs = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
targets = inputs.sum(axis=1, keepdims=True)
run = wandb.init(project="keras", config={"units": 3})
model = keras.Sequential([keras.layers.Dense(wandb.config.units), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])


class OfBatches(keras.callbacks.Callback):
    """Notes what Keras reports of each batch."""

    seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append({name: float(value) for name, value in logs.items()})


history = model.fit(
    inputs,
    targets,
    validation_split=0.25,
    batch_size=8,
    epochs=4,
    verbose=0,
    callbacks=[
        OfBatches(),
        WandbMetricsLogger(log_freq=2),
        WandbModelCheckpoint("model-{epoch:02d}.keras", monitor="val_loss"),
        WandbModelCheckpoint("best.weights.h5", save_best_only=True, save_weights_only=True),
    ],
)
report(
    run=run.id,
    project=run.project,
    history=history.history,
    batches=OfBatches.seen,
    rate=float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
    checkpoints=[sha256("model-%02d.keras" % epoch) for epoch in range(1, 5)],
    best=sha256("best.weights.h5"),
)
