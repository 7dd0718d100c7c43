"""Every table of the metadata store and of the embedded point store, in SQLAlchemy Core.

This is the head of the schema; `migrations/` leads there from any earlier one (a test keeps the two
equal). Times are integer nanoseconds since 1970. JSON stands in Text columns, always valid JSON.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite numbers rows by itself only where the key is declared INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")

#: Facts about the database itself: "epoch" (random, new in each database and after a restore), "life" and
#: "commits" (epoch.py).
meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# --- who -------------------------------------------------------------------------------------------

entities = Table(
    "entities",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created", BigInteger, nullable=False),
)

principals = Table(
    "principals",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("kind", String(16), nullable=False),  # user | service
    Column("created", BigInteger, nullable=False),
    Column("disabled", BigInteger),
    UniqueConstraint("entity_id", "name"),
)

#: The secret itself is never stored: digest = sha256(secret).
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", String(64), nullable=False),  # "ingest,read"
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("used", BigInteger),
    Column("revoked", BigInteger),
)

#: A signed-in browser; digest = sha256(cookie).
sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False, index=True),
    # The key that was signed in with: the session ends when it is revoked.
    Column("key_id", String(16), ForeignKey("api_keys.id")),
    Column("scopes", String(64), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

#: A one-time sign-in link; the row goes when it is used.
signin_tokens = Table(
    "signin_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False, index=True),
    Column("scopes", String(64), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

# --- what is followed --------------------------------------------------------------------------------

#: principal_id: whose samples count. None until a stream of the host itself has arrived.
hosts = Table(
    "hosts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("machine", String(128), nullable=False),
    Column("host", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("principal_id", Id, ForeignKey("principals.id")),
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    Column("inventory", Text, nullable=False),  # JSON map
    Column("seen", BigInteger, nullable=False),
    UniqueConstraint("entity_id", "machine"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("entity_id", "name"),
)

#: Owner = (principal_id, uid) of its first writer. `points` and `metrics` are counts.
runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", Id, ForeignKey("projects.id"), nullable=False),
    Column("run", String(64), nullable=False),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("user", Text, nullable=False),
    Column("machine", String(128), nullable=False),
    Column("host", Text, nullable=False),
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON list
    Column("group", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("fields", Text, nullable=False),  # JSON map: RUN fields not named here
    Column("config", Text, nullable=False),  # JSON map
    Column("summary", Text, nullable=False),  # JSON map: only what SUMMARY set by hand
    Column("hidden", Text, nullable=False),  # JSON list: names SUMMARY removed by hand
    Column("state", String(16), nullable=False),  # running | finished | failed | crashed
    Column("exit_code", BigInteger),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("finished", BigInteger),
    Column("streams", BigInteger, nullable=False),
    Column("console_lines", BigInteger, nullable=False),
    Column("cause", Text),  # why it ended, where that is more than a code
    UniqueConstraint("project_id", "run"),
    Index(None, "project_id", "created"),
    Index(None, "run"),
)

#: Position of one writer. crc/last describe the last committed line, None right after a gap.
streams = Table(
    "streams",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("stream", LargeBinary(16), nullable=False),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("user", Text, nullable=False),
    Column("run_id", Id, ForeignKey("runs.id"), index=True),
    Column("host_id", Id, ForeignKey("hosts.id")),
    Column("ordinal", BigInteger, nullable=False),  # among the streams of its run, by arrival
    Column("next", BigInteger, nullable=False),
    Column("crc", BigInteger),
    Column("last", BigInteger),
    Column("header", LargeBinary),  # identity as first seen (msgpack map); None until one arrived
    Column("version", BigInteger, nullable=False),
    Column("segment", BigInteger, nullable=False),
    Column("base", BigInteger, nullable=False),
    Column("step_max", BigInteger),
    Column("state", String(16), nullable=False),  # live | gone | ended
    Column("state_time", BigInteger, nullable=False),
    Column("exit_code", BigInteger),
    Column("exception", Text),  # JSON map
    Column("observed", Text),  # JSON map: facts of the last OBSERVED
    Column("ending", Text),  # JSON map: facts of EXIT besides code and exception
    UniqueConstraint("entity_id", "uid", "stream"),
)

#: OBSERVED about a stream that has not arrived yet.
observed = Table(
    "observed",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("stream", LargeBinary(16), nullable=False),
    Column("trusted", Integer, nullable=False),  # 1: the observer may speak of others' streams
    Column("time", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("facts", Text, nullable=False),
    UniqueConstraint("entity_id", "principal_id", "uid", "stream"),
)

#: What agents measured of the process of one writer of a run, whether its stream has arrived or not.
writer_samples = Table(
    "writer_samples",
    metadata,
    Column("id", Id, primary_key=True),
    Column("entity_id", Id, ForeignKey("entities.id"), nullable=False),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("stream", LargeBinary(16), nullable=False),
    Column("trusted", Integer, nullable=False),  # 1: the sender may speak of others' streams
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    UniqueConstraint("entity_id", "uid", "stream", "principal_id"),
)

#: What happened to a machine: ALERTs in the stream of its agent, the newest of them.
host_events = Table(
    "host_events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host_id", Id, ForeignKey("hosts.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("level", String(16), nullable=False),  # info | warn | error
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON map
    Index(None, "host_id", "time"),
)

#: Bytes of a stream that were damaged or lost, as the agent reported them.
gaps = Table(
    "gaps",
    metadata,
    Column("id", Id, primary_key=True),
    Column("stream_id", Id, ForeignKey("streams.id"), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("stream_id", "offset"),
)

#: Records a writer had to drop (LOST).
lost = Table(
    "lost",
    metadata,
    Column("id", Id, primary_key=True),
    Column("stream_id", Id, ForeignKey("streams.id"), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    UniqueConstraint("stream_id", "offset"),
)

#: What was wrong with records that were kept all the same, counted by reason.
problems = Table(
    "problems",
    metadata,
    Column("id", Id, primary_key=True),
    Column("stream_id", Id, ForeignKey("streams.id"), nullable=False),
    Column("reason", String(256), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),  # of the first
    UniqueConstraint("stream_id", "reason"),
)

#: Records kept as they came: VALUE, FILE, ALERT of a run, unknown kinds, bodies that could not be read.
raw_records = Table(
    "raw_records",
    metadata,
    Column("id", Id, primary_key=True),
    Column("stream_id", Id, ForeignKey("streams.id"), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("stream_id", "offset"),
)

#: Who else may write into a run. uid None: the principal under any uid.
run_grants = Table(
    "run_grants",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=False, index=True),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("uid", BigInteger),
    Column("granted_by", Id, ForeignKey("principals.id"), nullable=False),
    Column("created", BigInteger, nullable=False),
)

#: Who asked a run to stop, and when. It is for the writers with ordinals below `streams`; done: when none
#: of them was live any more. deliveries: what each host's agent did about it.
stop_requests = Table(
    "stop_requests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=False, index=True),
    Column("principal_id", Id, ForeignKey("principals.id"), nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("streams", BigInteger, nullable=False),
    Column("deliveries", Text, nullable=False),  # JSON map: machine → {time, result, reason}
    Column("done", BigInteger, index=True),
)

# --- points (docs/storage.md) ------------------------------------------------------------------------

#: The points of one run, host or writer's process. records = the cursor: records so far, in arrival order.
point_sets = Table(
    "point_sets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("records", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("metrics", BigInteger, nullable=False),
    Column("step_max", BigInteger),
)

#: Summary of one metric. last is that of the greatest (step, ordinal, offset).
metrics = Table(
    "metrics",
    metadata,
    Column("id", Id, primary_key=True),
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("special", BigInteger, nullable=False),  # how many were NaN or infinite
    Column("min", Float(53)),  # over finite values; None when there are none
    Column("max", Float(53)),
    Column("last", LargeBinary(8), nullable=False),  # float64, little-endian: NaN survives every database
    Column("last_step", BigInteger, nullable=False),
    Column("last_ordinal", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    UniqueConstraint("points_id", "name"),
)

#: A batch as it came, or several merged: records `first` … `first + records - 1` of the set.
tails = Table(
    "tails",
    metadata,
    Column("id", Id, primary_key=True),
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("points_id", "first"),
)

#: The shared axis (step, time, ordinal, offset) of folded records.
axes = Table(
    "axes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("points_id", Id, ForeignKey("point_sets.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("step_min", BigInteger, nullable=False),
    Column("step_max", BigInteger, nullable=False),
    Column("time_min", BigInteger, nullable=False),
    Column("time_max", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("points_id", "first"),
)

#: One metric's values on one axis.
chunks = Table(
    "chunks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("metric_id", Id, ForeignKey("metrics.id"), nullable=False),
    Column("axis_id", Id, ForeignKey("axes.id"), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("special", BigInteger, nullable=False),
    Column("min", Float(53)),
    Column("max", Float(53)),
    Column("last", LargeBinary(8), nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("metric_id", "axis_id"),
)

#: Console lines `first` … of a run, in arrival order.
console = Table(
    "console",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "first"),
)

# --- files -------------------------------------------------------------------------------------------

#: The newest version of each file of a run, by who sent it. The bytes: blobs.py, by digest and project.
#: revision counts the versions; a version is set only by someone who names the one before (protocol.md).
run_files = Table(
    "run_files",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=False),
    Column("machine", String(128), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime", BigInteger, nullable=False),
    Column("policy", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    UniqueConstraint("run_id", "machine", "uid", "path"),
    Index(None, "run_id", "path"),
)
