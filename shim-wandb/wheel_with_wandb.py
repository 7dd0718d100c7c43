"""Build backend of tracker-wandb: hatchling's wheels, and in them what makes `wandb` count as installed.

Lightning and accelerate ask the installed distributions, not the modules, whether there is a wandb and
which version. So the wheel installs a second, bare record of a distribution named wandb beside its own:

- Its version is that of the client whose calls this module follows, marked as ours: 0.28.3+tracker.0.1.0.
- It has no RECORD. So pip and uv refuse to put another wandb over it ("no RECORD file was found for wandb")
  and name INSTALLER, which is tracker-wandb, as the one to uninstall.
- It lies in the wheel's data directory, since installers refuse wheels with two .dist-info directories at
  the top. Uninstalling tracker-wandb removes it as it does all files of the wheel.
"""

import base64
import hashlib
import os
import re
import zipfile

from hatchling import build
from hatchling.build import (  # noqa: F401 - what installers call (PEP 517, PEP 660)
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

#: Where the constant stands that wandb.__version__ begins with.
VERSION_FILE = os.path.join("src", "wandb", "_version.py")

METADATA = """\
Metadata-Version: 2.1
Name: wandb
Version: %s
Summary: Stands for the module wandb of tracker-wandb; uninstall tracker-wandb before installing another wandb
License: Apache-2.0
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel; return its name."""
    return _with_wandb(
        wheel_directory, build.build_wheel(wheel_directory, config_settings, metadata_directory)
    )


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel that points to the sources; return its name."""
    return _with_wandb(
        wheel_directory, build.build_editable(wheel_directory, config_settings, metadata_directory)
    )


def _with_wandb(directory, name):
    """Add the second distribution to a wheel; return the wheel's name."""
    distribution, version = name.split("-")[:2]
    speaks_for = _client_version() + "+tracker." + version
    place = "%s-%s.data/purelib/wandb-%s.dist-info/" % (distribution, version, speaks_for)
    added = {
        place + "METADATA": METADATA % speaks_for,
        place + "INSTALLER": "tracker-wandb\n",
        place + "top_level.txt": "wandb\n",
    }
    path = os.path.join(directory, name)
    with zipfile.ZipFile(path) as wheel:
        entries = [(entry, wheel.read(entry)) for entry in wheel.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry, data in entries:
            if entry.filename.endswith(".dist-info/RECORD"):
                record, record_entry = data.decode(), entry
                continue
            wheel.writestr(entry, data)
        like = record_entry.date_time
        for file, text in added.items():
            info = zipfile.ZipInfo(file, like)
            info.external_attr = 0o644 << 16
            wheel.writestr(info, text)
            record += "%s,sha256=%s,%d\n" % (file, _digest(text.encode()), len(text.encode()))
        wheel.writestr(record_entry, record)
    return name


def _client_version():
    with open(VERSION_FILE) as file:
        found = re.search(r'^CLIENT_VERSION = "([0-9.]+)"$', file.read(), re.MULTILINE)
    assert found is not None, VERSION_FILE
    return found.group(1)


def _digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
