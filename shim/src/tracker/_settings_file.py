"""Settings files: what `tracker init` and `tracker off` keep for the scripts of a user or of a directory.

Two are read: the user's, $XDG_CONFIG_HOME/tracker/settings, and the nearest .tracker/settings from the
working directory upwards, whose values stand before the user's. A line is `key = value`; a key is the name of
a TRACKER_ variable without that prefix, in lower case. No training fails for such a file: what cannot be used
is left out, and said.
"""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional, Tuple


DIRECTORY = ".tracker"
NAME = "settings"

#: What may stand in a file.
KEYS = frozenset(
    [
        "account",
        "allow_stop",
        "base_url",
        "console",
        "dir",
        "disable_code",
        "disable_git",
        "disabled",
        "entity",
        "group",
        "ignore_globs",
        "job_type",
        "mode",
        "notes",
        "project",
        "silent",
        "tags",
    ]
)
#: What counts in a file of somebody else, such as /tmp/.tracker/settings: nothing that leads records
#: elsewhere or switches recording off.
KEYS_OF_OTHERS = frozenset(["entity", "group", "job_type", "notes", "project", "tags"])
#: Names that nobody gives to anything but a secret.
_SECRETS = ("key", "token", "password", "secret", "credential")

FILE_BYTES_MAX = 64 * 1024
#: So many directories are looked into, from the working directory upwards.
LEVELS_MAX = 64
#: So many faults of one file are told.
FAULTS_MAX = 5

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)


def read_settings(
    environ: "Mapping[str, str]", directory: str, problems: "Optional[List[str]]" = None
) -> "Dict[str, str]":
    """Return the settings for scripts that run in a directory, by key; nothing is raised.

    problems: takes what the user should hear of, one sentence each.
    """
    heard: List[str] = []
    found: Dict[str, str] = {}
    try:
        found.update(read_file(user_file(environ), heard) or {})
        nearest = find_nearest(directory)
        if nearest is not None:
            found.update(read_file(nearest, heard) or {})
    except (OSError, ValueError) as error:  # a directory that is gone, a name with a NUL
        heard.append("settings files cannot be read: %s" % error)
    if problems is not None:
        problems.extend(heard)
    return found


def user_file(environ: "Mapping[str, str]") -> str:
    """Return the path of the user's own file, whether there is one or not."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "tracker", NAME)


def find_nearest(directory: str) -> "Optional[str]":
    """Return the path of the nearest .tracker/settings from a directory upwards, or None."""
    at = os.path.abspath(directory)
    for _ in range(LEVELS_MAX):
        path = os.path.join(at, DIRECTORY, NAME)
        try:
            os.stat(path)
            return path
        except OSError:
            pass
        above = os.path.dirname(at)
        if above == at:
            return None
        at = above
    return None


def read_file(path: str, problems: "List[str]") -> "Optional[Dict[str, str]]":
    """Return what a file says, None where there is no file. What is wrong with it goes to problems."""
    try:
        data, owner = _read(path)
    except OSError as error:
        if error.errno not in _ABSENT:
            problems.append("%s: %s; ignored" % (_shown(path), error.strerror or error))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append("%s: this is no UTF-8 text; ignored" % _shown(path))
        return None
    mine = owner is None or owner == 0 or owner == _user_id()
    found: Dict[str, str] = {}
    faults: List[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        item, fault = parse_line(line)
        if item is not None and (mine or item[0] in KEYS_OF_OTHERS):
            found[item[0]] = item[1]
        elif item is not None:
            fault = "%s does not count: the file belongs to uid %s, not to you" % (item[0], owner)
        if fault:
            faults.append("%s:%d: %s" % (_shown(path), number, fault))
    problems.extend(faults[:FAULTS_MAX])
    if len(faults) > FAULTS_MAX:
        problems.append("%s: %d more lines cannot be used" % (_shown(path), len(faults) - FAULTS_MAX))
    return found


def parse_line(line: str) -> "Tuple[Optional[Tuple[str, str]], str]":
    """Return (key and value, or None; what is wrong). Empty lines and comments are neither."""
    line = line.strip()
    if not line or line[0] in "#;":
        return None, ""
    key, separator, value = line.partition("=")
    key, value = key.strip(), value.strip()
    if not separator or not key:
        return None, "this is not `key = value`; ignored"
    if key not in KEYS:
        if any(word in key.lower() for word in _SECRETS):
            return None, "secrets do not belong into settings: delete this line, and use `tracker login`"
        return None, "unknown setting %r; ignored" % key[:64]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if not value.isprintable():
        return None, "the value of %s holds control characters; ignored" % key
    return (key, value), ""


def _read(path: str) -> "Tuple[bytes, Optional[int]]":
    """Return what is in a file, and whose it is. Raise OSError, also for what might hold us up."""
    # Not O_NOFOLLOW: people keep such files elsewhere and link them. Whose file it is, tells the target.
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "this is no regular file", path)
        if status.st_size > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, "this has more than %d bytes" % FILE_BYTES_MAX, path)
        return os.read(fd, FILE_BYTES_MAX), status.st_uid if hasattr(os, "geteuid") else None
    finally:
        os.close(fd)


def _user_id() -> int:
    geteuid = getattr(os, "geteuid", None)
    return geteuid() if geteuid is not None else 0  # Windows has no such thing


def _shown(path: str) -> str:
    # Printed on the user's terminal: a directory's name must not command it.
    return path if path.isprintable() else ascii(path)
