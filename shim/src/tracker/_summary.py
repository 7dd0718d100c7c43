"""Summary: the last value of every metric, and what the user sets by hand."""

from ._attributes import AttributeMapping
from ._terminal import Terminal
from ._values import UnsupportedError, to_mapping, to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any, Callable, Dict, Iterator, List, Optional, Set

    #: Called with what to set and what to remove.
    RecordPatch = Callable[[Dict[str, Any], List[str]], None]


def _to_stored(name: str, value: "Any") -> "Any":  # noqa: ARG001
    return to_plain(value)


class Summary(AttributeMapping):
    """One value per name. A key set by hand is recorded, and log() no longer changes it.

    >>> run.log({"loss": 0.5, "accuracy": 0.8})
    >>> run.summary["accuracy"] = 0.9
    >>> run.log({"loss": 0.4, "accuracy": 0.7})
    >>> run.summary
    {'loss': 0.4, 'accuracy': 0.9}
    """

    _title = "summary"

    _values: "Dict[str, Any]"
    _pinned: "Set[str]"

    def __init__(
        self,
        terminal: Terminal,
        record: "Optional[RecordPatch]" = None,
        take_newest: "Optional[Callable[[], Dict[str, Any]]]" = None,
        on_pin: "Optional[Callable[[], None]]" = None,
        to_stored: "Callable[[str, Any], Any]" = _to_stored,
    ) -> None:
        """take_newest: values logged since last asked. on_pin is called before a key is set by hand.

        to_stored returns what is recorded of a value set by hand under a name.
        """
        self.__dict__["_values"] = {}
        self.__dict__["_take_newest"] = take_newest
        self.__dict__["_pinned"] = set()
        self.__dict__["_terminal"] = terminal
        self.__dict__["_record"] = record
        self.__dict__["_on_pin"] = on_pin
        self.__dict__["_to_stored"] = to_stored

    def update(self, *sources: "Any", **more: "Any") -> None:
        """Set many keys by hand."""
        terminal: Terminal = self.__dict__["_terminal"]
        try:
            values = to_mapping(sources[0]) if sources else {}
            values.update(more)
            self._set(values)
        except UnsupportedError as error:
            terminal.warn("summary", str(error))
        except Exception as error:  # noqa: BLE001 - the guard: a summary must not stop a training
            terminal.warn("summary", "summary.update() failed: %s: %s" % (type(error).__name__, error))

    def logged(self, values: "Dict[str, Any]") -> None:
        """Take over what log() was given, but for keys set by hand."""
        if self._pinned:
            values = {name: value for name, value in values.items() if name not in self._pinned}
        self._latest.update(values)

    def not_by_hand(self, names: "Dict[str, Any]") -> "List[str]":
        """Return those names that log() may change."""
        return [name for name in names if name not in self._pinned]

    @property
    def _latest(self) -> "Dict[str, Any]":
        take_newest = self.__dict__["_take_newest"]
        if take_newest is not None:
            self._values.update(take_newest())
        return self._values

    def by_hand(self) -> "Dict[str, Any]":
        """Return the keys set by hand, as plain data."""
        return {name: self._latest[name] for name in sorted(self._pinned) if name in self._latest}

    def _set(self, values: "Dict[str, Any]") -> None:
        to_stored = self.__dict__["_to_stored"]
        plain = {name: to_stored(name, value) for name, value in values.items()}
        on_pin = self.__dict__["_on_pin"]
        if on_pin is not None:
            on_pin()
        self._pinned.update(plain)
        self._latest.update(plain)
        record = self.__dict__["_record"]
        if plain and record is not None:
            record(plain, [])

    def __getitem__(self, name: str) -> "Any":
        value = self._latest[name]
        return value if type(value) in (float, int, bool, str) else to_plain(value)

    def __setitem__(self, name: "Any", value: "Any") -> None:
        self._set({name if type(name) is str else str(to_plain(name)): value})

    def __delitem__(self, name: str) -> None:
        del self._latest[name]
        self._pinned.discard(name)
        record = self.__dict__["_record"]
        if record is not None:
            record({}, [name])

    def __iter__(self) -> "Iterator[str]":
        return iter(list(self._latest))

    def __len__(self) -> int:
        return len(self._latest)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})
