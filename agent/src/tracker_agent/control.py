"""The control socket <state>/agent.sock: one JSON line asks, one or more JSON lines answer.

    {"command": "status", "arguments": {}}       → {…}                        one answer
    {"command": "tap", "arguments": {"run": …}}  → {…} {…} … {"end": true}    answers until there are no more
                                                 → {"error": "…"}             instead of either, at any point

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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

SOCKET_FILE = "agent.sock"
REQUEST_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024
REQUEST_TIMEOUT_S = 5.0
#: From the question to its only answer; a support bundle reads directories.
ANSWER_TIMEOUT_S = 60.0
#: A caller who takes nothing for this long (a stopped terminal) is let go.
STALLED_S = 60.0
CONNECTIONS_MAX = 16
#: Of these so many may be answered for as long as they like, so that `status` is always to be had.
STREAMS_MAX = 8
_UCRED = struct.Struct("3i")

Arguments = Mapping[str, Any]
Answerer = Callable[[Arguments], Awaitable[dict[str, Any]]]
Streamer = Callable[[Arguments], AsyncGenerator[dict[str, Any]]]


class ControlError(Exception):
    """The agent could not be asked, or refused. The message says why; on the agent's side it is sent."""


class NotRunningError(ControlError):
    """No agent listens there."""


class ControlServer:
    """Answers commands: each by the function that was registered for it. Register before start()."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._answerers: dict[str, Answerer] = {}
        self._streamers: dict[str, Streamer] = {}
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._streams = 0

    def answer(self, command: str, answerer: Answerer) -> None:
        """Let a command be answered once by `await answerer(arguments)`, which may raise ControlError."""
        self._answerers[command] = answerer

    def stream(self, command: str, streamer: Streamer) -> None:
        """Let a command be answered by what `streamer(arguments)` yields; closed when the caller goes."""
        self._streamers[command] = streamer

    async def start(self) -> None:
        """Listen. Raise OSError when that is not possible."""
        listener = _bind(self._state_dir)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_BYTES_MAX)

    async def close(self) -> None:
        """Stop listening, and leave those who still listen to us."""
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._state_dir / SOCKET_FILE).unlink(missing_ok=True)
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._connections += 1
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, ValueError):
            # A caller that went away, dawdled or sent no end of bytes gets no answer.
            pass
        except asyncio.CancelledError:
            # asyncio would log a cancelled handler as an error; here it is how the agent stops.
            if self._server is not None:
                raise
        finally:
            self._connections -= 1
            self._serving.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Also who is refused is heard first: else he might meet a closed socket, and not learn why.
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            line = await reader.readline()
        try:
            if self._connections > CONNECTIONS_MAX:
                raise ControlError("too many questions at once")
            if not _may_ask(writer.get_extra_info("socket")):
                raise ControlError("only root and the agent's own user may ask")
            command, arguments = _parse(line)
            if command in self._streamers:
                await self._stream_to(reader, writer, self._streamers[command](arguments))
            elif command in self._answerers:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await self._answerers[command](arguments)
                await _say(writer, answer)
            else:
                known = ", ".join(sorted([*self._answerers, *self._streamers]))
                raise ControlError(f"unknown command; known: {known}")
        except ControlError as error:
            await _say(writer, {"error": str(error)})

    async def _stream_to(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: AsyncGenerator[dict[str, Any]],
    ) -> None:
        if self._streams >= STREAMS_MAX:
            raise ControlError(f"{STREAMS_MAX} are listening already; end one of them")
        self._streams += 1
        speaking = asyncio.ensure_future(_say_all(writer, answers))
        # The caller says nothing more: whatever comes from there is its end.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({speaking, gone}, return_when=asyncio.FIRST_COMPLETED)
            if speaking.done():
                speaking.result()
        finally:
            self._streams -= 1
            speaking.cancel()
            gone.cancel()
            await asyncio.gather(speaking, gone, return_exceptions=True)


def ask(
    state_dir: Path, command: str, arguments: Arguments | None = None, timeout_s: float = 10.0
) -> dict[str, Any]:
    """Return the agent's answer to a command. Raise ControlError. Blocks; for the command line."""
    with _asked(state_dir, command, arguments, timeout_s) as answers:
        for answer in answers:
            return answer
        raise ValueError("it closed the connection")


def follow(
    state_dir: Path, command: str, arguments: Arguments | None = None, timeout_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the agent's answers until it has no more. Raise ControlError. Blocks; for the command line.

    timeout_s: how long the agent may be silent; None for commands that wait for something to happen.
    """
    with _asked(state_dir, command, arguments, timeout_s) as answers:
        for answer in answers:
            if answer.get("end") is True:
                return
            yield answer
        raise ValueError("it stopped in the middle, as when the agent is stopped")


@contextmanager
def _asked(
    state_dir: Path, command: str, arguments: Arguments | None, timeout_s: float | None
) -> Iterator[Iterator[dict[str, Any]]]:
    """Ask; what goes wrong then or while the answers are read becomes a ControlError."""
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
            request = {"command": command, "arguments": dict(arguments or {})}
            connection.sendall(json.dumps(request).encode() + b"\n")
            yield _answers(connection)
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


def _answers(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield answers. Raise ControlError for one that is a refusal, ValueError for what is no answer."""
    received = bytearray()
    while True:
        end = received.find(b"\n")
        while end < 0:
            if len(received) > ANSWER_BYTES_MAX:
                raise ValueError("too long an answer")
            piece = connection.recv(65536)
            if not piece:
                return
            end = piece.find(b"\n")
            end = end if end < 0 else end + len(received)
            received += piece
        answer = json.loads(received[:end])
        del received[: end + 1]
        if not isinstance(answer, dict):
            raise ValueError("not a map")  # noqa: TRY004 (like bytes that are no JSON)
        if "error" in answer:
            raise ControlError(str(answer["error"]))
        yield answer


async def _say(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(json.dumps(answer, default=str).encode() + b"\n")
    async with asyncio.timeout(STALLED_S):
        await writer.drain()


async def _say_all(writer: asyncio.StreamWriter, answers: AsyncGenerator[dict[str, Any]]) -> None:
    async with aclosing(answers):
        async for answer in answers:
            await _say(writer, answer)
    await _say(writer, {"end": True})


def _parse(line: bytes) -> tuple[str, Arguments]:
    """Return the command and its arguments. Raise ControlError."""
    try:
        request = json.loads(line)
        command, arguments = request["command"], request.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ControlError('a request looks like {"command": "status"}') from error
    if not isinstance(command, str) or not isinstance(arguments, dict):
        raise ControlError('a request looks like {"command": "status", "arguments": {}}')
    return command, arguments


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
