"""What the front can be told, by environment (``TEXTMILL_…``)."""

from typing import Self

from pydantic import Field

from api.formats.limits import FileLimits
from db.settings import StoreSettings

MIB = 1 << 20


class ApiSettings(StoreSettings):
    """``store_threads`` run blocking calls of the store; each upload has one more thread of its own for as long as its body takes to parse.

    ``forwarded_from``: addresses of proxies whose X-Forwarded-For is believed (for the audit's "from where"); empty: none.
    ``metrics_from_anywhere``: /metrics answers only the loopback address otherwise.
    """

    max_upload_bytes: int = Field(default=4096 * MIB, ge=1)
    max_line_bytes: int = Field(default=8 * MIB, ge=1024)
    max_parquet_bytes: int = Field(default=256 * MIB, ge=1024)  # held in memory: Parquet cannot be read as a stream
    max_json_bytes: int = Field(default=8 * MIB, ge=1024)  # of every other body; 5,000 long labels fit
    max_uploads: int = Field(default=32, ge=1)
    store_threads: int = Field(default=16, ge=1, le=128)
    upload_idle_seconds: float = Field(default=60.0, gt=0)  # an upload that sends nothing for so long is ended
    shutdown_seconds: int = Field(default=10, ge=1)  # what requests get to finish once the server is asked to end
    key_cache_seconds: float = Field(default=3.0, ge=0, le=5)  # a revoked key works so long at most
    forwarded_from: str = ""
    metrics_from_anywhere: bool = False

    @classmethod
    def over(cls, settings: StoreSettings) -> Self:
        """The front's settings from the environment, with the store's as they are given."""
        if isinstance(settings, cls):
            return settings
        return cls(**settings.model_dump())

    @property
    def file_limits(self) -> FileLimits:
        return FileLimits(max_line_bytes=self.max_line_bytes, max_parquet_bytes=self.max_parquet_bytes)
