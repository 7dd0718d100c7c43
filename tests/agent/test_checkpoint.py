"""The checkpoint is a cache: whatever is in the file, the agent starts, and says what it could not use."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tracker_agent.checkpoint import Checkpoint, Remembered, Sighting
from tracker_agent.disk import Disk

URL = "http://server"
OBSERVED = {(1000, bytes(range(16))): "gone", (0, bytes(16)): "live"}
SIGHTINGS = {(0, bytes(16)): Sighting("default", "/spool", "/spool/0/run")}
KNOWN = {URL: Remembered("epoch", OBSERVED, SIGHTINGS), "http://other": Remembered(None, {})}


def written(tmp_path: Path, **changes: Any) -> Path:
    """Write a checkpoint, change some of its fields and return its path."""
    Checkpoint(str(tmp_path), Disk()).write(KNOWN)
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    checkpoint = Checkpoint(str(tmp_path), Disk())

    assert checkpoint.read() == (KNOWN, None)


def test_first_start_has_nothing_to_complain_of(tmp_path: Path) -> None:
    assert Checkpoint(str(tmp_path), Disk()).read() == ({}, None)


def test_checkpoint_of_an_agent_that_knew_one_server_is_read(tmp_path: Path) -> None:
    states = {f"{uid}/{stream.hex()}": state for (uid, stream), state in OBSERVED.items()}
    former = {"version": 1, "server": URL, "epoch": "epoch", "observed": states}
    (tmp_path / "checkpoint.json").write_text(json.dumps(former))

    assert Checkpoint(str(tmp_path), Disk()).read() == ({URL: Remembered("epoch", OBSERVED)}, None)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, os.urandom(64)],
    ids=["empty", "cut", "null", "list", "no fields", "no text", "deep", "noise"],
)
def test_damaged_file_is_set_aside_and_the_next_one_can_be_written(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_bytes(content)
    checkpoint = Checkpoint(str(tmp_path), Disk())

    observed, complaint = checkpoint.read()

    assert observed == {}
    assert complaint is not None and "set aside" in complaint
    assert path.with_name("checkpoint.json.corrupt").read_bytes() == content
    assert not path.exists()
    checkpoint.write(KNOWN)
    assert Checkpoint(str(tmp_path), Disk()).read() == (KNOWN, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"servers": []},
        {"servers": {URL: []}},
        {"servers": {URL: {"observed": []}}},
        {"servers": {URL: {"observed": {"1000": "gone"}}}},
        {"servers": {URL: {"observed": {}, "epoch": 5}}},
        {"servers": {URL: {"observed": {"someone/00": "gone"}}}},
        {"servers": {URL: {"observed": {"1000/xyz": "gone"}}}},
    ],
)
def test_fields_of_other_kinds_are_damage_too(tmp_path: Path, changes: dict[str, Any]) -> None:
    written(tmp_path, **changes)

    observed, complaint = Checkpoint(str(tmp_path), Disk()).read()

    assert observed == {}
    assert complaint is not None


@pytest.mark.parametrize("tenths", range(10))
def test_file_cut_anywhere_is_never_half_believed(tmp_path: Path, tenths: int) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenths // 10])

    observed, complaint = Checkpoint(str(tmp_path), Disk()).read()

    assert observed == {}
    assert complaint is not None


def test_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space"):
        Checkpoint(str(tmp_path), Disk()).write({})

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["checkpoint.json"]
