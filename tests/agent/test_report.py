"""What `tracker-agent status` tells people: every part of the agent, and what needs attention."""

from __future__ import annotations

from typing import Any

import pytest

from tracker_agent import attention, report


def status_with(**shipping: Any) -> dict[str, Any]:
    return {
        "agent": {
            "version": "1",
            "host": "h",
            "pid": 1,
            "uptime_s": 7300,
            "rss_bytes": 3 << 20,
            "warnings": [],
            "reload_problem": "",
            "stuck": [],
        },
        "spools": [],
        "server": {"url": "http://s", "key": "tk_x_…"},
        "shipping": {
            "lanes": [
                {
                    "credential": "default",
                    "state": "shipping",
                    "reason": "",
                    "last_contact_s": 3.0,
                    "next_try_s": None,
                }
            ],
            "streams": {"known": 2, "live": 1, "shipped": 1, "parked": 0, "kept": 0, "foreign": 0},
            "behind": {"streams": 0, "bytes": 0, "unasked": 0},
            **shipping,
        },
        "sampler": None,
        "tasks": {},
    }


def test_healthy_agent_needs_no_attention() -> None:
    text = report.render(status_with())

    assert "Nothing needs attention." in text
    assert "up 2 h, 3.0 MiB" in text
    assert "last contact 3 s ago" in text
    assert "everything written is on the server" in text


def test_what_is_behind_lost_and_parked_is_named_with_its_reason() -> None:
    text = report.render(
        status_with(
            behind={"streams": 3, "bytes": 5 << 20, "unasked": 0},
            losses={"damage": {"gaps": 2, "bytes": 100}},
            parked=[{"run": "r1", "path": "/s/1/r1", "code": "forbidden", "reason": "it is hers"}],
            foreign=[{"path": "/s/1/x", "reason": "no HEADER"}],
            spools=[{"path": "/s", "runs": 1, "watched": True, "problem": "no answer for 60 s"}],
        )
    )

    assert "Behind    5.0 MiB in 3 streams" in text
    assert "lost: 100 bytes in 2 gaps: damage" in text
    assert "parked: run r1 (/s/1/r1): forbidden: it is hers → the run belongs to someone else" in text
    assert "ignored: /s/1/x: no HEADER" in text
    assert "spool /s: no answer for 60 s" in text


def test_names_that_users_choose_cannot_command_a_terminal() -> None:
    text = report.render(
        status_with(
            foreign=[{"path": "/s/1/\x1b[31m\u202eé\nNothing needs attention.\udcff", "reason": "r"}],
            unobserved=2,
        )
    )

    assert r"ignored: /s/1/\x1b[31m\u202eé\nNothing needs attention.\udcff: r" in text
    assert "the end of 2 streams cannot be written down" in text


def test_long_lists_are_cut_and_say_so() -> None:
    text = report.render(status_with(foreign=[{"path": f"/s/{n}", "reason": "r"} for n in range(25)]))

    assert text.count("ignored:") == attention.SHOWN_MAX
    assert "… and 15 more" in text


def test_status_line_names_an_ill_server() -> None:
    shipping = status_with(
        lanes=[
            {
                "credential": "d",
                "state": "parked",
                "reason": "401",
                "last_contact_s": None,
                "next_try_s": 10.0,
            }
        ],
        behind={"streams": 1, "bytes": 2048, "unasked": 0},
    )["shipping"]

    assert report.summary(shipping) == "1 live streams, 2.0 KiB behind, server: parked (401)"


def lane(state: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "credential": "default",
        "server": "http://s",
        "state": state,
        "reason": reason,
        "last_contact_s": None,
        "next_try_s": 5.0,
        **more,
    }


def server(state: str = "well", reason: str = "", **more: Any) -> dict[str, Any]:
    return {"name": "server", "url": "http://s", "state": state, "reason": reason, "next_try_s": None, **more}


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "503: disk full; no room for the database",
            "http://s answers, but takes nothing for now: 503: disk full",
        ),
        ("200 with a body that is no answer", "http://s answers, but takes nothing for now: 200 with a body"),
        ("connection refused", "http://s cannot be reached: connection refused"),
    ],
)
def test_server_that_answers_is_not_called_unreachable(reason: str, said: str) -> None:
    for parts in ({"lanes": [lane("retrying", reason)]}, {"servers": [server("retrying", reason)]}):
        text = report.render(status_with(**parts))

        assert said in text
        assert "nothing is lost" in text


def test_server_that_is_away_is_named_once_and_not_for_each_key() -> None:
    lanes = [lane("retrying", "refused", credential=f"uid-{n}") for n in range(50)]

    text = report.render(status_with(lanes=lanes, servers=[server("retrying", "refused")]))

    assert text.count("cannot be reached") == 1


def test_several_servers_are_shown_each_with_its_keys() -> None:
    servers = [
        server(version="0.2.0"),
        server("retrying", "no route", name="servers.far", url="http://far", next_try_s=7.0),
    ]
    lanes = [lane("shipping", ""), lane("retrying", "no route", server="http://far", credential="uid-1000")]

    lines = report.render(status_with(servers=servers, lanes=lanes)).splitlines()

    first = lines.index("Server    http://s, version 0.2.0, key tk_x_…")
    assert lines[first + 1].strip().startswith("default: shipping")
    assert lines[first + 2] == "Server    http://far (far); retrying: no route, next try in 7 s"
    assert lines[first + 3].strip().startswith("uid-1000: retrying")


def test_every_part_of_the_pipeline_is_shown_and_its_problems_need_attention() -> None:
    text = report.render(
        status_with(
            in_flight={"bytes": 1 << 20, "bytes_max": 32 << 20, "waiting": 0},
            oldest_wait_s=30.0,
            behind={"streams": 1, "bytes": 1024, "unasked": 0},
            retention={
                "removed": {"runs": 3, "segments": 1, "bytes": 2048, "unshipped_bytes": 1024},
                "over_limit": ["user ada is over his limit"],
                "problems": [{"path": "/s/1/r", "reason": "not empty"}],
            },
            files={
                "enabled": True,
                "stored": {"files": 2, "bytes": 10},
                "sent_bytes": 5,
                "pending": {"files": 1, "bytes": 7},
                "refused": [{"path": "/s/1/r/files/x", "reason": "a symbolic link"}],
                "waiting": [{"path": "/s/1/r/files/y", "reason": "still written"}],
                "lanes": [lane("parked", "403: no", server="http://s")],
            },
            evidence={"writers": 1, "kernel_log": "not permitted"},
            stop_requests={"polls": [1], "stopped": 2},
            credentials={"problems": ["/s/1/credentials: everybody can read it"]},
            tasks={"housekeeping": {"crashes": 1, "last_error": "ValueError: x"}},
            spools=[{"path": "/s", "runs": 1, "watched": False, "problem": None, "open_files": 1}],
        )
    )

    for part in (
        "Behind    1.0 KiB in 1 stream, waiting for 30 s",
        "1.0 MiB of 32.0 MiB in flight",
        "Files     2 files stored (5 bytes sent), 1 waiting (7 bytes), 1 refused",
        "Spool     /s: 1 run, 1 open file, not watched by inotify",
        "Removed   3 runs and 1 segment (2.0 KiB, 1.0 KiB of them never shipped) since the start",
        "Evidence  1 writer watched, kernel log: not permitted",
        "Stops     2 runs asked to stop, listening with 1 key",
        "! retention: user ada is over his limit",
        "! retention: /s/1/r: not empty",
        "! files: /s/1/r/files/x: a symbolic link",
        "! files of default at http://s: parked: 403: no",
        "! credentials: /s/1/credentials: everybody can read it",
        "! housekeeping crashed 1 time and was restarted: ValueError: x",
    ):
        assert part in text, part


def test_losses_come_first_the_largest_before_the_others() -> None:
    found = list(
        attention.problems(
            status_with(
                losses={
                    "torn_tail: the writer died": {"code": "torn_tail", "gaps": 1, "bytes": 5},
                    "deleted: by hand": {"code": "deleted", "gaps": 2, "bytes": 5000},
                },
                foreign=[{"path": "/x", "reason": "r"}],
            )
        )
    )

    assert found[0] == "lost: 4.9 KiB in 2 gaps: deleted: by hand"
    assert found[1] == "lost: 5 bytes in 1 gap: torn_tail: the writer died"


def test_agent_that_has_only_just_started_has_a_status() -> None:
    status = {**status_with(), "shipping": {}}

    assert "not looked at yet" in report.render(status)
    assert report.summary({}) == "0 live streams, 0 bytes behind, server ok"


def test_collectors_that_do_not_work_are_named_by_what_is_wrong() -> None:
    states = {"cpu": "ok", "memory": "ok", "nfs": "nothing here", "amd": "nothing here", "nvidia": "stuck"}
    status = status_with()
    status["sampler"] = {
        "windows": 3,
        "records_lost": 0,
        "collectors": {name: {"state": state, "reason": "why"} for name, state in states.items()},
    }

    text = report.render(status)

    assert "Sampler   3 windows; 2 collectors ok; nothing here: nfs, amd; stuck: nvidia" in text
    assert "collector nvidia is stuck: why" in text
