"""Runs may be asked to stop, say why they ended, and writers tell facts about their end."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "stop_requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("principal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("streams", sa.BigInteger(), nullable=False),
        sa.Column("deliveries", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_stop_requests_principal_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_stop_requests_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stop_requests")),
    )
    op.create_index(op.f("ix_stop_requests_run_id"), "stop_requests", ["run_id"], unique=False)
    op.create_index(op.f("ix_stop_requests_done"), "stop_requests", ["done"], unique=False)
    op.add_column("runs", sa.Column("cause", sa.Text(), nullable=True))
    op.add_column("streams", sa.Column("ending", sa.Text(), nullable=True))
