"""What Flower's options cannot say. Its configuration file imports this: /metrics asks for the password, as every other page does; nothing
is believed that no worker would say, nor a history that others could have written; its log tells of no address, which may hold a key that
somebody sent to the wrong port; and without a queue to look at it ends with a sentence.

Only Flower's own process imports it.
"""

import logging
import shelve
from pathlib import Path
from types import TracebackType
from typing import Any

from celery.events import EventReceiver
from flower import app, events, inspector
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.web import HTTPError, authenticated

from db.errors import SettingsError
from db.settings import StoreSettings, load
from workers.flower_events import believed, fits
from workers.flower_history import HistoryUnpickler, why_not_ours

log = logging.getLogger("textmill.flower")


class Receiver(EventReceiver):
    """Celery's, of believed events only."""

    def _receive(self, body: Any, message: Any, *_: Any) -> None:
        heard = body if isinstance(body, list) else [body]
        super()._receive([event for event in map(believed, heard) if event is not None], message)  # type: ignore[no-untyped-call]


class Inspector(inspector.Inspector):
    """Flower's, of answers that a worker may have given."""

    def _on_update(self, workername: Any, method: str, response: Any) -> None:
        if isinstance(workername, str) and fits(method, response):
            super()._on_update(workername, method, response)  # type: ignore[no-untyped-call]


class Events(events.Events):
    """Flower's, over a history that is this user's alone."""

    def load_state(self) -> Any:
        if (why := why_not_ours(Path(self.db))) is not None:
            raise SystemExit(f"textmill: {why}")
        return super().load_state()  # type: ignore[no-untyped-call]


def log_exception(handler: BaseHandler, kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Which page failed and how; Tornado would quote the whole request."""
    status = f" {error.status_code}" if isinstance(error, HTTPError) else ""
    log.warning("%s of %s: %s%s", handler.request.method, type(handler).__name__, kind.__name__, status)


setattr(Metrics, "get", authenticated(Metrics.get))  # noqa: B010 -- a method that a type checker lets nobody replace
setattr(BaseHandler, "log_exception", log_exception)  # noqa: B010
setattr(events, "EventReceiver", Receiver)  # noqa: B010
setattr(app, "Inspector", Inspector)  # noqa: B010
setattr(app, "Events", Events)  # noqa: B010
setattr(shelve, "Unpickler", HistoryUnpickler)  # noqa: B010 -- Flower's process has no other shelf

try:
    load(StoreSettings).broker_url()
except SettingsError as error:
    raise SystemExit(f"textmill: {error.message}") from None
