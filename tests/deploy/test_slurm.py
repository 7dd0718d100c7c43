"""The Slurm scripts, run on a booted node as slurmd runs them: root, few variables, real agent and server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.deploy.conftest import DEPLOY
from tests.support.agent_process import wait_until
from tests.support.booted import SHIM_INSIDE, Machine
from tests.support.booted_root import USERS
from tests.support.installed import (
    AGENT,
    SERVER,
    Service,
    boot_for_packages,
    install,
    put_in_key,
    start_agent,
)

SCRIPTS = "/etc/slurm/tracker"
SPOOL = "/var/spool/tracker"
JOB_SPOOLS = "/var/spool/tracker-jobs"
ALICE = USERS["alice"]
TRAIN = """
import os, sys, tracker
run = tracker.init(project="slurm", id=sys.argv[1] if len(sys.argv) > 1 else None)
for step in range(50):
    tracker.log({"loss": step})
print("DIR", run.dir)
tracker.finish()
"""


class Cluster:
    """One node, and slurmd's part in a job."""

    def __init__(self, machine: Machine, service: Service) -> None:
        self.machine = machine
        self.service = service

    def configure(self, **settings: object) -> None:
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        self.machine.write("/etc/tracker/slurm.conf", text)

    def prolog(self, job: int) -> str:
        return self._as_slurmd("prolog.sh", job)

    def epilog(self, job: int) -> str:
        return self._as_slurmd("epilog.sh", job)

    def of_slurmd(self, job: int) -> dict[str, str]:
        """Return what slurmd gives its scripts: a few facts, and no PATH worth the name."""
        facts = {"SLURM_JOB_ID": str(job), "SLURM_JOB_UID": str(ALICE), "SLURM_JOB_USER": "alice"}
        return {**facts, "PATH": "/usr/bin:/bin"}

    def _as_slurmd(self, script: str, job: int) -> str:
        before = self._logged()
        done = self.machine.run(f"{SCRIPTS}/{script}", environment=self.of_slurmd(job))
        return done.stdout + done.stderr + self._logged()[len(before) :]

    def _logged(self) -> str:
        self.machine.run("journalctl", "--sync")
        done = self.machine.run(
            "journalctl", "--quiet", "--output=cat", "-t", "tracker-prolog", "-t", "tracker-epilog"
        )
        return done.stdout

    def task(self, job: int, run: str, script: str = TRAIN, **variables: str) -> tuple[str, dict[str, str]]:
        """Run a task of alice's with what the TaskProlog prints. Return what it wrote, and that."""
        facts = {"SLURM_JOB_ID": str(job), **variables}
        printed = self.machine.run(f"{SCRIPTS}/task-prolog.sh", user="alice", environment=facts).stdout
        exported = {}
        for line in printed.splitlines():
            word, _, setting = line.partition(" ")
            assert word == "export", line
            name, _, value = setting.partition("=")
            exported[name] = value
        done = self.machine.run(
            *("/usr/bin/python3", "-c", script, run),
            user="alice",
            environment={"PYTHONPATH": SHIM_INSIDE, **facts, **exported},
        )
        return done.stdout, exported

    def stored(self, run: str) -> bool:
        """Whether the server has the whole run, now."""
        page = self.service.try_get(f"/api/v1/runs/default/slurm/{run}")
        return bool(page and page["state"] == "finished")


@pytest.fixture(scope="module")
def node() -> Iterator[Cluster]:
    with boot_for_packages("bookworm") as machine:
        install(machine, SERVER, AGENT)
        service = Service(machine)
        service.start()
        put_in_key(machine, service.new_key())
        start_agent(machine)
        machine.copy_in(DEPLOY / "slurm", SCRIPTS)
        yield Cluster(machine, service)


@pytest.fixture
def cluster(node: Cluster) -> Iterator[Cluster]:
    """The node as it is without settings; agent and server run."""
    node.configure()
    yield node
    node.machine.run("systemctl", "start", SERVER, AGENT)
    node.machine.run(
        "sh", "-c", f"rm -rf {JOB_SPOOLS} /run/tracker-slurm; journalctl --rotate --vacuum-time=1s"
    )


def test_epilog_returns_when_the_server_has_the_jobs_runs(cluster: Cluster) -> None:
    cluster.prolog(101)
    cluster.machine.run("systemctl", "stop", SERVER)
    _, exported = cluster.task(101, "live")

    epilog = cluster.machine.start(f"{SCRIPTS}/epilog.sh", environment=cluster.of_slurmd(101))
    asking = ("pgrep", "--full", "tracker-agent sync --wait")
    wait_until(lambda: cluster.machine.run(*asking, check=False).returncode == 0, what="the epilog asks")
    assert epilog.poll() is None
    cluster.service.start()
    said, _ = epilog.communicate(timeout=60)

    assert cluster.stored("live")
    assert epilog.returncode == 0
    assert exported == {"TRACKER_GROUP": "slurm-101"}
    assert said == ""
    assert cluster.service.get("/api/v1/runs/default/slurm/live")["group"] == "slurm-101"
    assert cluster.machine.run("ls", "/run/tracker-slurm").stdout == ""


def test_epilog_waits_no_longer_than_it_may_and_the_agent_goes_on(cluster: Cluster) -> None:
    cluster.configure(TRACKER_SLURM_WAIT_S=2)
    cluster.prolog(102)
    cluster.machine.run("systemctl", "stop", SERVER)
    cluster.task(102, "late")

    began = time.monotonic()
    said = cluster.epilog(102)

    assert time.monotonic() - began < 12
    assert "job 102: not all runs are on the server after 2 s; the agent goes on" in said
    cluster.service.start()
    cluster.service.run_in_state("slurm", "late", "finished", timeout_s=30)


def test_no_agent_keeps_no_job_and_drains_no_node(cluster: Cluster) -> None:
    cluster.prolog(103)
    cluster.task(103, "alone")
    cluster.machine.run("systemctl", "stop", AGENT)

    said = cluster.epilog(103)

    assert "job 103: no agent answers on this node; its runs stay in the spool until one does" in said
    cluster.machine.run("systemctl", "start", AGENT)
    cluster.service.run_in_state("slurm", "alone", "finished")


def test_job_has_a_spool_of_its_own_that_is_shipped_at_its_end(cluster: Cluster) -> None:
    cluster.configure(TRACKER_SLURM_JOB_SPOOLS=JOB_SPOOLS)
    cluster.prolog(104)
    own = f"{JOB_SPOOLS}/104/spool"
    written, exported = cluster.task(104, "apart")

    assert exported["TRACKER_DIR"] == own
    assert f"DIR {own}/{ALICE}/apart" in written
    assert cluster.service.try_get("/api/v1/runs/default/slurm/apart") is None
    bob = cluster.machine.run("ls", own, user="bob", check=False)
    assert bob.returncode != 0
    assert cluster.epilog(104) == ""

    assert cluster.stored("apart")
    streams = cluster.service.get("/api/v1/runs/default/slurm/apart")["streams"]
    assert {(stream["user"], stream["uid"]) for stream in streams} == {("alice", ALICE)}
    # A server restored from a backup may ask for it again: it goes later.
    assert cluster.machine.run("ls", f"{JOB_SPOOLS}/104").stdout.split() == ["shipped", "spool"]
    cluster.machine.run("touch", "-d", "9 days ago", f"{JOB_SPOOLS}/104/shipped")
    cluster.prolog(105)
    cluster.epilog(105)
    assert cluster.machine.run("ls", JOB_SPOOLS).stdout.split() == ["105"]


def test_what_a_job_left_is_shipped_by_the_epilog_of_the_next(cluster: Cluster) -> None:
    cluster.configure(TRACKER_SLURM_JOB_SPOOLS=JOB_SPOOLS, TRACKER_SLURM_WAIT_S=2)
    cluster.prolog(106)
    cluster.task(106, "left")
    cluster.machine.run("systemctl", "stop", AGENT)
    cluster.epilog(106)
    cluster.machine.run("systemctl", "start", AGENT)
    assert not cluster.stored("left")

    cluster.prolog(107)
    cluster.epilog(107)

    assert cluster.stored("left")
    assert "shipped" in cluster.machine.run("ls", f"{JOB_SPOOLS}/106").stdout


def test_job_without_a_spool_of_its_own_uses_that_of_all_users(cluster: Cluster) -> None:
    cluster.machine.write("/srv/no-directory", "")
    cluster.configure(TRACKER_SLURM_JOB_SPOOLS="/srv/no-directory")

    said = cluster.prolog(108)
    written, exported = cluster.task(108, "fallen-back")

    assert "job 108: cannot make /srv/no-directory/108/spool: the job uses the spool of all users" in said
    assert "TRACKER_DIR" not in exported
    assert f"DIR {SPOOL}/{ALICE}/fallen-back" in written


def test_users_own_settings_stay(cluster: Cluster) -> None:
    cluster.configure(TRACKER_SLURM_JOB_SPOOLS=JOB_SPOOLS, TRACKER_SLURM_ONE_RUN=1)
    cluster.prolog(109)
    own = {"TRACKER_DIR": "/tmp/mine", "TRACKER_GROUP": "mine", "TRACKER_RUN_ID": "mine"}

    _, exported = cluster.task(109, "mine", SLURM_NTASKS="4", SLURM_STEP_ID="0", **own)

    assert exported == {}


@pytest.mark.parametrize(
    ("variables", "run"),
    [
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}, "slurm-110-0"),
        ({"SLURM_STEP_ID": "3", "SLURM_NTASKS": "2", "SLURM_RESTART_COUNT": "1"}, "slurm-110-3-1"),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_STEP_ID": "4294967291", "SLURM_NTASKS": "4"}, None),
        ({"SLURM_NTASKS": "4"}, None),
    ],
)
def test_ranks_of_a_step_are_one_run_where_that_is_wanted(
    cluster: Cluster, variables: dict[str, str], run: str | None
) -> None:
    cluster.configure(TRACKER_SLURM_ONE_RUN=1)

    _, exported = cluster.task(110, "any", "pass", **variables, SLURM_ARRAY_JOB_ID="100")

    assert exported.get("TRACKER_RUN_ID") == run
    assert exported["TRACKER_GROUP"] == "slurm-100"


def test_scripts_run_by_hand_do_nothing(cluster: Cluster) -> None:
    for script in ("prolog.sh", "epilog.sh"):
        done = cluster.machine.run(f"{SCRIPTS}/{script}", environment={"SLURM_JOB_ID": "../../etc"})
        assert done.returncode == 0
    assert "SLURM_JOB_ID is '../../etc'" in cluster._logged()
    assert cluster.machine.run("ls", "/run/tracker-slurm", check=False).returncode != 0
