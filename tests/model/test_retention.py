"""What goes from a spool, over random spools and limits: the oldest first, shipped before unshipped, and
nobody's unshipped data for another user's sake.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tracker_agent.opening import Place
from tracker_agent.retention import Limits, Removal, RunDirectory, SegmentFile, decide, fair_share

SEEDS = 1500
KEEP_S = 1000.0


def random_runs(random_: random.Random) -> list[RunDirectory]:
    runs = []
    for uid in range(random_.randint(1, 4)):
        for number in range(random_.randint(0, 6)):
            place = Place("/spool", str(uid), f"run{number}", uid)
            fixed = random_.choice((0, 0, random_.randint(0, 500)))  # what may not go by itself
            segments: list[SegmentFile] = []
            whole_s = random_.choice((None, None, random_.uniform(0, 2 * KEEP_S)))
            if whole_s is None:
                for _ in range(random_.randint(0, 5)):
                    size, changed = random_.randint(1, 200), random_.uniform(0, 100)
                    segments.append(SegmentFile(b"s", len(segments), size, changed, random_.random() < 0.5))
            size = fixed + sum(segment.bytes for segment in segments)
            dead = whole_s is not None or random_.random() < 0.5
            changed = random_.uniform(0, 100)
            runs.append(RunDirectory(place, size, changed, whole_s, dead, tuple(segments)))
    return runs


def used(runs: list[RunDirectory], removals: list[Removal]) -> dict[int, int]:
    """Return what each user has left, counted anew."""
    left: dict[int, int] = {run.place.uid: 0 for run in runs}
    for run in runs:
        own = [each for each in removals if each.place == run.place]
        if any(each.segment is None for each in own):
            continue
        left[run.place.uid] += run.bytes - sum(each.segment.bytes for each in own if each.segment)
    return left


@pytest.fixture(params=range(SEEDS // 100))
def seeds(request: pytest.FixtureRequest) -> range:
    return range(request.param * 100, request.param * 100 + 100)


def test_random_spools_give_up_the_right_things(seeds: range) -> None:
    for seed in seeds:
        random_ = random.Random(seed)
        runs = random_runs(random_)
        limits = Limits(KEEP_S, random_.choice((0, 0, 300, 800)), random_.choice((0, 0, 500, 1500)))
        removals = decide(runs, limits)
        try:
            check(runs, limits, removals)
        except AssertionError:
            print(f"seed {seed}: {limits} {runs} {removals}")
            raise


def check(runs: list[RunDirectory], limits: Limits, removals: list[Removal]) -> None:
    by_place = {run.place: run for run in runs}
    left = used(runs, removals)
    before = used(runs, [])
    total = sum(left.values())

    # Nothing goes twice, and only what may.
    assert len({(each.place, each.segment) for each in removals}) == len(removals)
    for each in removals:
        run = by_place[each.place]
        if each.segment is not None:
            assert each.segment in run.segments and each.shipped == each.segment.shipped
        else:
            assert each.shipped == (run.whole_s is not None) and (each.shipped or run.dead)
    assert sum(each.bytes for each in removals) == sum(before.values()) - total

    # What was shipped long ago goes, limits or not; without limits nothing else does.
    expired = {run.place for run in runs if run.whole_s is not None and run.whole_s >= KEEP_S}
    assert expired <= {each.place for each in removals if each.segment is None}
    if not limits.bytes_per_user and not limits.bytes_in_all:
        assert {each.place for each in removals} == expired

    for uid in left:
        mine = [run for run in runs if run.place.uid == uid and run.place not in expired]
        gone = [each for each in removals if each.place.uid == uid and each.place not in expired]
        stays = [candidate for candidate in candidates(mine) if candidate not in strip(gone)]
        share = (
            fair_share([left[other] for other in left], limits.bytes_in_all) if limits.bytes_in_all else None
        )
        unshipped = [each for each in gone if not each.shipped]
        if unshipped:
            # The last resort: this user has nothing shipped left, and was above what is his.
            assert not [each for each in stays if each.shipped]
            last = unshipped[-1].bytes
            own = 0 < limits.bytes_per_user < left[uid] + last
            all_ = share is not None and left[uid] + last > limits.bytes_in_all // len(left)
            assert own or all_
        # Each sort goes in order of age.
        for shipped in (True, False):
            ages = [each.segment.changed_s for each in gone if each.segment and each.shipped == shipped]
            kept = [each.segment.changed_s for each in stays if each.segment and each.shipped == shipped]
            if shipped and [each for each in gone if each.shipped and each.segment is None]:
                continue  # whole runs stand between them
            assert not ages or not kept or max(ages) <= min(kept)
        if 0 < limits.bytes_per_user < left[uid]:
            assert not stays, "the limit could have been kept"
    if 0 < limits.bytes_in_all < total:
        everything = [
            c for c in candidates([r for r in runs if r.place not in expired]) if c not in strip(removals)
        ]
        assert not [each for each in everything if each.shipped], "there was shipped data left"


def candidates(runs: list[RunDirectory]) -> list[Removal]:
    """Return everything that may go, as decide() would name it."""
    found = []
    for run in runs:
        if run.whole_s is not None:
            found.append(Removal(run.place, None, 0, True, ""))
            continue
        found += [Removal(run.place, each, 0, each.shipped, "") for each in run.segments]
        if run.dead:
            found.append(Removal(run.place, None, 0, False, ""))
    return found


def strip(removals: list[Removal]) -> list[Removal]:
    return [replace(each, bytes=0, reason="") for each in removals]


def test_one_user_who_fills_the_spool_costs_no_other_his_unshipped_data() -> None:
    greedy = Place("/spool", "1", "big", 1)
    modest = Place("/spool", "2", "small", 2)
    runs = [
        RunDirectory(greedy, 10_000, segments=(SegmentFile(b"g", 0, 5000, 2.0, shipped=False),)),
        RunDirectory(modest, 300, segments=(SegmentFile(b"m", 0, 300, 1.0, shipped=False),)),
    ]

    removals = decide(runs, Limits(KEEP_S, 0, 1000))

    # What is left of the greedy one is beyond the limit still: it may not be removed.
    assert [each.place for each in removals] == [greedy]


def test_what_the_server_has_goes_before_what_it_has_not_whoever_owns_it() -> None:
    shipped = Place("/spool", "1", "done", 1)
    unshipped = Place("/spool", "2", "behind", 2)
    runs = [
        RunDirectory(shipped, 400, 9.0, whole_s=1.0, dead=True),
        RunDirectory(unshipped, 900, segments=(SegmentFile(b"u", 0, 900, 1.0, shipped=False),)),
    ]

    assert [each.place for each in decide(runs, Limits(KEEP_S, 0, 1000))] == [shipped]


@pytest.mark.parametrize(
    ("sizes", "limit", "share"),
    [([10, 20, 30], 60, 30), ([10, 20, 30], 45, 17), ([10, 20, 1000], 60, 30), ([], 5, 0), ([7], 5, 5)],
)
def test_fair_share_is_what_nobody_may_exceed(sizes: list[int], limit: int, share: int) -> None:
    assert fair_share(sizes, limit) == share
    assert sum(min(size, share) for size in sizes) <= limit
