"""Turns what users log and configure into what records hold: numbers, texts, plain structures.

Knows numpy, torch and jax by their methods only; nothing is imported for their sake.
"""

from .protocol.kinds import INT_MAX, INT_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any, Dict, Iterator, List, Tuple, Union

#: Nested deeper than this is a structure that contains itself.
DEPTH_MAX = 32
#: Text that stands for an object nobody can store, cut at so many characters.
STAND_IN_CHARACTERS_MAX = 4096
#: Arrays with more elements go into a config as their description.
ARRAY_ELEMENTS_MAX = 1000


class UnsupportedError(TypeError):
    """A value that cannot be logged; the message says why."""


def flatten(data: "Any", prefix: str = "", depth: int = 0) -> "Iterator[Tuple[Any, Any]]":
    """Yield (name, value) of a nested mapping, names joined with "/"; a name not a string comes first."""
    if depth > DEPTH_MAX:
        raise UnsupportedError("nested deeper than %d" % DEPTH_MAX)
    for name in list(data.keys()):
        value = data[name]
        joined = prefix + (name if isinstance(name, str) else str(name))
        if is_mapping(value):
            for pair in flatten(value, joined + "/", depth + 1):
                yield pair
        else:
            yield joined, value


def is_mapping(value: "Any") -> bool:
    """Return whether value is a dict or behaves like one (omegaconf, frozendict, our Config)."""
    if isinstance(value, dict):
        return True
    kind = type(value)
    named = hasattr(kind, "keys") and hasattr(kind, "__getitem__") and not hasattr(value, "dtype")
    return named and not hasattr(kind, "iloc")  # which is a data frame


def to_number_or_text(value: "Any") -> "Union[int, float, str]":
    """Return the number or text that value is. Raise UnsupportedError, or what value itself raises."""
    kind = type(value)
    if kind is float or kind is bool:
        return value  # type: ignore[no-any-return]
    if isinstance(value, int):
        return fit(int(value)) if kind is not bool else value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item):
        return _from_item(value, item)
    if hasattr(kind, "__float__") and not hasattr(kind, "__len__"):  # Decimal, Fraction
        return float(value)
    if hasattr(kind, "__index__"):
        return fit(value.__index__())
    raise UnsupportedError("a %s is not a number or text" % _type_name(kind))


def _from_item(value: "Any", item: "Any") -> "Union[int, float, str]":
    """Return the one element of a numpy, torch or jax array."""
    try:
        element = item()
    except (TypeError, ValueError, RuntimeError) as error:
        shape = getattr(value, "shape", None)
        detail = str(error) if shape is None else "it has the shape %s" % (tuple(shape),)
        raise UnsupportedError("not a single number: " + detail) from error
    if isinstance(element, (bool, float, str)):
        return element
    if isinstance(element, int):
        return fit(element)
    if hasattr(type(element), "__float__") and element is not value:  # longdouble, ml_dtypes
        return float(element)
    if element is value and hasattr(type(element), "__float__"):
        return float(element)
    raise UnsupportedError("a %s is not a number or text" % _type_name(type(element)))


def fit(number: int) -> "Union[int, float]":
    """Return the integer, or the nearest float where it has more than 64 bits."""
    if INT_MIN <= number <= INT_MAX:
        return number
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def to_plain(value: "Any", depth: int = 0) -> "Any":
    """Return value as None, bools, numbers, strings, lists and dicts with string keys.

    What is none of these is described by its str(). Never raises, whatever value does.
    """
    try:
        return _to_plain(value, depth)
    except Exception as error:  # noqa: BLE001 - properties and str() of foreign objects raise anything
        return "<%s: %s>" % (_type_name(type(value)), type(error).__name__)


def _to_plain(value: "Any", depth: int) -> "Any":  # noqa: C901 - one case after the other
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if isinstance(value, str):
        return str(value)
    if depth > DEPTH_MAX:
        return _stand_in(value)
    if _is_enum(kind):
        return to_plain(value.value, depth + 1)
    if isinstance(value, int):
        return fit(int(value))
    if isinstance(value, float):
        return float(value)
    if is_mapping(value):
        return {str(name): to_plain(_item(value, name), depth + 1) for name in list(value.keys())}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(element, depth + 1) for element in value]
    fields = _declared_fields(value)
    if fields is not None:
        return {name: to_plain(getattr(value, name), depth + 1) for name in fields}
    if callable(getattr(value, "item", None)):
        return _array_to_plain(value, depth)
    if kind.__module__ in ("decimal", "fractions"):
        return float(value)
    if _is_sequence(value, kind):
        return [to_plain(element, depth + 1) for element in value]
    if hasattr(kind, "__fspath__"):
        return str(value.__fspath__())
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return "%s.%s" % (value.__module__, value.__qualname__)
    return _stand_in(value)


def _item(mapping: "Any", name: "Any") -> "Any":
    """Return a value of a mapping; a description where it cannot be had, as mandatory ones of omegaconf."""
    try:
        return mapping[name]
    except Exception as error:  # noqa: BLE001 - __getitem__ of foreign objects raises anything
        return "<%s>" % type(error).__name__


def _is_sequence(value: "Any", kind: type) -> bool:
    """Return whether value is a short sequence that is no list, such as omegaconf's."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return False
    named = all(hasattr(kind, each) for each in ("__len__", "__iter__", "__getitem__"))
    return named and len(value) <= ARRAY_ELEMENTS_MAX


def _array_to_plain(value: "Any", depth: int) -> "Any":
    size = getattr(value, "size", 1)
    size = size if isinstance(size, int) else value.numel()
    if size == 1 and not getattr(value, "shape", ()):
        return to_plain(value.item(), depth + 1)
    if size <= ARRAY_ELEMENTS_MAX:
        return to_plain(value.tolist(), depth + 1)
    return "<%s of shape %s>" % (_type_name(type(value)), tuple(value.shape))


def _declared_fields(value: "Any") -> "Any":
    """Return the field names of a dataclass, attrs object, namedtuple or Namespace; None otherwise."""
    kind = type(value)
    for marker in ("__dataclass_fields__", "__attrs_attrs__"):
        declared = getattr(kind, marker, None)
        if declared is not None:
            return [getattr(field, "name", field) for field in declared]
    if kind.__name__ in ("Namespace", "SimpleNamespace") and hasattr(value, "__dict__"):
        return list(vars(value))
    return None


def to_mapping(source: "Any") -> "Dict[str, Any]":
    """Return the settings in a mapping, argparse Namespace, dataclass, absl FLAGS or other object.

    Raise UnsupportedError when there are none to be found.
    """
    if source is None:
        return {}
    if callable(getattr(source, "flag_values_dict", None)):  # absl FLAGS
        source = source.flag_values_dict()
    if is_mapping(source):
        return {str(name): _item(source, name) for name in list(source.keys())}
    fields = _declared_fields(source)
    if fields is None and hasattr(source, "__dict__") and not isinstance(source, type):
        fields = [name for name in vars(source) if not name.startswith("_")]
    if fields is not None:
        return {name: getattr(source, name) for name in fields}
    try:
        return {str(name): value for name, value in source}
    except (TypeError, ValueError):
        raise UnsupportedError(
            "a config is a dict, a Namespace or an object with attributes, not a %s"
            % _type_name(type(source))
        ) from None


def split_in_half(values: "Dict[str, Any]") -> "List[Dict[str, Any]]":
    """Return two dicts that together are this one (which has at least two entries)."""
    names = list(values)
    middle = len(names) // 2
    return [{name: values[name] for name in part} for part in (names[:middle], names[middle:])]


def _is_enum(kind: type) -> bool:
    return type(kind).__name__ in ("EnumMeta", "EnumType")


def _stand_in(value: "Any") -> str:
    return str(value)[:STAND_IN_CHARACTERS_MAX]


def _type_name(kind: type) -> str:
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)
    )
