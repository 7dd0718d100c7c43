"""wandb.sdk.lib.telemetry: integrations note there that they are in use. Here it is forgotten."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Anything:
    """Takes any attribute, at any depth, and forgets it."""

    def __getattr__(self, name: str) -> "_Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __setattr__(self, name: str, value: "Any") -> None:
        pass

    def __enter__(self) -> "_Anything":  # noqa: PYI034 - typing has no Self on old Pythons
        return self

    def __exit__(self, *_: object) -> None:
        pass


def context(run: "Any" = None, obj: "Any" = None) -> _Anything:  # noqa: ARG001 - wandb's signature
    """Return what integrations use as `with telemetry.context(run=…) as tel: tel.feature.x = True`."""
    return _Anything()
