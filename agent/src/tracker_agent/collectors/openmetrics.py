"""openmetrics: what other exporters of this machine serve (dcgm-exporter, the training's own endpoint).

Prometheus' text format and OpenMetrics are read. The answers are someone else's: their size, time, number of
series and length of names are bounded.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..settings import CollectorSettings, setting
from .collector import Collector, CollectorError, Context, Metric, NothingHere, Reading
from .growth import Growth
from .local_http import Address, Refused, get, parse_address

DEADLINE_S = 5.0
#: After an endpoint did not answer in time it is left alone for this long, longer each time.
REST_FIRST_S = 30.0
REST_MAX_S = 600.0
BYTES_MAX = 2 * 1024 * 1024
#: The parsers look at each character of a line, some more than once.
LINE_MAX = 8192
SERIES_MAX = 1000
ENDPOINTS_MAX = 8
#: Of a name below host.scrape.<endpoint>; what is longer is cut and told apart by a hash.
NAME_MAX = 160

#: How DCGM says that there is no value (blank, not found, not supported, not permitted): four 64-bit integers
#: that are one and the same float; and 32-bit integers and floats that are numbers to anybody else.
_BLANK = float(2**63)
_BLANK_DCGM = (*range(0x7FFFFFF0, 0x7FFFFFF4), *(float(2**47 + each) for each in range(4)))
#: Kinds whose samples are totals, by what their names end in. Buckets are left out: they are many.
_TOTALS = {
    "counter": ("_total",),
    "histogram": ("_count", "_sum"),
    "summary": ("_count", "_sum"),
    "unknown": ("_total",),
    "untyped": ("_total",),
}
_GAUGES = ("gauge", "unknown", "untyped", "stateset", "summary")
_UNSAFE = re.compile(r"[^A-Za-z0-9_:=-]+")


def _problem(text: str) -> str | None:
    try:
        parse_address(text)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class OpenMetricsSettings(CollectorSettings):
    """Which endpoints are read, and what of them."""

    endpoints: tuple[str, ...] = setting(
        (),
        "what to read, NAME=URL or URL: http://HOST:PORT/PATH or unix:/SOCKET",
        reload=True,
        separator=" ",
        example="dcgm=http://127.0.0.1:9400/metrics",
        problem=_problem,
    )
    allow_remote: bool = setting(False, "whether endpoints may be on other machines", reload=True)
    include: tuple[str, ...] = setting(
        ("*",), "metrics to take, * stands for anything", reload=True, separator=" ", example="DCGM_FI_*"
    )
    exclude: tuple[str, ...] = setting(
        ("go_*", "process_*", "promhttp_*", "python_*", "scrape_*"),
        "metrics to leave out of these",
        reload=True,
        separator=" ",
        example="go_*",
    )
    drop_labels: tuple[str, ...] = setting(
        ("Hostname", "UUID", "modelName", "pci_bus_id", "DCGM_FI_DRIVER_VERSION", "err_code", "err_msg"),
        "labels that do not become part of names",
        reload=True,
        separator=" ",
        example="Hostname",
    )


class OpenMetricsCollector(Collector):
    """Series of exporters on this machine: gauges as they are, counters as rates (`.per_s`)."""

    name = "openmetrics"
    metrics = (
        Metric(
            "host.scrape.#.#", "", "the endpoint", "a gauge, its labels behind its name: name.label=value"
        ),
        Metric(
            "host.scrape.#.#.per_s", "1/s", "the endpoint", "growth of a counter; of histograms sum and count"
        ),
    )
    cost = "about 50 µs a series"
    interval_s = 15.0
    deadline_s = ENDPOINTS_MAX * DEADLINE_S + 5.0
    own_thread = True
    Settings = OpenMetricsSettings

    def __init__(self, context: Context | None = None, endpoint_deadline_s: float = DEADLINE_S) -> None:
        super().__init__(context)
        settings = self.context.settings
        self._settings = settings if isinstance(settings, OpenMetricsSettings) else OpenMetricsSettings()
        self._deadline_s = endpoint_deadline_s
        self._refused: list[str] = []
        self._endpoints: list[_Endpoint] = []
        for text in self._settings.endpoints:
            self._add(text)

    def _add(self, text: str) -> None:
        try:
            address = parse_address(text)
        except ValueError as error:
            self._refused.append(f"{text!r} {error}")
            return
        if not address.is_local and not self._settings.allow_remote:
            self._refused.append(f"{text!r} is not on this machine, and allow_remote is not set")
        elif any(address.name == each.address.name for each in self._endpoints):
            self._refused.append(f"two endpoints are called {address.name!r}: write NAME=URL")
        elif len(self._endpoints) == ENDPOINTS_MAX:
            self._refused.append(f"more than {ENDPOINTS_MAX} endpoints")
        else:
            self._endpoints.append(_Endpoint(address))

    def sample(self) -> Reading:
        if not self._settings.endpoints:
            raise NothingHere("no endpoints are configured")
        values: dict[str, float] = {}
        problems = list(self._refused)
        for endpoint in self._endpoints:
            now = self.context.monotonic()
            if now < endpoint.rests_until:
                problems.append(f"{endpoint.address.name} {endpoint.problem}")
                continue
            try:
                series = self._read(endpoint)
                endpoint.problem, endpoint.rest_s = series.problem, REST_FIRST_S
                values |= endpoint.values(series, now)
            except TimeoutError:
                endpoint.problem = (
                    f"did not answer within {self._deadline_s:g} s; it is left alone for a while"
                )
                endpoint.rests_until = self.context.monotonic() + endpoint.rest_s
                endpoint.rest_s = min(2 * endpoint.rest_s, REST_MAX_S)
            except OSError as error:
                endpoint.problem = f"cannot be reached: {error.strerror or type(error).__name__}"
            except Refused as error:
                endpoint.problem = str(error)
            if endpoint.problem:
                problems.append(f"{endpoint.address.name} {endpoint.problem}")
        if problems and not values:
            raise CollectorError("; ".join(problems))
        return Reading(values, tuple(problems))

    def _read(self, endpoint: _Endpoint) -> Series:
        # The real clock: a deadline for real work.
        deadline = time.monotonic() + self._deadline_s
        body, content_type = get(endpoint.address, BYTES_MAX, deadline)
        return parse(body, content_type, self._settings, deadline)


@dataclass
class Series:
    """What one answer had, by name below the endpoint."""

    gauges: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class _Endpoint:
    """One endpoint, and its totals at the answer before."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.problem = ""
        self.rests_until = -math.inf
        self.rest_s = REST_FIRST_S
        self._growth = Growth()

    def values(self, series: Series, now: float) -> dict[str, float]:
        """Return gauges and rates by full name."""
        prefix = f"host.scrape.{self.address.name}."
        rates = self._growth.per_second(series.totals, now)
        return {prefix + name: value for name, value in series.gauges.items()} | {
            f"{prefix}{name}.per_s": rate for name, rate in rates.items()
        }


def parse(
    body: bytes, content_type: str, settings: OpenMetricsSettings, deadline: float = math.inf
) -> Series:
    """Return the series of an answer. Raise Refused, or TimeoutError after the deadline (monotonic)."""
    # Here, since the library takes memory that nobody spends who has no endpoints.
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as openmetrics_parser

    is_openmetrics = content_type.partition(";")[0].strip().lower() == "application/openmetrics-text"
    families = (openmetrics_parser if is_openmetrics else parser).text_fd_to_metric_families
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("sends what is no UTF-8") from error
    wanted, unwanted = _patterns(settings.include), _patterns(settings.exclude)
    names = _Names(frozenset(settings.drop_labels))
    found = Series()
    try:
        for family in families(_lines(text, deadline)):
            for sample in family.samples:
                name = str(sample.name)
                # The parser calls x_total what an old exporter calls x.
                if not any(map(wanted, (name, family.name))) or any(map(unwanted, (name, family.name))):
                    continue
                value = _number(name, sample.value)
                kind = _kind(family.type, family.name, name)
                if value is None or kind is None:
                    continue
                if len(found.gauges) + len(found.totals) >= SERIES_MAX:
                    found.problem = f"has more than {SERIES_MAX} series; the others are left out"
                    return found
                rate = kind == "total"
                key = names.of(name.removesuffix("_total") if rate else name, sample.labels or {})
                into = found.totals if rate else found.gauges
                if key in into:
                    found.problem = "has series that differ only in labels left out; the first of them counts"
                    continue
                into[key] = value
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        # What prometheus_client raises for text that is no metrics.
        raise Refused("sends what cannot be understood as metrics") from error
    return found


def _patterns(patterns: Iterable[str]) -> Callable[[str], object]:
    return re.compile("|".join(fnmatch.translate(each) for each in patterns) or r"(?!)").match


def _kind(kind: str, family: str, name: str) -> str | None:
    """Return "total", "gauge" or None for what is left out: buckets, times of creation, plain facts."""
    if name.endswith(_TOTALS.get(kind, ())) and kind in _TOTALS:
        return "total"
    if kind == "counter" or name.endswith("_created"):
        return None
    if kind in _GAUGES and (kind in ("unknown", "untyped") or name == family):
        return "gauge"
    return None


def _number(name: str, value: float | None) -> float | None:
    """Return a sample's value; None where it is none: NaN, infinite, or DCGM's ways to say so."""
    if value is None or (name.startswith("DCGM_") and value in _BLANK_DCGM):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number != _BLANK else None


class _Names:
    """Makes one name of a metric and its labels: `name.label=value.label=value`, by label.

    Different series have different names, always the same: what had to be changed to fit gets a hash of what
    it was.
    """

    def __init__(self, dropped: frozenset[str]) -> None:
        self._dropped = dropped

    def of(self, metric: str, labels: Mapping[str, str]) -> str:
        kept = [
            (name, value) for name, value in sorted(labels.items()) if name not in self._dropped and value
        ]
        exact = ".".join([metric, *(f"{name}={value}" for name, value in kept)])
        plain = ".".join([_safe(metric), *(_safe(f"{name}={value}") for name, value in kept)])
        if plain == exact and len(exact) <= NAME_MAX:
            return exact
        digest = hashlib.blake2s(repr((metric, kept)).encode("utf-8", "replace"), digest_size=4).hexdigest()
        return f"{plain[: NAME_MAX - 9]}~{digest}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _lines(text: str, deadline: float) -> Iterator[str]:
    """Yield lines for the parsers, none of them too long, and none any more after the deadline."""
    file = io.StringIO(text)
    while line := file.readline(LINE_MAX + 1):
        if len(line) > LINE_MAX:
            raise Refused(f"sends lines of more than {LINE_MAX} characters")
        if time.monotonic() > deadline:
            raise TimeoutError
        yield line
