"""Hosts have events, and single writers of runs have samples."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "writer_samples",
        sa.Column("id", row_id, nullable=False),
        sa.Column("entity_id", row_id, nullable=False),
        sa.Column("principal_id", row_id, nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.LargeBinary(length=16), nullable=False),
        sa.Column("trusted", sa.Integer(), nullable=False),
        sa.Column("points_id", row_id, nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entities.id"], name=op.f("fk_writer_samples_entity_id")),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_writer_samples_principal_id")
        ),
        sa.ForeignKeyConstraint(["points_id"], ["point_sets.id"], name=op.f("fk_writer_samples_points_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writer_samples")),
        sa.UniqueConstraint(
            "entity_id",
            "uid",
            "stream",
            "principal_id",
            name=op.f("uq_writer_samples_entity_id_uid_stream_principal_id"),
        ),
    )
    op.create_table(
        "host_events",
        sa.Column("id", row_id, nullable=False),
        sa.Column("host_id", row_id, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_host_events_host_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host_events")),
    )
    op.create_index(op.f("ix_host_events_host_id_time"), "host_events", ["host_id", "time"], unique=False)
