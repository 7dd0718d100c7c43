"""The next version of a package: the same files under a higher version, as dpkg and as Python see it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support import require

NEXT = "9.9.9"


def make_next_version(package: Path, directory: Path) -> Path:
    """Return a .deb in `directory` that dpkg takes for an upgrade of `package`."""
    require.root()
    tool = require.program("dpkg-deb", "dpkg")
    name, version, rest = package.name.split("_", 2)
    unpacked = directory / name
    subprocess.run([tool, "--raw-extract", package, unpacked], check=True)
    control = unpacked / "DEBIAN/control"
    _, _, revision = version.partition("-")
    set_version(control, f"{NEXT}-{revision}")
    (metadata,) = unpacked.glob(
        f"opt/*/lib/python3*/site-packages/{name.replace('-', '_')}-*.dist-info/METADATA"
    )
    set_version(metadata, NEXT)
    made = directory / f"{name}_{NEXT}-{revision}_{rest}"
    subprocess.run([tool, "-Zgzip", "-z1", "--build", unpacked, made], check=True, stdout=subprocess.DEVNULL)
    return made


def set_version(file: Path, version: str) -> None:
    """Replace the version in a file of headers."""
    text, count = re.subn(
        r"^Version: .*$", f"Version: {version}", file.read_text(), count=1, flags=re.MULTILINE
    )
    assert count == 1, file
    file.write_text(text)
