"""Containers as a runtime starts them, without one: own mounts, user, groups, capabilities, variables.

They run on a booted machine that has our packages, whose programs lie where the images have them. Images are
what their Dockerfiles say: variables, user, program, and who owns which directory.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.deploy.conftest import DEPLOY
from tests.support.booted import Machine


@dataclass(frozen=True)
class Image:
    """What a Dockerfile says of its last stage. owners: "uid:gid" and mode of the directories it makes."""

    env: Mapping[str, str]
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    health: tuple[str, ...]
    owners: Mapping[str, tuple[str, str]]


def read_image(name: str) -> Image:
    """Return the image that deploy/docker/<name>.Dockerfile describes."""
    text = (DEPLOY / "docker" / f"{name}.Dockerfile").read_text()
    stage = re.sub(r"\\\n", " ", text[text.rindex("\nFROM ") :])
    lines = [line for line in stage.splitlines() if line and not line.startswith("#")]
    groups = {name: gid for gid, name in re.findall(r"groupadd --gid (\d+) (\S+)", stage)}
    users = {name: uid for uid, name in re.findall(r"useradd --uid (\d+) .*? (\S+) +&&", stage)}
    owners = {
        path: (f"{users.get(owner, owner)}:{groups.get(group, group)}", mode)
        for owner, group, mode, path in re.findall(r"install -d -o (\S+) -g (\S+) -m (\d+) (\S+)", stage)
    }
    variables = next(line for line in lines if line.startswith("ENV "))
    return Image(
        dict(each.split("=", 1) for each in shlex.split(variables)[1:]),
        next(line for line in lines if line.startswith("USER ")).split()[1],
        _words(lines, "ENTRYPOINT"),
        _words(lines, "CMD"),
        _words([line[line.index("CMD") :] for line in lines if line.startswith("HEALTHCHECK")], "CMD"),
        owners,
    )


def _words(lines: Sequence[str], instruction: str) -> tuple[str, ...]:
    (line,) = (line for line in lines if line.startswith(instruction + " "))
    words: list[str] = json.loads(line.removeprefix(instruction))
    return tuple(words)


@dataclass(frozen=True)
class Container:
    """One container.

    mounts: (place on the machine, place inside, read-only). read_only: all but these and /tmp is.
    """

    command: tuple[str, ...]
    user: str
    env: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str, bool], ...] = ()
    read_only: bool = False

    def argv(self) -> list[str]:
        """Return the command that starts it on a machine."""
        lines = []
        for outside, inside, read_only in self.mounts:
            options = "bind,ro" if read_only else "bind"
            lines.append(f"mount -o {options} {shlex.quote(outside)} {shlex.quote(inside)}")
        if self.read_only:
            lines += ["mount -t tmpfs tmpfs /tmp", "mount -o remount,bind,ro /"]
        uid, _, gid = self.user.partition(":")
        kept = "".join(f",+{name.lower()}" for name in self.capabilities)
        groups = f"--groups={','.join(self.groups)}" if self.groups else "--clear-groups"
        drop = ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}", groups, "--no-new-privs"]
        drop += [f"--bounding-set=-all{kept}", "--inh-caps=-all"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        clean += [f"{name}={value}" for name, value in self.env.items()]
        lines.append("exec " + shlex.join([*drop, *clean, *self.command]))
        return ["unshare", "--mount", "--propagation=private", "sh", "-euc", "\n".join(lines)]

    def running(self, *command: str) -> Container:
        """Return the same with another command: what `exec` and health checks run."""
        return replace(self, command=command)

    def run(self, machine: Machine) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return machine.run(*self.argv(), check=False)

    def start(self, machine: Machine, name: str) -> None:
        """Start it, as a unit of that name; it ends with the machine."""
        machine.run("systemd-run", "--quiet", f"--unit={name}", *self.argv())


def of_compose(service: Mapping[str, Any], image: Image, volumes: str) -> Container:
    """Return the container of a service as `docker-compose config` has it. volumes: where named ones lie."""
    mounts = []
    for each in service.get("volumes", ()):
        named = each["type"] == "volume"
        outside = f"{volumes}/{each['source']}" if named else each["source"]
        mounts.append((outside, each["target"], bool(each.get("read_only"))))
    entrypoint = service.get("entrypoint")
    command = service.get("command")
    return Container(
        (
            *(image.entrypoint if entrypoint is None else entrypoint),
            *((image.command if entrypoint is None else ()) if command is None else command),
        ),
        str(service.get("user", image.user)),
        {**image.env, **service.get("environment", {})},
        capabilities=tuple(service.get("cap_add", ())),
        mounts=tuple(mounts),
        read_only=service["read_only"],
    )


def make_volumes(
    machine: Machine, services: Mapping[str, tuple[Mapping[str, Any], Image]], volumes: str
) -> None:
    """Make the named volumes as Docker does: empty ones take owner and mode of the image's directory."""
    for service, image in services.values():
        for each in service.get("volumes", ()):
            inside = each["target"]
            if each["type"] == "volume" and inside in image.owners:
                owner, mode = image.owners[inside]
                uid, _, gid = owner.partition(":")
                outside = f"{volumes}/{each['source']}"
                machine.run("install", "-d", "-o", uid, "-g", gid, "-m", mode, outside)
            machine.run("sh", "-c", '[ -e "$1" ] || mkdir -p "$1"', "make", inside)


def of_pod(pod: Mapping[str, Any], name: str, image: Image, volumes: str) -> Container:
    """Return a container of a pod, as a kubelet starts it. volumes: where those lie that are no hostPath."""
    spec = pod["spec"]
    (container,) = (
        each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == name
    )
    places = {each["name"]: each.get("hostPath", {}).get("path") for each in spec["volumes"]}
    context = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    fields = {"spec.nodeName": "node"}
    env = dict(image.env)
    for each in container.get("env", ()):
        where = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        env[each["name"]] = fields[where] if where else each["value"]
    # These a kubelet always gives.
    env |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_PORT": "tcp://10.0.0.1:443"}
    uid, _, gid = image.user.partition(":")
    return Container(
        (
            *container.get("command", image.entrypoint),
            *container.get("args", () if "command" in container else image.command),
        ),
        f"{context.get('runAsUser', uid)}:{context.get('runAsGroup', gid)}",
        env,
        (str(context["fsGroup"]),) if "fsGroup" in context else (),
        tuple(context["capabilities"].get("add", ())),
        tuple(
            (
                places.get(mount["name"]) or f"{volumes}/{mount['name']}",
                mount["mountPath"],
                bool(mount.get("readOnly")),
            )
            for mount in container["volumeMounts"]
            if mount["name"] != "tmp"
        ),
        context["readOnlyRootFilesystem"],
    )
