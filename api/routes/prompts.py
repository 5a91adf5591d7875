"""``/v1/prompts``: what is said to a model about a row, with places for its columns."""

from api.routes.definitions import router_of
from db.jobs.versions import PROMPTS
from workers.content.prompts import Prompt

router = router_of(PROMPTS, "/v1/prompts", "prompt", Prompt)
