"""AttributeMapping: a mapping whose keys are attributes, too, as config and summary are."""

from collections.abc import MutableMapping

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any


class AttributeMapping(MutableMapping):  # type: ignore[type-arg]  # not subscriptable at run time before 3.9
    """Its own fields are set through __dict__, and read there by what __getitem__ does."""

    #: What it is called in messages.
    _title = "mapping"

    def __getattr__(self, name: str) -> "Any":
        try:
            return self[name]
        except KeyError:
            raise AttributeError("the %s has no key %r" % (self._title, name)) from None

    def __setattr__(self, name: str, value: "Any") -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError("the %s has no key %r" % (self._title, name)) from None
