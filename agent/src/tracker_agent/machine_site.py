"""Where a machine stands: virtual or not, in which cloud, cluster, container. From files alone: no network.

Metadata services of clouds are not asked: that they answer says as much about the network as about the
machine, and such a question is an alarm in some places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .collectors.kernel import Kernel

_DMI = "sys/class/dmi/id"
#: Beginnings of what the firmware says of its maker or product, and the hypervisor they stand for.
_HYPERVISORS = (
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Amazon EC2", "kvm"),
    ("Google Compute Engine", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("innotek GmbH", "virtualbox"),
    ("VirtualBox", "virtualbox"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "microsoft"),
    ("Virtual Machine", "microsoft"),
)
#: (file of the firmware, beginning of what it says, provider)
_CLOUDS = (
    ("sys_vendor", "Amazon EC2", "aws"),
    ("product_name", "Google Compute Engine", "gcp"),
    ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"),
    ("chassis_asset_tag", "OracleCloud.com", "oracle"),
    ("product_name", "Alibaba Cloud ECS", "alibaba"),
    ("sys_vendor", "Tencent Cloud", "tencent"),
    ("chassis_asset_tag", "HUAWEICLOUD", "huawei"),
    ("chassis_asset_tag", "OpenTelekomCloud", "open-telekom"),
    ("sys_vendor", "DigitalOcean", "digitalocean"),
    ("sys_vendor", "Hetzner", "hetzner"),
    ("sys_vendor", "Scaleway", "scaleway"),
    ("sys_vendor", "Vultr", "vultr"),
    ("sys_vendor", "Akamai", "akamai"),
    ("sys_vendor", "Linode", "akamai"),
    ("sys_vendor", "UpCloud", "upcloud"),
    ("product_name", "Exoscale", "exoscale"),
    ("product_name", "OpenStack", "openstack"),
)
#: AWS alone puts the type into the firmware, such as p5.48xlarge.
_AWS_TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
_SLURM_CONF = (
    "etc/slurm/slurm.conf",
    "etc/slurm-llnl/slurm.conf",
    "run/slurm/conf/slurm.conf",
    "var/spool/slurmd/conf-cache/slurm.conf",
    "var/spool/slurm/conf-cache/slurm.conf",
)
_KUBELET = "var/lib/kubelet"
#: Variables that pods are commonly given spec.nodeName in; the first one that is set counts.
_NODE_VARIABLES = ("TRACKER_AGENT_NODE", "NODE_NAME", "K8S_NODE_NAME", "KUBE_NODE_NAME", "MY_NODE_NAME")


def read_virtualization(kernel: Kernel, processor_flags: str = "") -> str | None:
    """Return the hypervisor, "unknown" for one that does not say; None on bare metal."""
    said = [
        kernel.word(f"{_DMI}/{file}") or ""
        for file in ("product_name", "sys_vendor", "board_vendor", "bios_vendor")
    ]
    if said[0].endswith(".metal"):
        return None
    for text in said:
        for beginning, hypervisor in _HYPERVISORS:
            if text.startswith(beginning):
                return hypervisor
    here = "unknown" if "hypervisor" in processor_flags.split() else None
    return kernel.word("sys/hypervisor/type") or here


def read_container(kernel: Kernel, environment: Mapping[str, str]) -> str | None:
    """Return in what kind of container the agent runs; None where it does not, or it cannot be told."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    # systemd writes this file in every container that it knows.
    named = environment.get("container") or kernel.word("run/systemd/container")
    if named:
        return named
    if kernel.text(".dockerenv") is not None:
        return "docker"
    return "podman" if kernel.text("run/.containerenv") is not None else None


def read_cloud(kernel: Kernel) -> dict[str, Any] | None:
    """Return provider and, where the firmware says it, the type of the instance."""
    for file, beginning, provider in _CLOUDS:
        if (kernel.word(f"{_DMI}/{file}") or "").startswith(beginning):
            product = kernel.word(f"{_DMI}/product_name") or ""
            if provider == "aws" and _AWS_TYPE.fullmatch(product):
                return {"provider": provider, "instance_type": product}
            return {"provider": provider}
    return None


def read_slurm(kernel: Kernel, host: str) -> dict[str, Any] | None:
    """Return the cluster's name and the node's, which is what the host is called up to the first dot."""
    for file in _SLURM_CONF:
        text = kernel.text(file)
        if text is None:
            continue
        facts = {"node": host.partition(".")[0]}
        for line in text.splitlines():
            name, _, value = line.partition("#")[0].partition("=")
            if name.strip().lower() == "clustername" and value.strip():
                facts["cluster"] = value.strip()
        return facts
    return None


def read_kubernetes(kernel: Kernel, host: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the node's name: as the agent's pod was told, or as the kubelet of this machine makes it."""
    node = next((environment[name] for name in _NODE_VARIABLES if environment.get(name)), None)
    if "KUBERNETES_SERVICE_HOST" in environment:
        return {"node": node} if node else {}
    flags = kernel.text(f"{_KUBELET}/kubeadm-flags.env")
    if flags is None and not kernel.names(_KUBELET):
        return None
    override = re.search(r"--hostname-override[= ]\"?([^\s\"]+)", flags or "")
    return {"node": node or (override[1] if override else host.lower())}
