"""Builds the stand-in for NVIDIA's library and plays scenarios on it."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.support import require

#: The scenario's words stand at the top of fake_nvml.c.
SOURCES = sorted(Path(__file__).parent.glob("fake_nvml*.c"))
LIBRARY = "libnvidia-ml.so.1"


class FakeNvml:
    """One library in a directory, and the scenario it plays. without: functions an old driver lacks."""

    def __init__(self, directory: Path, without: Collection[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._scenario = directory / "scenario"
        self.library_path = directory
        library = _built()
        for function in without:
            library = _lacking(library, function)
        # A new file, not new bytes in one that a process may have mapped.
        (directory / LIBRARY).unlink(missing_ok=True)
        (directory / LIBRARY).write_bytes(library)
        self.play()

    def play(self, **lines: float) -> None:
        """Replace the scenario. A double underscore in a name stands for the dot."""
        text = "".join(f"{name.replace('__', '.')} {value}\n" for name, value in lines.items())
        changed = self._scenario.with_suffix(".new")
        changed.write_text(text)
        changed.replace(self._scenario)

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which a process finds this library instead of the real one."""
        return {"LD_LIBRARY_PATH": str(self.library_path), "FAKE_NVML": str(self._scenario)}

    def openings(self) -> list[int]:
        """Return the pid of each opening of the driver so far, the same pid once for each."""
        return [pid for pid, _ in self._noted("opened")]

    def calls(self) -> list[str]:
        """Return the functions that were called while the scenario said `record 1`."""
        return [function for _, function in self._noted("calls")]

    def forget_calls(self) -> None:
        """Start the record of calls anew."""
        Path(f"{self._scenario}.calls").unlink(missing_ok=True)

    def _noted(self, suffix: str) -> list[tuple[int, str]]:
        try:
            lines = Path(f"{self._scenario}.{suffix}").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), what) for pid, what in (line.split() for line in lines)]


@functools.cache
def _built() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory, LIBRARY)
        subprocess.run(
            [
                *(require.program("gcc"), "-O1", "-Wall", "-Wextra", "-Werror"),
                *("-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{LIBRARY}"),
                *("-o", str(built), *map(str, SOURCES)),
            ],
            check=True,
        )
        return built.read_bytes()


def _lacking(library: bytes, function: str) -> bytes:
    """Return the library without a function: its name in the table of symbols no longer is that name."""
    name = b"\0" + function.encode() + b"\0"
    if name not in library:
        raise ValueError(f"the stand-in has no function {function}")
    return library.replace(name, name.replace(b"nvml", b"lmvn", 1))
