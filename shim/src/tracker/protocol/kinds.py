"""Record kinds and the limits of the format (docs/record-format.md).

Kinds not listed here are legal: readers pass them on raw.
"""

FORMAT_VERSION = 1

HEADER = 0
METRICS = 1
VALUE = 2
CONSOLE = 3
CONFIG = 4
SUMMARY = 5
RUN = 6
FILE = 7
ALERT = 8
EXIT = 9
SAMPLE = 10
HOST = 11
OBSERVED = 12
LOST = 13

KIND_MAX = 0xFFFF
LINE_BYTES_MAX = 16 * 1024 * 1024
SEGMENT_BYTES = 64 * 1024 * 1024
SEGMENT_NUMBER_MAX = 999999
INT_MIN = -(2**63)
INT_MAX = 2**63 - 1

NAMES = {
    HEADER: "HEADER",
    METRICS: "METRICS",
    VALUE: "VALUE",
    CONSOLE: "CONSOLE",
    CONFIG: "CONFIG",
    SUMMARY: "SUMMARY",
    RUN: "RUN",
    FILE: "FILE",
    ALERT: "ALERT",
    EXIT: "EXIT",
    SAMPLE: "SAMPLE",
    HOST: "HOST",
    OBSERVED: "OBSERVED",
    LOST: "LOST",
}
