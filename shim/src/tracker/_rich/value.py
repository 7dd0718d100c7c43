"""What every rich value is: something that says, when it is logged, what a VALUE record holds of it."""

from typing import Any, Dict, List, NamedTuple, Optional

from .._logged import describe
from .._values import UnsupportedError
from .media import Media

#: Items of one logged list; what comes after them is counted.
ITEMS_MAX = 1000


class Encoded(NamedTuple):
    """What a VALUE record says of a rich value: docs/record-format.md describes the data of each type."""

    type: str
    data: Dict[str, Any]

    def in_a_map(self) -> Dict[str, Any]:
        """Return the data with its type beside it, as cells, lists and the summary hold it."""
        return dict(self.data, _type=self.type)


class RichValue:
    """Base of Image, Table and the others.

    To make one never raises for what it was given: what is wrong with it is said when it is logged.
    """

    #: The type of its VALUE records.
    _type = ""
    #: What is wrong with it: log() refuses it with this text.
    problem: Optional[str] = None

    def _noting_problems(self) -> "_NotingProblems":
        """Return a context in which an exception becomes what is wrong with this value."""
        return _NotingProblems(self)

    def _encode(self, media: Media) -> Dict[str, Any]:
        """Return the data of a record, having written the files that it refers to."""
        raise NotImplementedError

    def to_record(self, media: Media) -> Encoded:
        """Return the record of this value. Raise UnsupportedError, or whatever foreign code raises."""
        if self.problem is not None:
            raise UnsupportedError(self.problem)
        with media.within(self):
            return Encoded(self._type, self._encode(media))


class _NotingProblems:
    def __init__(self, value: RichValue) -> None:
        self._value = value

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._value.problem = describe(error)
        return True


class RichList(RichValue):
    """Several rich values under one name."""

    _type = "list"

    def __init__(self, items: List[RichValue], dropped: int = 0) -> None:
        """dropped: items that are not kept, because there were too many."""
        self._items = items
        self._dropped = dropped

    def _encode(self, media: Media) -> Dict[str, Any]:
        data: Dict[str, Any] = {"items": [item.to_record(media).in_a_map() for item in self._items]}
        if self._dropped:
            data["dropped"] = self._dropped
        return data


def warn(topic: str, text: str) -> None:
    """Warn on the terminal, once for each line of the user's code and topic."""
    from .._session import _terminal

    _terminal.warn(topic, text)
