"""Several users and servers: each run goes with its own key, and keys change while everybody trains.

Real servers, a real agent, real Unix users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.acknowledged import read_points
from tests.support import agent_process, require
from tests.support.agent_process import AgentProcess
from tests.support.other_user import open_directory, run_as_user, start_as_user
from tests.support.server_process import ServerProcess

ADA, BEN, CLEO = 7101, 7102, 7103
#: Nothing here takes so long; a busy machine may.
PATIENCE_S = 90.0

#: Logs until a file appears, then prints how many records log() returned from.
TRAIN = """
tracker.init(project="end-to-end", id=sys.argv[1])
step = 0
while not os.path.exists(sys.argv[2]):
    tracker.log({"value": step / 8}, step=step)
    step += 1
    time.sleep(0.005)
tracker.finish()
print("logged", step)
"""
LOGIN = """
sys.stdin = io.StringIO(os.environ.pop("KEY"))
sys.exit(tracker._commands.login.main(sys.argv[1:]))
"""


def wait_until(condition: Callable[[], Any], what: str) -> None:
    agent_process.wait_until(condition, PATIENCE_S, what)


class Training:
    """A training of one user, until stop() is called."""

    def __init__(self, directory: Path, spool: Path, uid: int, run: str, **environment: str) -> None:
        self.run = run
        self._stop = directory / f"stop-{run}"
        self._process = start_as_user(uid, TRAIN, run, str(self._stop), TRACKER_DIR=str(spool), **environment)

    def stop(self) -> int:
        """Let it end; return how many records it logged."""
        self._stop.touch()
        out, _ = self._process.communicate(timeout=PATIENCE_S)
        assert "logged " in out, out
        return int(out.rsplit("logged ", 1)[1])

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def trainings(*started: Training) -> Iterator[None]:
    try:
        yield
    finally:
        for each in started:
            each.kill()


def points(server: ServerProcess, run: str) -> list[tuple[int, float]]:
    """Return what the server has of a run, nothing where it does not know it."""
    known = server.try_get(f"/api/v1/runs/default/end-to-end/{run}")
    return read_points(server, run) if known is not None else []


def another_key(server: ServerProcess, principal: str) -> str:
    """Return a further key of a user."""
    wanted = {"entity": "default", "principal": principal, "name": "another", "scopes": ["ingest"]}
    key: str = server.request("POST", "/api/v1/keys", wanted)["key"]
    return key


def revoke(server: ServerProcess, key: str) -> None:
    server.request("DELETE", f"/api/v1/keys/{key_id(key)}")


def key_id(key: str) -> str:
    return key.split("_")[1]


def lane(agent: AgentProcess, credential: str) -> dict[str, Any] | None:
    status = agent.status()
    lanes = status["shipping"].get("lanes", []) if status else []
    return next((each for each in lanes if each["credential"] == credential), None)


def owner(server: ServerProcess, run: str) -> str:
    """Return the principal that a run belongs to."""
    page = server.get(f"/api/v1/runs/default/end-to-end/{run}")
    owned: str = page["owner"]
    return owned


@pytest.mark.timeout(500)
def test_keys_are_revoked_and_replaced_while_users_train_and_nothing_is_lost_or_mixed_up(
    tmp_path: Path,
) -> None:
    require.root()
    with (
        open_directory() as directory,
        ServerProcess(tmp_path / "first") as first,
        ServerProcess(tmp_path / "second") as second,
    ):
        agent = AgentProcess(directory, first.url, "")
        agent.spool.chmod(0o1733)
        operators = first.ingest_key
        key_file = tmp_path / "key"
        write_secret(key_file, operators)
        agent.config.write_text(
            f'[agent]\nstate_dir = "{agent.state}"\nspools = ["{agent.spool}"]\n'
            f'[server]\nurl = "{first.url}"\nkey_file = "{key_file}"\n'
            f'[servers.second]\nurl = "{second.url}"\n'
        )
        ada_key, ben_key = first.new_key("ada"), second.new_key("ben")
        ada = Training(directory, agent.spool, ADA, "of-ada", TRACKER_API_KEY=ada_key)
        ben = Training(
            directory, agent.spool, BEN, "of-ben",
            TRACKER_API_KEY=ben_key, TRACKER_BASE_URL=second.url, TRACKER_ACCOUNT="team",
        )  # fmt: skip
        cleo = Training(directory, agent.spool, CLEO, "of-cleo")
        astray = Training(directory, agent.spool, BEN, "astray", TRACKER_BASE_URL="https://elsewhere")
        with trainings(ada, ben, cleo, astray), agent:
            for server, run in ((first, "of-ada"), (second, "of-ben"), (first, "of-cleo")):
                wait_until(lambda s=server, r=run: points(s, r), what=f"points of {run}")

            # Ada's key is revoked: her runs wait, everybody else's go on.
            revoke(first, ada_key)
            name = f"uid-{ADA}-{key_id(ada_key)}"
            wait_until(lambda: (lane(agent, name) or {}).get("state") == "parked", what="ada's lane parked")
            assert "401" in (lane(agent, name) or {})["reason"]
            for server, run in ((second, "of-ben"), (first, "of-cleo")):
                seen = len(points(server, run))
                wait_until(lambda s=server, r=run, n=seen: len(points(s, r)) > n, what=f"more of {run}")
            login(agent, ADA, another_key(first, "ada"), "--account", key_id(ada_key))
            seen = len(points(first, "of-ada"))
            wait_until(lambda: len(points(first, "of-ada")) > seen, what="more of ada's")

            # Ben's key is replaced under its name, as by a new training with another TRACKER_API_KEY.
            revoke(second, ben_key)
            wait_until(
                lambda: (lane(agent, f"second.uid-{BEN}-team") or {}).get("state") == "parked",
                what="ben's lane parked",
            )
            login(agent, BEN, another_key(second, "ben"), "--server", second.url, "--account", "team")

            # The operator replaces his key in its file, and only then revokes the old one.
            write_secret(key_file, another_key(first, "agents"))
            revoke(first, operators)

            logged = {
                "of-ada": (first, ada.stop()),
                "of-ben": (second, ben.stop()),
                "of-cleo": (first, cleo.stop()),
            }
            lost = astray.stop()
            for run, (server, records) in logged.items():
                wait_until(
                    lambda s=server, r=run: (
                        s.get(f"/api/v1/runs/default/end-to-end/{r}")["state"] == "finished"
                    ),
                    what=f"{run} finished",
                )
                assert points(server, run) == [(step, step / 8) for step in range(records)], run

            # Nothing went to a server or with a key that it was not for.
            assert (owner(first, "of-ada"), owner(second, "of-ben")) == ("ada", "ben")
            assert owner(first, "of-cleo") == "agents"
            assert [points(second, run) for run in ("of-ada", "of-cleo", "astray")] == [[], [], []]
            assert [points(first, run) for run in ("of-ben", "astray")] == [[], []]
            said = str((agent.status() or {})["shipping"]["parked"])
            assert lost > 0
            assert "https://elsewhere" in said
            assert f"{first.url}, {second.url}" in said
            for key in (ada_key, ben_key, operators):
                assert key.encode() not in agent.log_path.read_bytes()


def write_secret(path: Path, text: str) -> None:
    """Replace a file that only its owner reads."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text + "\n")
    new.replace(path)


def login(agent: AgentProcess, uid: int, key: str, *arguments: str) -> None:
    said = run_as_user(uid, LOGIN, *arguments, KEY=key, TRACKER_DIR=str(agent.spool))
    assert "kept in" in said, said
