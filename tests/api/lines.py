"""Lines of batch files, for tests."""

import json
from typing import Final

CLASSIFY = "/v1/classifications"
CHAT = "/v1/chat/completions"
EMBED: Final = "/v1/embeddings"
LABELS = ["sport", "politics"]
ROWS = 40  # enough for several shards


def classify_line(custom_id: str, text: str = "some text", **body: object) -> bytes:
    request = {"custom_id": custom_id, "method": "POST", "url": CLASSIFY, "body": {"input": text, "labels": LABELS, **body}}
    return json.dumps(request).encode() + b"\n"


def classify_file(rows: int = 3) -> bytes:
    return b"".join(classify_line(f"row-{number}", f"text number {number}") for number in range(rows))
