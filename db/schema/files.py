"""What was uploaded."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import UUID

from db.schema.columns import metadata, moment, of_tenant

files = Table(
    "files",
    metadata,
    of_tenant(),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),  # uploading | processed | error (being erased) | deleted (a tombstone that jobs go on naming)
    Column("error_code", Text),
    Column("name_sealed", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("size_chars", BigInteger, nullable=False, server_default="0"),
    Column("row_count", Integer, nullable=False, server_default="0"),
    Column("defect_count", Integer, nullable=False, server_default="0"),
    moment("created_at", nullable=False),
    moment("expires_at"),
    Column("content_bytes", BigInteger),  # of its rows as they are read back, as JSON lines; size_bytes is what was uploaded
    Column("stored_names_sealed", LargeBinary),  # heads and label sets that its rows name; NULL where that is not known
    Column("columns_sealed", LargeBinary),  # what its columns are called and hold; NULL where it was no table
    PrimaryKeyConstraint("tenant_id", "file_id"),
    Index("files_by_age", "tenant_id", "created_at", "file_id"),
)

rows = Table(  # hash-partitioned by file_id
    "rows",
    metadata,
    of_tenant(),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("idx", Integer, nullable=False),  # 0-based position among the rows of the file
    Column("line", Integer, nullable=False),  # 1-based line (or record) in the uploaded file, for messages
    Column("endpoint", Text),  # what the line's url named, from a closed list; NULL fits every endpoint
    Column("defect", Text),  # a failure code found while parsing; such a row never reaches a model
    Column("size", Integer, nullable=False),  # characters of the body
    Column("custom_id_sealed", LargeBinary),
    Column("custom_id_hmac", LargeBinary),
    Column("body_sealed", LargeBinary),
    Column("columns_sealed", LargeBinary),  # a table's other columns; NULL where there are none
    PrimaryKeyConstraint("tenant_id", "file_id", "idx"),
)
