"""What can be asked of a row. A task is one folder: its body, how that is read, how a model runs over it, its answer, and the facts that
the front, the dispatcher and the command line ask for (`task.py` says what a task is).

What enters: a shard's opened rows (`db.queue.row`), and names that the store knows. What leaves: the same rows, answered or failed. Light:
what brings numpy or a model is imported when rows are run. A new task is a folder here and its name in the two lines below.
"""

from typing import Any, Final

from workers.tasks import classify, embed, generate, moderate, train
from workers.tasks.task import Task

TASKS: Final[dict[str, Task[Any]]] = {task.name: task for task in (classify.TASK, embed.TASK, generate.TASK, moderate.TASK, train.TASK)}
