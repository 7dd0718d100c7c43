"""The request to stop, where a training finds it: the file `stop` in its run directory.

The directory belongs to the user, so nothing in it is trusted: it is reached as everything is that is read,
and the file appears whole, under its name, in place of whatever had that name.
"""

from __future__ import annotations

import json
import os
import secrets

from tracker.protocol.layout import STOP_FILE

from .disk import Disk
from .opening import Place, Refused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_stop(disk: Disk, place: Place, request: int, by: str, asked: int) -> None:
    """Ask the writers of a run directory to stop. Raise Refused or OSError."""
    content = json.dumps({"request": request, "by": by, "asked": asked}).encode()
    temporary = f".{STOP_FILE}.{secrets.token_hex(8)}"
    with disk.user_directory(place.root, place.user, place.uid) as user:
        directory = disk.open_beneath(user, place.name, _DIRECTORY)
        try:
            owner = os.fstat(directory).st_uid
            if owner != place.uid:
                raise Refused(f"the run directory belongs to uid {owner}, not to uid {place.uid}")
            fd = os.open(temporary, _CREATE, 0o600, dir_fd=directory)
            try:
                try:
                    os.write(fd, content)
                    # For the user, whom the directory keeps apart from others; a default ACL would not.
                    os.fchmod(fd, 0o644)
                finally:
                    os.close(fd)
                os.rename(temporary, STOP_FILE, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(temporary, dir_fd=directory)
                raise
        finally:
            os.close(directory)
