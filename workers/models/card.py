"""What is known about a model before it is loaded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from workers.models.server_entry import ServerEntry

Kind = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model. `max_tokens` counts special tokens, and is 0 where it is not known; `dimensions` is 0 for a decoder; `files` maps a name
    to its SHA-256.

    `labels`: of a sequence classifier, which answers with those it was trained on. `languages`: those it was trained on, as BCP 47
    tags; empty where that is not known. `shorter`: to how many dimensions its vectors may be cut, as it was trained for; empty where to
    any, None where to none. `folder`: where an operator's own model lies; `server`: what runs it in place of this process.
    `openvino`: the folder is in OpenVINO's own form. `adapter`: the folder of a LoRA adapter that is merged into it.
    `damaged`: why it cannot be used, if so; then it does no task.
    `is_fake`: it only seems to be one, for tests.
    """

    id: str
    kind: Kind
    tasks: tuple[str, ...]
    licence: str
    upstream: str
    source_package: str
    source_version: str
    max_tokens: int
    speed_chars_per_second: int
    dimensions: int = 0
    chat: Literal["none", "plain", "gemma", "template"] = "none"
    source_sha256: str = ""
    files: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    folder: Path | None = None
    openvino: bool = False
    server: ServerEntry | None = None
    adapter: Path | None = None
    damaged: str = ""
    shorter: tuple[int, ...] | None = None
    is_fake: bool = False

    @classmethod
    def unusable(cls, model_id: str, kind: Kind, why: str, *, licence: str = "", folder: Path | None = None) -> Self:
        """Of one that is named and cannot be used."""
        return cls(
            id=model_id,
            kind=kind,
            tasks=(),
            licence=licence,
            upstream="",
            source_package="",
            source_version="",
            max_tokens=0,
            speed_chars_per_second=1,
            folder=folder,
            damaged=why,
        )

    @property
    def base_id(self) -> str:
        """Of a model with an adapter the one below, else its own."""
        return self.id if self.adapter is None else self.id.rpartition("@")[0]

    @property
    def own_labels(self) -> bool:
        """Whether it is a sequence classifier."""
        return bool(self.labels)

    @property
    def reads_no_messages(self) -> bool:
        """Of an operator's own decoder without a chat template: it only goes on with prompts."""
        return self.kind == "decoder" and self.folder is not None and self.chat == "none"

    @property
    def sends_to(self) -> str:
        """The address that texts leave this machine for; empty where they stay with this process and its children."""
        return self.server.url if self.server is not None else ""

    @property
    def weights_version(self) -> str:
        """`<id>@<start of the weights' digest>`"""
        return f"{self.id}@{self.files['model.safetensors'][:12]}"
