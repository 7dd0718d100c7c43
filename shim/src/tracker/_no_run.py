"""NoRun: what init() returns where not even the modules of a run can be loaded, for want of descriptors, say.

Every call and attribute that scripts use is there, nothing is recorded, and log() counts what is lost.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any


class NoRun:
    """A run that does nothing. Calls return None, names are empty."""

    id = name = project = path = ""
    url = entity = group = job_type = notes = helper = settings = None
    tags = ()
    mode = "disabled"
    disabled = finished = True
    offline = resumed = False
    step = starting_step = 0

    def __init__(self, config: "Any", summary: "Any") -> None:
        self.config = config
        self.summary = summary
        self.dir = self.directory = os.environ.get("TMPDIR") or os.sep + "tmp"
        self.lost = 0

    def log(self, *arguments: "Any", **more: "Any") -> None:  # noqa: ARG002 - whatever log() is given
        """Count a record that is lost."""
        self.lost += 1

    def save(self, *arguments: "Any", **more: "Any") -> "Any":  # noqa: ARG002
        """Keep nothing."""
        return []

    def log_artifact(self, artifact: "Any" = None, *arguments: "Any", **more: "Any") -> "Any":  # noqa: ARG002
        """Return what was given."""
        return artifact

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):  # what copy and pickle ask for
            raise AttributeError(name)
        return _nothing

    def __enter__(self) -> "NoRun":  # noqa: PYI034 - typing has no Self on old Pythons
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _nothing(*arguments: "Any", **more: "Any") -> None:
    """Do nothing."""
