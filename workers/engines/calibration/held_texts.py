"""Texts that calibration holds engines to: made up here, seeded, of eight subjects and many lengths. No user's text is ever used for it.

A text is a few sentences of one subject, sometimes with one of another, so that some texts are easy to label and some are close calls.
"""

import random
from collections.abc import Sequence

SEED = 20_240_607
SENTENCES: dict[str, tuple[str, ...]] = {
    "sport": (
        "The goalkeeper saved a penalty two minutes before the whistle.",
        "Her coach changed the training plan after the marathon in spring.",
        "Rain stopped play, and both captains agreed to return the next morning.",
        "The league fined the club because fans had run onto the pitch.",
        "He won the sprint by a hand's width and broke a record that stood for nine years.",
        "Their striker tore a muscle and will miss the rest of the season.",
    ),
    "money": (
        "The central bank left its rate unchanged for the third month.",
        "Shares of the carmaker fell after it cut its forecast.",
        "Small firms complain that credit has become dear.",
        "The merger needs the consent of two regulators and most shareholders.",
        "Exports grew faster than imports for the first time since winter.",
        "Inflation slowed, but rents and food still cost more than a year ago.",
    ),
    "health": (
        "The clinic moved its patients to another ward overnight.",
        "A new vaccine passed its last trial with few side effects.",
        "Doctors advise to sleep longer and to walk every day.",
        "The nurse noticed the rash before the fever came.",
        "Waiting times for an operation have doubled in the region.",
        "Her knee healed well after the surgery in March.",
    ),
    "travel": (
        "The night train to the coast was full to the last berth.",
        "Our hotel lost the booking and found us a room above the harbour.",
        "Bring warm clothes: the mountain hut has no heating.",
        "Two flights were cancelled, and the ferry left three hours late.",
        "The old town is best seen on foot, early, before the buses arrive.",
        "At the border they stamped every passport twice.",
    ),
    "computers": (
        "The update fixed a flaw that let strangers read private messages.",
        "My laptop shuts down whenever the battery falls below a third.",
        "The server answered slowly because one disk was full.",
        "They replaced the search engine and the pages load in half the time.",
        "A phone with a folding screen will be shown at the fair.",
        "The programmers moved their database to new machines at the weekend.",
    ),
    "politics": (
        "Parliament voted for the law by a majority of four.",
        "The minister resigned over letters that she never answered.",
        "Both parties promise lower taxes before the election.",
        "The mayor wants to close the bridge to lorries.",
        "Talks about the treaty will go on in autumn.",
        "A committee asks who knew of the payments, and when.",
    ),
    "music": (
        "The choir sang the whole mass without a conductor.",
        "Their third album sounds rougher than the two before it.",
        "She plays the cello in an orchestra and the drums in a band.",
        "The opera house opens its season with a comedy.",
        "Fans waited all night for tickets to the last concert.",
        "The song was written in a kitchen and recorded in one take.",
    ),
    "complaint": (
        "The parcel arrived late, wet, and without the second shoe.",
        "I was charged twice and nobody answers the telephone.",
        "Please send me a label so that I can return the jacket.",
        "The lamp worked for a day; now it only flickers.",
        "Your invoice shows an address where I no longer live.",
        "I cancelled in May, yet the subscription was renewed in June.",
    ),
}
SUBJECTS = tuple(SENTENCES)
LENGTHS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 8, 14)  # sentences: mostly short, a few that fill a model of 256 tokens


def held_texts(count: int, seed: int = SEED) -> list[str]:
    """The same texts for the same arguments; a longer list starts with the shorter one."""
    chance = random.Random(seed)  # noqa: S311 - the point is that it repeats
    return [_text(chance) for _ in range(count)]


def _text(chance: random.Random) -> str:
    subject, other = chance.sample(SUBJECTS, 2)
    sentences: Sequence[str] = [
        chance.choice(SENTENCES[other if chance.random() < 0.15 else subject]) for _ in range(chance.choice(LENGTHS))
    ]
    return " ".join(sentences)
