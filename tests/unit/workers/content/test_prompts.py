"""Prompts are filled in with a row's cells, and nothing that they say reaches further or goes on for long."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content import prompts as prompts_module
from workers.content.messages import PromptFault
from workers.content.prompts import MAX_SOURCE_CHARS, Prompt, Turn, Unfilled, columns_meant

ROW: dict[str, Any] = {
    "name": "Schuh",
    "Größe in cm": 40.0,
    "self": "I",
    "tags": ["a", "b"],
    "price": "3.5",
    "nil": None,
    "text": "x" * 500,
}


def filled(source: str, row: Mapping[str, Any] = ROW) -> str:
    [turn] = Prompt(source).fill(row, sum(len(str(cell)) for cell in row.values()), row)
    return turn.content


def refused(source: str) -> str:
    with pytest.raises(PromptFault) as fault:
        Prompt(source)
    return str(fault.value)


def unfilled(source: str, row: Mapping[str, Any] = ROW) -> str:
    with pytest.raises(Unfilled) as fault:
        filled(source, row)
    return fault.value.code


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Write about {{ name }}.", "Write about Schuh."),
        ("{{ row['Größe in cm'] }} {{ self }} {{ row.name }}", "40 I Schuh"),
        ("{{ nil }}|{{ nil|upper }}|{% if nil %}a{% endif %}|{{ nil|default('?') }}", "|||?"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }}{% if not loop.last %}, {% endif %}{% endfor %}", "1a, 2b"),
        ("{{ tags }} {{ tags|join('/') }} {{ tags.0 }}", '["a", "b"] a/b a'),
        ("{% set big = price|float * 2 %}{{ big }} {{ name ~ '!' ~ 1 }} {{ name + '?' }}", "7 Schuh!1 Schuh?"),
        ("{{ name if price|float > 3 else 'cheap' }} {{ name[:2] }}", "Schuh Sc"),
        ("{% for key, cell in row|items if key == 'self' %}{{ key }}={{ cell }}{% endfor %}", "self=I"),
        ("<b>{{ name }}</b> & {{ '<i>' }}", "<b>Schuh</b> & <i>"),
        ("{% raw %}{{ name }}{% endraw %}{# not said #}\n", "{{ name }}\n"),
    ],
)
def test_a_prompt_is_filled_with_the_cells_of_a_row(source: str, text: str) -> None:
    assert filled(source) == text


def test_columns_with_the_names_of_jinjas_own_are_columns() -> None:
    names = ["self", "loop", "range", "dict", "namespace", "cycler", "context", "environment", "row", "super", "caller", "varargs"]
    source = " ".join(f"{{{{ row['{name}'] }}}}" for name in names) + "".join(f" {{{{ {name} }}}}" for name in names if name != "row")
    told = {name: f"<{name}>" for name in names}
    assert filled(source, told).split() == [f"<{name}>" for name in (*names, *(name for name in names if name != "row"))]
    assert list(Prompt(source).names) == names


def test_the_names_of_a_prompt_are_those_of_cells_and_none_of_its_own() -> None:
    prompt = Prompt("{% set a = b %}{% for c in d if c %}{{ c }}{{ e['f'] }}{{ row['g h'] }}{% endfor %}{{ a }}")
    assert list(prompt.names) == ["b", "d", "e", "g h"]
    assert not prompt.reads_all
    assert Prompt("{{ row|tojson }}").reads_all


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.upper() }}",
        "{% for i in range(9) %}{% endfor %}",
        "{{ '{0.__class__}'.format(name) }}",
        "{{ lipsum() }}{{ cycler('a') }}",
        "{% for a in tags recursive %}{{ loop(a) }}{% endfor %}",
        "{% for a in tags %}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% for a in tags %}{{ loop.__class__ }}{% endfor %}",
        "{% for a in tags %}{{ loop }}{% endfor %}",
        "{{ name|attr('__class__') }}",
        "{{ name|center(1000000000) }}",
        "{{ name|format(1) }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% set a = [name, name] %}{% set a = [a, a] %}",
        "{% set a = [name] %}{% set a = {'b': a|list, 'c': (a,)} %}",
        "{% set a = [name] %}{% set a = ['', '']|map('default', a)|list %}",
        "{% set a = [name] %}{% set a = [1, 2]|map(attribute='b', default=a)|list %}",
        "{% for a in tags %}{{ [a, a] }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% include 'a' %}",
        "{% import 'a' as b %}",
        "{% from 'a' import b %}",
        "{% extends 'a' %}",
        "{% block a %}{% endblock %}",
        "{% filter upper %}a{% endfilter %}",
        "{% call a() %}{% endcall %}",
        "{% set a.b = 1 %}",
        "{% set _row = 1 %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ name",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% if a %}" * 200 + "{% endif %}" * 200,
        "",
        " \n ",
        "a\0b",
        "x" * (MAX_SOURCE_CHARS + 1),
    ],
)
def test_what_could_reach_or_go_on_is_refused_before_it_runs(source: str) -> None:
    assert refused(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.__class__ }}",
        "{{ name['__class__'] }}",
        "{{ tags|map(attribute='__class__')|list }}",
        "{{ tags|map('attr', '__class__')|list }}",
        "{{ tags|sort(attribute='__class__.__mro__')|list }}",
        "{{ tags|selectattr('__class__')|list }}",
        "{{ row.__init__ }}",
        "{{ row.items }}",
        "{{ tags.append }}",
        "{{ name * 1000000000 }}",
        "{{ [name] * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ price / 0 }}",
        "{{ 1 / 0 }}",
        "{{ name > 3 }}",
        "{{ tags[7] }}",
        "{{ a.b }}",
        '{{ "\\ud83d" }}',
    ],
)
def test_attributes_and_what_does_not_fit_a_cell_fail_the_row(source: str) -> None:
    assert unfilled(source) == "prompt_failed"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in text %}{% for b in text %}{% for c in text %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in text %}{% for b in text %}" + "y" * 9000 + "{% endfor %}{% endfor %}",
        "{% set x = 'a' %}" + "{% set x = x ~ x %}" * 60,
        "{% set x = 'a' %}" + "{% set x = x + x %}" * 60,
        "{% set x = [1] %}" + "{% set x = x + x %}" * 60,
        "{% set x = 'a' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
        "{% set x = 9 %}" + "{% set x = x * x %}" * 60,
        "{% set x = text|replace('', text) %}" + "{% set x = x|replace('', text) %}" * 9,
        "{% set x = text|join(text) %}" + "{% set x = text|join(x) %}" * 9,
        "{{ [" + "text[1:]," * 2000 + "]|length }}",
        "{{ [" + "[text, text]," * 2000 + "]|tojson(indent=8) }}",
        "{{ 'a'|replace('', '" + "b" * 30000 + "')|replace('', '" + "b" * 30000 + "') }}",
    ],
)
def test_what_makes_much_of_little_is_stopped(source: str) -> None:
    assert unfilled(source) == "prompt_too_large"


def test_no_prompt_gives_itself_back_what_it_used_up() -> None:
    source = "{%% for a in [[1]]|map('%s', -9, -9) %%}{%% for b in a %%}{%% endfor %%}{%% endfor %%}"
    assert unfilled(source % "\\0counted") == "prompt_failed"
    assert unfilled(source % prompts_module._COUNTED) == "prompt_too_large"  # had it guessed the name


def test_each_round_of_a_loop_is_paid_for_by_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_module, "STEPS", 100)
    assert filled("{% for a in text[:9] %}.{% endfor %}") == "." * 9
    assert unfilled("{% for a in text[:9] %}" + "{{ a }}{{ a ~ a }}" * 9 + "{% endfor %}") == "prompt_too_large"


def test_a_long_cell_goes_through_as_it_is_and_is_looped_over_by_nobody() -> None:
    cell = "ä" * 8_000_000
    assert filled("{{ text }}{{ name }}", {"text": cell, "name": "b"}) == f"{cell}b"
    assert filled("{{ text[:3] }}{{ text[-1:] }}{{ text[8:2:-2] }}", {"text": cell}) == "ä" * 7
    assert filled("{{ text|trim|upper|truncate(9) }}", {"text": cell}) == "ÄÄÄÄÄÄ..."
    for source in ("{% for a in text %}{% endfor %}", "{{ text|sort|join }}", "{{ text|list|length }}", "{{ text|unique|list }}"):
        assert unfilled(source, {"text": cell}) == "prompt_too_large"


def test_what_one_row_used_up_the_next_one_has() -> None:
    prompt = Prompt("{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}.")
    for _ in range(3):
        with pytest.raises(Unfilled):
            prompt.fill({"x": "a" * 1000}, 1000)
        assert prompt.fill({"x": "a"}, 1) == [Turn("user", ".")]


def test_several_messages_are_yaml_and_anything_else_is_a_text() -> None:
    chat = Prompt("# for the shop\nsystem: Be brief.\nuser: |\n  About {{ name }}:\n  {{ text }}\nassistant: 'Here:'\n")
    assert chat.fill({"name": "a", "text": "b: c\nd"}, 0) == [
        Turn("system", "Be brief."),
        Turn("user", "About a:\nb: c\nd\n"),
        Turn("assistant", "Here:"),
    ]
    listed = Prompt("messages:\n- {role: user, content: a}\n- {role: assistant, content: b}\n- {role: user, content: '{{ c }}'}\n")
    assert listed.roles == ["user", "assistant", "user"]
    assert filled("Tell me: {{ name }}\nsystem: b") == "Tell me: Schuh\nsystem: b"


@pytest.mark.parametrize(
    "source",
    [
        "user: {{ name }}",
        "user: [a]",
        "system: a\nother: b",
        "system: a\nmessages: []",
        "messages: []",
        "messages: a",
        "messages:\n- a",
        "messages:\n- {role: tool, content: a}",
        "messages:\n- {role: user, content: a, name: b}",
        "user: 'a",
        "user: !!python/object/apply:os.system ['true']",
        "user: &a [*a]",
        "user: &a {b: c}\nsystem: {<<: [*a, *a]}",
        "user: !!timestamp abc",
        "user: !!int ''",
        "user: !!bool alice",
        'user: "\\ud83d"',
        "user: a\nuser: b",
        "user: " + "[" * 5000,
        "messages:\n" + "- {role: user, content: a}\n" * 65,
        "system: ''\nuser: ' '",
    ],
)
def test_yaml_that_is_no_prompt_is_refused_with_a_sentence(source: str) -> None:
    told = refused(source)
    assert told.endswith(".")
    assert "alice" not in told


def test_a_fault_tells_where_it_is_and_a_failure_tells_nothing_of_the_row() -> None:
    assert refused("system: a\nuser: |\n  b\n  {{ c.d() }}\n").startswith("Message 2 (user), line 2: a prompt calls no functions")
    with pytest.raises(Unfilled) as fault:
        filled("{{ name > 1 }}", {"name": "canary"})
    assert "canary" not in repr(fault.value) + str(fault.value.__cause__)
    assert fault.value.__suppress_context__


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), min_size=1, max_size=6))
def test_any_column_can_be_asked_for_by_its_name_in_brackets(cells: dict[str, str]) -> None:
    quoted = {name: "".join(f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}" for one in name) for name in cells}
    prompt = Prompt("".join(f"{{{{ row['{quoted[name]}'] }}}}" for name in cells) + ".")
    meant, missing = columns_meant(prompt.names, list(cells))
    assert missing == []
    assert prompt.fill({name: cells[column] for name, column in meant.items()}, 0)[0].content == "".join(cells.values()) + "."


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
CELLS = st.recursive(SCALARS, lambda kind: st.lists(kind) | st.dictionaries(st.text(), kind))


@pytest.mark.parametrize(
    "source", ["{{ a }}{{ a|upper }}", "{% for b in a %}{{ b }}{{ loop.last }}{% endfor %}", "{{ a + 1 }}", "{{ a|round|abs }}{{ a|sum }}"]
)
@given(cell=CELLS)
def test_whatever_a_cell_is_a_row_is_filled_or_fails_by_a_code(source: str, cell: object) -> None:
    try:
        outcome = filled(source, {"a": cell})
    except Unfilled as fault:
        outcome = fault.code
    assert isinstance(outcome, str)


def test_a_column_is_meant_by_its_name_or_by_the_only_one_that_reads_so() -> None:
    columns = ["Größe in cm", "a b", "a-b", "a_b", "c d", "c-d", "self", "x_2"]
    meant, missing = columns_meant(["Größe_in_cm", "Größe in cm", "a_b", "c_d", "c d", "self", "X_2", "e"], columns)
    assert meant == {"Größe_in_cm": "Größe in cm", "Größe in cm": "Größe in cm", "a_b": "a_b", "c d": "c d", "self": "self"}
    assert missing == ["c_d", "X_2", "e"]
