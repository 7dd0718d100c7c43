"""The control socket <state>/agent.sock: one JSON line asks, one JSON line answers.

For root and the agent's own user only, by the socket's mode and by the kernel's word on who is calling.
Both ends reach the socket through a descriptor of its directory, since a socket's path is limited to 107
bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOCKET_FILE = "agent.sock"
REQUEST_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
_UCRED = struct.Struct("3i")


class ControlError(Exception):
    """The agent could not be asked. The message says why."""


class NotRunningError(ControlError):
    """No agent listens there."""


class ControlServer:
    """Answers commands with what the given functions return."""

    def __init__(self, state_dir: Path, commands: dict[str, Callable[[], dict[str, Any]]]) -> None:
        self._state_dir = state_dir
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen. Raise OSError when that is not possible."""
        listener = _bind(self._state_dir)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_BYTES_MAX)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._state_dir / SOCKET_FILE).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                if self._connections > CONNECTIONS_MAX:
                    answer: dict[str, Any] = {"error": "too many questions at once"}
                elif not _may_ask(writer.get_extra_info("socket")):
                    answer = {"error": "only root and the agent's own user may ask"}
                else:
                    answer = self._answer(await reader.readline())
                writer.write(json.dumps(answer, default=str).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # A caller that went away, dawdled or sent no end of bytes gets no answer.
            pass
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command = self._commands.get(request["command"])
        except (ValueError, TypeError, KeyError):
            return {"error": 'a request looks like {"command": "status"}'}
        if command is None:
            return {"error": f"unknown command; known: {', '.join(self._commands)}"}
        return command()


def ask(state_dir: Path, command: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Return the agent's answer to a command. Raise ControlError. Blocks; for the command line."""
    path = state_dir / SOCKET_FILE
    try:
        fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotRunningError(f"no agent has run with the state directory {state_dir}") from error
    except OSError as error:
        raise ControlError(f"cannot open {state_dir}: {error.strerror}") from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(f"/proc/self/fd/{fd}/{SOCKET_FILE}")
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            answer = _read_line(connection)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(f"no agent runs with the state directory {state_dir}") from error
    except PermissionError as error:
        raise ControlError(f"{path} is only for root and the agent's own user") from error
    except TimeoutError as error:
        raise ControlError(
            f"the agent did not answer within {timeout_s:g} s: it hangs, or the machine is overloaded"
        ) from error
    except (OSError, ValueError) as error:
        raise ControlError(f"the agent gave no answer: {error}") from error
    finally:
        os.close(fd)
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


def _read_line(connection: socket.socket) -> dict[str, Any]:
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(received) > ANSWER_BYTES_MAX:
            raise ValueError("it closed the connection" if not piece else "too long an answer")
        received += piece
    answer = json.loads(received)
    if not isinstance(answer, dict):
        raise ValueError("not a map")  # noqa: TRY004 (like bytes that are no JSON)
    return answer


def _bind(state_dir: Path) -> socket.socket:
    """Return a listening socket. The state lock is held: what lies under the name is left over."""
    fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        (state_dir / SOCKET_FILE).unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(f"/proc/self/fd/{fd}/{SOCKET_FILE}")
        finally:
            os.umask(before)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(fd)
    return listener


def _may_ask(connection: Any) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return uid in (0, os.geteuid())
