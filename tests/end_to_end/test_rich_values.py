"""Rich values of a real training through a real agent: the server has what was logged, byte by byte."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.support.agent_process import AgentProcess, training_environment, wait_until
from tests.support.http_client import ask
from tests.support.server_process import ServerProcess

RUN = "/api/v1/runs/default/end-to-end/rich"

#: Logs one of each, then writes what its summary says of them.
TRAINING = """
import json, sys, numpy, tracker
run = tracker.init(project="end-to-end", id="rich")
picture = numpy.arange(48, dtype=numpy.uint8).reshape(4, 4, 3) * 5
table = tracker.Table(columns=["n", "square"], data=[[n, n * n] for n in range(20000)])
run.log({
    "samples/\\u00fc": tracker.Image(picture, caption="first"),
    "pictures": [tracker.Image(picture[::-1]), tracker.Image(picture)],
    "sound": tracker.Audio(numpy.zeros(100), sample_rate=8000),
    "table": table,
    "small": tracker.Table(columns=["picture", "nan"], data=[[tracker.Image(picture), float("nan")]]),
    "weights": tracker.Histogram(range(10), num_bins=2),
    "page": tracker.Html("<b>hi</b>"),
    "curve": tracker.plot.line(tracker.Table(columns=["x", "y"], data=[[1, 2]]), "x", "y", title="t"),
    "note": "text", "loss": 0.5,
}, step=7)
with open(sys.argv[1], "w") as file:
    json.dump(dict(run.summary), file)
"""


@pytest.mark.timeout(120)
def test_what_was_logged_is_on_the_server_with_its_files(tmp_path: Path) -> None:
    summary_path = tmp_path / "summary.json"
    with (
        ServerProcess(tmp_path / "server") as server,
        AgentProcess(tmp_path, server.url, server.ingest_key) as agent,
    ):
        subprocess.run(
            [sys.executable, "-c", TRAINING, str(summary_path)],
            env=training_environment(agent.spool),
            check=True,
            timeout=60,
        )

        def get(what: str, **params: str) -> Any:
            return ask(server.url, "GET", RUN + what, key=server.admin_key, params=params)

        def stored() -> list[dict[str, Any]]:
            answer = server.try_get(RUN + "/files")
            return [] if answer is None else answer["files"]

        wait_until(lambda: len(stored()) == 6, what="all files on the server")
        values = {each["name"]: each for each in json.loads(get("/values").body)["values"]}
        images = json.loads(get("/values", type="image").body)["values"]
        files = {each["path"]: get("/file", path=each["path"]) for each in stored()}
        summary = json.loads(summary_path.read_text())

    assert {name: each["type"] for name, each in values.items()} == {
        "samples/ü": "image",
        "pictures": "list",
        "sound": "audio",
        "table": "table",
        "small": "table",
        "weights": "histogram",
        "page": "html",
        "curve": "chart",
        "note": "text",
    }
    assert {each["step"] for each in values.values()} == {7}
    assert [each["name"] for each in images] == ["samples/ü"]
    # What the training's own summary says is what the server was told.
    for name, each in values.items():
        if name not in ("note", "small"):
            assert summary[name] == {**each["data"], "_type": each["type"]}
    assert values["small"]["data"]["data"][1] == ["NaN"]
    assert values["weights"]["data"] == {"edges": [0.0, 4.5, 9.0], "counts": [5, 5]}

    local = {path.name: path for path in agent.spool.rglob("media/*/*")}
    assert sorted(local) == sorted(path.rpartition("/")[2] for path in files)
    for path, answer in files.items():
        assert answer.body == local[path.rpartition("/")[2]].read_bytes()
    picture = values["samples/ü"]["data"]
    assert files[picture["path"]].headers["Content-Type"] == "image/png"
    assert values["small"]["data"]["data"][0][0]["sha256"] == picture["sha256"]
    items = values["pictures"]["data"]["items"]
    assert [each["sha256"] == picture["sha256"] for each in items] == [False, True]
    head, *chunks, foot = msgpack.Unpacker(io.BytesIO(files[values["table"]["data"]["path"]].body))
    assert (head["columns"], foot["rows"]) == (["n", "square"], 20000)
    assert [cell for chunk in chunks for cell in chunk[1]] == np.square(np.arange(20000)).tolist()
