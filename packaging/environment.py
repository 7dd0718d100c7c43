"""The environment in a package: a venv at /opt/<package>, made in a release's root, that starts fast where
nobody may write.

Libraries take most of the time and seldom change, so the environment with them alone is kept in
${XDG_CACHE_HOME:-~/.cache}/tracker and made anew when a requirement, or this file, changes.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import wheels
from package import Package
from release_root import ReleaseRoot, bare_root, cache_directory

#: Programs kept in bin/ beside the package's own: what the environment needs, and `tracker login`.
_KEPT = {"python", "python3", "tracker"}
_BUILD = "/build"
_QUIET = ("--quiet", "--no-compile", "--no-deps", "--no-warn-script-location")


def make_environment(root: ReleaseRoot, package: Package, requirements: str, ours: Path, epoch: int) -> None:
    """Make the environment of a package in a root, from a directory of our wheels and pinned requirements."""
    work, home = root.path(_BUILD), root.path(package.home)
    wheels.bring_pip(work)
    layer = _layer_file(root, package, requirements)
    if layer.is_file():
        subprocess.run(["tar", "-xf", layer, "-C", root.directory], check=True)
    else:
        _install_libraries(root, package, requirements)
        _keep(layer, root, package)
    wheels.copy_wheels(ours, work / "ours")
    _pip(root, package, "install", *_QUIET, "--find-links", f"{_BUILD}/ours", *package.distributions)
    _pip(root, package, "check")
    _tidy(home, package)
    site_packages = f"{package.home}/lib/python{root.release.python}/site-packages"
    _compile(root, package, *(f"{site_packages}/{each}" for each in package.modules))
    _settle(home, epoch)
    # A start as it will be, by somebody who may write nowhere, and all that the service imports.
    nobody = ("/usr/sbin/chroot", "--userspec=65534:65534", "/")
    root.run(*nobody, f"{package.home}/bin/{package.name}", "--version")
    root.run(*nobody, f"{package.home}/bin/python", "-I", "-c", f"import {package.modules[-1]}.app")


def _layer_file(root: ReleaseRoot, package: Package, requirements: str) -> Path:
    made_from = [bare_root(root.release).name, requirements, Path(__file__).read_text()]
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()
    return cache_directory() / f"environment-{package.name}-{root.release.name}-{key[:16]}.tar"


def _install_libraries(root: ReleaseRoot, package: Package, requirements: str) -> None:
    work, home = root.path(_BUILD), root.path(package.home)
    wheels.copy_wheels(wheels.download(requirements, root.release), work / "wheels")
    (work / "requirements.txt").write_text(requirements)
    root.run(f"/usr/bin/python{root.release.python}", "-m", "venv", "--without-pip", package.home)
    listed = ("--require-hashes", "--requirement", f"{_BUILD}/requirements.txt")
    _pip(root, package, "install", *_QUIET, "--find-links", f"{_BUILD}/wheels", *listed)
    # Half of the agent's size would be what a debugger wants to know of its libraries.
    libraries = [path for path in home.rglob("*.so") if b".debug_info" in path.read_bytes()]
    subprocess.run(["strip", "--strip-debug", *libraries], check=True)
    _compile(root, package, f"{package.home}/lib")


def _keep(layer: Path, root: ReleaseRoot, package: Package) -> None:
    fresh = layer.with_name(f"{layer.name}.{os.getpid()}")
    subprocess.run(["tar", "-cf", fresh, "-C", root.directory, package.home.lstrip("/")], check=True)
    for old in layer.parent.glob(f"environment-{package.name}-{root.release.name}-*.tar"):
        old.unlink(missing_ok=True)
    fresh.rename(layer)


def _pip(root: ReleaseRoot, package: Package, command: str, *arguments: str) -> None:
    """Run pip in the environment, without any network."""
    root.run(
        *(f"{package.home}/bin/python", "-m", "pip", "--no-input", command, *arguments),
        environment={"PYTHONPATH": _BUILD, "PIP_NO_INDEX": "1", "PIP_ROOT_USER_ACTION": "ignore"},
    )


def _compile(root: ReleaseRoot, package: Package, *places: str) -> None:
    # Not by the time of the source, which image builders and ostree change: each start would compile anew.
    root.run(
        *(f"{package.home}/bin/python", "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1)),
        *("--invalidation-mode", "unchecked-hash", *places),
    )


def _tidy(home: Path, package: Package) -> None:
    """Remove what nobody starts; let the program be started in isolation from its user's Python settings."""
    program = home / "bin" / package.name
    for path in (home / "bin").iterdir():
        if path != program and path.name not in _KEPT and not path.name.startswith("python3."):
            path.unlink()
    for unused in ("include", "share"):
        shutil.rmtree(home / unused, ignore_errors=True)
    (home / ".gitignore").unlink(missing_ok=True)  # Python 3.13 makes one
    shebang, _, rest = program.read_text().partition("\n")
    assert shebang.startswith(f"#!{package.home}/bin/python"), shebang
    program.write_text(f"#!{package.home}/bin/python -I\n{rest}")


def _settle(home: Path, epoch: int) -> None:
    """Give all files the modes and the one time that they have once installed."""
    for directory, names, files in os.walk(home):
        for name in names + files:
            path = Path(directory, name)
            if not path.is_symlink():
                started = path.is_dir() or (path.stat().st_mode & 0o100 and ".so" not in path.suffixes)
                path.chmod(0o755 if started else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(home, (epoch, epoch))
