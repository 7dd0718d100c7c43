"""A training as mypy sees it (test_types.py): every public name, with its types. Never run."""

from __future__ import annotations

from typing import Any

import tracker


class Model:
    """Stands for a model that watch() takes."""


def train() -> None:
    """Use what a training uses."""
    run: tracker.Run = tracker.init(
        project="digits", tags=["a"], config={"lr": 0.1}, mode="offline", resume="allow", reinit="create_new"
    )
    with tracker.init(settings=tracker.Settings(project="p")) as other:
        other.log({"loss": 0.5}, step=3, commit=False)
    tracker.log({"loss": 1, "text": "x", "nested": {"a": 1.0}})
    tracker.config.lr = 0.2
    tracker.config.update({"lr": 0.3}, allow_val_change=True)
    lr: Any = tracker.config["lr"]
    tracker.summary["best"] = lr
    name: str = run.name
    tags: tuple[str, ...] = run.tags
    url: str | None = run.url
    started: float = run.start_time
    kept: list[str] = tracker.save("*.pt", policy="now", block=True)
    metric = run.define_metric("val/*", step_metric="epoch", summary="min", goal="minimize")
    tracker.define_metric("epoch", hidden=True)
    tracker.alert("title", "text", level=tracker.AlertLevel.WARN, wait_duration=60)
    run.watch(Model(), log="all", log_freq=10)
    tracker.log({"picture": tracker.Image("a.png", caption="x"), "table": tracker.Table(columns=["a"])})
    tracker.log({"chart": tracker.plot.line(tracker.Table(columns=["x", "y"]), "x", "y")})
    tracker.finish(exit_code=0)
    print(name, tags, url, started, kept, metric, tracker.__version__)
    try:
        tracker.sweep({})
    except tracker.UsageError as error:
        print(error.message)


def mistakes() -> None:
    """Make mistakes that mypy is to find: it complains of an ignore without a reason."""
    tracker.init(project=3)  # type: ignore[arg-type]
    tracker.init(mode="sometimes")  # type: ignore[arg-type]
    tracker.log(3)  # type: ignore[arg-type]
    tracker.log({"a": 1}, step="x")  # type: ignore[arg-type]
    tracker.save("x", policy="never")  # type: ignore[arg-type]
    tracker.nothing()  # type: ignore[attr-defined]
    number: int = tracker.init().name  # type: ignore[assignment]
    print(number)
