"""Files on a disk that fills up: refused until there is room, never half there, and records go on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.support.faulty_disks import SmallDisk
from tests.support.http_client import Answer, ask
from tests.support.record_stream import RecordStream, send
from tests.support.server_process import ServerProcess

MIB = 2**20
CONFIG = f"[limits]\nblob_reserve_bytes = {16 * MIB}\n"


def give(server: ServerProcess, content: bytes, offset: int) -> Answer:
    digest = hashlib.sha256(content).hexdigest()
    headers = {"X-Tracker-Offset": str(offset), "X-Tracker-Size": str(len(content))}
    part = content[offset : offset + 8 * MIB]
    path = f"/api/v1/projects/default/full/blobs/{digest}"
    return ask(server.url, "PATCH", path, key=server.ingest_key, body=part, headers=headers)


def test_files_wait_for_room_and_records_do_not(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(CONFIG)
    content = os.urandom(24 * MIB)
    with (
        SmallDisk(tmp_path / "disk", 64 * MIB) as disk,
        ServerProcess(disk.path, arguments=("--config", str(config))) as server,
    ):
        assert give(server, content, 0).json == {"offset": 8 * MIB, "done": False}
        disk.fill(leave_bytes=20 * MIB)

        refused = give(server, content, 8 * MIB)
        stream = RecordStream("run", "full")
        records = send(server.url, server.ingest_key, stream.take())

        assert (refused.status, refused.headers["Retry-After"].isdecimal()) == (503, True)
        assert records.status == 200
        assert "error" not in records.json["streams"][0]

        disk.free()
        offset = 8 * MIB
        while offset < len(content):
            offset = give(server, content, offset).json["offset"]
        digest = hashlib.sha256(content).hexdigest()
        told = {"path": "files/a", "sha256": digest, "size": len(content), "mtime": 0}
        body = {"uid": stream.uid, "stream": stream.stream.hex(), "files": [told]}
        answer = ask(server.url, "POST", "/api/v1/files", key=server.ingest_key, json_body=body)
        assert answer.json["files"][0]["state"] == "stored"
        assert list((server.data / "blobs" / "uploads").iterdir()) == []
