"""``/v1/rules``: conditions on columns with answers, for batches to name as their model (`rules:NAME`)."""

from api.routes.definitions import router_of
from db.jobs.versions import RULES
from workers.content.rules import Rules

router = router_of(RULES, "/v1/rules", "set of rules", Rules)
