"""What readers and writers of record streams raise."""


class ProtocolError(ValueError):
    """Base of every error this package raises about bytes it was given."""


class HeaderError(ProtocolError):
    """The first line of a segment is missing, damaged, or not a HEADER."""


class BodyError(ProtocolError):
    """A line is whole, but its body does not have the layout its kind demands."""


class IncompleteError(HeaderError):
    """The bytes end before the first line does: more may come."""
