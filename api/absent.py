"""What is told at an address where nothing is: what stands in its place here, for those whom a client of the public API leads there.

Pure. The address itself is what a caller sent and is not repeated; the names below are the public API's.
"""

from collections.abc import Mapping
from typing import Final

from api.endpoints import TASKS, command_for

_HOW: Final = (
    'upload a file whose lines say "url": "{endpoint}" (POST /v1/files, purpose=batch), then make a batch of it (POST /v1/batches,'
    ' "endpoint": "{endpoint}"); or run `textmill {command} FILE`. /docs/jobs shows it.'
)
_CHAT_INSTEAD: Final = _HOW.format(endpoint="/v1/chat/completions", command="generate")
_HEADS_INSTEAD: Final = (
    "Models are not fine-tuned here. A classifier is trained on a file of examples by POST /v1/heads, or `textmill train head`."
)
_RANKING_INSTEAD: Final = "Nothing is ranked here; texts are embedded and classified, in batches (POST /v1/batches)."
# By the first word of an address below /v1 that clients know.
_INSTEAD: Final[Mapping[str, str]] = {
    "messages": f"There is no Messages API here. Ask the same as a batch: {_CHAT_INSTEAD}",
    "responses": "No response is kept by itself here, and none goes on from another. Ask in a batch: "
    + _HOW.format(endpoint="/v1/responses", command="generate"),
    "rerank": _RANKING_INSTEAD,
    "score": _RANKING_INSTEAD,
    "fine_tuning": _HEADS_INSTEAD,
    "fine-tunes": _HEADS_INSTEAD,
    "uploads": "There are no uploads in parts here: POST /v1/files takes a file of any size in one request, as it streams.",
}
_NONE_OF: Final = ("images", "audio", "videos", "assistants", "threads", "vector_stores", "realtime", "evals", "containers", "chatkit")
_RESOURCES: Final = frozenset(
    {
        "chat",
        "completions",
        "embeddings",
        "classifications",
        "files",
        "batches",
        "models",
        "label_sets",
        "prompts",
        "rules",
        "templates",
        "heads",
        *_INSTEAD,
        *_NONE_OF,
    }
)
_NOTHING: Final = "There is nothing at this address; /docs/http lists the routes."


def told_at(path: str) -> tuple[str, str]:
    """The code and the sentence of a 404."""
    words = [word for word in path.split("/") if word]
    if words[:2] == ["v1", "v1"]:
        return "not_found", "The address has /v1 twice: give the client a base address that ends in one."
    if words and words[0] in _RESOURCES:
        return "not_found", "The address begins with /v1: give the client a base address (base_url) that ends in it."
    if words[:1] == ["api"] or words[:2] == ["openai", "deployments"]:
        return "not_found", "This is an API like OpenAI's, for batches: its base address ends in /v1. /docs/http lists the routes."
    if words[:1] != ["v1"] or len(words) < 2:
        return "not_found", _NOTHING
    task = TASKS.get("/" + "/".join(words))
    if task is not None:
        endpoint = "/" + "/".join(words)
        how = _HOW.format(endpoint=endpoint, command=command_for(task.name))
        return "batches_only", f"Nothing is answered at {endpoint} itself: textmill works in batches. Instead, {how}"
    if words[1] in _INSTEAD:
        return "not_supported", _INSTEAD[words[1]]
    if words[1] in _NONE_OF:
        return "not_supported", f"There is nothing of /v1/{words[1]} here: textmill is for batches of text. /docs/http lists the routes."
    if path.endswith("/"):
        return "not_found", "There is nothing at this address; without the slash at its end there may be. /docs/http lists the routes."
    return "not_found", _NOTHING
