"""A run's files from seen to stored: each rule alone, then anything in any order against a model server."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from tracker_agent.disk import Disk
from tracker_agent.file_digests import SETTLED_NS, FileDigests
from tracker_agent.file_tree import FileTree, Signature
from tracker_agent.opening import Place
from tracker_agent.run_files import LIVE_S, SETTLE_S, UNSETTLED_S, File, RunFiles, Stage, Version

PLACE = Place("/spool", "1000", "run", 1000)


def tree(**versions: int) -> FileTree:
    """Return a walk's result: name → number of its version, in as many bytes."""
    return FileTree({f"files/{name}": signature(name, number) for name, number in versions.items()})


def signature(name: str, number: int, inode: int | None = None) -> Signature:
    return Signature(1, inode or sum(name.encode()), number, number, number)


def new_run() -> RunFiles:
    run = RunFiles(PLACE)
    run.see_stream(b"s" * 16)
    return run


def names(files: object) -> list[str]:
    return sorted(file.path for file in files)  # type: ignore[attr-defined]


def store(run: RunFiles, path: str, now: float) -> None:
    file = run.files[path]
    run.hashed(file, file.signature, "d")
    run.stored(file, 1, now)


def test_a_file_is_read_once_it_is_quiet() -> None:
    run = new_run()
    run.see(tree(a=1), 100.0)

    assert names(run.to_hash(100.0 + SETTLE_S - 0.1)) == []
    run.see(tree(a=2), 101.0)
    assert names(run.to_hash(100.0 + SETTLE_S)) == []
    assert names(run.to_hash(101.0 + SETTLE_S)) == ["files/a"]


def test_a_file_that_was_quiet_before_it_was_seen_is_read_at_once() -> None:
    for age_s, wanted in ((SETTLE_S + 1, ["files/a"]), (SETTLE_S - 1, []), (-3600, [])):
        run = new_run()
        run.see(tree(a=10**9), 100.0, int((1 + age_s) * 1e9))

        assert names(run.to_hash(100.0)) == wanted


def test_a_file_that_is_never_quiet_is_read_all_the_same() -> None:
    run = new_run()
    for second in range(int(UNSETTLED_S) + 1):
        run.see(tree(a=second), 100.0 + second)
        due = names(run.to_hash(100.0 + second))
        assert due == (["files/a"] if second >= UNSETTLED_S else [])


def test_a_stored_file_that_changes_waits_while_its_run_lives_and_not_after() -> None:
    run = new_run()
    run.see(tree(a=1), 0.0)
    store(run, "files/a", 10.0)
    run.see(tree(a=2), 11.0)

    assert names(run.to_hash(10.0 + LIVE_S - 1)) == []
    assert names(run.to_hash(10.0 + LIVE_S)) == ["files/a"]
    run.ended = run.unread = True
    assert names(run.to_hash(11.0 + SETTLE_S)) == ["files/a"]


def test_a_run_is_done_when_a_walk_after_its_end_finds_nothing_new() -> None:
    run = new_run()
    run.see(tree(a=1), 0.0)
    store(run, "files/a", 1.0)
    run.see(tree(a=1), 2.0)
    assert not run.done

    run.ended = True
    run.see(tree(a=1, b=1), 3.0)
    assert not run.done
    store(run, "files/b", 4.0)
    run.look_again_if_through(4.0)
    assert run.walk_at == 4.0
    run.see(tree(a=1, b=2), 5.0)
    assert not run.done
    run.files["files/b"].version = None
    store(run, "files/b", 6.0)
    run.see(tree(a=1, b=2), 7.0)
    assert run.done


def test_what_is_gone_before_it_was_on_its_way_is_lost_and_what_was_renamed_is_not() -> None:
    run = new_run()
    run.see(tree(a=1, b=2, c=3), 0.0)
    store(run, "files/c", 1.0)
    moved = FileTree({"files/new": signature("a", 1)})

    lost = run.see(moved, 2.0)

    assert [(each.path, each.bytes) for each in lost] == [("files/b", 2)]
    assert names(run.files.values()) == ["files/new"]


def test_a_version_on_its_way_outlives_its_file() -> None:
    run = new_run()
    run.see(tree(a=1), 0.0)
    file = run.files["files/a"]
    run.hashed(file, file.signature, "d")

    assert run.see(tree(), 1.0) == []
    assert names(run.to_tell(1.0)) == ["files/a"]
    run.stored(file, 1, 2.0)
    assert run.files == {}


def test_troubles_put_a_file_off_further_and_further_and_success_forgets_them() -> None:
    run = new_run()
    run.see(tree(a=1), 0.0)
    file = run.files["files/a"]
    waits = []
    for _ in range(12):
        run.begin_again(file, 0.0)
        waits.append(file.retry_at)

    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2.0, 300.0)
    store(run, "files/a", 1.0)
    assert (file.troubles, file.retry_at) == (0, 0.0)


def test_a_restored_server_is_told_of_everything_again() -> None:
    run = new_run()
    run.see(tree(a=1), 0.0)
    store(run, "files/a", 1.0)
    run.ended = True
    run.see(tree(a=1), 2.0)
    assert run.done

    run.tell_all_again()

    assert not run.done
    assert names(run.to_tell(3.0)) == ["files/a"]
    assert run.files["files/a"].revision == 0


def test_digests_are_remembered_of_files_that_were_quiet_when_they_were_read(tmp_path: object) -> None:
    path = f"{tmp_path}/digests"
    digests = FileDigests(path, Disk(), digests_max=2)
    quiet = 10 * SETTLED_NS
    digests.add(Signature(1, 1, 5, quiet - SETTLED_NS, 0), "aa" * 32, quiet)
    digests.add(Signature(1, 2, 5, quiet - SETTLED_NS + 1, 0), "bb" * 32, quiet)
    digests.add(Signature(1, 3, 5, 0, quiet), "cc" * 32, quiet)
    digests.add(Signature(1, 4, 5, quiet * 2, 0), "dd" * 32, quiet)
    digests.save()

    again = FileDigests(path, Disk(), digests_max=2)
    again.load()

    assert len(again) == 1
    assert again.get(Signature(1, 1, 5, quiet - SETTLED_NS, 0)) == "aa" * 32
    for inode in range(10, 15):
        again.add(Signature(1, inode, 5, 0, 0), "ee" * 32, quiet)
    assert len(again) == 2


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x92\x02\x90", b"\x92\x01\x91\x91\x01", b"\x80"])
def test_a_cache_that_is_damaged_is_no_cache(tmp_path: object, content: bytes) -> None:
    path = f"{tmp_path}/digests"
    with open(path, "wb") as file:
        file.write(content)
    digests = FileDigests(path, Disk())

    digests.load()

    assert len(digests) == 0


@dataclass
class ModelServer:
    """What docs/protocol.md says of files: contents of a project, and versions of paths by revision."""

    blobs: set[str] = field(default_factory=set)
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
    late: list[tuple[str, str, int]] = field(default_factory=list)

    def tell(self, path: str, digest: str, revision: int) -> tuple[str, int]:
        stored, current = self.rows.get(path, ("", 0))
        if digest not in self.blobs:
            return "missing", current
        if stored == digest:
            return "stored", current
        if revision != current:
            return "changed", current
        self.rows[path] = (digest, current + 1)
        return "stored", current + 1


class World:
    """Files that change, an agent that walks, reads, tells, sends and dies, and requests that come late."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk: dict[str, Signature] = {}
        self.server = ModelServer()
        self.now = 1000.0
        self.number = 0
        self.run = new_run()
        self.counts = {"lost": 0, "late": 0, "restored": 0, "killed": 0, "changed": 0}

    def content(self, version: Signature) -> str:
        return f"{version.inode}-{version.mtime_ns}"

    def step(self) -> None:
        action = self.dice.choice(
            [self.write, self.write, self.delete, self.rename, self.walk, self.walk, self.read, self.read,
             self.tell, self.tell, self.send, self.send, self.deliver_late, self.kill, self.restore]
        )  # fmt: skip
        rare = action in (self.kill, self.restore)
        if not rare or self.dice.random() < 0.1:
            action()
        self.now += self.dice.choice([0.0, 0.5, 3.0, 40.0])

    def write(self) -> None:
        self.number += 1
        name = self.dice.choice("abc")
        old = self.disk.get(f"files/{name}")
        inode = old.inode if old is not None and self.dice.random() < 0.5 else self.number
        self.disk[f"files/{name}"] = Signature(1, inode, self.number, self.number, self.number)

    def delete(self) -> None:
        if self.disk:
            del self.disk[self.dice.choice(list(self.disk))]

    def rename(self) -> None:
        if self.disk:
            path = self.dice.choice(list(self.disk))
            self.disk[f"files/{self.dice.choice('abc')}"] = self.disk.pop(path)

    def walk(self) -> None:
        self.counts["lost"] += len(self.run.see(FileTree(dict(self.disk)), self.now))

    def read(self) -> None:
        for file in list(self.run.to_hash(self.now)):
            found = self.disk.get(file.path)
            if found is None:
                file.trouble(self.now)
            else:
                self.run.hashed(file, found, self.content(found))

    def tell(self) -> None:
        for file in list(self.run.to_tell(self.now)):
            version = file.version
            assert version is not None
            if self.dice.random() < 0.3:
                self.server.late.append((file.path, version.digest, file.revision))
            if self.dice.random() < 0.2:
                continue  # the request or its answer is lost
            self.apply(file, version, *self.server.tell(file.path, version.digest, file.revision))

    def apply(self, file: File, version: Version, state: str, revision: int) -> None:
        if state == "stored":
            self.run.stored(file, revision, self.now)
        else:
            file.revision = revision
            self.counts["changed"] += state == "changed"
            if state == "missing":
                version.stage = Stage.SEND

    def send(self) -> None:
        for file in list(self.run.to_send(self.now)):
            version = file.version
            assert version is not None
            found = self.disk.get(file.path)
            if found is None:
                self.run.drop(file)
                self.counts["lost"] += 1
            elif self.content(found) != version.digest:
                self.run.begin_again(file, self.now)
            else:
                self.server.blobs.add(version.digest)
                version.stage = Stage.TELL

    def deliver_late(self) -> None:
        if self.server.late:
            path, digest, revision = self.server.late.pop(self.dice.randrange(len(self.server.late)))
            before = self.server.rows.get(path)
            self.server.tell(path, digest, revision)
            self.counts["late"] += before != self.server.rows.get(path)

    def kill(self) -> None:
        self.run = new_run()
        self.counts["killed"] += 1

    def restore(self) -> None:
        self.server.rows = {path: row for path, row in self.server.rows.items() if self.dice.random() < 0.5}
        self.server.blobs = {digest for digest in self.server.blobs if self.dice.random() < 0.5}
        self.server.late.clear()
        self.run.tell_all_again()
        self.counts["restored"] += 1


def test_whatever_happens_the_server_ends_up_with_what_the_files_hold() -> None:
    counted: dict[str, int] = {}
    for seed in range(300):
        world = World(seed)
        for _ in range(200):
            world.step()
        world.run.ended = world.run.unread = True
        world.walk()

        for _ in range(200):
            if world.run.done:
                break
            for act in (world.read, world.tell, world.send, world.walk):
                act()
            world.now += 30.0

        assert world.run.done, f"seed {seed}: not done after the faults stopped"
        for path, version in world.disk.items():
            assert world.server.rows.get(path, ("", 0))[0] == world.content(version), f"seed {seed}: {path}"
        for name, count in world.counts.items():
            counted[name] = counted.get(name, 0) + count
    assert all(counted.values()), counted
