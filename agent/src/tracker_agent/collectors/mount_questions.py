"""Asks mounts for their space, each in a thread of its own: whoever asks a dead network mount waits for ever.

A mount that has not answered is not asked a second time: when it comes back, the thread comes back with it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: How long a sample waits for those that usually answer, all together.
WAIT_S = 2.0
#: A mount that answers with an error is asked again after this time, then twice that, up to the last.
RETRY_S, RETRY_MAX_S = 30.0, 600.0
#: Threads under way at once, nearly all of them stuck. One costs about 10 KiB.
THREADS_MAX = 64
#: What is somebody else's (FUSE without allow_other), or has just been unmounted: nothing to tell of.
_NOT_OURS = frozenset((errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR))


class Answer(NamedTuple):
    """What is known of a mount: its space, or what is wrong with it; neither where it is not ours to see."""

    space: os.statvfs_result | None = None
    problem: str | None = None
    stuck: bool = False


class _Question:
    """One call of statvfs, under way or done."""

    def __init__(self, path: str, statvfs: Callable[[str], os.statvfs_result]) -> None:
        self.done = threading.Event()
        self.result: os.statvfs_result | OSError | None = None
        self._path = path
        self._statvfs = statvfs
        # A daemon: a thread stuck in the kernel must not keep the process from ending.
        threading.Thread(target=self._ask, name=f"statvfs {path}"[:64], daemon=True).start()

    def _ask(self) -> None:
        try:
            self.result = self._statvfs(self._path)
        except OSError as error:
            self.result = error
        finally:
            self.done.set()


@dataclass
class _Subject:
    """One mount that is asked again and again."""

    question: _Question | None = None
    stuck: bool = False
    due: float = float("-inf")
    retry_s: float = RETRY_S
    answer: Answer = field(default_factory=Answer)


class MountQuestions:
    """Asks whichever mounts are due. Called from one thread."""

    def __init__(
        self, statvfs: Callable[[str], os.statvfs_result] = os.statvfs, wait_s: float = WAIT_S
    ) -> None:
        self._statvfs = statvfs
        self._wait_s = wait_s
        self._subjects: dict[str, _Subject] = {}

    def ask(self, paths: Mapping[str, str], periods: Mapping[str, float], now: float) -> dict[str, Answer]:
        """Return what is known of each mount after at most WAIT_S.

        paths: where each is, by what tells it from others. periods: how long the answers of some will do.
        """
        self._forget(paths)
        under_way = sum(subject.question is not None for subject in self._subjects.values())
        for key, path in paths.items():
            subject = self._subjects.setdefault(key, _Subject())
            if subject.question is not None or now < subject.due:
                continue
            if under_way >= THREADS_MAX:
                subject.answer = Answer(problem=f"was not asked: {under_way} others do not answer")
                continue
            subject.question = self._start(subject, path)
            under_way += subject.question is not None
        deadline = time.monotonic() + self._wait_s
        for key in paths:
            self._take(self._subjects[key], deadline, now, periods.get(key, 0.0))
        return {key: self._subjects[key].answer for key in paths}

    def _start(self, subject: _Subject, path: str) -> _Question | None:
        try:
            return _Question(path, self._statvfs)
        except RuntimeError as error:
            # The system has no room for another thread.
            subject.answer = Answer(problem=f"was not asked: {error}")
            return None

    @staticmethod
    def _take(subject: _Subject, deadline: float, now: float, period_s: float) -> None:
        """Take the answer when it is there; wait for those alone that are not known to be stuck."""
        question = subject.question
        if question is None:
            return
        wait = 0.0 if subject.stuck else max(0.0, deadline - time.monotonic())
        if not question.done.wait(wait):
            subject.stuck = True
            subject.answer = Answer(problem="does not answer", stuck=True)
            return
        subject.question, subject.stuck = None, False
        if isinstance(question.result, OSError):
            ours = question.result.errno not in _NOT_OURS
            subject.answer = Answer(
                problem=f"fails: {os.strerror(question.result.errno or 0)}" if ours else None
            )
            subject.due = now + subject.retry_s
            subject.retry_s = min(2 * subject.retry_s, RETRY_MAX_S)
        else:
            subject.answer = Answer(space=question.result)
            subject.due = now + period_s
            subject.retry_s = RETRY_S

    def _forget(self, keep: Mapping[str, str]) -> None:
        """Forget mounts that are gone, but for threads that still hang in one."""
        for key in [key for key in self._subjects if key not in keep]:
            question = self._subjects[key].question
            if question is None or question.done.is_set():
                del self._subjects[key]
