"""Stable-Baselines3 learns CartPole with WandbCallback, and writes what it logs into a JSON file, too."""

import json

from reporting import plain, report, sha256
from stable_baselines3 import PPO
from stable_baselines3.common import logger as sb3_logger

import wandb
from wandb.integration.sb3 import WandbCallback

run = wandb.init(project="cartpole", config={"learning_rate": "mine"})
model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=2, seed=0, device="cpu")
model.set_logger(sb3_logger.configure("logs", ["json"]))
callback = WandbCallback(model_save_path="models", model_save_freq=64, gradient_save_freq=2)
model.learn(96, callback=callback)
model.learn(64, callback=WandbCallback(), reset_num_timesteps=False)
with open("logs/progress.json") as file:
    rows = [json.loads(line) for line in file]
report(
    run=run.id,
    project=run.project,
    rows=rows,
    settings=plain({name: value for name, value in vars(model).items() if type(value) in (int, float, str)}),
    model=sha256("models/model.zip"),
)
