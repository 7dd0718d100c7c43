"""Runs may be shared: principals other than the owner get leave to write."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "run_grants",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("principal_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.Column("granted_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["granted_by"], ["principals.id"], name=op.f("fk_run_grants_granted_by")),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_run_grants_principal_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_grants_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_grants")),
    )
    op.create_index(op.f("ix_run_grants_run_id"), "run_grants", ["run_id"], unique=False)
