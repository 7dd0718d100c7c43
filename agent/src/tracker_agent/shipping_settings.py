"""What the pipeline is told: everything that may be configured about shipping."""

from __future__ import annotations

from dataclasses import dataclass, field

from .setting_values import NO_UID_MAP, UidMap
from .settings import CrashSettings, FileSettings, LimitSettings, RetentionSettings, ServerSettings


@dataclass(frozen=True)
class PipelineSettings:
    """Everything that may be configured about shipping. Times in seconds."""

    state_dir: str
    spools: tuple[str, ...]
    servers: tuple[ServerSettings, ...]  #: the default one first, then those that users may choose
    watch: bool | None = None  #: True, False, or None: on where the file system sends events
    scan_interval_s: float = 0.5
    flush_interval_s: float = 0.2
    batch_bytes: int = 4 * 1024 * 1024
    probe_interval_s: float = 300.0  #: how often a refused key or stream is tried again
    retry_first_s: float = 1.0
    retry_max_s: float = 300.0
    request_timeout_s: float = 60.0
    limits: LimitSettings = field(default_factory=LimitSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    files: FileSettings = field(default_factory=FileSettings)
    crash: CrashSettings = field(default_factory=CrashSettings)
    allow_stop: bool = True  #: whether servers may ask runs that allow it to stop
    uid_map: UidMap = NO_UID_MAP  #: whose runs those of containers' users are
    one_key: bool = False  #: everything goes to the default server with the operator's key
    pidfds_max: int = 4096
    own_keep_s: float = 3600.0  #: how long own streams stay once the server has them
