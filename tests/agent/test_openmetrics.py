"""The openmetrics collector, on exporters of its own: real sockets, real answers, and hostile ones."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tracker_agent.collectors import openmetrics
from tracker_agent.collectors.collector import CollectorError, Context, NothingHere
from tracker_agent.collectors.local_http import Refused, parse_address
from tracker_agent.collectors.openmetrics import (
    LINE_MAX,
    NAME_MAX,
    SERIES_MAX,
    OpenMetricsCollector,
    OpenMetricsSettings,
    parse,
)

DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-5fd4",device="nvidia0",modelName="NVIDIA H100",Hostname="n1"} 97
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-6ab1",device="nvidia1",modelName="NVIDIA H100",Hostname="n1"} 3
# TYPE DCGM_FI_DEV_FAN_SPEED gauge
DCGM_FI_DEV_FAN_SPEED{gpu="0",device="nvidia0"} 9223372036854775794
DCGM_FI_DEV_FAN_SPEED{gpu="1",device="nvidia1"} 2147483634
# TYPE DCGM_FI_DEV_MEMORY_TEMP gauge
DCGM_FI_DEV_MEMORY_TEMP{gpu="0",device="nvidia0"} 140737488355330
DCGM_FI_DEV_MEMORY_TEMP{gpu="1",device="nvidia1"} 9.223372036854775794e+18
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",device="nvidia0"} 1000
"""


class Exporter:
    """Answers each connection with the bytes that `answer` yields, then closes it."""

    def __init__(self, listener: socket.socket) -> None:
        self.answer: Callable[[], Iterator[bytes]] = lambda: iter(())
        self.asked: list[bytes] = []
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def says(self, text: str | bytes, kind: str = "text/plain; version=0.0.4", *headers: str) -> None:
        """Answer properly from now on."""
        body = text.encode() if isinstance(text, str) else text
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.sends("\r\n".join(lines).encode() + body)

    def sends(self, *pieces: bytes) -> None:
        """Answer with exactly these bytes from now on."""
        self.answer = lambda: iter(pieces)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.asked.append(connection.recv(65536))
                for piece in self.answer():
                    connection.sendall(piece)
            except OSError:
                # The collector had enough.
                pass


@contextmanager
def serving(listener: socket.socket) -> Iterator[Exporter]:
    exporter = Exporter(listener)
    try:
        yield exporter
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with serving(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


class Rig:
    """A collector that asks exporters, with a clock of its own."""

    def __init__(self, *endpoints: str, deadline_s: float = 5.0, **settings: Any) -> None:
        self.now = 100.0
        context = Context(
            settings=OpenMetricsSettings(endpoints=endpoints, **settings), monotonic=lambda: self.now
        )
        self.collector = OpenMetricsCollector(context, endpoint_deadline_s=deadline_s)

    def values(self, after_s: float = 0.0) -> dict[str, float]:
        self.now += after_s
        reading = self.collector.sample()
        self.problems = reading.problems
        return dict(reading.values)


def address(exporter: Exporter, name: str = "x") -> str:
    return f"{name}=http://127.0.0.1:{exporter._listener.getsockname()[1]}/metrics"


def test_gauges_keep_their_labels_in_their_names_and_counters_become_rates(exporter: Exporter) -> None:
    rig = Rig(address(exporter, "dcgm"))
    exporter.says(DCGM)
    first = rig.values()
    exporter.says(DCGM.replace("} 1000\n", "} 1500\n"))

    second = rig.values(after_s=10)

    assert first == {
        "host.scrape.dcgm.DCGM_FI_DEV_GPU_UTIL.device=nvidia0.gpu=0": 97,
        "host.scrape.dcgm.DCGM_FI_DEV_GPU_UTIL.device=nvidia1.gpu=1": 3,
    }
    rate = "host.scrape.dcgm.DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION.device=nvidia0.gpu=0.per_s"
    assert second == first | {rate: 50.0}
    assert rig.problems == ()


def test_answer_that_prometheus_own_library_makes_is_understood_in_both_formats(exporter: Exporter) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("queue_length", "Waiting", ["queue"], registry=registry)
    counter = Counter("steps", "Steps", registry=registry)
    histogram = Histogram("step_seconds", "Time", registry=registry)
    rig, both = Rig(address(exporter)), []
    gauge.labels("a").set(7)
    for kind, render in (("text/plain", generate_latest), (CONTENT_TYPE_LATEST, generate_openmetrics)):
        exporter.says(render(registry), kind)
        rig.values(after_s=1)
        counter.inc(20)
        histogram.observe(0.5)
        histogram.observe(1.5)
        exporter.says(render(registry), kind)
        both.append(rig.values(after_s=4))

    assert both[0] == both[1]
    assert both[0] == {
        "host.scrape.x.queue_length.queue=a": 7,
        "host.scrape.x.steps.per_s": 5,
        "host.scrape.x.step_seconds_count.per_s": 0.5,
        "host.scrape.x.step_seconds_sum.per_s": 0.5,
    }


def test_counter_that_began_again_and_series_that_are_new_have_no_rate(exporter: Exporter) -> None:
    rig = Rig(address(exporter))
    exporter.says('# TYPE a counter\na{x="1"} 100\na{x="2"} 100\n')
    rig.values()
    exporter.says('# TYPE a counter\na{x="1"} 5\na{x="3"} 5000\n')

    began = rig.values(after_s=10)
    exporter.says('# TYPE a counter\na{x="1"} 25\na{x="2"} 200\n')
    after = rig.values(after_s=10)

    assert began == {}
    assert after == {"host.scrape.x.a.x=1.per_s": 2.0}


def test_values_that_are_none_are_left_out(exporter: Exporter) -> None:
    rig = Rig(address(exporter))
    exporter.says(f"a NaN\nb +Inf\nc -Inf\nd 1{'0' * 400}\nDCGM_X 2147483632\nx 2147483632\nok 1\n")

    assert rig.values() == {"host.scrape.x.x": 2147483632, "host.scrape.x.ok": 1}


def test_only_metrics_asked_for_are_taken(exporter: Exporter) -> None:
    exporter.says("DCGM_A 1\nDCGM_B 2\ngo_threads 3\nother 4\n# TYPE DCGM_E counter\nDCGM_E 5\n")

    some = Rig(address(exporter), include=("DCGM_*",), exclude=("*_B", "DCGM_E")).values()

    assert some == {"host.scrape.x.DCGM_A": 1}
    assert "host.scrape.x.go_threads" not in Rig(address(exporter)).values()


def test_unix_socket_is_read_and_a_path_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with serving(listener) as exporter:
        exporter.says("a 1\n")

        values = Rig(f"unix:{path}:/figures").values()

    assert values == {"host.scrape.app.a": 1}
    assert exporter.asked[0].startswith(b"GET /figures HTTP/1.1\r\n")


def test_redirect_is_not_followed(exporter: Exporter) -> None:
    with serving(socket.create_server(("127.0.0.1", 0))) as other:
        other.says("secret 1\n")
        place = address(other).removeprefix("x=")
        exporter.sends(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

        with pytest.raises(CollectorError, match="x answers 302"):
            Rig(address(exporter)).values()

    assert other.asked == []


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
HOSTILE = {
    "compressed": (
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"a 1\n" * 10_000_000),
        "compressed",
    ),
    "long line": (OK + b"\r\na{x=" + b'"' * LINE_MAX + b"} 1\n", "lines of more than"),
    "escapes": (OK + b'\r\na{x="' + b'\\"' * (LINE_MAX // 2 - 20) + b'"} x\n', "cannot be understood"),
    "no text": (OK + b"\r\na\xff 1\n", "no UTF-8"),
    "no metrics": (OK + b"\r\n<html><body>hello</body></html>\n", "cannot be understood"),
    "deep": (OK + b"\r\n" + b"{" * (LINE_MAX - 10) + b"\n", "cannot be understood"),
    "no http": (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    "nothing": (b"", "does not speak HTTP"),
    "headers": (OK + b"X: y\r\n" * 100_000, "does not speak HTTP"),
    "broken chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP"),
    "cut": (OK + b"Content-Length: 100\r\n\r\na 1\n", "stops in the middle"),
    "no end": (OK.replace(b"text/plain", b"application/openmetrics-text") + b"\r\na 1\n", "understood"),
}


@pytest.mark.parametrize("answer", HOSTILE, ids=list(HOSTILE))
def test_hostile_answer_is_refused_with_a_reason_and_the_others_are_read(
    exporter: Exporter, answer: str
) -> None:
    sent, reason = HOSTILE[answer]
    exporter.sends(sent)
    with serving(socket.create_server(("127.0.0.1", 0))) as good:
        good.says("a 1\n")
        rig = Rig(address(exporter, "bad"), address(good, "good"))

        values = rig.values()

    assert values == {"host.scrape.good.a": 1}
    assert len(rig.problems) == 1
    assert rig.problems[0].startswith("bad ")
    assert reason in rig.problems[0]


def test_endless_answer_is_cut_off(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmetrics, "BYTES_MAX", 64 * 1024)

    def endless() -> Iterator[bytes]:
        yield OK + b"\r\n"
        while True:
            yield b"a 1\n" * 1000

    exporter.answer = endless

    with pytest.raises(CollectorError, match="x sends more than 64 KiB"):
        Rig(address(exporter)).values()


@pytest.mark.parametrize(
    "drip", [b"HTTP/1.1 200 OK\r\n", OK + b"\r\n", b""], ids=["headers", "body", "start"]
)
def test_answer_that_drips_ends_at_the_deadline_and_is_not_asked_for_again_at_once(
    exporter: Exporter, drip: bytes
) -> None:
    def slowly() -> Iterator[bytes]:
        yield drip
        for _ in range(1000):
            time.sleep(0.02)  # a slow exporter is what is tested
            yield b"x"

    exporter.answer = slowly
    rig = Rig(address(exporter), deadline_s=0.2)

    for after_s in (0, 15, 10):
        with pytest.raises(CollectorError, match=r"x did not answer within 0.2 s"):
            rig.values(after_s)
    asked_before = len(exporter.asked)
    exporter.says("a 1\n")

    assert asked_before == 1
    assert rig.values(after_s=10) == {"host.scrape.x.a": 1}


def test_parsing_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        parse(b"a 1\n", "", OpenMetricsSettings(), deadline=time.monotonic() - 1)


def test_more_series_than_there_may_be_are_left_out_and_said(exporter: Exporter) -> None:
    exporter.says("".join(f'a{{n="{n}"}} 1\n' for n in range(SERIES_MAX + 5)))
    rig = Rig(address(exporter))

    assert len(rig.values()) == SERIES_MAX
    assert f"more than {SERIES_MAX} series" in rig.problems[0]


def test_series_that_differ_only_in_dropped_labels_are_said(exporter: Exporter) -> None:
    exporter.says('a{UUID="1"} 1\na{UUID="2"} 2\n')
    rig = Rig(address(exporter))

    assert rig.values() == {"host.scrape.x.a": 1}
    assert "differ only in labels left out" in rig.problems[0]


def test_exporter_that_does_not_run_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(CollectorError, match=rf"{port} cannot be reached: Connection refused"):
        Rig(f"http://127.0.0.1:{port}").values()


def test_without_endpoints_there_is_nothing_here() -> None:
    with pytest.raises(NothingHere):
        Rig().values()
    with pytest.raises(NothingHere):
        OpenMetricsCollector().sample()


@pytest.mark.parametrize(
    "endpoint",
    ["http://10.0.0.1:9100/metrics", "http://example.org/metrics", "http://127.0.0.1.example.org:80/"],
)
def test_other_machines_are_not_asked_unless_allowed(endpoint: str) -> None:
    with pytest.raises(CollectorError, match="is not on this machine"):
        Rig(endpoint).values()


@pytest.mark.parametrize(
    "text",
    [
        "https://127.0.0.1/metrics",
        "127.0.0.1:9400",
        "http://user:word@127.0.0.1/metrics",
        "http://127.0.0.1:99999/metrics",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nX: y",
        "unix:relative.sock",
        "unix:/run/x.sock:metrics",
        "http:///metrics",
        "",
    ],
)
def test_address_that_cannot_be_used_is_refused_by_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)
    field = OpenMetricsSettings.__dataclass_fields__["endpoints"]
    assert field.metadata["problem"](text)


def test_addresses_have_names() -> None:
    names = {
        "http://127.0.0.1:9400/metrics": ("9400", "/metrics", True),
        "http://[::1]:9400": ("9400", "/metrics", True),
        "app=http://localhost:8000/m?a=b": ("app", "/m?a=b", True),
        "http://localhost:8000/m?a=b": ("8000", "/m?a=b", True),
        "unix:/run/My App.sock".replace(" ", "."): ("My_App", "/metrics", True),
        "far=http://10.1.1.1:9100/metrics": ("far", "/metrics", False),
    }
    for text, (name, path, local) in names.items():
        found = parse_address(text)

        assert (found.name, found.path, found.is_local) == (name, path, local)


def test_series_that_look_alike_keep_names_of_their_own() -> None:
    names = openmetrics._Names(frozenset())
    labels = (
        {"x": "a/b"},
        {"x": "a_b"},
        {"x": "a.b"},
        {"x": "a", "y": "b"},
        {"x": "a.y=b"},
        {"x": "é" * 500},
    )

    assert len({names.of("m", each) for each in labels}) == len(labels)


@given(st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=8), st.data())
def test_names_are_bounded_and_different_for_different_series(labels: dict[str, str], data: Any) -> None:
    names = openmetrics._Names(frozenset())
    others = data.draw(st.dictionaries(st.sampled_from([*labels, "x"]), st.text(max_size=300), max_size=8))
    plain = [{name: value for name, value in each.items() if value} for each in (labels, others)]

    name, other = names.of("m", labels), names.of("m", others)

    assert len(name) <= NAME_MAX
    assert name.isprintable()
    assert (name == other) == (plain[0] == plain[1])
    assert name == openmetrics._Names(frozenset()).of("m", dict(reversed(labels.items())))


@given(st.text(alphabet='abc_{}="\\\n #,.0123456789eE+-NaInf', max_size=400), st.booleans())
def test_whatever_is_sent_is_understood_or_refused(text: str, is_openmetrics: bool) -> None:
    kind = "application/openmetrics-text" if is_openmetrics else "text/plain"
    try:
        series = parse(text.encode(), kind, OpenMetricsSettings())
    except Refused:
        return

    assert all(abs(each) < float("inf") for each in [*series.gauges.values(), *series.totals.values()])
