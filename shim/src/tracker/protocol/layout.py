"""Names of the files in a run directory.

<spool>/<uid>[-random]/<run id>/<stream hex>.live          lock file of a live writer
<spool>/<uid>[-random]/<run id>/<stream hex>.000000.mpl    segments
<spool>/agent.json                                         what the agent tells shims
<spool>/<uid>[-random]/credentials                         the user's API keys by server
"""

from .patterns import compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple


AGENT_FILE = "agent.json"
CREDENTIALS_FILE = "credentials"
STOP_FILE = "stop"
#: Where a root-installed agent keeps the spool of all users.
SYSTEM_SPOOL = "/var/spool/tracker"

_SEGMENT = r"([0-9a-f]{32})\.([0-9]{6})\.mpl\Z"
_LIVE = r"([0-9a-f]{32})\.live\Z"
_USER = r"([0-9]{1,10})(?:-[0-9a-z]{1,32})?\Z"


def segment_name(stream: bytes, segment: int) -> str:
    """Return the file name of a segment."""
    return "%s.%06d.mpl" % (stream.hex(), segment)


def live_name(stream: bytes) -> str:
    """Return the name of the lock file that a stream's writer holds."""
    return stream.hex() + ".live"


def parse_segment_name(name: str) -> "Optional[Tuple[bytes, int]]":
    """Return (stream id, segment number), or None for any other file."""
    match = compiled(_SEGMENT).match(name)
    return (bytes.fromhex(match.group(1)), int(match.group(2))) if match else None


def parse_live_name(name: str) -> "Optional[bytes]":
    """Return the stream id, or None for any other file."""
    match = compiled(_LIVE).match(name)
    return bytes.fromhex(match.group(1)) if match else None


def parse_user_directory(name: str) -> "Optional[int]":
    """Return the uid a directory of the spool is named after, or None for any other name."""
    match = compiled(_USER).match(name)
    return int(match.group(1)) if match else None
