"""A stand-in for the program nvidia-smi: it answers from a file of JSON, in the real one's words."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PROGRAM = """#!{python}
import json, sys
played = json.load(open({answers!r}))
arguments = sys.argv[1:]
if played.get("fails"):
    print(played["fails"])
    sys.exit(9)
if arguments[0] == "-L":
    for number, uuid in enumerate(played["gpus"]):
        print(f"GPU {{number}}: Played GPU (UUID: {{uuid}})")
elif arguments[0] == "dmon":
    if "gpm" not in played:
        print("Option \\"--gpm-metrics\\" is not recognized.")
        sys.exit(2)
    ids = arguments[arguments.index("--gpm-metrics") + 1].split(",")
    print("# gpu    pwr  gtemp " + " ".join("metric" + number for number in ids))
    print("# Idx      W      C " + " ".join("%" for number in ids))
    for turn in range(2):
        for number, _ in enumerate(played["gpus"]):
            shown = [str(played["gpm"].get(each, "-")) for each in ids]
            print(f"    {{number}}    124     40", *shown)
else:
    fields = arguments[0].removeprefix("--query-gpu=").split(",")
    for field in fields:
        if field in played.get("unknown", []):
            print(f'Field "{{field}}" is not a valid field to query.')
            sys.exit(2)
    for number, (uuid, values) in enumerate(played["gpus"].items()):
        known = {{"uuid": uuid, "index": str(number), **values}}
        print(", ".join(known.get(field, "[N/A]") for field in fields))
"""


class FakeNvidiaSmi:
    """One program in a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._answers = directory / "answers.json"
        self.path = directory / "nvidia-smi"
        self.path.write_text(_PROGRAM.format(python=sys.executable, answers=str(self._answers)))
        self.path.chmod(0o755)

    def play(
        self,
        gpus: Mapping[str, Mapping[str, str]],
        unknown: Sequence[str] = (),
        gpm: Mapping[str, float] | None = None,
        fails: str = "",
    ) -> None:
        """Replace the answers: fields by UUID, fields it does not know, GPM metrics by id, or a failure."""
        told = {"gpus": gpus, "unknown": list(unknown), "fails": fails}
        self._answers.write_text(json.dumps(told if gpm is None else {**told, "gpm": gpm}))
