"""Two hundred products of a made-up shop, as their table looks before anybody has written a text: with notes that name people."""

import csv
import io
import random
from typing import Final

COUNT: Final = 200
COLUMNS: Final = ("sku", "product", "material", "price", "stock", "notes")
_KINDS: Final = (
    *(
        "kettle",
        "desk lamp",
        "backpack",
        "water bottle",
        "garden chair",
        "wall clock",
        "blanket",
        "bread knife",
        "bicycle bell",
        "picture frame",
    ),
    *("coat hook", "tea pot", "umbrella", "writing desk", "scarf", "watering can", "cutting board", "radio", "door mat", "candle holder"),
)
_LOOKS: Final = ("small", "foldable", "round", "striped", "dark green", "light", "classic", "tall")
_MATERIALS: Final = ("oak", "steel", "wool", "linen", "ceramic", "glass", "recycled plastic", "brass")
_NAMES: Final = ("anna.berg", "j.smith", "li.wei", "m.garcia", "o.novak", "p.rossi")
_WORDS: Final = ("sent the samples", "asks for the text by Friday", "approved the photographs", "wants no word on shipping")


def products(seed: int = 7) -> list[dict[str, str]]:
    """A row each, by column. Each note holds an e-mail address or a phone number, which nobody needs for a text."""
    drawn = random.Random(seed)  # noqa: S311 - no secret
    rows = []
    for number in range(COUNT):
        name = drawn.choice(_NAMES)
        reach = f"{name}@supplier.example" if drawn.random() < 0.5 else f"+44 20 7946 {drawn.randrange(1000):04d}"
        rows.append(
            {
                "sku": f"{number:05d}",
                "product": f"{drawn.choice(_LOOKS)} {drawn.choice(_KINDS)}",
                "material": drawn.choice(_MATERIALS),
                "price": f"{drawn.choice((9, 14, 19, 29, 49, 79, 129, 249)) + 0.9:.2f}",
                "stock": str(drawn.choice((0, 0, 3, 12, 40, 120, 300, 900))),
                "notes": f"{name.split('.')[-1].title()} {drawn.choice(_WORDS)}: {reach}",
            }
        )
    return rows


def as_csv(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def reachable(rows: list[dict[str, str]]) -> list[bytes]:
    """What of the notes no model may see: addresses and numbers, as they stand there."""
    return [row["notes"].partition(": ")[2].encode() for row in rows]
