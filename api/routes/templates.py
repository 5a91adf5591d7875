"""``/v1/templates``: texts with slots, for batches to name as their model (`template:NAME`)."""

from api.routes.definitions import router_of
from db.jobs.versions import TEMPLATES
from workers.content.writer import TemplateWriter

router = router_of(TEMPLATES, "/v1/templates", "template", TemplateWriter)
