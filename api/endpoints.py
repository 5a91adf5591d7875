"""Which endpoint runs which task."""

from typing import Final

from workers import tasks

# What a batch, and a line of its file, may name; heads are made by POST /v1/heads.
TASKS: Final = {endpoint: task for task in tasks.TASKS.values() if task.in_batches for endpoint in task.endpoints}
