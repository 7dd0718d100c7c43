"""Names of users. Whoever knows them may hang (sssd, LDAP), so they are asked in a thread of its own."""

from __future__ import annotations

import pwd
import queue
import threading
from collections.abc import Callable

#: Whoever asks first waits this long at most; afterwards a user goes by his number until the answer comes.
WAIT_S = 0.5
#: More names than this are not remembered: the number does.
NAMES_MAX = 10_000
#: The thread ends when nobody asked for this long; the next question starts another one.
IDLE_S = 10.0
#: Questions that may wait for an answer; further ones are asked again later.
QUESTIONS_MAX = 100


class UserNames:
    """A cache of the user database. look_up(uid) may take any time. Raises nothing."""

    def __init__(self, look_up: Callable[[int], str] = lambda uid: pwd.getpwuid(uid).pw_name) -> None:
        self._look_up = look_up
        self._names: dict[int, str] = {}
        self._asked: dict[int, threading.Event] = {}
        self._questions: queue.Queue[int] = queue.Queue(QUESTIONS_MAX)
        self._lock = threading.Lock()
        self._answering = False

    def name(self, uid: int) -> str:
        """Return a user's name, his number where he has none or nobody says so in time."""
        known = self._names.get(uid)
        if known is not None:
            return known
        if uid not in self._asked and len(self._names) < NAMES_MAX:
            self._ask(uid)
        return self._names.get(uid, str(uid))

    def _ask(self, uid: int) -> None:
        stuck = any(not answered.is_set() for answered in self._asked.values())
        answered = threading.Event()
        with self._lock:
            if self._questions.full():
                return
            self._asked[uid] = answered
            self._questions.put_nowait(uid)
            if not self._answering:
                self._answering = True
                threading.Thread(target=self._answer, name="user names", daemon=True).start()
        if not stuck:
            answered.wait(WAIT_S)

    def _answer(self) -> None:
        while True:
            try:
                uid = self._questions.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._questions.empty():
                        self._answering = False
                        return
                continue
            try:
                name = self._look_up(uid)
            except (KeyError, OSError):
                name = str(uid)
            self._names[uid] = name
            self._asked.pop(uid).set()
