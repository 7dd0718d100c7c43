"""The helper's task that copies files into the run's directory: once, whenever they change, or at the end.

Messages: {"files": [[source, target, signature or nil], …], "root": files directory, "policy": "now" |
"live" | "end"}, and {"pattern": [base, path, is_glob], "root": …, "policy": "live" | "end"} for files that
may appear later. Targets are relative to root; a signature says what was copied there already. With the
first message may come descriptors of its first sources.
"""

import os
import queue
import time
from typing import Any, Dict, List, Optional, Set, Tuple

from ._copying import Signature, copy_file, ensure_directory, signature_of
from ._helper_stream import lose
from ._matching import FILES_MAX, Pattern, find_files
from ._recorder import Recorder

#: Live files are looked at so often.
LOOK_INTERVAL_S = 2.0
#: One that has not changed between two looks is copied, one that never rests after so long.
UNSETTLED_S = 30.0
#: Each is copied for at most this share of the time.
COPYING_SHARE = 0.1
#: Patterns are searched anew so often, and for at most that share of the time.
SEARCH_INTERVAL_S = 10.0
PATTERNS_MAX = 100
#: Failures told one by one; all of them are counted.
_TOLD_MAX = 20
_NICENESS = 10


class _Watched:
    """A file that is copied again, or at the end."""

    def __init__(self, source: str, root: str, name: str, policy: str) -> None:
        self.source, self.root, self.name, self.policy = source, root, name, policy
        #: What was copied last, or could not be.
        self.copied: Optional[Signature] = None
        self.failed = False
        #: What was there at the last look, and since when it is not what was copied.
        self.seen: Optional[Signature] = None
        self.changing_since: Optional[float] = None
        self.not_before = 0.0


class Copies:
    """Files to copy, and what became of them."""

    def __init__(self, recorder: Recorder, report: Any, ignored: List[str]) -> None:
        self._recorder = recorder
        self._report = report
        self._ignored = ignored
        self._watched: Dict[str, _Watched] = {}
        self._patterns: List[Tuple[Pattern, str, str]] = []
        self._matched: Set[Pattern] = set()
        self._search_at = 0.0
        self._told = 0

    @property
    def interval_s(self) -> Optional[float]:
        """How long there is nothing to do without a message; None: for ever."""
        live = self._patterns or any(each.policy == "live" for each in self._watched.values())
        return LOOK_INTERVAL_S if live else None

    def take(self, message: Dict[str, Any], descriptors: List[int]) -> None:
        """Do what a message asks for."""
        root, policy = message["root"], message["policy"]
        given = list(descriptors)
        for source, name, signature in message.get("files", ()):
            opened = given.pop(0) if given else None
            try:
                each = _Watched(source, root, name, policy)
                if signature is not None:
                    each.copied = Signature(*signature)
                elif policy != "end":
                    self._copy(each, opened)
                if policy != "now":
                    self._watch(each)
            finally:
                if opened is not None:
                    os.close(opened)
        if "pattern" in message:
            pattern = Pattern(*message["pattern"])
            if len(self._patterns) < PATTERNS_MAX and (pattern, root, policy) not in self._patterns:
                self._patterns.append((pattern, root, policy))

    def look(self) -> None:
        """Copy live files that have changed and are quiet again."""
        self._search(time.monotonic())
        for each in self._watched.values():
            at = time.monotonic()
            if each.policy != "live" or at < each.not_before:
                continue
            now = signature_of(each.source)
            if now is None or now == each.copied:
                each.changing_since = None
            else:
                if each.changing_since is None:
                    each.changing_since = at
                if now == each.seen or at - each.changing_since >= UNSETTLED_S:
                    self._copy(each)
                    each.changing_since = None
            each.seen = now

    def finish(self) -> None:
        """Copy whatever is not kept as it is now."""
        self._search(None)
        for pattern, root, policy in self._patterns:
            if pattern not in self._matched:
                self._fail(_Watched(pattern.path, root, "", policy), "there was no such file")
        for each in self._watched.values():
            now = signature_of(each.source)
            if now is None and each.copied is not None and not each.failed:
                continue  # it was kept, and is gone since
            if now is None or now != each.copied or each.failed:
                self._copy(each)

    def _watch(self, each: _Watched) -> None:
        key = os.path.join(each.root, each.name)
        if key in self._watched or len(self._watched) < FILES_MAX:
            self._watched[key] = each
        else:
            self._fail(each, "more than %d files are watched" % FILES_MAX)

    def _search(self, now: Optional[float]) -> None:
        """Look for files that have appeared since. None: whatever the time."""
        if not self._patterns or (now is not None and now < self._search_at):
            return
        began = time.monotonic()
        for pattern, root, policy in self._patterns:
            for source, name in find_files(pattern, self._ignored).files:
                self._matched.add(pattern)
                if os.path.join(root, name) not in self._watched:
                    each = _Watched(source, root, name, policy)
                    each.seen = signature_of(source) if policy == "live" else None
                    self._watch(each)
        took = time.monotonic() - began
        self._search_at = began + max(SEARCH_INTERVAL_S, took / COPYING_SHARE)

    def _copy(self, each: _Watched, opened: Optional[int] = None) -> None:
        began = time.monotonic()
        try:
            directory, _, name = each.name.rpartition("/")
            target = os.path.join(ensure_directory(each.root, directory), name)
            if signature_of(each.source) == signature_of(target) is not None:
                return  # it lies there itself
            each.copied = copy_file(each.source, target, opened)
            each.failed = False
        except (OSError, ValueError) as error:
            # Not again before it changes, or the end: a full disk would be told of every two seconds.
            each.copied, each.failed = signature_of(each.source), True
            self._fail(each, getattr(error, "strerror", None) or str(error))
        took = time.monotonic() - began
        each.not_before = time.monotonic() + took / COPYING_SHARE

    def _fail(self, each: _Watched, reason: str) -> None:
        text = "%s was not kept%s: %s" % (each.source, each.name and " as files/" + each.name, reason)
        lose(self._recorder, text)
        self._told += 1
        if self._told <= _TOLD_MAX:
            self._report(text)


def run(spec: Dict[str, Any], recorder: Recorder, stop: Any) -> None:  # noqa: ARG001 - a task's entry
    """Copy what messages ask for, until the run is over and all is copied."""
    _be_nice()
    copies = Copies(recorder, spec["report"], spec["ignore_globs"])
    inbox = spec["inbox"]
    while True:
        try:
            message = inbox.get(timeout=copies.interval_s)
        except queue.Empty:
            copies.look()
            continue
        if message is None:
            break
        copies.take(*message)
    copies.finish()


def _be_nice() -> None:
    # On Linux this is about the calling thread alone.
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
        except OSError:
            pass
