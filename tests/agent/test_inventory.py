"""The inventory, on machines made of files and on this one."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from tests.support.fixture_host import MACHINES, FixtureHost
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.inventory import read_inventory
from tracker_agent.inventory_devices import DEVICES_MAX
from tracker_agent.own_stream import Identity

WHO = Identity("m", "boot-1", "gpu-7.example.org", "1.2.3")
DMI = "sys/class/dmi/id"


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return FixtureHost("empty", tmp_path / "host")


def inventory(host: FixtureHost, **environment: str) -> dict[str, object]:
    return read_inventory(WHO, host.kernel, environment)


def test_this_machine_is_told() -> None:
    facts = read_inventory(WHO)

    assert facts["kernel"] == platform.release()
    assert facts["architecture"] == platform.machine()
    assert facts["cpu"]["threads"] == os.cpu_count()
    assert facts["memory_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/stat", encoding="ascii") as lines:
        booted = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
    assert facts["booted"] == booted * 10**9
    assert json.loads(json.dumps(facts)) == facts


def test_machine_of_which_nothing_is_known_has_what_the_agent_knows(host: FixtureHost) -> None:
    facts = inventory(host)

    assert set(facts) == {"host", "agent", "boot", "kernel", "architecture"}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_is_read_and_nothing_absent_is_told(machine: str, tmp_path: Path) -> None:
    host = FixtureHost(machine, tmp_path / "host")

    facts = inventory(host)

    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for each in value.values() for leaf in leaves(each)]
        if isinstance(value, list):
            return [leaf for each in value for leaf in leaves(each)]
        return [value]

    assert None not in leaves(facts)
    assert {} not in facts.values()
    assert [] not in facts.values()


def test_processors_are_counted_by_their_topology(host: FixtureHost) -> None:
    host.write(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Gold 6438M\nflags\t\t: fpu vme\n\n"
        "processor\t: 1\nmodel name\t: something else\nflags\t\t: hypervisor\n",
    )
    for thread in range(8):
        base = f"sys/devices/system/cpu/cpu{thread}/topology"
        core = thread % 4
        host.write(f"{base}/core_cpus_list", f"{core},{core + 4}\n")
        host.write(f"{base}/physical_package_id", f"{core // 2}\n")
    # Switched off: no topology.
    host.write("sys/devices/system/cpu/cpu8/online", "0\n")
    host.write("sys/devices/system/cpu/cpufreq/boost", "1\n")

    facts = inventory(host)

    assert facts["cpu"] == {"model": "Intel(R) Xeon(R) Gold 6438M", "sockets": 2, "cores": 4, "threads": 8}
    assert "virtualization" not in facts


def test_processor_of_a_grace_has_a_name_and_one_of_a_virtual_machine_no_socket(host: FixtureHost) -> None:
    host.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\n")
    host.write("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n")
    host.write("sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1\n")

    assert inventory(host)["cpu"] == {"model": "ARM Neoverse V2", "cores": 1, "threads": 1}


def test_hypervisor_that_does_not_say_which_is_unknown(host: FixtureHost) -> None:
    host.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n\n")

    assert inventory(host)["virtualization"] == "unknown"


def nic(host: FixtureHost, name: str, driver: str | None = None, **files: str) -> None:
    base = f"sys/class/net/{name}"
    for file, text in {"address": "aa:bb:cc:dd:ee:ff", **files}.items():
        host.write(f"{base}/{file}", text + "\n")
    if driver is not None:
        device = host.root / base / "device"
        device.mkdir()
        (device / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")


def test_cards_are_told_without_their_addresses_and_what_is_no_card_is_left_out(host: FixtureHost) -> None:
    nic(host, "eth10", "mlx5_core", speed="400000", mtu="9000")
    nic(host, "eth2", "ice", speed="-1", mtu="1500")
    nic(host, "docker0", speed="10000")
    nic(host, "lo")

    facts = inventory(host)

    assert facts["nics"] == [
        {"name": "eth2", "driver": "ice", "mtu": 1500},
        {"name": "eth10", "driver": "mlx5_core", "mbit_per_s": 400000, "mtu": 9000},
    ]
    assert "aa:bb" not in repr(facts)


def test_infiniband_adapters_are_told(host: FixtureHost) -> None:
    base = "sys/class/infiniband/mlx5_0"
    for file, text in {
        "hca_type": "MT4129",
        "fw_ver": "28.39.1002",
        "board_id": "MT_0000000838",
        "node_guid": "a088:c203:0012:3456",
        "ports/1/rate": "400 Gb/sec (4X NDR)",
        "ports/1/link_layer": "InfiniBand",
    }.items():
        host.write(f"{base}/{file}", text + "\n")

    facts = inventory(host)

    assert facts["infiniband"] == [
        {
            "name": "mlx5_0",
            "model": "MT4129",
            "firmware": "28.39.1002",
            "board": "MT_0000000838",
            "link_layer": "InfiniBand",
            "rate": "400 Gb/sec (4X NDR)",
            "ports": 1,
        }
    ]
    assert "a088" not in repr(facts)


def test_disks_are_told_without_serials_and_only_real_ones(host: FixtureHost) -> None:
    for name, files in {
        "nvme0n1": {
            "size": "7501476528",
            "queue/rotational": "0",
            "device/model": "SAMSUNG MZQL23T8HCLS-00A07             ",
            "device/serial": "S64HNE0T500123",
        },
        "sda": {"size": "1000", "queue/rotational": "1", "device/model": "ST8000NM000A"},
        "sr0": {"size": "0", "device/model": "DVD"},
        "loop0": {"size": "1000"},
        "dm-0": {"size": "1000"},
    }.items():
        for file, text in files.items():
            host.write(f"sys/block/{name}/{file}", text + "\n")

    facts = inventory(host)

    assert facts["disks"] == [
        {
            "name": "nvme0n1",
            "model": "SAMSUNG MZQL23T8HCLS-00A07",
            "bytes": 3840755982336,
            "rotational": False,
        },
        {"name": "sda", "model": "ST8000NM000A", "bytes": 512000, "rotational": True},
    ]
    assert "S64HNE0T500123" not in repr(facts)


def test_number_of_devices_is_bounded(host: FixtureHost) -> None:
    for number in range(DEVICES_MAX + 5):
        host.write(f"sys/block/sd{number}/size", "8\n")
        host.write(f"sys/block/sd{number}/device/model", "X\n")
        nic(host, f"eth{number}", "ice")

    facts = inventory(host)

    assert [len(facts[kind]) for kind in ("disks", "nics")] == [DEVICES_MAX] * 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("firmware", "cloud", "hypervisor"),
    [
        (
            {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"},
            {"provider": "aws", "instance_type": "p5.48xlarge"},
            "kvm",
        ),
        (
            {"sys_vendor": "Amazon EC2", "product_name": "c5n.metal"},
            {"provider": "aws", "instance_type": "c5n.metal"},
            None,
        ),
        (
            {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
            {"provider": "gcp"},
            "kvm",
        ),
        (
            {
                "sys_vendor": "Microsoft Corporation",
                "product_name": "Virtual Machine",
                "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
            },
            {"provider": "azure"},
            "microsoft",
        ),
        (
            {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"},
            None,
            "microsoft",
        ),
        (
            {"chassis_asset_tag": "OracleCloud.com", "product_name": "ORACLE SERVER X9-2c"},
            {"provider": "oracle"},
            None,
        ),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, None, "qemu"),
        ({"sys_vendor": "Supermicro", "product_name": "SYS-821GE-TNHR"}, None, None),
    ],
)
def test_cloud_and_hypervisor_are_told_by_the_firmware(
    host: FixtureHost, firmware: dict[str, str], cloud: dict[str, str] | None, hypervisor: str | None
) -> None:
    for file, text in firmware.items():
        host.write(f"{DMI}/{file}", text + "\n")

    facts = inventory(host)

    assert (facts.get("cloud"), facts.get("virtualization")) == (cloud, hypervisor)


def test_slurm_cluster_and_node_are_told(host: FixtureHost) -> None:
    host.write("etc/slurm/slurm.conf", "# ClusterName=old\nclustername = alps # the large one\nNodeName=x\n")

    assert inventory(host)["slurm"] == {"cluster": "alps", "node": "gpu-7"}


def test_kubernetes_node_is_what_the_kubelet_calls_it(host: FixtureHost) -> None:
    host.write("var/lib/kubelet/config.yaml", "")
    plain = inventory(host)
    host.write(
        "var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--a=b --hostname-override=worker-3"\n'
    )

    assert plain["kubernetes"] == {"node": "gpu-7.example.org"}
    assert inventory(host)["kubernetes"] == {"node": "worker-3"}


def test_kubernetes_node_of_a_pod_is_what_it_was_told(host: FixtureHost) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    told = inventory(host, **pod, NODE_NAME="worker-4")
    silent = inventory(host, **pod)

    assert (told["kubernetes"], told["container"]) == ({"node": "worker-4"}, "kubernetes")
    assert "kubernetes" not in silent


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "lxc", "lxc"),
    ],
)
def test_container_is_told(host: FixtureHost, file: str, text: str, kind: str) -> None:
    host.write(file, text)

    assert inventory(host)["container"] == kind


def test_limits_are_told(host: FixtureHost) -> None:
    host.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    host.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    host.write("proc/sys/fs/inotify/max_user_watches", "8192\n")
    host.write(
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max locked memory         unlimited            unlimited            bytes     \n"
        "Max open files            1024                 524288               files     \n",
    )

    assert inventory(host)["limits"] == {
        "transparent_hugepages": "madvise",
        "cpufreq_governor": "powersave",
        "inotify_watches": 8192,
        "agent_open_files": 1024,
        "agent_locked_memory_bytes": "unlimited",
    }


def test_nothing_is_written_and_no_network_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the inventory comes from files")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)

    assert read_inventory(WHO, Kernel())["host"] == WHO.host
