"""Stable-Baselines3 with the callback of wandb.integration.sb3, compared with what SB3 writes into a file."""

from __future__ import annotations

import hashlib

from tests.integrations.training import Train

#: What SB3 keeps from TensorBoard, and so from W&B.
NOT_FOR_CHARTS = {"time/iterations", "time/time_elapsed", "time/total_timesteps", "train/n_updates"}


def test_callback_stores_what_the_logger_is_told(train: Train) -> None:
    told, run, _ = train("sb3_ppo")

    rows = told["rows"]
    names = {name for row in rows for name in row}
    assert {"rollout/ep_rew_mean", "train/loss", "time/total_timesteps"} <= names
    assert len(rows) == 5
    steps = [row["time/total_timesteps"] for row in rows]
    for name in names:
        expected = {row["time/total_timesteps"]: row[name] for row in rows if name in row}
        if name in NOT_FOR_CHARTS:
            assert name not in run.metrics
        else:
            assert run.values_by("global_step", name) == expected, name
    assert sorted(run.points("global_step").values()) == steps
    assert run.config["algo"] == "PPO"
    assert run.config["learning_rate"] == "mine"
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "seed", "ent_coef"):
        assert run.config[name] == told["settings"][name], name
    assert hashlib.sha256(run.file("files/model.zip")).hexdigest() == told["model"]
    assert {value["type"] for value in run.rich("gradients/action_net.weight")} == {"histogram"}
