"""One real server for the tests of a module, with principals of two entities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.server_process import ServerProcess


@dataclass(frozen=True)
class Keys:
    """Keys of two entities and of every scope."""

    admin: str
    read: str
    ingest: str
    agent: str
    foreign_admin: str
    foreign_read: str
    foreign_ingest: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def keys(server: ServerProcess) -> Keys:
    return Keys(
        admin=server.admin_key,
        read=server.new_key("reader", ("read",)),
        ingest=server.new_key("writer", ("ingest",)),
        agent=server.ingest_key,
        foreign_admin=server.new_key("admin", ("admin",), entity="other"),
        foreign_read=server.new_key("reader", ("read",), entity="other"),
        foreign_ingest=server.new_key("writer", ("ingest",), entity="other"),
    )
