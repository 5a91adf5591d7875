"""Which endpoint runs which task, and which command."""

from typing import Final

from workers import tasks

# What a batch, and a line of its file, may name; heads are made by POST /v1/heads.
TASKS: Final = {endpoint: task for task in tasks.TASKS.values() if task.in_batches for endpoint in task.endpoints}
_COMMANDS: Final = {"classify": "label", "embed": "embed", "generate": "generate"}


def command_for(task: str) -> str:
    """What follows `textmill` to run a task, by its name, over a file."""
    return _COMMANDS.get(task, f"run {task}")
