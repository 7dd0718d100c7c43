"""What commands print: lines that a terminal, a pipe or a file takes as they are.

Names in a run may be anything, and a terminal does what control characters say: they are shown escaped.
"""

import argparse
import sys
import textwrap
from typing import Optional


def say(text: str) -> None:
    """Print one line; characters that the output's encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(printable(text) + "\n")


def printable(text: str) -> str:
    """Return text with what is not printable escaped: a name must not command the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return "%.3g %s" % (amount, unit)
        amount /= 1024
    return "%.3g GiB" % amount


def parser(
    command: str, description: str, more: str = "", usage: Optional[str] = None
) -> argparse.ArgumentParser:
    """Return the parser of a subcommand. more: examples and exit codes, printed as they are."""
    return argparse.ArgumentParser(
        prog="tracker " + command,
        usage=usage,
        description=textwrap.fill(description, 80),
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
