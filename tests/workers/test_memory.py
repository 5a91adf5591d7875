from workers.memory import MIB, Ceiling, resident_bytes


def test_a_ceiling_is_passed_above_it_and_none_never() -> None:
    assert Ceiling(100).passed_by(100 * MIB + 1)
    assert not Ceiling(100).passed_by(100 * MIB)
    assert not Ceiling(None).passed_by(1 << 60)


def test_what_this_process_holds_is_more_than_nothing() -> None:
    assert resident_bytes() > MIB
