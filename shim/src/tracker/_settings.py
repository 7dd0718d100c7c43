"""What init() goes by: arguments first, then TRACKER_* variables, settings files, defaults. Reads no files.

A setting that cannot be used is replaced and noted in `problems`; a typing mistake in a job
script must not cost the job.
"""

import os

from ._values import to_plain
from .protocol.header import GPU_CHARACTERS_MAX, SERVER_CHARACTERS_MAX, valid_account, valid_run_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional


MODES = {
    "online": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    # Several writers of one run is what run directories are made for.
    "shared": "online",
}
#: How the console is recorded (docs/console.md); other names are those of wandb.
CONSOLES = {
    "auto": "auto",
    "redirect": "redirect",
    "wrap": "wrap",
    "wrap_raw": "wrap",
    "wrap_emu": "wrap",
    "off": "off",
}
RESUMES = ("allow", "must", "never", "auto")
DEFAULT_PROJECT = "uncategorized"
PROJECT_CHARACTERS_MAX = 128
_PROJECT_FORBIDDEN = frozenset("/\\#?%:")

_YES = ("1", "true", "yes", "on")

#: Where launchers say which of several processes this is, nearest first.
_RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

#: Which GPUs the process was given, as CUDA, NVIDIA's containers and ROCm are told. No other variable
#: is recorded.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Settings:
    """The settings of one run."""

    def __init__(
        self,
        arguments: "Mapping[str, Any]",
        environ: "Mapping[str, str]",
        file: "Optional[Mapping[str, str]]" = None,
    ) -> None:
        """file: what settings files say, by the names of arguments."""
        self.problems: List[str] = []
        self._arguments = arguments
        self._environ = environ
        self._in_file = file or {}
        self.silent = self._flag("silent", "TRACKER_SILENT")
        self.mode = self._mode()
        self.project = self._project()
        self.id = self._run_id()
        self.entity = self._text("entity", "TRACKER_ENTITY")
        self.allow_stop = self._flag("allow_stop", "TRACKER_ALLOW_STOP")
        self.name = self._text("name", "TRACKER_NAME")
        self.notes = self._text("notes", "TRACKER_NOTES")
        self.group = self._text("group", "TRACKER_GROUP")
        self.job_type = self._text("job_type", "TRACKER_JOB_TYPE")
        self.tags = self._list("tags", "TRACKER_TAGS")
        self.resume = self._resume()
        self.rank = self._rank()
        self.gpus = self._gpus()
        self.dir = self._dir()
        self.dir_variable = environ.get("TRACKER_DIR") or self._in_file.get("dir") or None
        self.server = self._server()
        self.api_key = self._api_key()
        self.account = self._account()
        self.console = self._console()
        self.disable_code = self._flag("disable_code", "TRACKER_DISABLE_CODE")
        self.disable_git = self._flag("disable_git", "TRACKER_DISABLE_GIT")
        #: What the streams of this process are, where it is no training: for our own programs.
        self.role = self._text("role", None)
        self.ignore_globs = self._list("ignore_globs", "TRACKER_IGNORE_GLOBS")

    def run_fields(self) -> "Dict[str, Any]":
        """Return the body of the RUN record, without the name."""
        fields: Dict[str, Any] = {"project": self.project}
        for name in ("entity", "notes", "group", "job_type"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        if self.tags:
            fields["tags"] = self.tags
        return fields

    def _given(self, name: str, variable: "Optional[str]") -> "Any":
        value = self._arguments.get(name)
        if value is not None and not self._is_readable(name, value):
            value = None
        if value is None and variable is not None:
            value = self._environ.get(variable) or self._in_file.get(name) or None
        return value

    def _is_readable(self, name: str, value: "Any") -> bool:
        """Return whether an argument is of a kind that can be read without surprises; else note it."""
        if isinstance(value, (str, bytes, int, float, list, tuple, dict, set)):
            return True
        try:
            str(value)
            if hasattr(type(value), "__fspath__"):
                os.fspath(value)
        except Exception as error:  # noqa: BLE001 - foreign objects raise anything
            self.problems.append("%s cannot be read (%s); ignored" % (name, type(error).__name__))
            return False
        return True

    def _text(self, name: str, variable: "Optional[str]") -> "Optional[str]":
        value = self._given(name, variable)
        return None if value is None else str(to_plain(value))

    def _flag(self, name: str, variable: str) -> bool:
        value = self._given(name, variable)
        if isinstance(value, str):
            return value.lower() in _YES
        try:
            return bool(value)
        except Exception:  # noqa: BLE001 - an array of several values, a foreign object
            self.problems.append("%s is true or false, not a %s; ignored" % (name, type(value).__name__))
            return False

    def _mode(self) -> str:
        given = self._text("mode", "TRACKER_MODE")
        if given is None or given == "run":
            return "disabled" if self._flag("disabled", "TRACKER_DISABLED") else "online"
        if given not in MODES:
            self.problems.append(
                "mode %r is not one of online, offline, disabled; this run is online" % given
            )
        return MODES.get(given, "online")

    def _dir(self) -> "Optional[str]":
        given = self._given("dir", None)
        if isinstance(given, (str, bytes)) or hasattr(type(given), "__fspath__"):
            return os.fsdecode(given) or None
        if given is not None:
            self.problems.append("dir is the path of a directory, not a %s; ignored" % type(given).__name__)
        return None

    def _resume(self) -> "Optional[str]":
        given = self._text("resume", "TRACKER_RESUME")
        if given is None or given.lower() in ("false", "0", ""):
            return None
        if given.lower() in ("true", "1"):
            return "auto"
        if given in RESUMES:
            return given
        self.problems.append("resume %r is not one of %s; ignored" % (given, ", ".join(RESUMES)))
        return None

    def _console(self) -> str:
        given = self._text("console", "TRACKER_CONSOLE")
        if given is None:
            return "auto"
        if given not in CONSOLES:
            self.problems.append("console %r is not one of auto, redirect, wrap, off; it is auto" % given)
        return CONSOLES.get(given, "auto")

    def _project(self) -> str:
        given = self._text("project", "TRACKER_PROJECT")
        if not given:
            return DEFAULT_PROJECT
        project = clean_project(given)
        if project != given:
            self.problems.append(
                "project %r is recorded as %r: a name has at most %d characters, none of %s"
                % (given, project, PROJECT_CHARACTERS_MAX, " ".join(sorted(_PROJECT_FORBIDDEN)))
            )
        return project

    def _run_id(self) -> "Optional[str]":
        given = self._text("id", "TRACKER_RUN_ID")
        if not given or valid_run_id(given):
            return given or None
        self.problems.append(
            "run id %r is not 1 to 64 of A-Z a-z 0-9 . _ - (no dot first); this run gets a new id" % given
        )
        return None

    def _list(self, name: str, variable: str) -> "List[str]":
        given = self._given(name, variable)
        if given is None:
            return []
        if isinstance(given, str):
            return [part.strip() for part in given.split(",") if part.strip()]
        try:
            return [str(to_plain(part)) for part in given]
        except Exception:  # noqa: BLE001 - nothing to iterate over, or not to the end
            return [str(to_plain(given))]

    def _rank(self) -> "Optional[int]":
        for variable in _RANK_VARIABLES:
            value = self._environ.get(variable, "")
            if value.isdigit() and len(value) < 10:
                return int(value)
        return None

    def _gpus(self) -> "Optional[Dict[str, str]]":
        # Set and empty is not the same as not set: it hides every GPU.
        found = {
            name: self._environ[name][:GPU_CHARACTERS_MAX] for name in _GPU_VARIABLES if name in self._environ
        }
        return found or None

    def _server(self) -> "Optional[str]":
        given = self._text("base_url", "TRACKER_BASE_URL")
        if not given:
            return None
        server = given.strip().rstrip("/")[:SERVER_CHARACTERS_MAX]
        if not server.startswith(("http://", "https://")) or not server.isprintable() or "@" in server:
            # Kept all the same: the agent holds the run back rather than sending it elsewhere.
            self.problems.append("server %r is no address such as https://tracker.example.org" % server)
        return server or None

    def _api_key(self) -> "Optional[str]":
        key = (self._text("api_key", "TRACKER_API_KEY") or "").strip()
        if key and not (key.isprintable() and all(ord(c) < 128 and c != " " for c in key)):
            self.problems.append("the API key holds characters that no key has; ignored")
            return None
        return key or None

    def _account(self) -> "Optional[str]":
        name = self._text("account", "TRACKER_ACCOUNT")
        if name and not valid_account(name):
            self.problems.append("account %r is not 1 to 64 of A-Z a-z 0-9 _ -; ignored" % name)
            name = None
        return name or (account_of(self.api_key) if self.api_key else None)


def account_of(key: str) -> str:
    """Return the public part of an API key, which names it without giving it away."""
    parts = key.split("_", 2)
    if len(parts) == 3 and valid_account(parts[1]):
        return parts[1]
    import hashlib

    return hashlib.sha256(b"tracker account\0" + key.encode()).hexdigest()[:8]


def clean_project(name: str) -> str:
    """Return the name with what a project name may not hold replaced by "-"."""
    cleaned = "".join(
        "-" if c in _PROJECT_FORBIDDEN or ord(c) < 32 or 127 <= ord(c) < 160 else c for c in name
    )
    return cleaned[:PROJECT_CHARACTERS_MAX]
