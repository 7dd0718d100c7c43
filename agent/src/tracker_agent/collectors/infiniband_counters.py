"""The counters of InfiniBand, RoCE and EFA ports: which there are, where they are, when they are full.

Sources: InfiniBand Architecture Specification 16.1.3.5 (PortCounters) and the kernel's
drivers/infiniband/core/sysfs.c, which says how many bits each has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .kernel import Kernel


class Counter(NamedTuple):
    """One counter of a port: what stands behind the port's name in metrics, and the files that make it up."""

    what: str
    unit: str
    #: Below the port's directory; those that are there are added up.
    files: tuple[str, ...]
    meaning: str
    #: What a counter of the specification's width sticks at, by file; wider ones just pass by it.
    full: Mapping[str, int]
    factor: int = 1


def _port(what: str, meaning: str, **bits: int) -> Counter:
    full = {f"counters/{name}": 2**width - 1 for name, width in bits.items()}
    return Counter(what, "1/s", tuple(full), meaning, full)


def _hardware(what: str, meaning: str, *names: str) -> Counter:
    return Counter(what, "1/s", tuple(f"hw_counters/{name}" for name in names), meaning, {})


def _data(what: str, meaning: str, name: str, efa: str, factor: int) -> Counter:
    unit = "bytes/s" if "bytes" in what else "1/s"
    files = (f"counters/{name}", f"hw_counters/{efa}")
    return Counter(what, unit, files, meaning, {files[0]: 2**32 - 1}, factor)


#: A port counts data in words of four octets. EFA has no such counters, but bytes of its own.
WORD_BYTES = 4
TRAFFIC = (
    _data("received.bytes_per_s", "received by RDMA and IP over it", "port_rcv_data", "rx_bytes", WORD_BYTES),
    _data("sent.bytes_per_s", "sent by RDMA and IP over it", "port_xmit_data", "tx_bytes", WORD_BYTES),
    _data("received.packets_per_s", "received", "port_rcv_packets", "rx_pkts", 1),
    _data("sent.packets_per_s", "sent", "port_xmit_packets", "tx_pkts", 1),
)
FAULTS = (
    _port("symbol_errors_per_s", "symbols damaged on the cable", symbol_error=16),
    _port("link_recoveries_per_s", "times the link had to be trained anew", link_error_recovery=8),
    _port("link_downed_per_s", "times the link was lost", link_downed=8),
    _port(
        "received.errors_per_s",
        "packets damaged, or marked so by a switch",
        port_rcv_errors=16,
        port_rcv_remote_physical_errors=16,
        port_rcv_switch_relay_errors=16,
        port_rcv_constraint_errors=8,
    ),
    _port("sent.discards_per_s", "packets that could not be sent", port_xmit_discards=16),
    _port(
        "integrity_errors_per_s",
        "failures of the link's integrity, and buffer overruns",
        local_link_integrity_errors=4,
        excessive_buffer_overrun_errors=4,
    ),
    _port("vl15_drops_per_s", "management packets dropped", VL15_dropped=16),
    _port(
        "transmit_wait_per_s",
        "ticks of the card with data to send and no leave to: congestion",
        port_xmit_wait=32,
    ),
    _hardware("out_of_sequence_per_s", "packets that came in the wrong order", "out_of_sequence"),
    _hardware(
        "sequence_errors_per_s", "times the other side said that packets are missing", "packet_seq_err"
    ),
    _hardware("ack_timeouts_per_s", "acknowledgements that did not come", "local_ack_timeout_err"),
    _hardware("implied_nak_errors_per_s", "requests or answers lost on the way", "implied_nak_seq_err"),
    _hardware("adaptive_retransmits_per_s", "packets sent again early (RoCE)", "roce_adp_retrans"),
    _hardware("retransmits_per_s", "packets sent again (EFA)", "retrans_pkts"),
    _hardware("rnr_nak_retries_per_s", "times the other side was not ready", "rnr_nak_retry_err"),
    _hardware("cnp_sent_per_s", "congestion notices sent (RoCE)", "np_cnp_sent"),
    _hardware("cnp_handled_per_s", "congestion notices obeyed (RoCE)", "rp_cnp_handled"),
    _hardware(
        "ecn_marked_per_s", "packets that passed a congested switch (RoCE)", "np_ecn_marked_roce_packets"
    ),
    _hardware("icrc_errors_per_s", "packets damaged inside (RoCE)", "rx_icrc_encapsulated"),
    _hardware("received.drops_per_s", "packets dropped for want of a buffer", "out_of_buffer", "rx_drops"),
)


def choose_files(counters: Collection[Counter], there: Collection[str]) -> tuple[Counter, ...]:
    """Return the counters of which files are there, with those alone; traffic from the first of them."""
    found = []
    for counter in counters:
        files = tuple(file for file in counter.files if file in there)
        if files and counter in TRAFFIC:
            own = files[0] == counter.files[0]
            found.append(counter._replace(files=files[:1], factor=counter.factor if own else 1))
        elif files:
            found.append(counter._replace(files=files))
    return tuple(found)


def read_counters(
    kernel: Kernel, path: str, counters: Collection[Counter]
) -> tuple[dict[str, float], list[str]]:
    """Return what a port has counted, and which of its files are full: these count no more until a reset."""
    values: dict[str, float] = {}
    full = []
    for counter in counters:
        total = 0
        for file in counter.files:
            value = kernel.number(f"{path}/{file}")
            if value is None or value < 0:
                break
            if value == counter.full.get(file):
                full.append(f"{file} ({value})")
                break
            total += value * counter.factor
        else:
            values[counter.what] = float(total)
    return values, full
