"""What a training logged, read back through tracker.Api from a server that an agent shipped it to."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

import tracker
from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.server_process import ServerProcess

TRAININGS = """
import os, tracker
for name, rate in (("slow", 0.1), ("fast", 0.5)):
    run = tracker.init(project="digits", id=name, name=name, group="g", config={"lr": rate}, tags=["t", name])
    run.define_metric("val/*", step_metric="epoch", summary="min,mean")
    run.define_metric("silent", summary="none")
    for epoch in range(3):
        for step in range(100):
            run.log({"loss": 1.0 / (1 + step + 100 * epoch), "epoch": epoch, "silent": 1})
        run.log({"val/acc": float(epoch) if epoch else float("nan"), "note": "epoch %d" % epoch})
    run.summary["best"] = 3
    os.makedirs(os.path.join(run.directory, "files", "deep"))
    with open(os.path.join(run.directory, "files", "deep", "model.txt"), "w") as file:
        file.write("weights of " + name)
    run.finish(0 if name == "slow" else 3)
"""


@pytest.mark.timeout(180)
def test_runs_are_read_back_as_they_were_logged(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, AgentProcess(tmp_path, server.url, server.ingest_key) as agent:
        environment = training_environment(agent.spool)
        code = subprocess.run([sys.executable, "-c", TRAININGS], env=environment, check=False).returncode
        assert code == 0
        api = tracker.Api({"base_url": server.url}, timeout=30, api_key=server.admin_key)
        wait_until(
            lambda: sum(run.state != "running" and len(run.files()) == 1 for run in api.runs("digits")) == 2,
            what="both runs and their files",
        )

        run = api.run("default/digits/slow")
        assert (run.id, run.name, run.state, run.tags, run.group) == (
            "slow",
            "slow",
            "finished",
            ["t", "slow"],
            "g",
        )
        assert run.path == ["default", "digits", "slow"]
        assert run.config == {"lr": 0.1}
        assert run.summary == {
            "loss": pytest.approx(1 / 300),
            "epoch": 2.0,
            "val/acc": {"min": 1.0, "mean": 1.5},
            "best": 3,
        }
        assert run.metadata["metrics"][0]["step_metric"] == "epoch"
        assert run.lastHistoryStep == 302
        assert run.created_at.endswith("Z")
        assert run.url.endswith("/runs/slow?project=digits")

        rows = list(run.scan_history())
        assert [row["_step"] for row in rows] == list(range(303))
        assert rows[5] == {
            "_step": 5,
            "_timestamp": rows[5]["_timestamp"],
            "loss": 1 / 6,
            "epoch": 0,
            "silent": 1,
        }
        assert rows[201]["epoch"] == 1  # put in by step_sync
        assert rows[201]["note"] == "epoch 1"
        assert math.isnan(rows[100]["val/acc"])
        part = list(run.scan_history(["epoch", "val/acc"], min_step=101, max_step=302))
        assert part == [{"epoch": 1, "val/acc": 1.0}]
        assert len(run.history(samples=10, keys=["loss"], pandas=False)) == 10
        assert set(run.history(samples=10, keys=["loss"], pandas=False)[0]) == {"_step", "loss"}

        with run.file("deep/model.txt").download(root=str(tmp_path / "back")) as file:
            assert file.read() == "weights of slow"
        with pytest.raises(tracker.UsageError, match="there already"):
            run.file("deep/model.txt").download(root=str(tmp_path / "back"))
        with pytest.raises(tracker.CommError, match="no other"):
            run.file("other")

        assert [each.id for each in api.runs("digits", order="+created_at")] == ["slow", "fast"]
        assert len(api.runs("digits")) == 2
        assert [each.id for each in api.runs("digits", {"config.lr": {"$gt": 0.2}})] == ["fast"]
        assert [each.id for each in api.runs(None, {"state": "failed", "tags": "fast"})] == ["fast"]
        assert not list(api.runs("digits", {"$or": [{"display_name": "x"}, {"summary_metrics.best": 4}]}))
        assert api.run("fast").exit_code == 3
        assert [each.name for each in api.projects()] == ["digits"]
        assert api.default_entity == "default"
        with pytest.raises(tracker.CommError, match="no such run"):
            api.run("digits/nobody")
        with pytest.raises(AttributeError):
            _ = run.nothing
        with pytest.raises(tracker.CommError, match="give a key"):
            list(tracker.Api({"base_url": server.url}, api_key="tk_00000000_wrong").runs())
