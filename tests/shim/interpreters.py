"""Interpreters to run the portable tests under, each with msgpack and nothing else.

msgpack is installed once per interpreter, from hash-pinned requirements, into
${XDG_CACHE_HOME:-~/.cache}/tracker-tests; by our own pip, since that of 3.6 knows no current wheels.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.shim import debian_python
from tests.support import require

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VERSIONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
#: The last msgpack with wheels for these, or the first.
RELEASES = {"3.6": "1.0.5", "3.7": "1.0.5", "3.8": "1.0.5", "3.14": "1.2.4", "3.15": "1.2.4"}
ABIS = {"3.6": "cp36m", "3.7": "cp37m"}
CURRENT = "1.1.2"


def run_portable_tests(version: str, directory: Path) -> str:
    """Run a directory of unittest files under that Python; return its output, fail the test if it fails."""
    interpreter = (
        debian_python.ensure_python(version) if version in debian_python.VERSIONS else require.python(version)
    )
    packages = ensure_msgpack(interpreter, version)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRACKER_"))
    }
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shim" / "src"), str(packages)])
    result = subprocess.run(
        # No site packages but msgpack's: what the shim needs beyond it would be missed here.
        [interpreter, "-W", "error", "-s", "-m", "unittest", "discover", "-s", str(directory)],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert result.returncode == 0, f"Python {version}:\n{result.stdout}{result.stderr}"
    return result.stderr


def ensure_msgpack(interpreter: str, version: str) -> Path:
    """Return a directory with msgpack for that interpreter."""
    release = RELEASES.get(version, CURRENT)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracker-tests"
    target = cache / f"msgpack-{release}-python{version}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    requirements = HERE / f"requirements-msgpack-{release}.txt"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "-r", str(requirements), "--target", str(fresh)]
    command += [
        "--implementation",
        "cp",
        "--python-version",
        version,
        "--abi",
        ABIS.get(version, "cp" + version.replace(".", "")),
    ]
    command += ["--platform", f"manylinux2014_{platform.machine()}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if result.returncode != 0:
        shutil.rmtree(fresh)
        require.absent(f"msgpack for python{version}", result.stderr.strip()[-300:], " ".join(command[:3]))
    try:
        fresh.rename(target)
    except OSError:  # another test run was faster
        shutil.rmtree(fresh)
    return target
