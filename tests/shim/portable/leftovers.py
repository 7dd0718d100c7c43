"""Helper processes that a training leaves behind: found by a variable in their environment, waited for."""

import os
import time

WAIT_S = 60


def helpers_with(text: str) -> "list[int]":
    """Return the pids of helper processes that have this text, such as NAME=value, in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                matches = text.encode() in file.read().split(b"\0")
            with open("/proc/%s/cmdline" % name, "rb") as file:
                if matches and b"_helper_process" in file.read():
                    found.append(int(name))
        except OSError:  # gone meanwhile
            continue
    return found


def wait_until_gone(text: str) -> None:
    """Return when no helper process has this text in its environment; raise after a while."""
    deadline = time.time() + WAIT_S
    while True:
        left = helpers_with(text)
        if not left:
            return
        if time.time() > deadline:
            raise AssertionError("processes %s do not end" % left)
        time.sleep(0.02)
