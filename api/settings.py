"""What the front can be told, by environment (``TEXTMILL_…``)."""

from typing import Self

from pydantic import Field, field_validator

from api.formats.limits import FileLimits
from api.prices import read_prices
from db.settings import StoreSettings

MIB = 1 << 20
MOST_BYTES = 1 << 44  # 16 TiB
MOST_BODY_BYTES = 1 << 30  # each is held in memory


class ApiSettings(StoreSettings):
    """What each is for, its description says; the reference takes it from there."""

    max_upload_bytes: int = Field(default=4096 * MIB, ge=1, le=MOST_BYTES, description="Of one uploaded file.")
    max_line_bytes: int = Field(
        default=8 * MIB, ge=1024, le=MOST_BODY_BYTES, description="Of one line or record; a longer one is a failed row."
    )
    max_parquet_bytes: int = Field(
        default=256 * MIB, ge=1024, le=1 << 36, description="Of a Parquet file, which is held in memory: it cannot be read as a stream."
    )
    max_unpacked_bytes: int = Field(
        default=1024 * MIB, ge=1024, le=MOST_BYTES, description="Of what comes out of the columns of a Parquet file."
    )
    max_json_bytes: int = Field(default=8 * MIB, ge=1024, le=MOST_BODY_BYTES, description="Of every other body; 5,000 long labels fit.")
    max_uploads: int = Field(
        default=32, ge=1, le=1024, description="Uploads at once, each with a thread of its own; one more is answered 429."
    )
    max_tenant_uploads: int = Field(
        default=8, ge=1, le=1024, description="Of these, by one tenant; so that no tenant's stalled ones block others."
    )
    store_threads: int = Field(default=16, ge=1, le=128, description="Threads for calls of the store, and database connections.")
    upload_idle_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=3600,
        description="An upload that sends nothing for so long is ended, and later one slower than 128 bytes a second.",
    )
    shutdown_seconds: int = Field(default=10, ge=1, le=3600, description="What requests get to finish once the server is asked to end.")
    key_cache_seconds: float = Field(
        default=3.0, ge=0, le=5, description="How long a key that was good is not looked up again: so long a revoked one may go on working."
    )
    forwarded_from: str = Field(
        default="",
        description="Addresses of proxies, with commas, whose X-Forwarded-For is believed (for the audit's origin). Empty: none.",
    )
    prices: str = Field(
        default="",
        description="What a million tokens cost, in and out, for forecasts alone: `MODEL=IN/OUT` with commas, `*` for any other model.",
    )
    currency: str = Field(default="", max_length=8, description="What these prices are in, as forecasts say it.")
    metrics_from_anywhere: bool = Field(
        default=False, description="`/metrics` answers others than this machine itself, and through proxies."
    )

    @field_validator("prices")
    @classmethod
    def _readable(cls, text: str) -> str:
        read_prices(text)
        return text

    @classmethod
    def over(cls, settings: StoreSettings) -> Self:
        """The front's settings from the environment, with the store's as they are given."""
        if isinstance(settings, cls):
            return settings
        return cls(**settings.model_dump())

    @property
    def file_limits(self) -> FileLimits:
        return FileLimits(
            max_line_bytes=self.max_line_bytes,
            max_parquet_bytes=self.max_parquet_bytes,
            max_unpacked_bytes=self.max_unpacked_bytes,
            max_text_bytes=self.max_upload_bytes,
        )
