"""What nvidia-smi says, as numbers by GPU: the other opinion that gpu_check compares ours with."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Sequence

Table = dict[str, dict[str, float | str | None]]

#: nvidia-smi writes what it cannot say in many ways, all of them in brackets or as N/A.
_NOTHING = re.compile(r"^(\[.*\]|N/A|-|)$")
_WAIT_S = 60.0


class NoGpu(Exception):
    """There is nothing to compare with. The message says why."""


class NvidiaSmi:
    """Asks one nvidia-smi for the fields it knows."""

    def __init__(self, command: Sequence[str] = ("nvidia-smi",)) -> None:
        self._command = tuple(command)
        self.unknown: list[str] = []

    def gpus(self) -> list[str]:
        """Return the lines of `nvidia-smi -L`. Raise NoGpu."""
        listed = [line for line in self._run("-L").splitlines() if line.startswith("GPU ")]
        if not listed:
            raise NoGpu("nvidia-smi lists no GPU")
        return listed

    def query(self, fields: Sequence[str]) -> Table:
        """Return fields by UUID of the GPU; those this version does not know are noted and left out."""
        while True:
            asked = [field for field in fields if field not in self.unknown]
            try:
                text = self._run(f"--query-gpu=uuid,{','.join(asked)}", "--format=csv,noheader,nounits")
            except NoGpu as error:
                unknown = re.search(r'Field "([^"]+)" is not a valid field', str(error))
                if unknown is None or unknown[1] not in asked:
                    raise
                self.unknown.append(unknown[1])
                continue
            return parse_table(text, asked)

    def gpm(self, ids: Sequence[int], seconds: int) -> dict[int, dict[int, float]]:
        """Return means of GPM metrics over some seconds, by id, by index of the GPU; {} if not offered."""
        numbers = ",".join(map(str, ids))
        try:
            text = self._run(
                *("dmon", "--gpm-metrics", numbers, "-d", "1", "-c", str(seconds)), wait_s=seconds + _WAIT_S
            )
        except NoGpu:
            return {}
        return parse_dmon(text, ids)

    def _run(self, *arguments: str, wait_s: float = _WAIT_S) -> str:
        try:
            done = subprocess.run(
                [*self._command, *arguments], capture_output=True, text=True, timeout=wait_s, check=False
            )
        except FileNotFoundError:
            raise NoGpu(f"there is no {self._command[0]} on this machine") from None
        except subprocess.TimeoutExpired:
            raise NoGpu(f"nvidia-smi {arguments[0]} did not answer within {wait_s:g} s") from None
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())
            raise NoGpu(f"nvidia-smi {arguments[0]} ended with {done.returncode}: {said}")
        return done.stdout


def parse_number(text: str) -> float | str | None:
    """Return a number, a hexadecimal one too, None for what is not to be had, or the text."""
    text = text.strip()
    if _NOTHING.match(text):
        return None
    try:
        return float(int(text, 16)) if text.startswith("0x") else float(text)
    except ValueError:
        return text


def parse_table(text: str, fields: Sequence[str]) -> Table:
    """Return the rows of `--format=csv,noheader,nounits`, whose first column is the UUID."""
    table: Table = {}
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        if len(row) == len(fields) + 1:
            table[row[0]] = {field: parse_number(cell) for field, cell in zip(fields, row[1:], strict=True)}
    return table


def parse_dmon(text: str, ids: Sequence[int]) -> dict[int, dict[int, float]]:
    """Return the mean of each column of `dmon --gpm-metrics`, by id, by index of the GPU."""
    sums: dict[int, dict[int, list[float]]] = {}
    for line in text.splitlines():
        cells = line.split()
        if line.startswith("#") or len(cells) < len(ids) + 1 or not cells[0].isdigit():
            continue
        of_gpu = sums.setdefault(int(cells[0]), {})
        # Whatever dmon shows besides stands before the columns asked for.
        for number, cell in zip(ids, cells[-len(ids) :], strict=True):
            value = parse_number(cell)
            if isinstance(value, float):
                of_gpu.setdefault(number, []).append(value)
    return {
        gpu: {number: sum(values) / len(values) for number, values in of_gpu.items()}
        for gpu, of_gpu in sums.items()
    }
