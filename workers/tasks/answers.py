"""What the answers of all tasks have in common. They are deterministic: a row that is run again (a worker died before it could write) gets
the same id."""

from uuid import UUID


def answer_id(prefix: str, job_id: UUID, idx: int) -> str:
    """``cls_<hex>``: the job's id and the row's place in it."""
    return f"{prefix}{job_id.hex}{idx:08x}"
