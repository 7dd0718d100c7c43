"""wandb.util: the functions of it that scripts and libraries were seen to call."""

import importlib
import json
import random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_IN_ARTIFACT_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
ARTIFACT_NAME_CHARACTERS_MAX = 128


def generate_id(length: int = 8) -> str:
    """Return a random id of small letters and digits. random.seed() has no influence on it."""
    return "".join(random.SystemRandom().choice(_LETTERS) for _ in range(length))


def get_module(name: str, required: "Any" = None, lazy: bool = True) -> "Any":  # noqa: ARG001 - wandb's
    """Return a module, or None where it cannot be imported and is not required.

    required: what to say in the Error that is raised then.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if required:
            from tracker import Error

            message = required if isinstance(required, str) else "%s is needed" % name
            raise Error(message) from error
    return None


def json_friendly(obj: "Any") -> "Any":
    """Return (obj as plain data, whether that changed it)."""
    from tracker._values import to_plain

    plain = to_plain(obj)
    return plain, plain is not obj


def json_dumps_safer(obj: "Any", **kwargs: "Any") -> str:
    """Return JSON of anything; what JSON has no form for is described by its str()."""
    from tracker._values import to_plain

    return json.dumps(to_plain(obj), **kwargs)


def make_artifact_name_safe(name: str) -> str:
    """Return a name that an artifact can have."""
    cleaned = "".join(c if c in _IN_ARTIFACT_NAMES else "_" for c in name)
    if len(cleaned) <= ARTIFACT_NAME_CHARACTERS_MAX:
        return cleaned
    half = (ARTIFACT_NAME_CHARACTERS_MAX - 2) // 2
    return cleaned[:half] + ".." + cleaned[-half:]


def is_numpy_array(obj: "Any") -> bool:
    """Return whether obj is a NumPy array, without importing NumPy."""
    return _is_of(obj, "numpy", "ndarray")


def is_pandas_data_frame(obj: "Any") -> bool:
    """Return whether obj is a pandas DataFrame, without importing pandas."""
    return _is_of(obj, "pandas", "DataFrame")


def is_pytorch_tensor_typename(typename: str) -> bool:
    """Return whether a full name as get_full_typename() gives it is that of a PyTorch tensor or parameter."""
    return typename.startswith("torch.") and ("Tensor" in typename or "Variable" in typename)


def get_full_typename(obj: "Any") -> str:
    """Return "module.Class" of what obj is."""
    kind = type(obj)
    return kind.__name__ if kind.__module__ in ("builtins", "__builtin__") else _full_name(kind)


def _is_of(obj: "Any", library: str, name: str) -> bool:
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == library for kind in type(obj).__mro__
    )


def _full_name(kind: type, module: "Optional[str]" = None) -> str:
    return "%s.%s" % (module or kind.__module__, kind.__name__)
