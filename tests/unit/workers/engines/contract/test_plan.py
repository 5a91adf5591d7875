import pytest

from workers.engines.contract.plan import plan

AVX2, ZEN4 = frozenset({"avx2"}), frozenset({"avx2", "avx512_bf16"})
SAPPHIRE = ZEN4 | {"avx_vnni", "amx_bf16"}
WITHOUT_AMX = SAPPHIRE - {"amx_bf16"}  # as virtual machines may show it


@pytest.mark.parametrize(
    ("flags", "number_format"),
    [(AVX2, "float32"), (frozenset(), "float32"), (ZEN4, "bfloat16"), (SAPPHIRE, "bfloat16"), (WITHOUT_AMX, "float32")],
)
def test_an_encoder_begins_in_bf16_only_where_the_cpu_multiplies_it_quickly(flags: frozenset[str], number_format: str) -> None:
    assert plan("encoder", device="cpu", cpu_flags=flags, cores=2).format == number_format


@pytest.mark.parametrize(("flags", "number_format"), [(AVX2, "float32"), (ZEN4, "bfloat16"), (WITHOUT_AMX, "bfloat16")])
def test_a_decoder_is_in_bf16_wherever_the_cpu_multiplies_it(flags: frozenset[str], number_format: str) -> None:
    """It waits for memory, of which bf16 is half."""
    assert plan("decoder", device="cpu", cpu_flags=flags, cores=2).format == number_format


def test_a_cpu_gets_a_lane_for_each_core_and_small_batches() -> None:
    made = plan("encoder", device="cpu", cpu_flags=ZEN4, cores=6)
    assert (made.device, made.lanes, made.policy.budget_tokens, made.policy.padded) == ("cpu", 6, 1024, False)


def test_a_gpu_gets_one_lane_bf16_and_large_batches() -> None:
    made = plan("encoder", device="cuda", cpu_flags=AVX2, cores=16)
    assert (made.device, made.lanes, made.format, made.policy.budget_tokens) == ("cuda", 1, "bfloat16", 16_384)


def test_a_decoder_has_few_slots_and_room_for_what_they_say() -> None:
    policy = plan("decoder", device="cpu", cpu_flags=ZEN4, cores=2).policy
    assert policy.max_rows <= 64
    assert policy.budget_tokens / policy.max_rows >= 512


def test_settings_override_what_suits_the_device() -> None:
    made = plan("encoder", device="cpu", cpu_flags=ZEN4, cores=2, lanes=5, budget_tokens=4096)
    assert (made.lanes, made.policy.budget_tokens) == (5, 4096)
