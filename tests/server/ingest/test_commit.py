"""commit(): exactly once, whole batches, and one bad stream never hurts another."""

from __future__ import annotations

import sqlite3

import msgpack
import pytest

from tests.support.front_door import commit_json_lines, to_json_line
from tests.support.stores import Committer, add_principal, failing_at
from tests.support.streams import START, StreamBytes
from tracker.protocol import bodies, kinds
from tracker.protocol.header import encode_header
from tracker_server.ingest.commit import AgentInfo, GapEntry, HostNews, Lines, RunNews
from tracker_server.ingest.writer import Writer
from tracker_server.store.errors import NotFound, StoreError
from tracker_server.store.store import Store


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


def steps(committer: Committer, name: str = "a", run: str = "run1", project: str = "p") -> list[int]:
    """Return the steps of a metric in order of arrival."""
    found = committer.store.runs.get(committer.principal.entity_id, project, run)
    page = committer.store.points.points(found.points_id, [name])
    return [int(step) for step in page.points[name].step] if page.points else []


def test_a_run_appears_with_what_was_logged(alice: Committer) -> None:
    stream = StreamBytes(fields={"name": "first", "tags": ["x", "y"], "group": "g", "custom": 5})
    stream.log({"a": 1, "b": True})
    stream.log({"a": 2.5})
    stream.config({"lr": 0.1, "opt": {"name": "adam"}})
    stream.print("one", "two")

    (outcome,) = alice.send(stream)

    detail = alice.detail()
    assert (outcome.error, outcome.next) == (None, stream.end)
    assert (detail.run.name, detail.run.tags, detail.run.group) == ("first", ["x", "y"], "g")
    assert (detail.run.state, detail.run.steps, detail.run.points, detail.run.cursor) == ("running", 1, 3, 2)
    assert detail.config == {"lr": 0.1, "opt": {"name": "adam"}}
    assert detail.summary == {"a": 2.5, "b": 1.0}
    assert detail.fields == {"custom": 5}
    assert [line.text for line in alice.store.console.read(detail.run.id).lines] == ["one", "two"]


def test_the_same_request_twice_stores_everything_once(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    stream.print("x")
    entry = alice.lines(stream)

    first = alice.commit(entry)
    second = alice.commit(entry)

    assert second.outcomes == first.outcomes
    assert steps(alice) == [0]
    assert alice.detail().run.console_lines == 1


def test_every_cut_and_every_overlap_stores_each_record_once(alice: Committer) -> None:
    stream = StreamBytes()
    ends = [stream.end]
    for step in range(6):
        stream.log({"a": step})
        ends.append(stream.end)
    for number, start in enumerate([0, *ends]):
        for end in [each for each in ends if each > start][: 3 + number]:
            (outcome,) = alice.commit(alice.part(stream, start, end)).outcomes
            assert outcome.error is None

    assert steps(alice) == list(range(6))
    assert alice.detail().streams[0].next == stream.end


def test_a_hole_is_answered_with_where_to_go_on(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    next_offset = stream.end
    stream.log({"a": 1})
    skipped = stream.end
    stream.log({"a": 2})

    (outcome,) = alice.commit(alice.part(stream, skipped, stream.end)).outcomes

    assert (outcome.error, outcome.next) == ("hole", next_offset)
    assert steps(alice) == []


def test_an_overlap_with_other_bytes_is_diverged(alice: Committer) -> None:
    stream = StreamBytes(stream=b"s" * 16)
    stream.log({"a": 1})
    other = StreamBytes(stream=b"s" * 16)
    other.log({"a": 7})
    other.log({"a": 8})
    alice.send(stream)

    (outcome,) = alice.send(other)

    assert (outcome.error, outcome.next) == ("diverged", stream.end)
    assert alice.detail().summary == {"a": 1.0}


@pytest.mark.parametrize("change", ["cut", "flip", "junk"])
def test_bytes_that_are_not_whole_lines_are_refused_with_their_place(alice: Committer, change: str) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    bad_at = stream.log({"a": 2})
    good = bytes(stream.data)
    data = {
        "cut": good[:-1],
        "flip": good[:-1] + bytes([good[-1] ^ 1]),
        "junk": good[:bad_at] + b"\x00" * 30,
    }[change]
    entry = alice.part(stream, 0, 0)

    (outcome,) = alice.commit(type(entry)(1000, "u", stream.stream, 0, data)).outcomes

    assert (outcome.error, outcome.at, outcome.next) == ("bad_lines", bad_at, 0)
    with pytest.raises(NotFound):
        alice.detail()


def test_a_bad_stream_does_not_hurt_the_others_of_its_request(alice: Committer) -> None:
    good, bad, late = StreamBytes(run="good"), StreamBytes(run="bad"), StreamBytes(run="late")
    for stream in (good, bad, late):
        stream.log({"a": 1})
    bad.data[-1] ^= 1

    outcomes = alice.send(good, bad, late)

    assert [outcome.error for outcome in outcomes] == [None, "bad_lines", None]
    assert steps(alice, run="good") == steps(alice, run="late") == [0]


def test_a_failing_statement_anywhere_leaves_nothing_behind_and_a_retry_stores_all(store: Store) -> None:
    alice = Committer(store, add_principal(store))
    writer = store.database._writer
    fail_at = 0
    while True:
        fail_at += 1
        run = f"run{fail_at}"
        stream = StreamBytes(run=run, machine=f"machine{fail_at}")
        stream.log({f"a{fail_at}": 1, "b": 2})
        stream.config({"x": 1})
        stream.print("line")
        stream.exit(0)
        entry = alice.lines(stream)
        try:
            with failing_at(fail_at, writer):
                alice.commit(entry)
            failed = False
        except ZeroDivisionError:
            failed = True
        if failed:
            assert store.offsets(alice.principal, [(1000, stream.stream)])[0].next == 0
            with pytest.raises(NotFound):
                alice.detail(run)
        (outcome,) = alice.commit(entry).outcomes
        assert (outcome.error, outcome.next) == (None, stream.end)
        detail = alice.detail(run)
        assert (detail.run.state, detail.run.cursor, detail.run.console_lines) == ("finished", 1, 1)
        assert steps(alice, f"a{fail_at}", run) == [0]
        if not failed:
            break
    assert fail_at > 10


def test_a_commit_that_fails_at_its_very_end_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Committer(store, add_principal(store))
    known, new = StreamBytes(run="known"), StreamBytes(run="known")
    known.log({"known": 1})
    alice.send(known)
    new.log({"new": 1})
    entry = alice.lines(new)

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(store.database._writer.dialect, "do_commit", fail)
        with pytest.raises(StoreError):
            alice.commit(entry)
    assert store.offsets(alice.principal, [(1000, new.stream)])[0].next == 0
    alice.commit(entry)

    assert steps(alice, "new", "known") == [0]
    assert alice.detail("known").run.metrics == 2


def test_segments_follow_each_other(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    first = alice.lines(stream)
    stream.roll()
    stream.log({"a": 2})
    second = alice.lines(stream)

    (outcome,) = alice.commit(first, second).outcomes

    assert (outcome.error, outcome.next) == (None, stream.end)
    assert steps(alice) == [0, 1]


def test_a_segment_whose_header_names_another_run_is_refused(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    stream.header = stream.header._replace(run="other")
    stream.roll()

    (outcome,) = alice.send(stream)

    assert outcome.error == "bad_stream"


def test_a_segment_may_say_what_an_older_server_did_not_keep_of_the_first(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    stream.header = stream.header._replace(
        parent=b"p" * 16, role="helper", gpus={"CUDA_VISIBLE_DEVICES": "0"}
    )
    stream.roll()

    (outcome,) = alice.send(stream)

    assert outcome.error is None


def test_a_segment_at_the_wrong_place_is_refused(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    stream.header = stream.header._replace(segment=0)
    moved = stream.end
    stream.data += b"x"
    stream.roll()
    data = bytes(stream.data[moved + 1 :])

    entry = alice.part(stream, 0, 0)
    (outcome,) = alice.commit(type(entry)(1000, "u", stream.stream, moved, data)).outcomes

    assert outcome.error == "bad_stream"


def test_a_first_segment_begins_at_the_start_and_no_other_does(alice: Committer) -> None:
    late, early = StreamBytes(), StreamBytes()
    alice.commit(GapEntry(1000, "u", late.stream, 0, 100, "torn"))
    first_again = late.header._replace(base=100)
    second_at_start = early.header._replace(segment=1)

    (late_outcome,) = alice.commit(Lines(1000, "u", late.stream, 100, encode_header(first_again))).outcomes
    (early_outcome,) = alice.commit(
        Lines(1000, "u", early.stream, 0, encode_header(second_at_start))
    ).outcomes

    assert (late_outcome.error, late_outcome.at) == ("bad_stream", 100)
    assert (early_outcome.error, early_outcome.at) == ("bad_stream", 0)


def test_what_is_wrong_with_a_stream_that_begins_later_is_shown_where_it_begins(alice: Committer) -> None:
    stream = StreamBytes(project=None)
    lost = stream.end
    stream.roll()
    stream.log({"a": 1})
    alice.commit(GapEntry(1000, "u", stream.stream, 0, lost, "torn"))

    alice.commit(alice.part(stream, lost, stream.end))

    (problem,) = alice.detail(project="uncategorized").streams[0].problems
    assert problem.offset == lost


def test_a_run_that_wants_to_move_is_a_problem_at_its_record(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    moved = stream.add(kinds.RUN, bodies.Run(0, {"project": "elsewhere"}).encode())
    stream.add(kinds.RUN, bodies.Run(0, {"project": "elsewhere"}).encode())

    alice.send(stream)

    (problem,) = alice.detail().streams[0].problems
    assert (problem.count, problem.offset) == (2, moved)


def test_what_was_read_of_a_run_is_forgotten_with_the_savepoint_that_made_it(alice: Committer) -> None:
    with alice.store.transaction() as transaction:
        writer = Writer(transaction, alice.principal, START)
        first, second = StreamBytes(run="undone"), StreamBytes(run="made")
        for stream in (first, second):
            stream.log({"loss": 1.0})
        with pytest.raises(ZeroDivisionError), writer.savepoint():
            writer.add_lines(1000, first.stream, "u", *first.take())
            raise ZeroDivisionError
        with writer.savepoint():
            writer.add_lines(2000, second.stream, "u", *second.take())
            second.log({"loss": 2.0})
            assert writer.add_lines(2000, second.stream, "u", *second.take()) == second.end

    assert alice.detail("made").run.points == 2


def test_an_entry_that_is_undone_leaves_nothing_in_the_request(alice: Committer) -> None:
    undone, kept = StreamBytes(run="undone"), StreamBytes(run="kept")

    with alice.store.transaction() as transaction:
        writer = Writer(transaction, alice.principal, 1)
        with writer.savepoint():
            writer.add_lines(1000, kept.stream, "u", *kept.take())
        with pytest.raises(ZeroDivisionError), writer.savepoint():
            writer.add_lines(1000, undone.stream, "u", *undone.take())
            raise ZeroDivisionError
        news = [row.run for row in writer.changed_runs()]

    assert news == ["kept"]
    assert alice.store.offsets(alice.principal, [(1000, undone.stream)])[0].next == 0


def test_a_refused_stream_does_not_take_its_id_from_its_owner(alice: Committer) -> None:
    bob = Committer(alice.store, add_principal(alice.store, "bob"))
    alice.send(StreamBytes())
    stream = StreamBytes(run="mine")
    intruder = StreamBytes(stream=stream.stream)
    assert bob.send(intruder)[0].error == "forbidden"

    (outcome,) = alice.send(stream)

    assert outcome.error is None


def test_a_gap_is_counted_and_the_stream_goes_on_behind_it(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 0})
    alice.send(stream)
    lost_at = stream.log({"a": 1})
    after = stream.end
    stream.log({"a": 2}, step=2)

    gap = GapEntry(1000, "u", stream.stream, lost_at, after - lost_at, "damaged")
    (outcome,) = alice.commit(gap, alice.part(stream, after, stream.end)).outcomes
    again = alice.commit(gap).outcomes[0]

    assert (outcome.error, outcome.next) == (None, stream.end)
    assert again.next == stream.end
    assert steps(alice) == [0, 2]
    (stored,) = alice.detail().streams[0].gaps
    assert (stored.offset, stored.bytes, stored.reason) == (lost_at, after - lost_at, "damaged")


def test_right_after_a_gap_there_is_no_line_to_compare(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    alice.commit(GapEntry(1000, "u", stream.stream, stream.end, 100, "torn"))

    (offset,) = alice.store.offsets(alice.principal, [(1000, stream.stream)])

    assert (offset.next, offset.crc, offset.last) == (stream.end + 100, None, None)


def test_a_gap_may_hide_the_header_of_the_next_segment(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    start = stream.end
    stream.roll()
    first_line = stream.end
    stream.log({"a": 5})

    gap = GapEntry(1000, "u", stream.stream, start, first_line - start, "damaged")
    (outcome,) = alice.commit(gap, alice.part(stream, first_line, stream.end)).outcomes

    assert (outcome.error, outcome.next) == (None, stream.end)
    assert steps(alice) == [0]


def test_a_guessed_run_id_of_someone_else_is_forbidden_and_shows_nothing(alice: Committer) -> None:
    alice.send(StreamBytes())
    bob = Committer(alice.store, add_principal(alice.store, "bob"))
    intruder = StreamBytes()
    intruder.log({"a": 666})

    (outcome,) = bob.send(intruder)

    assert (outcome.error, outcome.next) == ("forbidden", None)
    assert alice.detail().summary == {}
    assert len(alice.detail().streams) == 1


def test_another_uid_under_the_same_key_is_forbidden_too(alice: Committer) -> None:
    alice.send(StreamBytes())
    other_user = Committer(alice.store, alice.principal, uid=1001)

    assert other_user.send(StreamBytes())[0].error == "forbidden"


def test_a_grant_lets_another_principal_write(alice: Committer) -> None:
    alice.send(StreamBytes())
    bob = Committer(alice.store, add_principal(alice.store, "bob"))
    alice.store.runs.grant(alice.detail().run, bob.principal.id, None, alice.principal.id, 1)
    stream = StreamBytes(rank=1)
    stream.log({"a": 1})

    assert bob.send(stream)[0].error is None
    assert len(alice.detail().streams) == 2


def test_a_stream_id_of_another_principal_is_forbidden(alice: Committer) -> None:
    stream = StreamBytes()
    alice.send(stream)
    bob = Committer(alice.store, add_principal(alice.store, "bob"))
    stream.log({"a": 1})

    (outcome,) = bob.send(stream)

    assert (outcome.error, outcome.next) == ("forbidden", None)


def test_the_same_ids_in_another_entity_are_another_run(alice: Committer) -> None:
    alice.send(StreamBytes(stream=b"x" * 16))
    eve = Committer(alice.store, add_principal(alice.store, "eve", entity="other"))
    stream = StreamBytes(stream=b"x" * 16)
    stream.log({"a": 1})

    assert eve.send(stream)[0].error is None
    assert (alice.detail().run.cursor, eve.detail().run.cursor) == (0, 1)


def test_where_a_stream_goes_on_is_told_within_its_entity_alone(alice: Committer) -> None:
    eve = add_principal(alice.store, "eve", entity="other")
    stream = StreamBytes()
    alice.send(stream)

    (own,) = alice.store.offsets(alice.principal, [(1000, stream.stream)])
    (foreign,) = alice.store.offsets(eve, [(1000, stream.stream)])

    assert own.next == stream.end
    assert (foreign.next, foreign.crc, foreign.last) == (0, None, None)


def test_where_a_stream_goes_on_is_told_to_who_may_write_it_alone(alice: Committer) -> None:
    eve = add_principal(alice.store, "eve")
    stream, homeless = StreamBytes(), StreamBytes(project=None)
    alice.send(stream)
    alice.commit(GapEntry(alice.uid, "alice", homeless.stream, 0, 10, "missing"))
    asked = [(alice.uid, stream.stream), (alice.uid, homeless.stream)]

    foreign = alice.store.offsets(eve, asked)
    own = alice.store.offsets(alice.principal, asked)
    run = alice.store.runs.get(alice.principal.entity_id, "p", "run1")
    alice.store.runs.grant(run, eve.id, alice.uid, alice.principal.id, 0)
    granted = alice.store.offsets(eve, asked)

    assert [(each.next, each.crc, each.last) for each in foreign] == [(0, None, None)] * 2
    assert [each.next for each in own] == [stream.end, 10]
    assert [each.next for each in granted] == [stream.end, 0]


def test_a_run_that_asks_for_another_entity_is_forbidden(alice: Committer) -> None:
    (outcome,) = alice.send(StreamBytes(fields={"entity": "other"}))

    assert outcome.error == "forbidden"
    with pytest.raises(NotFound):
        alice.detail()


def test_a_key_without_the_ingest_scope_stores_nothing(store: Store) -> None:
    reader = Committer(store, add_principal(store, scopes=("read",)))

    (outcome,) = reader.send(StreamBytes())

    assert outcome.error == "forbidden"
    assert store.runs.list(reader.principal.entity_id).total == 0


def test_records_before_any_run_record_go_to_uncategorized(alice: Committer) -> None:
    stream = StreamBytes(project=None)
    stream.log({"a": 1})

    alice.send(stream)

    detail = alice.detail(project="uncategorized")
    assert detail.run.cursor == 1
    assert [problem.reason for problem in detail.streams[0].problems] == [
        "the stream does not begin with RUN"
    ]


@pytest.mark.parametrize("name", ["a/b", "", "x" * 129, "a\nb", "50%", "..", "a:b"])
def test_an_impossible_project_name_is_a_visible_problem(alice: Committer, name: str) -> None:
    assert alice.send(StreamBytes(project=name))[0].error is None

    detail = alice.detail(project="uncategorized")

    assert len(detail.streams[0].problems) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (99, b"whatever"),
        (kinds.METRICS, b"\xc1"),
        (kinds.METRICS, msgpack.packb([1, 2])),
        (kinds.METRICS, msgpack.packb([1, None, {"a": "text"}])),
        (kinds.METRICS, msgpack.packb([1, None, {"a" * 600: 1.0}])),
        (kinds.METRICS, msgpack.packb([2**64 - 1, None, {"a": 1.0}])),
        (kinds.CONFIG, msgpack.packb([1, {1: 2}, []])),
        (kinds.RUN, b""),
        (kinds.EXIT, b"\x90"),
        (kinds.HOST, bodies.Host(1, {}).encode()),
    ],
)
def test_a_well_framed_line_is_never_refused(alice: Committer, kind: int, body: bytes) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    stream.add(kind, body)
    stream.log({"a": 2})

    assert alice.send(stream)[0].error is None

    assert steps(alice) == [0, 1]
    (problem,) = alice.detail().streams[0].problems
    assert problem.count == 1


def test_a_newer_version_of_the_format_is_kept_raw(alice: Committer) -> None:
    stream = StreamBytes(version=9)
    stream.log({"a": 1})

    assert alice.send(stream)[0].error is None

    (problem,) = alice.detail().streams[0].problems
    assert (problem.reason, problem.count) == ("written in a newer version of the format", 1)


def test_text_no_database_takes_is_kept_readable(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a\x00b": 1, "c\udc80d": 2})
    stream.config({"k\x00": "v\ud800", "n": float("nan"), "b": b"\xff"})
    stream.print("line \udcff\x00")

    assert alice.send(stream)[0].error is None

    assert alice.detail().summary == {"a\\x00b": 1.0, "c\ufffd\ufffd\ufffdd": 2.0}
    assert alice.detail().config == {"k\\x00": "v\ufffd\ufffd\ufffd", "n": "NaN", "b": "/w=="}


def test_a_missing_step_is_one_more_than_the_greatest(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 1})
    stream.log({"a": 1}, step=10)
    alice.send(stream)
    stream.log({"a": 1}, step=3)
    stream.log({"a": 1})

    alice.send(stream)

    assert steps(alice) == [0, 10, 3, 11]


def test_a_summary_value_set_by_hand_is_not_overwritten_by_log(alice: Committer) -> None:
    stream = StreamBytes()
    stream.log({"a": 1, "b": 1, "c": 1})
    stream.summary({"a": 100, "text": "x"}, ("b",))
    stream.log({"a": 2, "b": 2, "c": 2})

    alice.send(stream)

    assert alice.detail().summary == {"a": 100, "c": 2.0, "text": "x"}


def test_patches_apply_in_order(alice: Committer) -> None:
    stream = StreamBytes()
    stream.config({"a": 1, "b": {"x": 1}})
    alice.send(stream)
    stream.config({"b": {"y": 2}}, ("a",))
    stream.config({"a": 3})

    alice.send(stream)

    assert alice.detail().config == {"a": 3, "b": {"y": 2}}


def test_lost_records_are_counted(alice: Committer) -> None:
    stream = StreamBytes()
    stream.add(kinds.LOST, bodies.Lost(5, 17, "disk full").encode())

    alice.send(stream)

    (lost,) = alice.detail().streams[0].lost
    assert (lost.records, lost.reason, lost.time) == (17, "disk full", 5)


def test_values_are_kept_and_listed(alice: Committer) -> None:
    stream = StreamBytes()
    stream.add(kinds.VALUE, bodies.Value(1, 4, "note", "text", "hello").encode())
    alice.send(stream)

    (value,) = alice.store.runs.values(alice.detail().run)

    assert (value.name, value.step, value.type, value.data) == ("note", 4, "text", "hello")


def test_values_are_found_by_name_and_by_type(alice: Committer) -> None:
    stream = StreamBytes()
    for step, (name, type_) in enumerate([("a", "text"), ("b", "image"), ("a", "image"), ("b", "text")] * 2):
        stream.add(kinds.VALUE, bodies.Value(step, step, name, type_, "").encode())
    alice.send(stream)
    run, runs = alice.detail().run, alice.store.runs

    assert [value.step for value in runs.values(run, type_="image")] == [1, 2, 5, 6]
    assert [value.step for value in runs.values(run, name="a", type_="image")] == [2, 6]
    assert [value.step for value in runs.values(run, name="a", limit=2)] == [4, 6]
    assert runs.values(run, type_="none") == []


def test_news_name_what_changed(alice: Committer) -> None:
    run, host = StreamBytes(), StreamBytes(run=None)
    run.log({"a": 1})
    host.sample({"cpu": (1.0, 0.0, 2.0, 1.5, 15)})

    news = alice.commit(alice.lines(run), alice.lines(host)).news

    (run_news, host_news) = news
    assert isinstance(run_news, RunNews)
    assert (run_news.entity, run_news.project, run_news.run, run_news.cursor) == ("default", "p", "run1", 1)
    assert host_news == HostNews("default", "m" * 32)


def test_two_front_doors_store_the_same(alice: Committer) -> None:
    eve = add_principal(alice.store, "eve", entity="other")
    stream = StreamBytes()
    stream.log({"a": 1})
    stream.config({"b": 2})
    data = bytes(stream.data)
    alice.send(stream)

    committed = commit_json_lines(
        alice.store, eve, [to_json_line(1000, stream.stream, 0, data)], now=1_700_000_000_000_000_000
    )

    assert committed.outcomes[0].next == len(data)
    one, other = alice.detail(), Committer(alice.store, eve).detail()
    assert (one.config, one.summary, one.run.cursor) == (other.config, other.summary, other.run.cursor)


def test_an_agent_that_speaks_is_seen(alice: Committer) -> None:
    alice.commit(agent=AgentInfo("1", "m" * 32, "node1"))
    stream = StreamBytes()

    alice.send(stream)

    assert alice.detail().run.agent_seen is not None
