"""The one callback that older Keras scripts use, with a model that gets worse after its best epoch."""

import keras
import numpy as np
from reporting import report

import wandb
from wandb.keras import WandbCallback

keras.utils.set_random_seed(3)
inputs = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
run = wandb.init(project="keras")
model = keras.Sequential([keras.layers.Dense(1, name="only")])
# So large a learning rate that the loss grows.
model.compile(keras.optimizers.SGD(0.9), "mse")
history = model.fit(
    inputs,
    inputs.sum(axis=1, keepdims=True),
    validation_split=0.25,
    epochs=4,
    verbose=0,
    callbacks=[WandbCallback(log_weights=True, log_graph=True)],
)
report(run=run.id, project=run.project, history=history.history)
