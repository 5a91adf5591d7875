"""What tokens cost, read from a setting that says nothing of what it holds where it is wrong."""

import pytest
from pydantic import ValidationError

from api.prices import Price, price_of, read_prices
from api.settings import ApiSettings


def test_a_model_has_its_own_price_and_any_other_the_one_of_the_star() -> None:
    prices = read_prices("gemma3-270m=0.05/0.20, *=1/2")
    assert price_of(prices, "gemma3-270m") == Price(0.05, 0.20)
    assert price_of(prices, "another") == price_of(prices, None) == Price(1, 2)
    assert price_of(read_prices("a=1/2"), "b") is None
    assert read_prices("") == {}


def test_it_is_of_a_million_tokens_in_and_out() -> None:
    assert Price(0.5, 2.0).of(3_000_000, 500_000) == 2.5


@pytest.mark.parametrize(
    "text", ["a", "a=1", "a=1/", "a=x/y", "a=1/2/3", "=1/2", "a=-1/2", "a=1/2,a=3/4", "a=1e999/1", "a=../1", "a=nan/1"]
)
def test_what_is_no_price_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"entry [12] "):
        read_prices(text)
    with pytest.raises(ValidationError):
        ApiSettings(prices=text)
