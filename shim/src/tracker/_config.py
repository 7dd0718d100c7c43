"""Config: the run's settings, as a dict and by attribute, recorded change by change."""

from ._attributes import AttributeMapping
from ._terminal import Terminal
from ._values import UnsupportedError, to_mapping, to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any, Callable, Dict, Iterator, List, Optional

    #: Called with what to set and what to remove.
    RecordPatch = Callable[[Dict[str, Any], List[str]], None]


class Config(AttributeMapping):
    """Settings of a run. Values read back as they were given; records hold them as plain data.

    >>> run.config.update({"lr": 0.1, "layers": (64, 10)})
    >>> run.config.seed = 7
    >>> run.config["layers"], run.config.seed
    ((64, 10), 7)
    >>> run.config.as_dict()
    {'lr': 0.1, 'layers': [64, 10], 'seed': 7}
    """

    _title = "config"

    _values: "Dict[str, Any]"
    _recorded: "Dict[str, Any]"

    def __init__(
        self, terminal: Terminal, record: "Optional[RecordPatch]" = None, initial: "Any" = None
    ) -> None:
        """initial: settings to start with, which `record` is not told of."""
        self.__dict__["_values"] = {}
        self.__dict__["_recorded"] = {}
        self.__dict__["_terminal"] = terminal
        self.__dict__["_record"] = None
        self.update(initial)
        self.__dict__["_record"] = record

    def update(self, *sources: "Any", **more: "Any") -> None:
        """Set many keys, from a dict, Namespace or dataclass first, then from keyword arguments.

        A key that has another value already keeps it unless allow_val_change is true.
        """
        terminal: Terminal = self.__dict__["_terminal"]
        try:
            change = more.pop("allow_val_change", None)
            if len(sources) > 1:
                change = sources[1]
            merged = to_mapping(sources[0]) if sources else {}
            merged.update(more)
            self._merge(merged, change)
        except UnsupportedError as error:
            terminal.warn("config", str(error))
        except Exception as error:  # noqa: BLE001 - the guard: configuring must not stop a training
            terminal.warn("config", "config.update() failed: %s: %s" % (type(error).__name__, error))

    def setdefaults(self, source: "Any") -> None:
        """Set those keys that have no value yet."""
        try:
            given = to_mapping(source)
        except Exception as error:  # noqa: BLE001 - the guard: configuring must not stop a training
            self.__dict__["_terminal"].warn("config", "config.setdefaults() failed: %s" % error)
            return
        self._set({name: value for name, value in given.items() if name not in self._values})

    def persist(self) -> None:
        """Do nothing: every change is recorded at once."""

    def as_dict(self) -> "Dict[str, Any]":
        """Return the settings as plain data: what the records hold."""
        return dict(self._recorded)

    def _merge(self, values: "Dict[str, Any]", allow_val_change: "Any") -> None:
        kept = []
        if not allow_val_change:
            known = self._recorded
            kept = [
                name for name in values if name in known and not _same(known[name], to_plain(values[name]))
            ]
        if kept:
            self.__dict__["_terminal"].warn(
                "config-change",
                "config keeps the value it had for %s; use update(..., allow_val_change=True) to change it"
                % ", ".join(sorted(kept)),
            )
        self._set({name: value for name, value in values.items() if name not in kept})

    def _set(self, values: "Dict[str, Any]") -> None:
        changed = {}
        for name, value in values.items():
            plain = to_plain(value)
            self._values[name] = value
            if name not in self._recorded or not _same(self._recorded[name], plain):
                changed[name] = self._recorded[name] = plain
        record = self.__dict__["_record"]
        if changed and record is not None:
            record(changed, [])

    def __getitem__(self, name: str) -> "Any":
        return self.__dict__["_values"][name]

    def __setitem__(self, name: "Any", value: "Any") -> None:
        self._set({name if type(name) is str else str(to_plain(name)): value})

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        del self._recorded[name]
        record = self.__dict__["_record"]
        if record is not None:
            record({}, [name])

    def __iter__(self) -> "Iterator[str]":
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


def _same(one: "Any", other: "Any") -> bool:
    """Return whether plain values are equal: 1 is not 1.0 nor True, and NaN is NaN."""
    return repr(one) == repr(other)
