"""restore() and `tracker restore` from runs of this machine."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tracker
from tests.support.alone import ALONE
from tracker import _restore
from tracker._errors import Error
from tracker._kept import KeptRun


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("TRACKER_")]:
        monkeypatch.delenv(name)
    for name, value in {**ALONE, "TRACKER_DIR": str(tmp_path / "spool"), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "spool"
    tracker.finish()


def read(file: Any) -> str:
    assert isinstance(file, io.TextIOBase)
    with file:
        return str(file.read())


def run_with_files(run_id: str) -> Any:
    run = tracker.init(project="p", id=run_id, name=f"named-{run_id}", config={"lr": 0.5, "gone": 1})
    Path("sub").mkdir(exist_ok=True)
    Path("sub/a.txt").write_text(run_id)
    tracker.save("sub/a.txt", policy="now")
    media = Path(run.directory) / "media"
    media.mkdir()
    (media / "m.txt").write_text("media of " + run_id)
    (Path(run.directory) / "files" / ".tracker-half").write_text("not whole")
    Path("sub/a.txt").write_text("changed")
    return run


def test_a_file_of_this_run_comes_back(spool: Path) -> None:
    run_with_files("one")

    assert read(tracker.restore("sub/a.txt")) == "changed", "what is there already stays"
    assert read(tracker.restore("sub/a.txt", replace=True)) == "one"
    assert read(tracker.restore("sub/a.txt", root="other")) == "one"
    assert Path("other/sub/a.txt").read_text() == "one"
    assert read(tracker.restore("files/sub/a.txt", root="third")) == "one"
    assert read(tracker.restore("media/m.txt", root="third")) == "media of one"


def test_a_file_of_another_run_on_this_machine_comes_back(spool: Path) -> None:
    run_with_files("one")
    run_with_files("two")

    assert read(tracker.restore("sub/a.txt", run_path="one", root="x")) == "one"
    assert read(tracker.restore("sub/a.txt", run_path="p/one", root="y")) == "one"
    tracker.finish()
    assert read(tracker.restore("sub/a.txt", run_path="two", root="z")) == "two"


def test_what_cannot_be_restored_is_said(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracker.restore("sub/a.txt") is None
    run_with_files("one")
    # Each on a line of its own: a line is warned about once.
    assert tracker.restore("missing") is None
    assert tracker.restore("../x") is None
    assert tracker.restore("/etc/passwd") is None
    assert tracker.restore("") is None
    assert tracker.restore("a", run_path="q/one") is None
    assert tracker.restore("a", run_path="a/b/c/d") is None

    err = capsys.readouterr().err
    assert [err.count(text) for text in ("give run_path", "no server", "lead out", "is not a run")] == [
        1,
        2,
        3,
        1,
    ]
    assert not Path("missing").exists()


def test_the_command_brings_back_a_run_of_this_machine(
    spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_files("one")
    run.config.lr = 0.25
    del run.config["gone"]
    tracker.finish()

    assert _restore.main(["one", "--into", "back"]) == 0
    assert _restore.main(["named-one", "--into", "again", "--no-code"]) == 0
    assert _restore.main([run.directory, "--into", "third"]) == 0

    back = Path("back")
    assert json.loads((back / "config.json").read_text()) == {"lr": 0.25}
    assert json.loads((back / "run.json").read_text())["project"] == "p"
    assert (back / "files/sub/a.txt").read_text() == "one"
    assert (back / "media/m.txt").read_text() == "media of one"
    assert not list(back.rglob(".tracker-*"))
    capsys.readouterr()
    assert _restore.main(["one", "--into", "back"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert _restore.main(["nobody"]) == 1
    assert "no run nobody on this machine" in capsys.readouterr().err
    assert not Path("nobody").exists()


class Hostile(KeptRun):
    """What a server could say."""

    where = "hostile"

    def files(self) -> list[str]:
        return [
            "files/ok",
            "../out",
            "files/../../out",
            "/out",
            "files//x",
            "out",
            "files/a/./b",
            "files/link/x",
        ]

    def fetch(self, path: str, target: str) -> None:
        Path(target).write_text(path)

    def description(self) -> dict[str, Any]:
        return {"config": {}, "fields": {"code": {"commit": "--upload-pack=touch out", "remote": "x"}}}


def test_a_server_cannot_write_elsewhere_or_run_anything(spool: Path, tmp_path: Path) -> None:
    restored = _restore.restore_run(Hostile(), str(tmp_path / "into"))

    assert sorted(
        str(p.relative_to(tmp_path / "into")) for p in (tmp_path / "into").rglob("*") if p.is_file()
    ) == [
        "config.json",
        "files/link/x",
        "files/ok",
        "run.json",
    ]
    assert not list(tmp_path.glob("out")) and restored.files == 2
    assert any("no commit is known" in problem for problem in restored.problems)
    with pytest.raises(Error, match="there already"):
        _restore.restore_run(Hostile(), str(tmp_path / "into"))
