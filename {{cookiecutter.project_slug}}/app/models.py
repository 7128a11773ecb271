"""The tables. After a change: uv run alembic revision --autogenerate --message "what changed"."""

from uuid import UUID

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# As SQLAlchemy recommends: a migration can only drop a constraint that has a name.
NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """What all tables have in common."""

    metadata = MetaData(naming_convention=NAMES)


class Order(Base):
    """An order as it was placed."""

    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]
