"""Blobs: whole or not there, by digest, within one project."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tracker_server.store.blobs import BlobDirectory, BlobMismatch
from tracker_server.store.errors import StoreUnavailable


def test_a_blob_comes_back_in_its_own_project_only(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    digest = hashlib.sha256(b"onetwo").hexdigest()

    assert blobs.put(1, digest, [b"one", b"two"]) == 6

    assert b"".join(blobs.read(1, digest)) == b"onetwo"
    assert (blobs.size(1, digest), blobs.size(2, digest)) == (6, None)


def test_other_bytes_than_announced_leave_nothing_behind(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)
    digest = hashlib.sha256(b"wanted").hexdigest()

    with pytest.raises(BlobMismatch):
        blobs.put(1, digest, [b"other"])

    assert blobs.size(1, digest) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_upload_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    blobs = BlobDirectory(tmp_path)

    def broken():
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(StoreUnavailable):
        blobs.put(1, hashlib.sha256(b"half").hexdigest(), broken())

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "/"])
def test_a_digest_that_is_none_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="64"):
        BlobDirectory(tmp_path).size(1, digest)
