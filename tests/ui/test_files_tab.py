"""The Files tab of a run's page: what it lists, how it finds, and that a click downloads the very bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.http_client import ask
from tests.support.pushed_stream import PushedStream
from tests.support.server_process import ServerProcess


def put(server: ServerProcess, run: PushedStream, project: str, files: dict[str, bytes]) -> None:
    """Give a run files, as an agent does."""
    told = []
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        blob = f"/api/v1/projects/default/{project}/blobs/{digest}"
        assert ask(server.url, "PUT", blob, key=server.ingest_key, body=content).status == 200
        told.append({"path": path, "sha256": digest, "size": len(content), "mtime": 1_700_000_000 * 10**9})
    body = {"uid": 1000, "stream": run.stream.hex(), "files": told}
    answer = ask(server.url, "POST", "/api/v1/files", key=server.ingest_key, json_body=body).json
    assert [each["state"] for each in answer["files"]] == ["stored"] * len(files), answer


def test_files_are_listed_found_and_downloaded(
    page: Page, server: ServerProcess, tmp_path: Path, keep_screenshot: Callable[[Page, str], None]
) -> None:
    run = PushedStream(server, "with-files", "files-tab", name="brisk-otter-3").log(0, {"loss": 1.0}).push()
    files = {
        "files/checkpoints/step-1000/model.safetensors": bytes(3_500_000),
        "files/checkpoints/step-2000/model.safetensors": bytes(3_500_001),
        "files/diff.patch": b"--- a\n+++ b\n",
        "files/requirements.txt": b"torch==2.9\n",
        "files/<img src=x onerror=alert(1)>.html": b"<script>alert(1)</script>",
        "media/images/samples_10 \u00fc#?&.png": b"\x89PNG not really",
    }
    put(server, run, "files-tab", files)

    page.goto(f"{server.url}{run.path}?tab=files")

    rows = page.locator("tbody tr")
    expect(rows).to_have_count(len(files))
    expect(page.get_by_role("status")).to_contain_text("6 files, 6.68 MiB")
    keep_screenshot(page, "files-tab")
    for path, content in files.items():
        with page.expect_download() as started:
            page.get_by_title(f"Download {path}").click()
        target = tmp_path / "download"
        started.value.save_as(target)
        assert target.read_bytes() == content

    page.get_by_label("Search the files").fill("safetensors")
    expect(rows).to_have_count(2)
    page.get_by_label("Search the files").fill("nothing like it")
    expect(page.get_by_role("main")).to_contain_text("No file has “nothing like it” in its path")


def test_a_run_without_files_says_where_they_would_come_from(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "without-files", "files-tab").log(0, {"loss": 1.0}).push()

    page.goto(f"{server.url}{run.path}?tab=files")

    expect(page.get_by_role("main")).to_contain_text("No files.")
    expect(page.get_by_role("main")).to_contain_text("files/")


def test_a_file_that_arrives_while_one_looks_appears(page: Page, server: ServerProcess) -> None:
    run = PushedStream(server, "arriving", "files-tab").log(0, {"loss": 1.0}).push()
    page.goto(f"{server.url}{run.path}?tab=files")
    expect(page.get_by_role("main")).to_contain_text("No files.")

    put(server, run, "files-tab", {"files/late.txt": b"late"})

    expect(page.locator("tbody tr")).to_have_count(1)
