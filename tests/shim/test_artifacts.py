"""Artifacts: what is logged is found again, byte by byte, by version, alias and digest."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tracker
from tests.shim.scripts import reading, run_script
from tests.support.alone import ALONE
from tracker.protocol import kinds


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("TRACKER_")]:
        monkeypatch.delenv(name)
    for name, value in {**ALONE, "TRACKER_DIR": str(tmp_path / "spool"), "TRACKER_SILENT": "1"}.items():
        monkeypatch.setenv(name, value)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield tmp_path / "spool"
    tracker.finish()


def begin(**arguments: Any) -> Any:
    return tracker.init(project="p", **arguments)


def contents(directory: Any) -> dict[str, bytes]:
    top = Path(directory)
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_what_is_added_is_kept_though_the_originals_change(spool: Path) -> None:
    run = begin(id="one")
    Path("weights").write_bytes(b"\0\1")
    Path("tree/below").mkdir(parents=True)
    Path("tree/below/a").write_text("a")
    artifact = tracker.Artifact("model", "model", description="d", metadata={"f1": 0.5, "nan": float("nan")})
    artifact.add_file("weights")
    artifact.add_dir("tree")
    artifact.add_dir("tree", name="copy")
    with artifact.new_file("notes/n.txt") as file:
        file.write("n")
    with artifact.new_file("raw", mode="wb") as file:
        file.write(b"\xff")
    Path("weights").write_bytes(b"other")
    shutil.rmtree("tree")

    logged = run.log_artifact(artifact, aliases=["best"], tags=["t"])

    expected = {
        "weights": b"\0\1",
        "below/a": b"a",
        "copy/below/a": b"a",
        "notes/n.txt": b"n",
        "raw": b"\xff",
    }
    assert logged is artifact
    assert (artifact.version, artifact.name, artifact.state) == ("v0", "model:v0", "COMMITTED")
    kept = Path(run.directory) / "files" / "artifacts" / "model"
    assert contents(kept / "v0") == expected
    assert sorted(path.name for path in kept.iterdir()) == ["v0", "v0.json"]
    assert not [name for name in os.listdir(run.directory) if name.startswith(".tracker-")]
    document = json.loads((kept / "v0.json").read_text())
    assert document["aliases"] == ["best"] and document["tags"] == ["t"] and document["type"] == "model"
    assert document["run"]["id"] == "one" and document["entries"]["raw"]["size"] == 1

    found = run.use_artifact("model:best", type="model")
    assert contents(found.download()) == expected
    assert Path("artifacts/model:v0/raw").read_bytes() == b"\xff"
    assert found.metadata["f1"] == 0.5 and found.description == "d"
    assert found.get_entry("raw").download("single") and Path("single/raw").exists()
    with pytest.raises(KeyError):
        found.get_entry("missing")
    found.verify("artifacts/model:v0")
    Path("artifacts/model:v0/raw").write_bytes(b"damaged")
    Path("artifacts/model:v0/extra").write_bytes(b"x")
    with pytest.raises(ValueError, match="raw"):
        found.verify("artifacts/model:v0")
    assert contents(found.checkout("artifacts/model:v0")) == expected


def test_content_makes_the_version(spool: Path) -> None:
    run = begin()

    def logged(text: str, *aliases: str) -> Any:
        artifact = tracker.Artifact("data", "dataset")
        with artifact.new_file("x") as file:
            file.write(text)
        return run.log_artifact(artifact, aliases=list(aliases))

    assert [logged(text).version for text in ("a", "b", "a", "c")] == ["v0", "v1", "v0", "v2"]
    assert run.use_artifact("data").version == "v2"
    assert logged("a", "good").version == "v0"
    assert run.use_artifact("data:good").version == "v0"
    assert run.use_artifact("data:latest").version == "v0"
    assert run.use_artifact("data:v1").file("out") == os.path.join(os.path.abspath("out"), "x")
    digest = run.use_artifact("data:v1").digest
    assert run.use_artifact("data:" + digest[:10]).version == "v1"


def test_artifacts_of_other_runs_on_this_machine_are_found(spool: Path) -> None:
    first = begin(id="first")
    Path("a").write_text("a")
    first.log_artifact("a", name="data", type="dataset")
    first.log_model("a", name="net", aliases=["prod"])
    second = begin(id="second")

    assert second.use_artifact("data:v0").type == "dataset"
    assert second.use_artifact("p/data:latest").version == "v0"
    assert Path(second.use_model("net:prod")).read_text() == "a"
    with pytest.raises(tracker.CommError, match="no artifact missing:v0"):
        second.use_artifact("missing:v0")
    with pytest.raises(tracker.UsageError):
        second.use_model("data")
    with pytest.raises(tracker.UsageError):
        second.use_artifact("data", type="model")
    tracker.finish()

    roles = [
        (record.name, record.data["role"], record.data["version"])
        for stream in reading(spool)
        for record in stream.of(kinds.VALUE)
        if record.type == "artifact"
    ]
    assert ("artifact/data", "output", "v0") in roles and ("artifact/data", "input", "v0") in roles
    assert ("artifact/net", "input", "v0") in roles


def test_an_artifact_made_before_there_is_a_run_is_kept(spool: Path) -> None:
    artifact = tracker.Artifact("early", "data")
    with artifact.new_file("deep/x") as file:
        file.write("x")
    run = begin()

    run.log_artifact(artifact)

    assert contents(Path(run.directory) / "files/artifacts/early/v0") == {"deep/x": b"x"}


def test_references_removal_and_rich_values(spool: Path) -> None:
    run = begin()
    Path("here").write_text("here")
    artifact = tracker.Artifact("refs", "data")
    artifact.add_reference("https://example.org/data.bin")
    artifact.add_reference(Path("here").resolve().as_uri(), name="local")
    artifact.add(tracker.Table(columns=["a"], data=[[1], [2]]), "table")
    Path("gone").write_text("gone")
    artifact.add_file("gone", name="sub/gone")
    artifact.remove("sub")

    run.log_artifact(artifact)

    found = run.use_artifact("refs")
    assert sorted(found.manifest.entries)[:2] == ["data.bin", "local"] or "data.bin" in found.manifest.entries
    assert found.get_path("data.bin").ref_target() == "https://example.org/data.bin"
    assert not any("gone" in path for path in found.manifest.entries)
    assert not list((Path(run.directory) / "files").rglob("gone"))
    assert found.get("table")["_type"] == "table"
    with pytest.raises(tracker.Error, match="not fetched"):
        found.download()
    assert "local" in os.listdir(found.download(allow_missing_references=True))


def test_what_goes_wrong_is_said_and_counted(
    spool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("TRACKER_SILENT", "0")
    run = begin()
    artifact = tracker.Artifact("bad name/../x", "data")
    assert artifact.add_file("missing") is None
    assert artifact.add_file(__file__, name="../escape") is None
    assert artifact.add_file(__file__, name="/absolute") is None
    artifact.add_dir("missing")
    assert artifact.add_reference("file:///missing/file") == []
    assert artifact.add(object(), "x") is None

    run.log_artifact(artifact)
    run.log_artifact("missing")

    assert artifact.lost == 6 and artifact.version == "v0"
    err = capsys.readouterr().err
    for text in (
        "bad-name-..-x",
        "add_file('missing')",
        "no path within",
        "not a directory",
        "no file missing",
    ):
        assert text in err


def test_code_and_links_are_kept(spool: Path) -> None:
    run = begin()
    Path("src/.hidden").mkdir(parents=True)
    for name in ("src/a.py", "src/b.txt", "src/.hidden/c.py", "top.py"):
        Path(name).write_text(name)

    code = run.log_code(".")
    text = run.log_code("src", name="text", include_fn=lambda path, root: path.endswith(".txt"))
    nothing = run.log_code("src", exclude_fn=lambda path: True)
    linked = run.link_model("top.py", "registry/top")

    assert sorted(code.manifest.entries) == ["src/a.py", "top.py"] and code.type == "code"
    assert sorted(text.manifest.entries) == ["b.txt"]
    assert nothing is None
    assert linked.links == ["registry/top"] and linked.type == "model"


def test_processes_of_one_run_make_a_version_together(spool: Path) -> None:
    script = """
        import os, tracker
        run = tracker.init(id="run", project="p")
        for rank in range(3):
            if os.fork() == 0:
                with open("part-%d" % rank, "w") as file:
                    file.write(str(rank))
                run.upsert_artifact("part-%d" % rank, name="parts", type="data", distributed_id="d")
                os._exit(0)
        for rank in range(3):
            os.wait()
        last = tracker.Artifact("parts", "data")
        print(run.finish_artifact(last, distributed_id="d").version)
    """

    out, _ = run_script(script, TRACKER_DIR=str(spool))

    assert out == "v0\n"
    kept = next(spool.rglob("files/artifacts/parts"))
    assert sorted(contents(kept / "v0")) == ["part-0", "part-1", "part-2"]
    assert sorted(path.name for path in kept.iterdir()) == ["v0", "v0.json"]


def test_an_artifact_that_is_never_logged_leaves_nothing(spool: Path) -> None:
    script = """
        import gc, os, tracker
        run = tracker.init(id="run")
        artifact = tracker.Artifact("x", "data")
        with artifact.new_file("a") as file:
            file.write("a")
        assert any(name.startswith(".tracker-") for name in os.listdir(run.directory))
        if os.fork() == 0:
            del artifact
            gc.collect()
            os._exit(0)
        os.wait()
        assert any(name.startswith(".tracker-") for name in os.listdir(run.directory))
    """

    run_script(script, TRACKER_DIR=str(spool))

    assert not [path for path in spool.rglob("*") if path.name.startswith(".tracker-")]


def test_a_disabled_run_takes_artifacts_and_does_nothing(spool: Path) -> None:
    script = """
        import tracker
        run = tracker.init(mode="disabled")
        artifact = tracker.Artifact("x", "data")
        assert run.log_artifact(artifact) is artifact
        artifact.wait()
    """

    run_script(script, TRACKER_DIR=str(spool))
    assert not spool.exists()
