"""Starts a server and an agent, trains, and stays up to be looked at; with --exit, verifies and ends.

Everything lies in one directory, .demo by default; nothing outside it is touched. With --exit the directory
is a temporary one, so that a demo may stay up meanwhile.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from demo.services import Agent, Server, ServiceError, free_port
from demo.verification import read_side_log, verify

ROOT = Path(__file__).resolve().parent.parent
PORT = 8600
#: Slow enough to watch the curves grow.
WATCHING_DELAY_S = 0.02


def main() -> int:
    """Run the demo as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="verify that every value arrived once, and exit")
    parser.add_argument("--port", type=int, default=PORT, help="the server's port, or the next free one")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo")
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    # Stopped by whatever means, take the services down.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if options.exit:
            return verifying(options.port, options.epochs)
        return staying_up(options.directory, options.port, options.epochs)
    except ServiceError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", flush=True)
        return 0 if not options.exit else 130


def staying_up(directory: Path, port: int, epochs: int) -> int:
    """Train while the services are up, and leave them up until Ctrl-C."""
    directory.mkdir(parents=True, exist_ok=True)
    with only_demo_in(directory), services(directory, port) as (server, agent):
        _say_where(server)
        if train(agent, epochs, WATCHING_DELAY_S) != 0:
            raise ServiceError("the training failed; its output is above")
        print(f"\ndemo: trained; what you see is in {_shown(directory)}. Train again with", flush=True)
        print(f"    TRACKER_DIR={_shown(agent.spool)} .venv/bin/python examples/train_digits.py --seed 2")
        _say_where(server)
        print("demo: up until you press Ctrl-C", flush=True)
        while True:
            time.sleep(0.5)
            server.check()
            agent.check()


def verifying(port: int, epochs: int) -> int:
    """Train, then compare what the training logged with what the server's API has; return the exit code."""
    directory = Path(tempfile.mkdtemp(prefix="tracker-demo-"))
    with services(directory, port) as (server, agent):
        print(f"demo: server at {server.url}, training with {epochs} epochs", flush=True)
        side_log = directory / "side-log.jsonl"
        if train(agent, epochs, 0.0, side_log) != 0:
            raise ServiceError("the training failed; its output is above")
        logged = read_side_log(side_log)
        problems = verify(server.get, logged)
        for service in (server, agent):
            service.check()
    if problems:
        print(f"demo: NOT everything arrived exactly once; logs and data are kept in {directory}")
        for problem in problems:
            print(f"  {problem}")
        return 1
    shutil.rmtree(directory)
    what = f"{logged.records} records with {logged.points} values of {len(logged.metrics)} metrics"
    print(f"demo: verified: {what}, config, summary and final state arrived, each exactly once", flush=True)
    return 0


@contextlib.contextmanager
def services(directory: Path, wanted_port: int) -> Iterator[tuple[Server, Agent]]:
    """Run a server and an agent that ships to it; stop the agent first, so that it can deliver."""
    port = free_port(wanted_port)
    if port != wanted_port:
        print(f"demo: port {wanted_port} is taken, using {port}", flush=True)
    with Server(directory, port) as server, Agent(directory, server.url, server.ensure_agent_key()) as agent:
        yield server, agent


def train(agent: Agent, epochs: int, delay_s: float, side_log: Path | None = None) -> int:
    """Run examples/train_digits.py on the agent's spool; return its exit code."""
    training = [str(ROOT / "examples" / "train_digits.py"), "--epochs", str(epochs), "--delay", str(delay_s)]
    noting = ["-m", "demo.side_log", str(side_log)] if side_log else []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    environment["TRACKER_DIR"] = str(agent.spool)
    # In a process group of its own: Ctrl-C is for us, and ends the training without its traceback.
    return subprocess.run(
        [sys.executable, *noting, *training], cwd=ROOT, env=environment, process_group=0, check=False
    ).returncode


@contextlib.contextmanager
def only_demo_in(directory: Path) -> Iterator[None]:
    """Hold the directory, or say that another demo does."""
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(
                f"another demo is up in {_shown(directory)}; stop it with Ctrl-C first"
            ) from error
        yield


def _say_where(server: Server) -> None:
    print(
        f"\ndemo: open this link, it signs you in once (within 15 minutes):\n\n    {server.sign_in_link()}\n",
        flush=True,
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
