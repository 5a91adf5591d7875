"""The second half of `textmill jobs show`: the job's shards, who ran them, and why one failed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.wire import Story

SHARD_COLUMNS = ("ROWS", "STATE", "DONE", "FAILED", "EPOCH", "CRASHES", "ERRORS", "LAST ERROR", "WORKER", "LAST WRITE")


def show_story(story: "Story") -> None:
    """Nothing where the job was not cut yet."""
    from api.cli.terminal.terminal import answer, table, when

    if not story.totals:
        return
    answer("")
    table(
        ("SHARDS", "COUNT", "ROWS DONE", "CRASHES", "ERRORS"),
        ((each.state, each.shards, f"{each.rows:,}", each.crashes, each.errors) for each in story.totals),
    )
    if story.workers:
        answer("")
        table(("LAST HELD BY", "SHARDS", "ROWS"), ((each.worker, each.shards, f"{each.rows:,}") for each in story.workers))
    if story.shards:
        answer("")
        table(
            SHARD_COLUMNS,
            (
                (
                    f"{shard.first_row}–{shard.end_row - 1}",
                    shard.state,
                    shard.completed + shard.failed,
                    shard.failed,
                    shard.epoch,
                    shard.crashes,
                    shard.errors,
                    shard.last_error or "",
                    shard.worker or "",
                    when(shard.progressed_at),
                )
                for shard in story.shards
            ),
        )
