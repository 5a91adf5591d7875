"""What all tables are made with."""

from sqlalchemy import Column, DateTime, MetaData, func
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData()


def of_tenant() -> Column[object]:
    return Column("tenant_id", UUID(as_uuid=True), nullable=False)


def moment(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else func.now())
