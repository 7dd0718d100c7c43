"""The demo's processes: a taken port, a service that dies, one that will not stop."""

import socket
import sys
from pathlib import Path

import pytest

from demo.services import Service, ServiceError, free_port


class Script(Service):
    """A service made of a line of Python; ready once it has written the file `ready`."""

    name = "script"

    def __init__(self, directory: Path, code: str) -> None:
        super().__init__(directory)
        self.code = code

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code, str(self.directory / "ready")]

    def is_ready(self) -> bool:
        return (self.directory / "ready").exists()


READY = "import sys, time; open(sys.argv[1], 'w').close(); "


def test_next_port_is_taken_when_one_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert free_port(port) > port


def test_service_runs_while_the_block_does(tmp_path: Path) -> None:
    with Script(tmp_path, READY + "time.sleep(600)") as service:
        service.check()

    assert service.process is not None
    assert service.process.returncode is not None


def test_service_that_dies_at_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"code 3; its log ends:\nno such disk"):
        Script(tmp_path, "import sys; print('no such disk'); sys.exit(3)").__enter__()


def test_service_that_ignores_the_request_to_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.services.STOP_TIMEOUT_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(600)"

    with Script(tmp_path, deaf) as service:
        pass

    assert service.process is not None
    assert service.process.returncode == -9
