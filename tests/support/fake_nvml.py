"""Builds the stand-in for NVIDIA's library and plays scenarios on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import require

SOURCE = Path(__file__).with_name("fake_nvml.c")


class FakeNvml:
    """One built library in a directory, and the scenario it plays."""

    def __init__(self, directory: Path, **without: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._scenario = directory / "scenario"
        self.library_path = directory
        defines = [f"-D{name}={value}" for name, value in without.items()]
        subprocess.run(
            [
                *(
                    require.program("gcc"),
                    "-O1",
                    "-Wall",
                    "-shared",
                    "-fPIC",
                    "-Wl,-soname,libnvidia-ml.so.1",
                ),
                *defines,
                *("-o", str(directory / "libnvidia-ml.so.1"), str(SOURCE)),
            ],
            check=True,
        )
        self.play()

    def play(self, **lines: int) -> None:
        """Replace the scenario. A double underscore in a name stands for the dot."""
        text = "".join(f"{name.replace('__', '.')} {value}\n" for name, value in lines.items())
        changed = self._scenario.with_suffix(".new")
        changed.write_text(text)
        changed.replace(self._scenario)

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which a process finds this library instead of the real one."""
        return {"LD_LIBRARY_PATH": str(self.library_path), "FAKE_NVML": str(self._scenario)}
