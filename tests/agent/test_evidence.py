"""What traces of a death prove, and what a user who chooses names cannot make them say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracker_agent.disk import Disk
from tracker_agent.evidence import (
    EXITED,
    KILLED_FOR_MEMORY,
    REBOOT,
    RUNS_ON,
    UNKNOWN,
    Findings,
    MemoryKills,
    judge,
)
from tracker_agent.exit_status import (
    ExitStatus,
    parse_status,
    pidfds_tell,
    read_by_pidfd,
    read_zombie,
    stat_fields,
)
from tracker_agent.kernel_log import FAULT, OUT_OF_MEMORY, XID, KernelLog, parse_event, parse_record
from tracker_agent.memory_group import Group, MemoryGroups, find_group, parse_mounts
from tracker_agent.scene import Baseline, Scene
from tracker_agent.witness_memory import Remembered, WitnessMemory

KILLED = ExitStatus(None, 9, False, "pidfd")
SEGFAULT = ExitStatus(None, 11, False, "pidfd")
OOM_LINE = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/jobs/7,"
    "task_memcg=/jobs/7/step,task=python3,pid=4711,uid=1000"
)
KILL_LINE = (
    "Memory cgroup out of memory: Killed process 4711 (python3) total-vm:123kB, anon-rss:65536kB, "
    "file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:200kB oom_score_adj:0"
)
FAULT_LINE = "python3[4711]: segfault at 0 ip 00007f1e0a6f2b40 sp 00007ffd5a0c3b58 error 4 in libc.so.6[7f+1]"
TRAP_LINE = (
    "traps: python3[4711] general protection fault ip:7f1e0a sp:7ffd5a error:0 in libx.so[7f1e0a+1000]"
)
XID_LINE = "NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, name=python3, Ch 00000010, intr 00000000. MMU Fault"
LOST_GPU = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def found(**findings: object) -> str:
    return judge(Findings(**findings), exited=False, boot="b", boot_now="b").cause  # type: ignore[arg-type]


def event(line: str) -> object:
    return parse_event(line, 1.0)


# --- the verdict ---


def test_without_any_fact_the_cause_is_unknown_and_what_was_not_seen_is_said() -> None:
    verdict = judge(Findings(missing=("the kernel's log: /dev/kmsg: Permission denied",)), exited=False,
                    boot="b", boot_now="b")  # fmt: skip

    assert verdict.cause == UNKNOWN
    assert "Permission denied" in verdict.evidence["missing"]


@pytest.mark.parametrize(
    ("findings", "cause"),
    [
        ({"status": KILLED}, "killed by SIGKILL"),
        ({"status": SEGFAULT}, "killed by SIGSEGV"),
        ({"status": ExitStatus(None, 6, True, "zombie")}, "killed by SIGABRT (core dumped)"),
        ({"status": ExitStatus(3, None, False, "pidfd")}, "ended with code 3 and without a word"),
        ({"memory": MemoryKills("/g", 1, 0, 3.0)}, KILLED_FOR_MEMORY),
        ({"memory": MemoryKills("/g", 1, 0, 3.0), "status": KILLED}, KILLED_FOR_MEMORY),
        ({"kernel": [event(OOM_LINE)]}, KILLED_FOR_MEMORY),
        ({"kernel": [event(FAULT_LINE)]}, "killed by SIGSEGV"),
        ({"kernel": [event(XID_LINE)]}, "GPU error (Xid 31)"),
        ({"runs_on": True}, RUNS_ON),
        # A counter above its group, an Xid of nobody: they are told, and prove nothing.
        ({"memory": MemoryKills("/g", None, 1, 3.0)}, UNKNOWN),
        ({"memory": MemoryKills("/g", 0, 1, 3.0)}, UNKNOWN),
        ({"gpu": [event(LOST_GPU)]}, UNKNOWN),
        # Somebody else in its group was killed for memory; it died of something else.
        ({"memory": MemoryKills("/g", 1, 0, 3.0), "status": SEGFAULT}, "killed by SIGSEGV"),
        ({"memory": MemoryKills("/g", 1, 0, 3.0), "status": parse_status(256, "x")},
         "ended with code 1 and without a word"),
    ],
)  # fmt: skip
def test_a_cause_is_named_where_a_fact_shows_it(findings: dict[str, object], cause: str) -> None:
    assert found(**findings) == cause


def test_of_an_end_that_nobody_saw_two_facts_have_to_agree() -> None:
    line, memory = [event(OOM_LINE)], MemoryKills("/g", 1, 0, 900.0)

    assert found(kernel=line, memory=memory, witnessed=False) == KILLED_FOR_MEMORY
    assert found(kernel=line, memory=MemoryKills("/g", None, 0, 900.0), witnessed=False) == KILLED_FOR_MEMORY
    assert found(kernel=line, witnessed=False) == UNKNOWN
    assert found(memory=memory, witnessed=False) == UNKNOWN
    assert found(kernel=line, memory=MemoryKills("/g", 0, 1, 900.0), witnessed=False) == UNKNOWN
    assert found(kernel=[event(FAULT_LINE)], witnessed=False) == UNKNOWN


def test_an_exit_and_a_reboot_stand_before_everything_else() -> None:
    findings = Findings(status=KILLED, memory=MemoryKills("/g", 1, 0, 1.0))

    assert judge(findings, exited=True, boot="b", boot_now="c").cause == EXITED
    assert judge(findings, exited=False, boot="b", boot_now="c").cause == REBOOT


def test_a_kill_for_memory_names_the_group_and_its_limit() -> None:
    memory = MemoryKills("/jobs/7", 1, 0, 2.4, ("/sys/fs/cgroup/jobs", 64 * 2**20))

    text = judge(Findings(memory=memory), exited=False, boot="", boot_now="b").evidence["cgroup"]

    assert "/jobs/7" in text
    assert "/sys/fs/cgroup/jobs is limited to 67108864 bytes" in text


def test_a_group_that_is_gone_is_said_to_be_gone() -> None:
    evidence = judge(Findings(memory=MemoryKills("/g", None, 0, 2.0)), exited=False, boot="", boot_now="b")

    assert "is gone" in evidence.evidence["cgroup"]


# --- the kernel's log ---


@pytest.mark.parametrize(
    ("line", "kind", "what"),
    [
        (OOM_LINE, OUT_OF_MEMORY, "SIGKILL"),
        (KILL_LINE, OUT_OF_MEMORY, "SIGKILL"),
        ("Out of memory: Killed process 4711 (a b) total-vm:1kB", OUT_OF_MEMORY, "SIGKILL"),
        ("Out of memory: Kill process 4711 (x) score 989 or sacrifice child", OUT_OF_MEMORY, "SIGKILL"),
        (FAULT_LINE, FAULT, "SIGSEGV"),
        (TRAP_LINE, FAULT, "SIGSEGV"),
        ("traps: a b[4711] trap invalid opcode ip:55d sp:7ff error:0 in x[55d+1]", FAULT, "SIGILL"),
        ("traps: x[4711] trap divide error ip:55d sp:7ff error:0 in x[55d+1]", FAULT, "SIGFPE"),
        (XID_LINE, XID, "31"),
    ],
)
def test_lines_of_the_kernel_name_the_process(line: str, kind: str, what: str) -> None:
    parsed = parse_event(line, 5.0)

    assert parsed is not None
    assert (parsed.kind, parsed.pid, parsed.what, parsed.at_s) == (kind, 4711, what, 5.0)


def test_an_error_of_a_gpu_may_name_no_process() -> None:
    parsed = parse_event(LOST_GPU, 1.0)

    assert parsed is not None
    assert (parsed.kind, parsed.pid, parsed.what) == (XID, None, "79")


@pytest.mark.parametrize(
    "line",
    [
        # A process may call itself what it likes, in 15 bytes.
        "a[99]: segfault[4711]: segfault at 0 ip 00007f1e sp 00007ffd error 4 in x[7f+1]",
        "x,pid=99,uid=0 oom-kill:constraint=NONE,task=x,pid=99,uid=0,pid=4711,uid=1000",
        "oom-kill:constraint=CONSTRAINT_NONE,task=x,pid=99,uid=0,pid=4711,uid=1000",
        "Out of memory: Killed process 4711 (process 99 (x)) total-vm:1kB",
        "traps: a[99] trap[4711] general protection fault ip:7f1e0a sp:7ffd5a error:0",
    ],
)
def test_a_name_chosen_by_a_user_cannot_name_another_process(line: str) -> None:
    parsed = parse_event(line, 1.0)

    assert parsed is None or parsed.pid == 4711


@pytest.mark.parametrize(
    "line",
    ["", "eth0: link up", "python3[12]: hello", "oom_reaper: reaped process 4711 (x)",
     "Killed process 4711 (x)", "segfault at 0 ip 1 sp 2 error 4"],
)  # fmt: skip
def test_other_lines_say_nothing(line: str) -> None:
    assert parse_event(line, 1.0) is None


def test_only_the_kernel_is_believed() -> None:
    kernel = b"6,1234,5000000,-;" + KILL_LINE.encode() + b"\n SUBSYSTEM=x\n"
    forged = b"14,1234,5000000,-;" + KILL_LINE.encode() + b"\n"

    assert parse_record(kernel) == (5.0, KILL_LINE)
    assert parse_record(forged) is None
    for broken in (b"", b";", b"6,1;x", b"a,b,c,-;x", b"6,1,2,-"):
        assert parse_record(broken) is None


def log_of(tmp_path: Path, *lines: tuple[float, str]) -> KernelLog:
    """Return a log whose device is a pipe, which gives one record a read where reads are as long."""
    path = tmp_path / "kmsg"
    path.write_bytes(b"")
    namespace = tmp_path / "initial-pid-namespace"
    namespace.symlink_to("pid:[4026531836]")
    log = KernelLog(lambda: 100.0, str(path), str(namespace))
    log._read_at = None
    for at, line in lines:
        parsed = parse_event(line, log._clamped(at, 100.0))
        assert parsed is not None
        log._events.append(parsed)
    return log


def test_what_was_said_of_an_earlier_process_with_that_pid_is_not_about_this_one(tmp_path: Path) -> None:
    log = log_of(tmp_path, (10.0, KILL_LINE), (60.0, FAULT_LINE))

    about = log.about(4711, after_s=50.0, before_s=70.0)

    assert [each.kind for each in about] == [FAULT]


def test_a_log_that_cannot_be_read_is_a_problem_that_is_named(tmp_path: Path) -> None:
    log = KernelLog(time.monotonic, str(tmp_path / "nothing"))
    log.read()

    assert "nothing" in log.problem
    assert log.about(1, 0.0, 1e9) == []


def test_in_another_pid_namespace_the_log_is_not_used(tmp_path: Path) -> None:
    namespace = tmp_path / "pid"
    namespace.symlink_to("pid:[4026532000]")

    assert "namespace" in KernelLog(time.monotonic, "/dev/null", str(namespace)).problem


# --- memory cgroups ---

MOUNTS_1 = "36 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
MOUNTS_2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_group_is_found_in_both_versions_and_the_first_has_memory_on_hybrid_hosts() -> None:
    one, two = "7:memory:/jobs/1\n0::/init\n", "0::/jobs/1\n"

    assert find_group(one, parse_mounts(MOUNTS_1)) == Group(
        1, "/jobs/1", "/sys/fs/cgroup/memory/jobs/1", "/sys/fs/cgroup/memory"
    )
    assert find_group(two, parse_mounts(MOUNTS_2)) == Group(
        2, "/jobs/1", "/sys/fs/cgroup/jobs/1", "/sys/fs/cgroup"
    )
    assert find_group(one, parse_mounts(MOUNTS_1 + MOUNTS_2)).version == 1  # type: ignore[union-attr]


def test_a_group_outside_of_what_is_mounted_or_of_our_namespace_is_out_of_sight() -> None:
    below = "36 30 0:31 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"

    assert find_group("0::/docker/abc/x\n", parse_mounts(below)).directory == "/sys/fs/cgroup/x"  # type: ignore[union-attr]
    assert find_group("0::/docker/abcd\n", parse_mounts(below)) is None
    assert find_group("0::/../../other\n", parse_mounts(MOUNTS_2)) is None
    assert find_group("", parse_mounts(MOUNTS_2)) is None
    assert find_group("nonsense\n:::\n", parse_mounts("x\n - \n")) is None


def fake_tree(tmp_path: Path) -> tuple[MemoryGroups, Path]:
    """Make a tree of version 2 with a limit on jobs, in which process 4711 is in jobs/7."""
    mount = tmp_path / "cgroup"
    group = mount / "jobs" / "7"
    group.mkdir(parents=True)
    for directory, limit in ((group, "max"), (group.parent, "1048576")):
        (directory / "memory.events").write_text(
            "low 0\nhigh 0\nmax 5\noom 1\noom_kill 2\noom_group_kill 0\n"
        )
        (directory / "memory.max").write_text(limit + "\n")
    proc = tmp_path / "proc"
    (proc / "4711").mkdir(parents=True)
    (proc / "4711" / "cgroup").write_text("0::/jobs/7\n")
    (proc / "self").mkdir()
    (proc / "self" / "mountinfo").write_text(f"30 25 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    return MemoryGroups(str(proc)), group


def test_counters_of_version_2_are_read_up_to_the_mount_and_the_limit_is_the_nearest(tmp_path: Path) -> None:
    groups, directory = fake_tree(tmp_path)
    group = groups.of(4711)
    assert group is not None

    assert groups.kills(group) == {str(directory): 2, str(directory.parent): 2}
    assert groups.limit(group) == (str(directory.parent), 1048576)


def scene_of(tmp_path: Path) -> Scene:
    """Return a scene of the fake tree, with a process 4711 that started 1000 s after boot."""
    stat = ["4711 (a) b)", "S", *["0"] * 18, str(1000 * os.sysconf("SC_CLK_TCK")), *["0"] * 33]
    (tmp_path / "proc" / "4711" / "stat").write_text(" ".join(stat))
    return Scene(kernel_log=False, proc=str(tmp_path / "proc"))


def began(after_boot_s: float) -> int:
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return int((after_boot_s - suspended) * 1e9)


def test_a_count_that_rose_since_the_baseline_is_a_kill_and_one_that_was_there_is_none(
    tmp_path: Path,
) -> None:
    _, directory = fake_tree(tmp_path)
    scene = scene_of(tmp_path)
    baseline = scene.arrive(4711, began(1001))
    assert baseline is not None

    before = scene.depart(baseline, None).memory
    (directory / "memory.events").write_text("oom 2\noom_kill 3\n")
    after = scene.depart(baseline, None).memory

    assert before is not None
    assert before.own == 0
    assert after is not None
    assert after.own == 1
    scene.close()


def test_a_count_taken_anew_forgets_kills_that_the_writer_survived(tmp_path: Path) -> None:
    _, directory = fake_tree(tmp_path)
    scene = scene_of(tmp_path)
    baseline = scene.arrive(4711, began(1001))
    assert baseline is not None
    (directory / "memory.events").write_text("oom_kill 3\n")

    scene.refresh([baseline])

    memory = scene.depart(baseline, None).memory
    assert memory is not None
    assert memory.own == 0
    scene.close()


def test_the_group_may_be_gone_with_the_writer(tmp_path: Path) -> None:
    _, directory = fake_tree(tmp_path)
    scene = scene_of(tmp_path)
    baseline = scene.arrive(4711, began(1001))
    assert baseline is not None
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    (directory.parent / "memory.events").write_text("oom_kill 3\n")

    memory = scene.depart(baseline, None).memory

    assert memory is not None
    assert (memory.own, memory.above) == (None, 1)
    scene.close()


def test_a_process_that_started_after_the_stream_is_another_one_with_its_pid(tmp_path: Path) -> None:
    fake_tree(tmp_path)
    scene = scene_of(tmp_path)

    assert scene.arrive(4711, began(900)) is None
    scene.close()


# --- over a restart ---


def test_what_is_remembered_comes_back_and_baselines_end_with_the_boot(tmp_path: Path) -> None:
    group = Group(1, "/g", "/sys/fs/cgroup/memory/g", "/sys/fs/cgroup/memory")
    baseline = Baseline(7, 100, 1.0, 2.0, group, ("/sys/fs/cgroup/memory/g", 5), {"/x": 1}, 99)
    findings = Findings(
        KILLED,
        MemoryKills("/g", 1, 0, 3.0, ("/g", 5)),
        (event(OOM_LINE),),
        (event(LOST_GPU),),
        ("this",),
        True,
        False,
    )  # type: ignore[arg-type]
    dead, living = (1000, b"d" * 16), (1000, b"l" * 16)
    memory = WitnessMemory(str(tmp_path), "boot", Disk())
    memory.write({dead: Remembered(5, findings, None), living: Remembered(None, None, baseline)})

    same, complaint = memory.read()
    later, _ = WitnessMemory(str(tmp_path), "another boot", Disk()).read()

    assert complaint == ""
    assert same[dead] == Remembered(5, findings, None)
    assert vars(same[living].baseline) == {**vars(baseline), "pidfd": -1}
    assert later[dead].findings == findings
    assert later[living].baseline is None


# --- wait statuses ---


def test_a_pidfd_or_the_zombie_tells_how_a_process_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pidfd = os.pidfd_open(process.pid)
    assert read_by_pidfd(pidfd) is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    stat = Path(f"/proc/{process.pid}/stat").read_text()

    zombie = read_zombie(stat)
    process.wait()
    reaped = read_by_pidfd(pidfd)

    os.close(pidfd)
    if os.geteuid() == 0:
        assert zombie is not None
        assert (zombie.code, zombie.signal) == (None, signal.SIGKILL)
    if pidfds_tell(os.uname().release):
        assert reaped is not None
        assert (reaped.code, reaped.signal) == (None, signal.SIGKILL)


def test_releases_of_kernels_are_compared_as_numbers() -> None:
    assert [pidfds_tell(each) for each in ("6.15.0", "6.18.44-x", "7.0", "10.1-rc1", "6.15-rc1")] == [
        True
    ] * 5
    assert not any(pidfds_tell(each) for each in ("6.14.9", "5.19", "6.2", "", "x.y", "6"))


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    assert stat_fields("12 (a) Z 1 (b) S 1 2 3")[:2] == ["S", "1"]
    assert read_zombie("12 (x) S " + "0 " * 60) is None
    assert read_zombie("") is None
