"""The two packages: their names, dependencies, scripts, and what lies where."""

import platform
import time
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from typing import Any

from contents import Contents, filled_in
from release_root import ReleaseRoot

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "packaging"
MAINTAINER = "Tracker maintainers <maintainers@tracker.invalid>"
_ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64")}
#: What the libraries in the wheels are linked with, besides what Python itself brings; a test looks.
_LIBRARIES = {
    "deb": ["libc6 (>= 2.28)", "libgcc-s1", "libstdc++6"],
    "rpm": ["glibc >= 2.28", "libgcc", "libstdc++"],
}


@dataclass(frozen=True)
class Package:
    """One of the packages."""

    name: str
    summary: str
    description: str
    distributions: tuple[str, ...]  #: our own wheels in it
    modules: tuple[str, ...]  #: what they bring; the last is the program
    requirements: str  #: below requirements/
    settings: str  #: below deploy/ and /etc/tracker/
    group: str  #: who may read the settings
    manuals: tuple[str, ...]  #: beginnings of their names

    @property
    def home(self) -> str:
        """Where the environment lies."""
        return f"/opt/{self.name}"

    def file_name(self, kind: str, version: str, revision: str) -> str:
        """Return the name of the package's file."""
        deb, rpm = _ARCHITECTURES[platform.machine()]
        if kind == "deb":
            return f"{self.name}_{version}-{revision}_{deb}.deb"
        return f"{self.name}-{version}-{revision}.{rpm}.rpm"

    def described(
        self,
        kind: str,
        version: str,
        revision: str,
        root: ReleaseRoot,
        scratch: Path,
        epoch: int,
    ) -> dict[str, Any]:
        """Return nfpm's description of the package as .deb or .rpm."""
        contents = Contents(scratch, epoch)
        self._add_program(contents, root)
        self._add_service(contents)
        self._add_documents(contents, kind)
        if kind == "deb":
            self._add_for_debian(contents, root, f"{version}-{revision}", epoch)
        else:
            self._add_for_red_hat(contents)
        scripts = {
            path.name: str(contents.written(filled_in(path, self._names())))
            for path in sorted((HERE / "scripts" / kind).iterdir())
        }
        common = {
            "name": self.name,
            "arch": _ARCHITECTURES[platform.machine()][0],
            "platform": "linux",
            "version": version,
            "version_schema": "none",
            "release": revision,
            "maintainer": MAINTAINER,
            "description": f"{self.summary}\n{self.description}",
            "license": "Apache-2.0",
            "mtime": contents.time,
            "depends": [*self._depends(kind, root), *_LIBRARIES[kind]],
            "recommends": ["ca-certificates"],
            "contents": contents.entries,
        }
        if kind == "deb":
            named = {"postinst": "postinstall", "prerm": "preremove", "postrm": "postremove"}
            return common | {
                "section": "utils",
                "priority": "optional",
                "scripts": {named[name]: path for name, path in scripts.items()},
                "deb": {"compression": "gzip"},
            }
        named = {"pre": "preinstall", "post": "postinstall", "preun": "preremove", "postun": "postremove"}
        return common | {
            "scripts": {named[name]: path for name, path in scripts.items() if name in named},
            "rpm": {
                "summary": self.summary,
                "compression": "zstd",
                "scripts": {"posttrans": scripts["posttrans"]},
            },
        }

    def _names(self) -> dict[str, str]:
        """Return what stands for the @NAMES@ in the scripts."""
        return {
            "PACKAGE": self.name,
            "SETTINGS": f"/etc/tracker/{self.settings}",
            "GROUP": self.group,
            "SYSUSERS": (HERE / "sysusers.d" / f"{self.name}.conf").read_text().strip(),
        }

    def _depends(self, kind: str, root: ReleaseRoot) -> list[str]:
        release = root.release
        if kind == "rpm":
            return [f"/usr/bin/python{release.python}", "systemd >= 250"]
        return [
            f"python3 (>= {release.python}~)",
            f"python3 (<< {release.next_python})",
            "python3-systemd",
            "systemd (>= 250)",
        ]

    def _add_program(self, contents: Contents, root: ReleaseRoot) -> None:
        contents.tree(self.home, root.path(self.home))
        contents.link(f"/usr/bin/{self.name}", f"{self.home}/bin/{self.name}")

    def _add_service(self, contents: Contents) -> None:
        contents.file(
            f"/usr/lib/systemd/system/{self.name}.service", HERE / "systemd" / f"{self.name}.service"
        )
        for kind in ("sysusers.d", "tmpfiles.d"):
            source = HERE / kind / f"{self.name}.conf"
            if source.exists():
                contents.file(f"/usr/lib/{kind}/{source.name}", source)
        contents.directory("/etc/tracker")

    def _add_documents(self, contents: Contents, kind: str) -> None:
        for page in sorted((HERE / "man").iterdir()):
            if not page.name.startswith(self.manuals):
                continue
            contents.compressed(f"/usr/share/man/man{page.suffix[1:]}/{page.name}", page)
        zsh = "vendor-completions" if kind == "deb" else "site-functions"
        places = {
            "bash": f"/usr/share/bash-completion/completions/{self.name}",
            "zsh": f"/usr/share/zsh/{zsh}/_{self.name}",
            "fish": f"/usr/share/fish/vendor_completions.d/{self.name}.fish",
        }
        for shell, place in places.items():
            contents.file(place, HERE / "completion" / f"{self.name}.{shell}")
        examples = f"/usr/share/doc/{self.name}/examples"
        contents.file(f"{examples}/{self.settings}", ROOT / "deploy" / self.settings)
        if self.name == "tracker-agent":
            for source in sorted((HERE / "systemd" / "drop-ins").iterdir()):
                contents.file(f"{examples}/systemd/drop-ins/{source.name}", source)
            # For an agent of one's own; it comes with the wheel, too.
            contents.file(
                f"{examples}/systemd/user/{self.name}.service",
                ROOT / "agent/systemd" / f"{self.name}.service",
            )

    def _add_for_debian(self, contents: Contents, root: ReleaseRoot, version: str, epoch: int) -> None:
        site_packages = f"{self.home}/lib/python{root.release.python}/site-packages"
        contents.link(f"{site_packages}/systemd", "/usr/lib/python3/dist-packages/systemd")
        contents.file(f"/etc/tracker/{self.settings}", ROOT / "deploy" / self.settings, 0o640, "config")
        contents.file(f"/usr/share/lintian/overrides/{self.name}", HERE / "lintian" / self.name)
        documents = f"/usr/share/doc/{self.name}"
        contents.file(f"{documents}/copyright", self._copyright(root.path(site_packages), epoch))
        contents.compressed(f"{documents}/changelog", ROOT / "CHANGELOG.md")
        when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
        entry = (
            f"{self.name} ({version}) {root.release.name}; urgency=medium\n\n"
            f"  * New version; what it brings: {documents}/changelog.gz\n\n"
            f" -- {MAINTAINER}  {when}\n"
        )
        contents.compressed(f"{documents}/changelog.Debian", entry)

    def _add_for_red_hat(self, contents: Contents) -> None:
        settings = ROOT / "deploy" / self.settings
        contents.file(f"/etc/tracker/{self.settings}", settings, 0o640, "config|noreplace", self.group)
        contents.file(f"/usr/share/licenses/{self.name}/LICENSE", ROOT / "LICENSE", kind="license")

    def _copyright(self, site_packages: Path, epoch: int) -> str:
        """Return Debian's statement of licences: ours, and those of the libraries in the environment."""
        form = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
        year = time.gmtime(epoch).tm_year
        stanzas = [
            f"Format: {form}\nUpstream-Name: {self.name}\n",
            f"Files: *\nCopyright: {year} the authors of Tracker\nLicense: Apache-2.0\n",
        ]
        for metadata in sorted(site_packages.glob("*.dist-info/METADATA")):
            about = message_from_string(metadata.read_text())
            name, place = about["Name"], metadata.parent.name
            if name.startswith("tracker-"):
                continue
            licence = (about["License-Expression"] or about["License"] or "see there").splitlines()[0]
            files = f"{self.home}/lib/python*/site-packages/{place.split('-')[0]}*"
            stanzas.append(
                f"Files: {files}\nCopyright: the authors of {name} {about['Version']}\n"
                f"License: {name}\n {licence.strip()}\n .\n"
                f" The text: {self.home}/lib/python*/site-packages/{place}/\n"
            )
        stanzas.append(
            "License: Apache-2.0\n On Debian systems the text of the Apache License, version 2.0, is in\n"
            " /usr/share/common-licenses/Apache-2.0.\n"
        )
        return "\n".join(stanzas)


PACKAGES = (
    Package(
        name="tracker-agent",
        summary="ships training runs to a Tracker server and measures the machine",
        description=(
            "The host's part of Tracker, an experiment tracker. It finds what training\n"
            "processes write into /var/spool/tracker, hands it to a server exactly once,\n"
            "notices when a training ends or dies, and measures the machine and its GPUs."
        ),
        distributions=("tracker-shim", "tracker-agent"),
        modules=("tracker", "tracker_agent"),
        requirements="agent.txt",
        settings="agent.toml",
        group="tracker",
        manuals=("tracker-agent.", "tracker."),
    ),
    Package(
        name="tracker-server",
        summary="stores training runs and shows them live in a browser",
        description=(
            "The server of Tracker, an experiment tracker: takes what agents ship exactly\n"
            "once, keeps it in an embedded store below /var/lib/tracker-server, and serves\n"
            "charts, logs and files of runs over HTTP."
        ),
        distributions=("tracker-shim", "tracker-server"),
        modules=("tracker", "tracker_server"),
        requirements="server.txt",
        settings="server.toml",
        group="tracker-server",
        manuals=("tracker-server.",),
    ),
)
