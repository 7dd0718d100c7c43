"""ConsoleStore: what runs print, in order of arrival, as compressed blocks of lines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConsoleLine:
    """One line of output. time is ns, stream "stdout" or "stderr", ordinal the writer's place in the run."""

    time: int
    stream: str
    text: str
    ordinal: int


@dataclass(frozen=True)
class ConsolePage:
    """Go on at `cursor` (a line number); `more` says whether there is something there now."""

    cursor: int
    lines: list[ConsoleLine]
    more: bool
