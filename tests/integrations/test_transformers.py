"""transformers' Trainer logs to wandb by itself: what it says it logged is what the store has."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.integrations.training import Launch, Services, Train

#: What the Trainer's callback puts into the summary in place of a point.
ONLY_IN_SUMMARY = {
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "total_flos",
}


def logged_as(name: str) -> str:
    """Return the name that the Trainer's callback logs one of its history under."""
    return name.replace("eval_", "eval/", 1) if name.startswith("eval_") else "train/" + name


def by_metric(history: list[dict[str, Any]]) -> dict[str, dict[float, float]]:
    """Return the Trainer's own history: the values of each metric by global step."""
    metrics: dict[str, dict[float, float]] = {}
    for entry in history:
        for name, value in entry.items():
            if name != "step" and name not in ONLY_IN_SUMMARY:
                metrics.setdefault(logged_as(name), {})[entry["step"]] = value
    return metrics


def test_trainer_reports_to_the_store_what_its_state_says(train: Train) -> None:
    trained = train(
        "transformers_trainer", WANDB_PROJECT="hugging", WANDB_LOG_MODEL="checkpoint", WANDB_WATCH="all"
    )
    told, run = trained.report, trained.run

    assert told["project"] == "hugging"
    assert run.page["name"] == told["name"] == "tiny-gpt2"
    expected = by_metric(told["history"])
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "eval/loss"} <= set(
        expected
    )
    for metric, values in expected.items():
        assert run.values_by("train/global_step", metric) == values, metric
    assert run.page["state"] == "finished"
    for name, value in told["arguments"].items():
        assert run.config[name] == value, name
    for name in set(told["model"]) - set(told["arguments"]):
        assert run.config[name] == told["model"][name], name
    assert run.config["model/num_parameters"] == told["parameters"]
    last = told["history"][-1]
    for name in ONLY_IN_SUMMARY & set(last):
        assert run.summary[name] == last[name], name
    losses = expected["train/loss"]
    assert run.summary["train/loss"] == losses[max(losses)]
    saved = [
        hashlib.sha256(data).hexdigest()
        for data in run.artifact_files(f"model-{told['name']}", "model.safetensors")
    ]
    at_the_end = told["checkpoints"][-1]  # the trained model is kept once more, as what it is
    assert sorted(saved) == sorted([*told["checkpoints"], at_the_end])


def test_disabled_run_lets_the_trainer_go_to_its_end(launch: Launch, services: Services) -> None:
    report, _ = launch("transformers_trainer", WANDB_MODE="disabled")

    assert report["history"][-1]["step"] == 6
    assert not list(services[1].spool.rglob(report["run"]))


def test_trl_reports_to_the_store_what_its_state_says(train: Train) -> None:
    told, run, _ = train("trl_sft", WANDB_PROJECT="tuning")

    assert told["project"] == "tuning"
    assert run.page["name"] == "tiny-sft"
    expected = by_metric(told["history"])
    assert {"train/loss", "train/num_tokens", "train/mean_token_accuracy", "eval/loss"} <= set(expected)
    for metric, values in expected.items():
        assert run.values_by("train/global_step", metric) == values, metric
    for name, value in told["arguments"].items():
        assert run.config[name] == value, name
    assert run.page["state"] == "finished"
