"""Faults between agent and server: the cable, the connections on it, and the answers that come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.arena import Host
from tests.chaos.fault import NotNow, Scene, fault
from tests.support.fault_proxy import Injected, Weather
from tests.support.network import Network

#: Answers that the agent is to try again after.
PASSING = (301, 302, 307, 402, 405, 406, 408, 409, 410, 418, 421, 423, 425, 429, 431, 451)
PASSING += (500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599)
#: Answers that make it keep everything and look again after five minutes: it is restarted to look sooner.
PARKING = (401, 403, 404)
#: Answers that make it send less at once, down to a line.
SPLITTING = (400, 413, 422)
ANSWERS_AT_ONCE = 3
FETCH_S = 5.0


@contextmanager
def cable(scene: Scene) -> Iterator[Network]:
    network = scene.host().network
    if network is None:
        raise NotNow
    try:
        yield network
    finally:
        network.mend()


@fault("network")
def partition(scene: Scene) -> None:
    with cable(scene) as network:
        network.cut()
        scene.hold(0.5, 4)


@fault("network")
def link_down(scene: Scene) -> None:
    with cable(scene) as network:
        network.unplug()
        scene.hold(0.5, 3)


@fault("network")
def reset_by_firewall(scene: Scene) -> None:
    with cable(scene) as network:
        network.reject()
        scene.hold(0.2, 2)


@fault("network")
def loss_30_percent(scene: Scene) -> None:
    with cable(scene) as network:
        network.lose(30)
        scene.hold(1, 5)


@fault("network")
def one_mbit(scene: Scene) -> None:
    with cable(scene) as network:
        network.slow_down(1_000_000)
        scene.hold(1, 4)


@contextmanager
def weather(scene: Scene, new: Weather) -> Iterator[Host]:
    host = scene.host()
    host.proxy.set(new)
    try:
        yield host
    finally:
        host.proxy.set(Weather())


@fault("network", privileged=False)
def delay_and_jitter(scene: Scene) -> None:
    with weather(scene, Weather(latency_s=0.05, jitter_s=scene.numbers.uniform(0.05, 0.5))):
        scene.hold(1, 4)


@fault("network", privileged=False)
def slow_proxy(scene: Scene) -> None:
    with weather(scene, Weather(bytes_per_s=125_000)):
        scene.hold(1, 3)


@fault("network", privileged=False)
def blackhole(scene: Scene) -> None:
    with weather(scene, Weather(hold=True)) as host:
        scene.hold(0.5, 4)
        host.proxy.reset_all()


@fault("network", privileged=False)
def connections_refused(scene: Scene) -> None:
    with weather(scene, Weather(refuse=True)) as host:
        host.proxy.reset_all()
        scene.hold(0.5, 3)


@fault("network", privileged=False)
def connections_reset(scene: Scene) -> None:
    for _ in range(scene.numbers.randint(1, 5)):
        scene.host().proxy.reset_all()
        scene.hold(0.05, 0.4)


@fault("network", privileged=False)
def answers_lost(scene: Scene) -> None:
    """The server commits, and nobody hears of it."""
    with weather(scene, Weather(hold_answers=True)) as host:
        scene.hold(0.5, 3)
        host.proxy.reset_all()


@fault("network", privileged=False)
def answers_cut_off(scene: Scene) -> None:
    with weather(scene, Weather(cut_answer_after=scene.numbers.randint(1, 300))):
        scene.hold(0.5, 3)


def inject(scene: Scene, statuses: tuple[int, ...], body: Callable[[int], Injected]) -> Host:
    host = scene.host()
    answers = [body(scene.deal(statuses)) for _ in range(ANSWERS_AT_ONCE)]
    host.proxy.inject(answers)
    waited = 0.0
    while host.proxy.waiting_answers and waited < FETCH_S and not scene.over.is_set():
        scene.hold(0.1, 0.1)
        waited += 0.1
    for answer in answers[: len(answers) - host.proxy.waiting_answers]:
        scene.fired[f"  answer {answer.status}"] += 1
    host.proxy.inject([])
    return host


def from_a_gateway(status: int) -> Injected:
    headers = (("Content-Type", "text/html"), ("Location", "http://127.0.0.1:9/"), ("Retry-After", "1"))
    return Injected(status, headers=headers if status >= 300 else headers[:1])


@fault("network", privileged=False)
def bad_answer(scene: Scene) -> None:
    inject(scene, PASSING, from_a_gateway)


@fault("network", privileged=False)
def bad_answer_again(scene: Scene) -> None:
    inject(scene, PASSING, from_a_gateway)


@fault("network", privileged=False)
def splitting_answer(scene: Scene) -> None:
    inject(scene, SPLITTING, from_a_gateway)


@fault("network", privileged=False)
def parking_answer(scene: Scene) -> None:
    inject(scene, PARKING, from_a_gateway).restart()


@fault("network", privileged=False)
def nonsense_answer(scene: Scene) -> None:
    """A portal that says 200 to everything, or JSON of another service."""
    bodies = [b"", b"<html>log in</html>", b"[]", b"{}", b'{"epoch": 7, "streams": 0}', b"\xff" * 1000]
    bodies.append(json.dumps({"epoch": "e", "streams": [{"uid": 0, "stream": "0" * 32, "next": 7}]}).encode())
    inject(scene, (200, 204), lambda status: Injected(status, scene.numbers.choice(bodies))).restart()
