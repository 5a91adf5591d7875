"""What Flower's options cannot say. Its configuration file imports this: /metrics asks for the password, as every other page does, and
without a queue to look at it ends with a sentence.

Only Flower's own process imports it.
"""

from flower.views.monitor import Metrics
from tornado.web import authenticated

from db.errors import SettingsError
from db.settings import StoreSettings, load

setattr(Metrics, "get", authenticated(Metrics.get))  # noqa: B010 -- a method that a type checker lets nobody replace

try:
    load(StoreSettings).broker_url()
except SettingsError as error:
    raise SystemExit(f"textmill: {error.message}") from None
