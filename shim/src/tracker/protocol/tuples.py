"""NamedTuple: a collections.namedtuple with methods, written as typing's, without loading typing.

That takes 5 ms, which init() would pay for in every training that does not load it itself.
"""

import sys
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING or sys.version_info >= (3, 14):  # from then on a class's body does not hold its annotations
    from typing import NamedTuple
else:

    class _Maker(type):
        def __new__(cls, name, bases, body):
            if not bases:
                return type.__new__(cls, name, bases, body)
            fields = list(body["__annotations__"])
            defaults = tuple(body.pop(field) for field in fields if field in body)
            made = namedtuple(name, fields)  # noqa: PYI024 - what typing makes, too
            made.__new__.__defaults__ = defaults
            made.__doc__ = None
            for key, value in body.items():
                setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """The base of such a class; fields are the annotated names of its body."""


__all__ = ["NamedTuple"]
