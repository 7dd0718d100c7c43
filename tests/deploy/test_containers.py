"""From nothing to a run on the server: the compose file, and the chart's pods, on a booted machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, run_tool
from tests.deploy.containers import Container, make_volumes, of_compose, of_pod, read_image
from tests.support.agent_process import wait_until
from tests.support.booted import SHIM_INSIDE, Machine
from tests.support.booted_root import USERS
from tests.support.installed import AGENT, SERVER, URL, boot_for_packages, install

VOLUMES = "/srv/volumes"
ALICE = USERS["alice"]
TRAIN = """
import sys, tracker
run = tracker.init(project="p", id=sys.argv[1])
tracker.log({"loss": 0.5})
tracker.finish()
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    """A machine with our programs, of which none runs."""
    with boot_for_packages("bookworm") as machine:
        install(machine, SERVER, AGENT)
        machine.run("systemctl", "disable", "--now", SERVER, AGENT)
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """The machine as if nothing had been set up."""
    places = ["/var/spool/tracker", "/var/lib/tracker-agent", "/var/lib/tracker-server"]
    booted.run("rm", "-rf", *places, VOLUMES)
    booted.run("mkdir", "-p", *places)
    yield booted
    # Shown where a test fails.
    print(booted.run("journalctl", "--output=cat", "--unit=server", "--unit=agent").stdout)
    booted.run("systemctl", "stop", "server", "agent", check=False)
    booted.run("systemctl", "reset-failed")


def succeed(machine: Machine, container: Container) -> str:
    done = container.run(machine)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def healthy(machine: Machine, container: Container, check: tuple[str, ...]) -> bool:
    return container.running(*check).run(machine).returncode == 0


def state_of(machine: Machine, run: str, admin_key: str) -> str | None:
    try:
        page = machine.request("GET", f"{URL}/api/v1/runs/default/p/{run}", key=admin_key)
    except AssertionError:
        return None
    return str(page["state"])


def train(machine: Machine, run: str) -> None:
    command = ("/usr/bin/python3", "-c", TRAIN, run)
    machine.run(*command, user="alice", environment={"PYTHONPATH": SHIM_INSIDE})


def train_in_pod(machine: Machine, run: str, machine_id: str) -> None:
    """Train with a name, pids and mounts of its own; the spool is the node's, /etc/machine-id the file given.

    A new /proc has not the boot id that this machine has, as after a reboot: only /etc/machine-id is left.
    """
    pod = Container(
        ("/usr/bin/python3", "-c", TRAIN, run),
        f"{ALICE}:{ALICE}",
        {"PYTHONPATH": SHIM_INSIDE},
        mounts=((machine_id, "/etc/machine-id", True),),
    )
    namespaces = ("unshare", "--uts", "--pid", "--fork", "--mount", "--mount-proc")
    machine.run(*namespaces, "sh", "-euc", 'hostname pod-1; exec "$@"', "pod", *pod.argv())


def test_compose_file_brings_a_run_to_the_server(machine: Machine) -> None:
    said = run_tool("docker-compose", "-f", DEPLOY / "compose/compose.yaml", "config", "--format", "json")
    project = json.loads(said.stdout)
    images = {name: read_image(name) for name in ("server", "agent")}
    services = {
        name: (service, images["server" if "server" in service["image"] else "agent"])
        for name, service in project["services"].items()
    }
    make_volumes(machine, services, VOLUMES)
    containers = {name: of_compose(*each, VOLUMES) for name, each in services.items()}

    assert containers["server"].running("touch", "/usr/x").run(machine).returncode != 0
    containers["server"].start(machine, "server")
    wait_until(lambda: healthy(machine, containers["server"], images["server"].health), what="the server")
    succeed(machine, containers["key"])
    succeed(machine, containers["spool"])
    key = machine.read(f"{VOLUMES}/agent-key/agent-key")
    succeed(machine, containers["key"])
    containers["agent"].start(machine, "agent")
    wait_until(lambda: healthy(machine, containers["agent"], images["agent"].health), what="the agent")
    train(machine, "composed")

    admin = succeed(machine, containers["server"].running("cat", "/var/lib/tracker-server/admin-key")).strip()
    wait_until(lambda: state_of(machine, "composed", admin) == "finished", what="the run")
    assert machine.read(f"{VOLUMES}/agent-key/agent-key") == key, "a second start makes no second key"
    assert machine.run("cat", f"{VOLUMES}/agent-key/agent-key", user="alice", check=False).returncode != 0
    link = containers["server"].running("tracker-server", "signin-link", "--url", "http://localhost:8600")
    assert "http://localhost:8600/signin#" in succeed(machine, link)
    order = {name: set(service.get("depends_on", {})) for name, (service, _) in services.items()}
    assert order == {"server": set(), "spool": set(), "key": {"server"}, "agent": {"key", "spool"}}


def pods() -> dict[str, dict[str, Any]]:
    objects = [each for each in yaml.safe_load_all((DEPLOY / "kubernetes/tracker.yaml").read_text()) if each]
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in objects
        if each["kind"] in ("DaemonSet", "StatefulSet")
    }


def probe(machine: Machine, pod: dict[str, Any], name: str, address: str = "127.0.0.1") -> bool:
    """Ask as a kubelet does."""
    (container,) = pod["spec"]["containers"]
    get = container[name]["httpGet"]
    (port,) = (each["containerPort"] for each in container["ports"] if each["name"] == get["port"])
    ask = f"import http.client as h; c = h.HTTPConnection({get.get('host', address)!r}, {port}, timeout=5)"
    ask += f"; c.request('GET', {get['path']!r}); raise SystemExit(c.getresponse().status != 200)"
    return machine.run("/usr/bin/python3", "-c", ask, check=False).returncode == 0


def test_pods_bring_a_run_to_the_server(machine: Machine) -> None:
    found = pods()
    machine.run("sh", "-c", "echo 127.0.0.1 tracker-server.tracker.svc >>/etc/hosts")
    # As kubelets make a volume for an fsGroup, and hostPath directories that are not there.
    machine.run("install", "-d", "-o", "0", "-g", "60907", "-m", "2775", f"{VOLUMES}/data")
    machine.run("install", "-d", "-o", "0", "-g", "60906", "-m", "2750", f"{VOLUMES}/key", "/etc/tracker/key")
    server = of_pod(found["tracker-server"], "server", read_image("server"), VOLUMES)
    server.start(machine, "server")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        wait_until(lambda name=name: probe(machine, found["tracker-server"], name), what=name)

    # NOTES.txt
    created = server.running(
        *("tracker-server", "key", "create", "--name", "agents", "--service", "agents"), "--scopes", "ingest"
    )
    key = succeed(machine, created)
    machine.write(f"{VOLUMES}/key/key", key, 0o440)
    machine.run("chgrp", "60906", f"{VOLUMES}/key/key")
    succeed(machine, of_pod(found["tracker-agent"], "directories", read_image("agent"), VOLUMES))
    agent = of_pod(found["tracker-agent"], "agent", read_image("agent"), VOLUMES)
    agent.start(machine, "agent")
    for name in ("livenessProbe", "readinessProbe"):
        wait_until(lambda name=name: probe(machine, found["tracker-agent"], name), what=name)

    machine.write(f"{VOLUMES}/empty", "")
    train_in_pod(machine, "of-another-machine", f"{VOLUMES}/empty")
    train_in_pod(machine, "in-a-pod", "/etc/machine-id")
    admin = machine.read(f"{VOLUMES}/data/admin-key").strip()
    wait_until(lambda: state_of(machine, "in-a-pod", admin) == "finished", what="the run")
    # Without the node's id, and after a reboot, it is taken for what another machine wrote.
    asked = succeed(machine, agent.running("tracker-agent", "status", "--json"))
    assert json.loads(asked)["shipping"]["streams"]["kept"] > 0
    assert state_of(machine, "of-another-machine", admin) is None
    hosts = machine.request("GET", f"{URL}/api/v1/hosts", key=admin)["hosts"]
    assert [host["inventory"]["kubernetes"] for host in hosts] == [{"node": "node"}]
    bob = machine.run("ls", f"/var/spool/tracker/{ALICE}/in-a-pod", user="bob", check=False)
    assert bob.returncode != 0


def test_variables_that_kubernetes_makes_of_services_would_be_refused(machine: Machine) -> None:
    pod = pods()["tracker-server"]
    server = of_pod(pod, "server", read_image("server"), VOLUMES)
    machine.run("install", "-d", "-o", "0", "-g", "60907", "-m", "2775", f"{VOLUMES}/data")
    linked = {
        **server.env,
        "TRACKER_SERVER_SERVICE_HOST": "10.0.0.7",
        "TRACKER_SERVER_PORT": "tcp://10.0.0.7:8600",
    }

    done = Container(server.command, server.user, linked, server.groups, mounts=server.mounts).run(machine)

    assert done.returncode == 2
    assert "TRACKER_SERVER_" in done.stderr
