"""cgroup: the groups of runs, of version 1, 2 and both; on machines made of files, and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.watched_cgroups import (
    CONTAINER,
    GIB,
    JOB1,
    JOB2,
    MIB,
    POD,
    POD_SLICE,
    STEP_S,
    Watched,
)
from tracker_agent.collectors.cgroup import GROUPS_MAX, LIMITS_INTERVAL_S, CgroupCollector
from tracker_agent.collectors.cgroup_figures import count_list, parse_io_stat
from tracker_agent.collectors.cgroup_names import GroupName, name_group
from tracker_agent.collectors.cgroup_places import find_membership, parse_mounts
from tracker_agent.collectors.collector import Context, Reading


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/", None),
        ("/../other", None),
        (
            "/system.slice/slurmstepd.scope/job_12/step_0/user/task_1",
            GroupName("slurm job", "12", "/system.slice/slurmstepd.scope/job_12", 1),
        ),
        (
            "/system.slice/node7_slurmstepd.scope/job_12/step_batch",
            GroupName("slurm job", "12", "/system.slice/node7_slurmstepd.scope/job_12", 1),
        ),
        ("/slurm_node7/uid_5/job_12/step_0", GroupName("slurm job", "12", "/slurm_node7/uid_5/job_12", 1)),
        ("/batch/job_12", GroupName("group", "batch/job_12", "/batch/job_12")),
        (
            f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{CONTAINER}.scope",
            GroupName(
                "pod",
                POD,
                f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{CONTAINER}.scope",
                2,
            ),
        ),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{POD_SLICE}/crio-{CONTAINER}.scope/container",
            GroupName(
                "pod",
                POD,
                f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{POD_SLICE}/crio-{CONTAINER}.scope",
                2,
            ),
        ),
        (f"/kubepods/pod{POD}/{CONTAINER}", GroupName("pod", POD, f"/kubepods/pod{POD}/{CONTAINER}", 2)),
        (
            f"/kubepods/besteffort/pod{'a' * 32}",
            GroupName("pod", "a" * 32, f"/kubepods/besteffort/pod{'a' * 32}", 1),
        ),
        (f"/docker/{CONTAINER}", GroupName("container", CONTAINER, f"/docker/{CONTAINER}")),
        (
            f"/system.slice/docker-{CONTAINER}.scope",
            GroupName("container", CONTAINER, f"/system.slice/docker-{CONTAINER}.scope"),
        ),
        (
            f"/machine.slice/libpod-{CONTAINER}.scope/container",
            GroupName("container", CONTAINER, f"/machine.slice/libpod-{CONTAINER}.scope"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/train.service",
            GroupName(
                "unit",
                "train.service",
                "/user.slice/user-1000.slice/user@1000.service/app.slice/train.service",
            ),
        ),
        (
            "/system.slice/train.service/part",
            GroupName("unit", "train.service", "/system.slice/train.service"),
        ),
        (
            "/user.slice/session-3.scope (deleted)",
            GroupName("unit", "session-3.scope", "/user.slice/session-3.scope"),
        ),
        ("/user.slice", GroupName("group", "user.slice", "/user.slice")),
    ],
)
def test_a_path_tells_what_a_group_is(path: str, named: GroupName | None) -> None:
    assert name_group(path) == named


def test_a_slurm_job_of_version_2_shows_its_use_and_its_limits(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101)
    watched.read()
    watched.host.write(
        f"{JOB2}/cpu.stat",
        f"usage_usec {5000000 + 3 * STEP_S * 1000000:.0f}\nnr_periods 300\nnr_throttled 60\n"
        f"throttled_usec {700000 + STEP_S * 500000:.0f}\n",
    )
    watched.host.write(
        f"{JOB2}/io.stat",
        "259:0 rbytes=91000 wbytes=32000 rios=1\n253:0 rbytes=91000 wbytes=32000 rios=1\n7:0 \n"
        "8:0 rbytes=30000 wbytes=0\n",
    )
    watched.host.write(
        f"{JOB2}/memory.pressure",
        f"some avg10=0 total={3000 + STEP_S * 250000:.0f}\nfull avg10=0 total=1500\n",
    )
    watched.host.replace(f"{JOB2}/memory.events", "max 20", "max 80")

    values = watched.values()[4101]

    assert values == pytest.approx(
        {
            "memory.current.bytes": GIB,
            "memory.working_set.bytes": 0.75 * GIB,
            "memory.peak.bytes": 2 * GIB,
            "memory.max.bytes": 8 * GIB,
            "memory.limit.bytes": 6 * GIB,
            "memory.percent": 12.5,
            "memory.limit_hits.per_s": 60 / STEP_S,
            "memory.throttled.per_s": 0,
            "memory.oom_kills.count": 0,
            "swap.current.bytes": 8192,
            "cpu.percent": 300,
            "cpu.limit.percent": 300,
            "cpu.cores.count": 5,
            "cpu.throttled.percent": 50,
            "cpu.throttled_periods.percent": 25,
            "pids.count": 42,
            "pids.limit.count": 4096,
            "io.read.bytes_per_s": 120_000 / STEP_S,
            "io.written.bytes_per_s": 30_000 / STEP_S,
            "pressure.cpu.some.percent": 0,
            "pressure.io.some.percent": 0,
            "pressure.io.full.percent": 0,
            "pressure.memory.some.percent": 25,
            "pressure.memory.full.percent": 0,
        }
    )
    assert {f"cgroup.{name}" for name in values} == {metric.name for metric in CgroupCollector.metrics}


def test_a_slurm_job_of_version_1_counts_only_where_it_is_the_job(tmp_path: Path) -> None:
    watched = Watched("cgroup-v1", tmp_path, 4101)

    first = watched.values()[4101]
    watched.host.add(f"{JOB1}/memory.failcnt", 60)
    second = watched.values()[4101]

    assert first == {
        "memory.current.bytes": GIB,
        "memory.working_set.bytes": 0.75 * GIB,
        "memory.peak.bytes": 2 * GIB,
        "memory.max.bytes": 8 * GIB,
        "memory.limit.bytes": 4 * GIB,  # as the kernel sums it up
        "memory.percent": pytest.approx(18.75),
        "memory.oom_kills.count": 0,
        "swap.current.bytes": 4096,
        "cpu.cores.count": 6,
    }
    # Its processor time is the daemon's, with all other jobs; in version 1 it limits memory and cores only.
    assert set(second) - set(first) == {
        "memory.limit_hits.per_s",
        "io.read.bytes_per_s",
        "io.written.bytes_per_s",
    }
    assert second["memory.limit_hits.per_s"] == 60 / STEP_S


def test_a_pod_of_version_1_has_the_quota_of_its_pod_and_no_limit_that_is_none(tmp_path: Path) -> None:
    watched = Watched("cgroup-v1", tmp_path, 4201)
    at = f"sys/fs/cgroup/cpu,cpuacct/kubepods/burstable/pod{POD}/{CONTAINER}"
    watched.read()
    watched.host.add(f"{at}/cpuacct.usage", int(2 * STEP_S * 1e9))
    watched.host.write(
        f"{at}/cpu.stat", f"nr_periods 200\nnr_throttled 60\nthrottled_time {int(STEP_S * 1e9) + 700000000}\n"
    )

    values = watched.values()[4201]

    assert values == pytest.approx(
        {
            "memory.current.bytes": 4096000,
            "memory.working_set.bytes": 4091904,
            "memory.limit.bytes": 8192000,
            "memory.percent": 100 * 4091904 / 8192000,
            "cpu.percent": 200,
            "cpu.limit.percent": 250,
            "cpu.throttled.percent": 100,
            "cpu.throttled_periods.percent": 50,
            "pids.count": 7,
            "pids.limit.count": 99,
        }
    )


def test_a_hybrid_machine_has_controllers_of_one_version_and_pressure_of_the_other(tmp_path: Path) -> None:
    watched = Watched("cgroup-hybrid", tmp_path, 4301)
    watched.read()
    watched.host.add("sys/fs/cgroup/cpu,cpuacct/system.slice/train.service/cpuacct.usage", int(STEP_S * 1e9))

    values = watched.values()[4301]

    assert values["memory.current.bytes"] == 5000
    assert "memory.limit.bytes" not in values
    assert values["cpu.percent"] == pytest.approx(100)
    assert values["pressure.cpu.some.percent"] == 0


def test_a_pods_container_is_measured_and_limited_by_the_pod_too(tmp_path: Path) -> None:
    values = Watched("cgroup-v2", tmp_path, 4201).values()[4201]

    assert (values["memory.current.bytes"], values["memory.limit.bytes"]) == (512 * MIB, GIB)
    assert values["pids.limit.count"] == 1000


def test_units_and_containers_show_and_the_root_does_not(tmp_path: Path) -> None:
    found = Watched("cgroup-v2", tmp_path, 4301, 4401, 4501, 4601, 9999, 0).values()

    assert {pid: values["memory.current.bytes"] for pid, values in found.items()} == {
        4301: 64 * MIB,
        4401: 32 * MIB,
    }


def test_writers_in_one_group_show_the_same_and_it_is_read_once(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101, 4102)
    names: list[str] = []
    real = watched.host.kernel.text

    def text(name: str) -> str | None:
        names.append(name)
        return real(name)

    watched.host.kernel.text = text  # type: ignore[method-assign]

    values = watched.values()

    assert values[4101] == values[4102]
    assert names.count(f"{JOB2}/memory.current") == 1


def test_a_group_that_vanishes_leaves_no_values_and_no_failure(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101, 4301)
    watched.read()
    watched.host.remove(JOB2)

    reading = watched.read()

    assert len(reading.runs) == 1
    assert (reading.problems, reading.events) == ((), ())


def test_limits_are_read_seldom_but_are_not_kept_for_ever(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101)
    watched.read()
    watched.host.write(f"{JOB2}/memory.max", f"{GIB}\n")

    watched.host.advance(LIMITS_INTERVAL_S)

    assert watched.values()[4101]["memory.limit.bytes"] == GIB


def test_counters_that_went_back_have_no_rate(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101)
    watched.read()
    watched.host.write(f"{JOB2}/cpu.stat", "usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n")

    assert not {"cpu.percent", "cpu.throttled.percent", "cpu.throttled_periods.percent"} & set(
        watched.values()[4101]
    )


def test_more_groups_than_are_read_are_told(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101)
    for pid in range(GROUPS_MAX):
        watched.host.write(f"proc/{pid + 10}/cgroup", f"0::/system.slice/unit-{pid}.service\n")
        watched.pids.append(pid + 10)

    assert watched.read().problems == (f"1 control groups beyond the first {GROUPS_MAX} are left out",)


# What is read


def test_groups_are_found_below_mounts_of_a_part_only() -> None:
    mounts = parse_mounts("30 23 0:26 /docker/a\\040b /sys/fs/cgroup ro - cgroup2 cgroup rw\n")

    inside = find_membership("0::/docker/a b/train.service\n", mounts)

    assert inside is not None
    assert inside.places[""].directory == "sys/fs/cgroup/train.service"
    assert find_membership("0::/docker/other/train.service\n", mounts) is None


@given(st.text(), st.text())
def test_no_file_of_the_kernel_breaks_the_reader(membership: str, mountinfo: str) -> None:
    find_membership(membership, parse_mounts(mountinfo))
    name_group(membership)
    parse_io_stat(membership)
    count_list(membership)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_lists_of_cores_are_counted(cores: set[int]) -> None:
    text: list[str] = []
    for core in sorted(cores):
        if core - 1 in cores and text:
            text[-1] = f"{text[-1].partition('-')[0]}-{core}"
        else:
            text.append(str(core))

    assert count_list(",".join(text)) == len(cores)


def test_without_runs_nothing_is_read() -> None:
    assert CgroupCollector(Context()).sample() == Reading({})
