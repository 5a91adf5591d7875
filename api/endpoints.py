"""Which endpoint runs which task."""

from typing import Final

HEADS: Final = "/v1/heads"
TASKS: Final = {
    "/v1/classifications": "classify",
    "/v1/chat/completions": "generate",
    "/v1/completions": "generate",
    "/v1/embeddings": "embed",
}  # what a batch, and a line of its file, may name; heads are made by POST /v1/heads
