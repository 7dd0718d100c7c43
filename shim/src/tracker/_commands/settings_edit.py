"""Changes a settings file: the lines of other settings, and comments, stay as they are."""

import errno
import os
from typing import Dict, List, Optional

from .._names import random_id
from .._settings_file import DIRECTORY, FILE_BYTES_MAX, NAME, find_nearest, parse_line


def file_to_change(directory: str) -> str:
    """Return the path of the settings that count in a directory: the nearest, else one in it.

    Not the nearest one where that is somebody else's: one's own begins here then.
    """
    nearest = find_nearest(directory)
    if nearest is not None and os.access(nearest, os.W_OK):
        return nearest
    return os.path.join(os.path.abspath(directory), DIRECTORY, NAME)


def change_settings(path: str, changes: Dict[str, Optional[str]]) -> None:
    """Set keys of a settings file, remove those that are None; make the file where there is none.

    Raise OSError. A reader sees the old file or the new one.
    """
    lines = changed(_read(path), changes)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # A linked file is changed where it lies.
    path = os.path.realpath(path)
    data = "".join(line + "\n" for line in lines).encode("utf-8")
    if len(data) > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, "settings have at most %d bytes" % FILE_BYTES_MAX, path)
    temporary = "%s.%s" % (path, random_id())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def changed(lines: List[str], changes: Dict[str, Optional[str]]) -> List[str]:
    """Return the lines of a file with some keys set or removed."""
    kept: List[str] = []
    missing = {key: value for key, value in changes.items() if value is not None}
    for line in lines:
        item, _ = parse_line(line)
        if item is None or item[0] not in changes:
            kept.append(line)
            continue
        value = missing.pop(item[0], None)
        if value is not None:
            kept.append("%s = %s" % (item[0], value))
    return kept + ["%s = %s" % item for item in missing.items()]


def _read(path: str) -> List[str]:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return []
        raise
    if len(data) > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, "this is no settings file", path)
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise OSError(errno.EINVAL, "this is no settings file: no UTF-8 text", path) from error
