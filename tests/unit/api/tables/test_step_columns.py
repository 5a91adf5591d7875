from api.tables.step_columns import step_columns

LABELLED = {"label": "text", "score": "number"}


def test_a_column_that_several_steps_have_is_called_by_its_step() -> None:
    told = step_columns([("topic", LABELLED), ("write", {"text": "text"}), ("mood", LABELLED)])
    assert told == [{"label": "topic_label", "score": "topic_score"}, {"text": "text"}, {"label": "mood_label", "score": "mood_score"}]


def test_columns_of_one_step_alone_keep_their_names() -> None:
    assert step_columns([("a", LABELLED), ("b", {"text": "text"})]) == [{"label": "label", "score": "score"}, {"text": "text"}]
