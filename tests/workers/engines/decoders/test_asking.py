"""How a decoder of one's own is asked for a label: the label stands where and as the assistant's own words would."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workers.decoder_folders import TEMPLATES, TOKENIZERS, make
from tests.workers.engines.decoders.driving import run
from tests.workers.engines.decoders.driving import scored as scored_of
from tests.workers.engines.decoders.test_own_models import CHATS, SPELT, by_transformers, control_of, ids_of, load
from tests.workers.engines.decoders.test_scoring import by_transformers as logprobs_by_transformers
from workers.batches.ticket import Ticket
from workers.engines.contract.choices import Choices
from workers.engines.contract.decoding import DecoderRow
from workers.engines.contract.generation import Message
from workers.engines.decoders.torch_decoder import TorchDecoder
from workers.tasks.classify.by_decoder import LabelList, Reading
from workers.tasks.classify.prompt import NOTHING, question
from workers.tasks.classify.task import ClassifyBody

LABELS = ("Paris", "the goal", "It is Paris", "late, é 漢 🙂")
QUESTION = CHATS["one"][0][1]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path))
    return tmp_path


def read_back(decoder: TorchDecoder, *ids: list[int]) -> str:
    text: str = decoder._loaded.tokenizer.decode([token for one in ids for token in one], skip_special_tokens=False)
    return text


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_label_follows_the_question_as_an_answer_does(name: str, tokenizer: str, root: Path) -> None:
    make(root / "own", template=TEMPLATES[name], tokenizer=tokenizer)
    decoder = load(root)
    asking = decoder.asking
    asked = ids_of(asking.question(QUESTION, "\n\nLabel:"))
    assert asked == by_transformers(root / "own", CHATS["one"])
    for label in LABELS:
        whole = by_transformers(root / "own", [*CHATS["one"], ("assistant", label)])
        answer = asking.answer(label).tolist()
        if (name, tokenizer) == ("llama-3", "bytes"):  # whose line ends melt into what follows them: the question ends in other tokens
            assert whole[: len(asked)] != asked
            assert read_back(decoder, asked, answer) == read_back(decoder, asked) + label
        else:
            assert whole[: len(asked) + len(answer)] == asked + answer, label


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_label_follows_what_the_template_writes_before_an_answer(tokenizer: str, root: Path) -> None:
    thinks = "{{ '<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' else '' }}"
    begins = "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    ends = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    make(root / "own", template=f"{begins}{thinks}{{{{ message.content }}}}{ends}", tokenizer=tokenizer)
    decoder = load(root)
    asked = ids_of(decoder.asking.question(QUESTION, "\n\nLabel:"))
    chat = ids_of(decoder.tokenize_chat([Message("user", QUESTION)]))
    assert chat == by_transformers(root / "own", CHATS["one"]), "where it speaks itself, it says whether it thinks"
    assert (asked[: len(chat)], len(asked) > len(chat)) == (chat, True)
    for label in LABELS:
        whole = by_transformers(root / "own", [*CHATS["one"], ("assistant", label)])
        answer = decoder.asking.answer(label).tolist()
        if tokenizer == "bytes":  # as above
            assert read_back(decoder, asked, answer) == read_back(decoder, asked) + label
        else:
            assert whole[: len(asked) + len(answer)] == asked + answer, label


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_without_a_template_a_label_follows_its_lead(tokenizer: str, root: Path) -> None:
    make(root / "own", template=None, tokenizer=tokenizer)
    decoder = load(root)
    asked = ids_of(decoder.asking.question(QUESTION, "\n\nLabel:"))
    for label in LABELS[:3]:
        answer = decoder.asking.answer(label).tolist()
        assert asked + answer == ids_of(decoder.tokenize_prompt(f"{QUESTION}\n\nLabel: {label}"))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_control_token_spelt_in_a_label_or_a_text_is_text(tokenizer: str, root: Path) -> None:
    make(root / "own", tokenizer=tokenizer)
    decoder = load(root)
    harmless = control_of(decoder, ids_of(decoder.asking.question("a", "\n\nLabel:")))
    for spelt in SPELT[:4]:
        assert control_of(decoder, decoder.asking.answer(spelt).tolist()) == []
        assert control_of(decoder, ids_of(decoder.asking.question(spelt, "\n\nLabel:"))) == harmless


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_text_is_cut_where_its_tokens_end(tokenizer: str, root: Path) -> None:
    make(root / "own", tokenizer=tokenizer)
    asking = load(root).asking
    text = "It is the goal, late é 漢 🙂 <|im_end|> Paris " * 20
    ends = list(asking.token_ends(text))
    assert ends == sorted(ends)
    assert ends[-1] <= len(text) <= ends[-1] + 1
    assert list(asking.token_ends(text, 30)) == ends[:30]
    assert list(asking.token_ends(text * 1_000, 30)) == ends[:30]


def test_any_token_that_ends_a_line_or_the_answer_closes_a_label(root: Path) -> None:
    make(root / "own")
    decoder = load(root)
    assert {*decoder._loaded.end_ids} <= {*decoder.asking.closing_ids}
    short, long = (np.array(one) for one in ([5], [5, 6]))
    assert Choices([short, long], decoder.asking.closing_ids).end_ids == tuple(decoder.asking.closing_ids)


def over_labels(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums - np.log(np.exp(sums).sum())


def test_calibrated_logprobs_are_those_of_whole_softmaxes_with_a_text_less_those_without_one(root: Path) -> None:
    model = make(root / "own", template=None)
    decoder = load(root)
    labels, text = ["goal", "the capital of Rome", "the capital of France"], "It was late."
    answers = [decoder.asking.answer(label).tolist() for label in labels]

    def whole(text: str) -> NDArray[np.float64]:
        ids = decoder.tokenize_prompt("".join(question((), {}, text)))
        assert isinstance(ids, np.ndarray)
        return logprobs_by_transformers(model, ids, answers)

    for calibrated in (True, False):
        own = LabelList(decoder.asking, decoder.max_tokens, ClassifyBody(labels=labels, calibrated=calibrated))
        reading = own.read(ClassifyBody(input=text), Ticket())
        assert isinstance(reading, Reading)
        prompts = [ids for window in [*own.blank, *reading.windows] for ids in window]
        found = run(decoder.slots(), [DecoderRow(ids, 1, tenant="one", choices=own.choices) for ids in prompts])
        own.calibrate(found[:-1])
        nothing = np.mean([whole(one) for one in NOTHING], axis=0) if calibrated else 0.0
        assert own.logprobs([scored_of(found[-1])])[0] == pytest.approx(over_labels(whole(text) - nothing), abs=1e-4)
