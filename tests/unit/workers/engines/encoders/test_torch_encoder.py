import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import EngineBroken, OutOfMemory
from workers.engines.contract.torch_errors import translated
from workers.engines.encoders.torch_encoder import TorchEncoder
from workers.models import registry
from workers.models.provision import ensure

CARD = registry.get("minilm-l6-v2")
WORDS = [
    "the",
    "price",
    "of",
    "oil",
    "rose",
    "again",
    "while",
    "parliament",
    "debated",
    "a",
    "new",
    "tax",
    "on",
    "phones",
    "and",
    "the",
    "final",
    "was",
    "played",
    "in",
    "the",
    "rain",
]


@pytest.fixture(scope="module")
def folder(models_home: Path) -> Path:
    return ensure(CARD, models_home)


@pytest.fixture(scope="module")
def fp32(folder: Path) -> TorchEncoder:
    return TorchEncoder(CARD, folder, device="cpu", number_format="float32")


@pytest.fixture(scope="module")
def batch(fp32: TorchEncoder) -> list[Ids]:
    """Lengths of 2 to 256 tokens, several of them equal, in no order."""
    sizes = [0, 300, 5, 17, 90, 5, 1, 300, 40, 17, 2, 130]
    texts = [" ".join(WORDS[(at + size) % len(WORDS)] for at in range(size)) for size in sizes]
    return fp32.tokenize(texts)[0]


@pytest.fixture(scope="module")
def reference(folder: Path, batch: list[Ids]) -> Vectors:
    """transformers' own BertModel, one text at a time."""
    model = BertModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    with torch.inference_mode():
        means = [model(input_ids=torch.tensor(ids[None].astype(np.int64))).last_hidden_state[0].mean(0) for ids in batch]
        return torch.nn.functional.normalize(torch.stack(means), dim=1).numpy()


def test_packed_fp32_equals_transformers(fp32: TorchEncoder, batch: list[Ids], reference: Vectors) -> None:
    assert np.abs(fp32.run(fp32.prepare(batch)) - reference).max() <= 1e-5


def test_packed_bf16_points_the_same_way(folder: Path, batch: list[Ids], reference: Vectors) -> None:
    bf16 = TorchEncoder(CARD, folder, device="cpu", number_format="bfloat16")
    assert (bf16.run(bf16.prepare(batch)) * reference).sum(axis=1).min() >= 0.999


def test_a_vector_does_not_depend_on_what_it_is_packed_with(fp32: TorchEncoder, batch: list[Ids]) -> None:
    together = fp32.run(fp32.prepare(batch))
    alone = np.concatenate([fp32.run(fp32.prepare([ids])) for ids in batch])
    assert np.abs(together - alone).max() <= 1e-5


def test_vectors_have_unit_length(fp32: TorchEncoder, batch: list[Ids]) -> None:
    assert np.linalg.norm(fp32.run(fp32.prepare(batch)), axis=1) == pytest.approx(1, abs=1e-5)


def test_a_long_text_is_cut_at_the_model_and_says_so(fp32: TorchEncoder) -> None:
    sequences, truncated = fp32.tokenize(["the " * 254, "the " * 255, "the " * 5000])
    assert [len(ids) for ids in sequences] == [256, 256, 256]
    assert truncated == [False, True, True]
    assert len({int(ids[-1]) for ids in sequences}) == 1, "the end token stays"


def test_only_the_head_of_a_huge_text_is_tokenised_unless_it_says_too_little(fp32: TorchEncoder) -> None:
    started = time.process_time()
    (huge, spaced), truncated = fp32.tokenize(["the price of oil " * 1_000_000, " " * 100_000 + "the price of oil"])
    assert time.process_time() - started < 2
    assert np.array_equal(huge, fp32.tokenize(["the price of oil " * 100])[0][0])
    assert np.array_equal(spaced, fp32.tokenize(["the price of oil"])[0][0])
    assert truncated == [True, False]


def test_an_empty_text_is_its_two_special_tokens(fp32: TorchEncoder) -> None:
    assert len(fp32.tokenize([""])[0][0]) == 2


def test_tokens_of_the_models_own_tokenizer_are_known_by_their_marks(fp32: TorchEncoder) -> None:
    [ids], _ = fp32.tokenize(["The goal was late."])
    own = fp32.own_tokens(ids.tolist())
    assert own is not None
    assert own.tolist() == ids.tolist()
    for other in ([791, 5915, 574, 3389, 13], ids.tolist()[1:], ids.tolist()[:-1], [101], [101, 30_522, 102]):
        assert fp32.own_tokens(other) is None


def test_a_spoilt_row_spoils_no_neighbour(folder: Path, batch: list[Ids]) -> None:
    encoder = TorchEncoder(CARD, folder, device="cpu", number_format="float32")
    encoder._words[int(batch[4][1])] = torch.nan
    spoilt = np.array([batch[4][1] in ids for ids in batch])
    assert spoilt.any()
    assert not spoilt.all()
    assert (np.isnan(encoder.run(encoder.prepare(batch))).any(axis=1) == spoilt).all()


def test_the_version_names_the_weights_and_the_way_they_are_run(fp32: TorchEncoder) -> None:
    assert fp32.model_version == "minilm-l6-v2@53aa51172d14+torch-packed-float32"


def test_errors_of_the_device_are_told_apart_from_errors_of_a_row() -> None:
    with pytest.raises(OutOfMemory), translated():
        raise torch.OutOfMemoryError
    with pytest.raises(OutOfMemory), translated():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    with pytest.raises(EngineBroken), translated():
        raise torch.AcceleratorError("an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="shape"), translated():
        raise RuntimeError("shape mismatch")


def test_plain_operators_compute_the_same_as_onednns(
    folder: Path, fp32: TorchEncoder, batch: list[Ids], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.encoders.torch_encoder._reordered", lambda _: None)
    plain = TorchEncoder(CARD, folder, device="cpu", number_format="float32")
    assert np.abs(plain.run(plain.prepare(batch)) - fp32.run(fp32.prepare(batch))).max() <= 1e-5
