"""What Flower's options cannot say. Its configuration file imports this: /metrics asks for the password, as every other page does.

Only Flower's own process imports it.
"""

from flower.views.monitor import Metrics
from tornado.web import authenticated

setattr(Metrics, "get", authenticated(Metrics.get))  # noqa: B010 -- a method that a type checker lets nobody replace
