"""Regular expressions that are compiled by the first who needs them, and `re` loaded: writers never do."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr, Dict

_compiled: "Dict[Any, Any]" = {}


def compiled(pattern: "AnyStr") -> "Any":
    """Return the compiled pattern, the same one each time."""
    found = _compiled.get(pattern)
    if found is None:
        import re

        found = _compiled[pattern] = re.compile(pattern)
    return found
