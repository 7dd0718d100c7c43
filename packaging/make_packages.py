"""Builds tracker-agent and tracker-server as .deb for Debian 12 and 13 and as .rpm for Red Hat 9 and kin.

    python packaging/make_packages.py --release bookworm --version 0.1.0

Each package holds an environment at its final place, /opt/<package>, made inside a bare root of its release
by that release's own Python from pinned wheels; the .rpm takes the one of bookworm: both have python3.11.
nfpm puts it into packages together with settings, units, manual pages and completions. The same checkout
gives the same bytes. As root, since roots are unpacked and entered.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import wheels
from environment import make_environment
from package import PACKAGES, Package
from release_root import RELEASES, Release, ReleaseRoot, bare_root
from source_date import source_date_epoch

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "dist" / "packages"
#: The release whose environments the .rpm takes, and the name of the systems it is for.
RPM_FROM, RPM_FOR = "bookworm", "el9"


def main() -> None:
    """Build what the command line says."""
    parser = argparse.ArgumentParser(description="Build the .deb and .rpm packages into dist/packages.")
    parser.add_argument("--release", action="append", choices=sorted(RELEASES), help="default: all")
    parser.add_argument(
        "--version", action="append", help="default: the version of the agent; repeat for several"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit(
            "packages: building needs root, to unpack and enter the roots of the releases: sudo make packages"
        )
    releases = [RELEASES[name] for name in arguments.release or RELEASES]
    versions = arguments.version or [project_version()]
    for version in versions:
        if not re.fullmatch(r"[0-9][0-9A-Za-z.+~]*", version):
            sys.exit(
                f"packages: {version!r} is no version: it begins with a digit and has 0-9 a-z A-Z . + ~ only"
            )
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"packages: {time.monotonic() - began:5.1f} s  {text}", flush=True)

    os.umask(0o022)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tracker-packages-") as scratch:
        say("wheels of this checkout")
        ours = Path(scratch, "ours")
        for part in ("shim", "agent", "server"):
            wheels.build(part, ours, "wheel")
        for release in releases:
            bare_root(release)
        builds = [
            Build(release, package, versions, Path(scratch, f"{release.name}-{package.name}"), ours, say)
            for release in releases
            for package in reversed(PACKAGES)  # the server takes longer
        ]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(Build.run, builds))


class Build:
    """Makes the packages of one release from one environment."""

    def __init__(
        self,
        release: Release,
        package: Package,
        versions: Sequence[str],
        scratch: Path,
        ours: Path,
        say: Callable[[str], None],
    ) -> None:
        self._release = release
        self._package = package
        self._versions = versions
        self._scratch = scratch
        self._ours = ours
        self._say = say
        self._epoch = source_date_epoch()

    def run(self) -> None:
        """Build all versions and kinds."""
        self._scratch.mkdir()
        package, release = self._package, self._release
        self._say(f"{release.name}: {package.name}: environment")
        root = ReleaseRoot(release, self._scratch / "root")
        universal = (ROOT / "requirements" / package.requirements).read_text()
        make_environment(root, package, wheels.requirements_for(universal, release), self._ours, self._epoch)
        self._say(f"{release.name}: {package.name}: packages")
        for version in self._versions:
            self._pack(root, "deb", version, f"1~{release.name}")
            if release.name == RPM_FROM:
                self._pack(root, "rpm", version, f"1.{RPM_FOR}")
        shutil.rmtree(root.directory)

    def _pack(self, root: ReleaseRoot, kind: str, version: str, revision: str) -> None:
        package = self._package
        scratch = self._scratch / f"{version}-{kind}"
        described = package.described(kind, version, revision, root, scratch, self._epoch)
        listed = scratch / "nfpm.json"
        listed.write_text(json.dumps(described, indent=1))
        target = OUTPUT / package.file_name(kind, version, revision)
        fresh = scratch / f"made.{kind}"
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("nfpm"), "package", "--packager", kind),
                *("--config", listed, "--target", fresh),
            ],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(self._epoch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"packages: nfpm could not make {target.name}:\n{done.stdout}")
        # By way of the target's directory: whoever looks there finds whole packages only.
        near = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(fresh, near)
        near.rename(target)
        self._say(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1e6:.1f} MB")


def project_version() -> str:
    """Return the version that all distributions of this checkout have."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "agent" / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


if __name__ == "__main__":
    main()
