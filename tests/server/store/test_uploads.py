"""Uploads: only at their end, only whole, only so many; and what a restart or a full disk leaves of them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tracker_server.store.blobs import BlobDirectory, BlobMismatch
from tracker_server.store.errors import StoreFull, StoreUnavailable
from tracker_server.store.uploads import KEEP_S, Key, UploadLimits, Uploads, WrongOffset

LIMITS = UploadLimits(count=10, count_per_principal=3, bytes=1000, bytes_per_principal=300)
CONTENT = bytes(range(100)) * 2


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def key(content: bytes = CONTENT, principal: int = 1, project: int = 1) -> Key:
    return Key(principal, project, hashlib.sha256(content).hexdigest())


def open_uploads(root: Path, limits: UploadLimits = LIMITS, clock: Clock | None = None) -> Uploads:
    return Uploads(BlobDirectory(root), limits, clock or Clock())


def files_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_parts_become_a_blob_when_the_last_one_is_there(tmp_path: Path) -> None:
    uploads = open_uploads(tmp_path)

    assert uploads.append(key(), 0, 200, CONTENT[:50]) == 50
    assert BlobDirectory(tmp_path).size(1, key().sha256) is None
    assert uploads.append(key(), 50, 200, CONTENT[50:]) == 200

    assert b"".join(BlobDirectory(tmp_path).read(1, key().sha256)) == CONTENT
    assert files_in(tmp_path) == [key().sha256]


def test_a_restart_goes_on_with_what_is_there(tmp_path: Path) -> None:
    open_uploads(tmp_path).append(key(), 0, 200, CONTENT[:50])
    (tmp_path / "uploads" / ".half-a-put").write_bytes(b"x")

    uploads = open_uploads(tmp_path)

    assert uploads.offset(key()) == 50
    assert uploads.append(key(), 50, 200, CONTENT[50:]) == 200
    assert files_in(tmp_path) == [key().sha256]


def test_what_a_power_loss_made_of_an_upload_never_counts(tmp_path: Path) -> None:
    open_uploads(tmp_path).append(key(), 0, 200, CONTENT[:50])
    part = tmp_path / "uploads" / f"1-1-{key().sha256}"
    part.write_bytes(bytes(50))

    uploads = open_uploads(tmp_path)

    with pytest.raises(BlobMismatch):
        uploads.append(key(), 50, 200, CONTENT[50:])
    assert files_in(tmp_path) == []
    assert uploads.append(key(), 0, 200, CONTENT) == 200


def test_parts_out_of_order_are_told_where_to_go_on(tmp_path: Path) -> None:
    uploads = open_uploads(tmp_path)
    uploads.append(key(), 0, 200, CONTENT[:50])

    for offset in (0, 49, 51):
        with pytest.raises(WrongOffset) as error:
            uploads.append(key(), offset, 200, b"x")
        assert error.value.offset == 50


def test_a_file_the_project_has_meanwhile_needs_no_more_parts(tmp_path: Path) -> None:
    uploads = open_uploads(tmp_path)
    uploads.append(key(), 0, 200, CONTENT[:50])
    uploads.append(key(principal=2), 0, 200, CONTENT)

    assert uploads.append(key(), 50, 200, CONTENT[50:60]) == 200
    assert files_in(tmp_path) == [key().sha256]


def test_a_principal_with_too_many_uploads_loses_its_own_oldest(tmp_path: Path) -> None:
    clock = Clock()
    uploads = open_uploads(tmp_path, clock=clock)
    contents = [CONTENT + bytes([number]) for number in range(4)]
    uploads.append(key(principal=2), 0, 200, CONTENT[:50])
    for content in contents:
        clock.now += 1
        uploads.append(key(content), 0, 201, content[:10])

    assert [uploads.offset(key(content)) for content in contents] == [0, 10, 10, 10]
    assert uploads.offset(key(principal=2)) == 50


def test_a_principal_with_too_many_bytes_loses_its_own_oldest(tmp_path: Path) -> None:
    clock = Clock()
    uploads = open_uploads(tmp_path, clock=clock)
    other = CONTENT[::-1]
    uploads.append(key(), 0, 200, CONTENT[:199])
    clock.now += 1

    uploads.append(key(other), 0, 200, other[:150])

    assert (uploads.offset(key()), uploads.offset(key(other))) == (0, 150)


def test_more_uploads_than_fit_have_to_wait(tmp_path: Path) -> None:
    uploads = open_uploads(tmp_path)
    for principal in range(10):
        uploads.append(key(principal=principal), 0, 200, CONTENT[:10])

    with pytest.raises(StoreUnavailable):
        uploads.append(key(principal=10), 0, 200, CONTENT[:10])
    assert uploads.append(key(principal=0), 10, 200, CONTENT[10:20]) == 20


def test_an_upload_nobody_goes_on_with_is_given_up(tmp_path: Path) -> None:
    clock = Clock()
    uploads = open_uploads(tmp_path, clock=clock)
    uploads.append(key(), 0, 200, CONTENT[:10])

    clock.now += KEEP_S + 1
    uploads.append(key(principal=2), 0, 200, CONTENT[:10])

    assert uploads.offset(key()) == 0
    assert len(files_in(tmp_path)) == 1


def test_a_full_disk_costs_the_part_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = open_uploads(tmp_path)
    uploads.append(key(), 0, 200, CONTENT[:50])
    real = os.pwrite

    def half(fd: int, data: memoryview, offset: int) -> int:
        if offset > 50:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, bytes(data)[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(StoreFull):
        uploads.append(key(), 50, 200, CONTENT[50:])
    monkeypatch.undo()

    assert uploads.offset(key()) == 50
    assert uploads.append(key(), 50, 200, CONTENT[50:]) == 200


def test_files_leave_room_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = BlobDirectory(tmp_path)
    blobs.reserve_bytes = shutil.disk_usage(tmp_path).free
    uploads = Uploads(blobs, LIMITS, Clock())

    with pytest.raises(StoreFull):
        uploads.append(key(), 0, 200, CONTENT)

    assert files_in(tmp_path) == []


def test_every_step_of_finishing_may_be_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the n-th system call of the last part, for every n; begin again as a new server would."""
    names = ("open", "ftruncate", "pwrite", "fsync", "close", "replace", "mkdir")
    step = 0
    while True:
        root = tmp_path / str(step)
        root.mkdir()
        open_uploads(root).append(key(), 0, 200, CONTENT[:50])
        uploads = open_uploads(root)
        counted = _fail_at(monkeypatch, names, step)
        try:
            uploads.append(key(), 50, 200, CONTENT[50:])
        except StoreUnavailable:
            pass
        monkeypatch.undo()
        finished = step >= counted.calls
        anew = open_uploads(root)
        while (offset := anew.append(key(), anew.offset(key()), 200, CONTENT[anew.offset(key()) :])) < 200:
            assert offset
        assert b"".join(BlobDirectory(root).read(1, key().sha256)) == CONTENT
        assert files_in(root) == [key().sha256]
        if finished:
            break
        step += 1
    assert step > 5


class _Counted:
    calls = 0


def _fail_at(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], step: int) -> _Counted:
    counted = _Counted()

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            counted.calls += 1
            if counted.calls == step + 1:
                raise OSError(errno.EIO, "broken", name)
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in names:
        wrap(name)
    return counted
