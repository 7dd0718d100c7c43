"""The training's end of the connection to its helper, whatever interrupts it."""

import os
import resource
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest

from tracker._helper_client import HelperClient, unpack_frames
from tracker._helper_process import WAITING_DESCRIPTORS_MAX, WAITING_MESSAGES_MAX, Connection, _Inboxes


@pytest.fixture
def ends() -> Iterator[tuple[HelperClient, socket.socket]]:
    ours, theirs = socket.socketpair()
    client = HelperClient(ours.detach())
    yield client, theirs
    client.forget()
    theirs.close()


def test_a_call_that_interrupts_another_is_refused_and_harms_nothing(
    ends: tuple[HelperClient, socket.socket],
) -> None:
    client, theirs = ends
    # What a signal handler does in the middle of a send().
    nothing: list[object] = []
    answers = client._alone(lambda: [client.send("copies", 1), client.alive(), client.problems()], nothing)

    assert answers == [False, False, []]
    assert client.send("copies", 2) and client.alive()
    assert unpack_frames(theirs.recv(1000))[0] == [["copies", 2, 0]]


def test_messages_stay_whole_when_the_helper_reads_slowly(ends: tuple[HelperClient, socket.socket]) -> None:
    client, theirs = ends
    sent = 0
    while client.send("copies", [sent, "x" * 50_000]):
        sent += 1
    received = b""
    theirs.setblocking(False)
    while sum(len(frame) for frame in unpack_frames(received)[0]) < 3 * sent:
        client.problems()  # sends what is left
        try:
            received += theirs.recv(2**20)
        except BlockingIOError:
            continue

    frames, rest = unpack_frames(received)
    assert [frame[1][0] for frame in frames] == list(range(sent)) and sent > 10
    assert rest == b""


def test_what_a_helper_does_not_take_is_told(ends: tuple[HelperClient, socket.socket]) -> None:
    client, _ = ends
    while client.send("copies", "x" * 50_000):
        pass

    (problem,) = client.problems()

    assert "does not take its work" in problem


def test_a_helper_that_is_gone_is_noticed(ends: tuple[HelperClient, socket.socket]) -> None:
    client, theirs = ends
    assert client.alive()

    theirs.close()

    assert not client.alive()
    assert not client.send("copies", 1)
    client.close(0)


def test_neither_forks_nor_others_who_got_the_number_are_written_to(
    ends: tuple[HelperClient, socket.socket],
) -> None:
    client, _ = ends
    other, far = socket.socketpair()
    os.dup2(other.fileno(), client._fd)

    assert not client.alive() and not client.send("copies", 1)
    client.close(0)
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(100)
    other.close()
    far.close()


def test_many_threads_share_one_connection(ends: tuple[HelperClient, socket.socket]) -> None:
    client, theirs = ends
    threads = [
        threading.Thread(target=lambda: [client.send("copies", number) for number in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not client.problems()

    frames, rest = unpack_frames(theirs.recv(2**20))

    assert sorted(frame[1] for frame in frames) == sorted(list(range(20)) * 4) and not rest


def test_descriptors_that_do_not_fit_are_mixed_up_with_no_others(
    ends: tuple[HelperClient, socket.socket],
) -> None:
    client, theirs = ends
    connection = Connection(theirs.detach())
    files = [tempfile.TemporaryFile() for _ in range(5)]  # noqa: SIM115 - closed below
    numbers = [file.fileno() for file in files]
    client.send("copies", "first", numbers[:1])
    client.send("copies", "second", numbers[1:4])
    client.send("copies", "third", [])
    client.send("copies", "fourth", numbers[4:])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    found: list[tuple[str, object, list[int]]] = []
    try:
        while len(found) < 4:
            # Room for two at a time.
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))
            found += connection.receive()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for _, message, descriptors in found:
                for fd in descriptors:
                    assert os.fstat(fd).st_ino == os.fstat(numbers[0 if message == "first" else 4]).st_ino
            if found[-1][1] == "first":
                os.close(found[-1][2].pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert [message for _, message, _ in found] == ["first", "second", "third", "fourth"]
    assert [len(descriptors) for _, _, descriptors in found] == [0, 0, 0, 1]
    os.close(found[3][2][0])
    connection.close()
    for file in files:
        file.close()


def test_a_connection_that_is_closed_holds_no_descriptors(ends: tuple[HelperClient, socket.socket]) -> None:
    client, theirs = ends
    connection = Connection(theirs.detach())
    reader, writer = os.pipe()
    frame_of_it = [writer]
    client._alone(lambda: client._send(b"\0\0\0\x09half", b"", frame_of_it), False)
    os.close(writer)
    assert connection.receive() == []

    connection.close()

    assert os.read(reader, 1) == b"", "somebody still holds the other end"
    os.close(reader)


def test_the_helper_takes_in_no_more_than_it_can_hold() -> None:
    inboxes = _Inboxes()
    queue = inboxes.add("copies")
    held = [os.dup(0) for _ in range(WAITING_DESCRIPTORS_MAX)]
    for fd in held:
        assert not inboxes.full
        inboxes.put("copies", "x", [fd])
    assert inboxes.full
    for fd in held[:2]:
        queue.get()
        os.close(fd)
    assert not inboxes.full
    for _ in range(WAITING_MESSAGES_MAX):
        inboxes.put("copies", "x", [])
    assert inboxes.full
    for fd in held[2:]:
        os.close(fd)


def test_messages_for_a_task_that_is_not_there_leave_no_descriptors() -> None:
    fd = os.dup(0)

    _Inboxes().put("unknown", "x", [fd])

    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
