"""The family of errors that people meet: a code, a sentence, and what to do. Content never enters them."""

from collections.abc import Callable
from typing import ClassVar


class TextmillError(Exception):
    """Base of every error that is shown to a person.

    ``code`` is a stable word for programs, ``message`` a sentence that says what happened, where, and what to do; ``status`` is the HTTP
    status that fits. Neither may quote an input: messages are logged and sent back.
    """

    default_code: ClassVar[str] = "error"
    default_status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status or self.default_status


class SettingsError(TextmillError):
    """Something is missing or wrong in how the process was set up."""

    default_code = "bad_settings"


class AnotherKeyFile(SettingsError):
    """What is stored was sealed under another KEK than this process has: no fault of what is stored, nor of who asks."""

    default_code = "another_key_file"

    def __init__(self) -> None:
        super().__init__("The store's keys were wrapped by another key file than the one in use: set TEXTMILL_KEK_FILE to that one.")


class AnotherSchema(SettingsError):
    """The database is of a version that this program must not work with: no fault of what is stored, nor of who asks."""

    default_code = "another_schema"
    default_status = 503


class StoreError(TextmillError):
    """The store refused or could not do it. ``put_on_record``: says so on record, once the transaction that it left is undone."""

    default_code = "store_error"
    put_on_record: Callable[[], object] | None = None


class NotFound(StoreError):
    """No such thing, or it is another tenant's: the two look the same from outside."""

    default_code = "not_found"
    default_status = 404


class Conflict(StoreError):
    """The thing exists and its state forbids the request."""

    default_code = "conflict"
    default_status = 409


class Denied(StoreError):
    """Who asks may not."""

    default_code = "denied"
    default_status = 403


class KeyEnded(Denied):
    """The key that an act was begun with was revoked, or ran out, in its course."""

    default_code = "revoked_api_key"
    default_status = 401

    def __init__(self) -> None:
        super().__init__("This API key was revoked, or has expired, meanwhile.")


class AuditUnavailable(StoreError):
    """An access could not be put on record, so that it did not take place. The next one may."""

    default_code = "audit_unavailable"
    default_status = 503

    def __init__(self) -> None:
        super().__init__("The audit record cannot be written, and nothing is read or changed without it: try again later.")


class LeaseLost(StoreError):
    """The shard's lease is someone else's by now: what was computed must be thrown away."""

    default_code = "lease_lost"

    def __init__(self, message: str = "The lease of this shard has run out or was taken over; its results were not stored.") -> None:
        super().__init__(message)


class BudgetSpent(LeaseLost):
    """The budget of the shard's job is used up: its lease is worth nothing, and the job ends at the dispatcher's next round."""

    default_code = "batch_over_budget"

    def __init__(self) -> None:
        super().__init__("The budget of this job is used up; these results were not stored.")


class LeadLost(StoreError):
    """Another dispatcher leads by now: whatever this one was about to do is the other's."""

    default_code = "lead_lost"

    def __init__(self) -> None:
        super().__init__("Another dispatcher leads by now; this one changed nothing and stands by.")


class SealError(StoreError):
    """A sealed value does not open. The message is constant: it must not tell an attacker which check failed."""

    default_code = "sealed_value_damaged"

    def __init__(self) -> None:
        super().__init__("A sealed value could not be opened: it was altered, moved, or sealed under another key.")
