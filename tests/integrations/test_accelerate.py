"""accelerate's WandBTracker."""

from __future__ import annotations

from tests.integrations.training import Train


def test_tracker_stores_what_was_logged_at_the_steps_given(train: Train) -> None:
    told, run, _ = train("accelerate_tracker")

    assert run.page["name"] == told["name"] == "plain"
    assert run.page["tags"] == told["tags"] == ["cpu"]
    assert run.config == told["config"]
    assert run.points("loss") == {step * 10: loss for step, loss in enumerate(told["losses"])}
    assert run.points("half/loss") == {step * 10: loss / 2 for step, loss in enumerate(told["losses"])}
    assert run.summary["loss"] == told["losses"][-1]
    assert run.columns("guesses") == {"name": ["a"], "value": [1.0]}
    assert [value["step"] for value in run.rich("noise") + run.rich("guesses")] == [50, 50]
    assert run.page["state"] == "finished"
