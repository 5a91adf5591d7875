"""Models that an operator put on this machine: each folder below TEXTMILL_MODEL_FOLDERS that holds a Hugging Face model in safetensors.

A folder NAME becomes the model "local:NAME": an encoder (classify by label names, embed), a classifier with labels of its own, or a
decoder (generate, classify by label names), by its architecture. One that cannot be read, or that others may change, harms itself alone:
its card does no task and says why. Only the operator names folders; a request can only name a model. Light: config.json is read here,
weights are not.
"""

import os
import re
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from db.private_files import why_others_may_write
from workers.models.card import Kind, ModelCard
from workers.models.decoder_folder import MOST_LAYERS, PACKED, chat_template, longest, longest_of_any, writes_text
from workers.models.folder_config import FolderConfig, Unreadable, read_limit

VARIABLE: Final = "TEXTMILL_MODEL_FOLDERS"
PREFIX: Final = "local:"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
MOST_TOKENS: Final = 8192  # of one text, whatever the model's positions would allow
CHARS_PER_TOKEN: Final = 4.5
CORE_FLOPS: Final = 50e9  # a first guess, until the dispatcher has measured
DECODER_FLOPS: Final = 20e9  # of one that writes about as much as it reads
OPENVINO: Final = "openvino_model.xml"
LICENCE: Final = "see the model's folder"


def local_models() -> list[ModelCard]:
    """In the order of their names. A folder without a config.json is no model."""
    root = os.environ.get(VARIABLE)
    if not root:
        return []
    try:
        names = sorted(folder.name for folder in Path(root).expanduser().iterdir())
    except OSError:
        return []
    return [card for name in names if (card := local_model(PREFIX + name)) is not None]


def local_model(model_id: str) -> ModelCard | None:
    """The one of that id ("local:NAME"), or None."""
    root, name = os.environ.get(VARIABLE), model_id.removeprefix(PREFIX)
    if not root or not NAME.fullmatch(name):
        return None
    folder = Path(root).expanduser() / name
    try:
        changed = (folder / "config.json").stat().st_mtime_ns, folder.stat().st_ctime_ns
    except OSError:
        return None
    try:
        return _card(folder, *changed)
    except OSError as error:  # not kept, as a card is: it may be over in a moment
        return _damaged(folder, f"Its folder cannot be looked at: {error.strerror or 'the operating system refused'}.")


@lru_cache(maxsize=256)
def _card(folder: Path, _config_changed_ns: int, _folder_changed_ns: int) -> ModelCard:
    """Raises OSError."""
    kind: Kind = "encoder"
    try:
        if (why := why_changeable(folder)) is not None:
            raise Unreadable(why)
        config = FolderConfig.read(folder / "config.json")
        kind = "decoder" if writes_text(config.said) else "encoder"
        if (folder / OPENVINO).exists() and not any(folder.glob("*.safetensors")):
            if kind == "encoder":
                raise Unreadable(f"{OPENVINO}: only a model that writes text is read in this form: add this one's weights in safetensors.")
            return replace(_decoder(folder, config, longest_of_any(config.positions)), tasks=("generate",), openvino=True)
        return _decoder(folder, config, longest(config.said, config.positions)) if kind == "decoder" else _encoder(folder, config)
    except Unreadable as error:
        return _damaged(folder, str(error), kind)


def _encoder(folder: Path, config: FolderConfig) -> ModelCard:
    """Raises Unreadable."""
    return ModelCard(
        id=f"{PREFIX}{folder.name}",
        kind="encoder",
        tasks=("classify",) if config.labels else ("classify", "embed"),
        licence=LICENCE,
        upstream="",
        source_package="",
        source_version="",
        max_tokens=_max_tokens(folder, min(MOST_TOKENS, (config.positions or MOST_TOKENS) - config.first_place)),
        dimensions=config.width,
        speed_chars_per_second=_speed(CORE_FLOPS, config),
        labels=config.labels,
        shorter=config.shorter,
        folder=folder,
    )


def _decoder(folder: Path, config: FolderConfig, most: int) -> ModelCard:
    """Raises Unreadable."""
    if (folder / "adapter_config.json").exists():  # of what it lies beside, transformers would load it unasked
        raise Unreadable("adapter_config.json lies beside config.json: give the adapter a folder of its own.")
    if config.layers > MOST_LAYERS:
        raise Unreadable("config.json: num_hidden_layers is no number that a model could have.")
    return ModelCard(
        id=f"{PREFIX}{folder.name}",
        kind="decoder",
        tasks=("generate", "classify") if config.said["model_type"] in PACKED else ("generate",),  # a padded one reads no tree of labels
        licence=LICENCE,
        upstream="",
        source_package="",
        source_version="",
        max_tokens=_max_tokens(folder, most),
        speed_chars_per_second=_speed(DECODER_FLOPS, config),
        chat="none" if chat_template(folder) is None else "template",
        folder=folder,
    )


def _speed(flops: float, config: FolderConfig) -> int:
    return max(10, int(flops / (24 * config.layers * config.width**2) * CHARS_PER_TOKEN))


def why_changeable(folder: Path) -> str | None:
    """Why others than the operator may put other weights or another tokenizer in place, or change how its vectors are pooled; None where
    they may not."""
    return why_others_may_write(folder, *_all_in(folder))


def _all_in(folder: Path) -> list[Path]:
    """Files and folders, however deep, each place once; of a folder elsewhere that a link leads to, what lies in it: no model reads deeper,
    and it may be all of the disk. What this user may not look into it does not read. Raises OSError of ``folder`` itself."""
    root = folder.resolve()
    seen, found = {root}, _listed(folder)
    for path in found:  # which grows meanwhile
        place = path.resolve()
        is_linked = path.is_symlink() and path.parent.resolve().is_relative_to(root)
        if path.is_dir() and place not in seen and (is_linked or place.is_relative_to(root)):
            seen.add(place)
            with suppress(PermissionError):
                found += _listed(path)
    return found


def _listed(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _is_used(path)]


def _is_used(path: Path) -> bool:
    """Whether it is neither a device, nor a link that leads nowhere or where this user may not follow."""
    try:
        return path.is_file() or path.is_dir()
    except PermissionError:
        return False


def _damaged(folder: Path, why: str, kind: Kind = "encoder") -> ModelCard:
    return ModelCard.unusable(f"{PREFIX}{folder.name}", kind, why, licence=LICENCE, folder=folder)


def _max_tokens(folder: Path, most: int) -> int:
    """The least of what the positions (``most``), the tokenizer and sentence-transformers' own limit allow. Raises Unreadable."""
    limits = [most]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        if (limit := read_limit(folder / name, key)) is not None:
            limits.append(limit)
    if min(limits) < 3:  # its two marks, and a token between them
        raise Unreadable("config.json leaves no place for a text: look at max_position_embeddings and pad_token_id.")
    return min(limits)
