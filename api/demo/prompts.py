"""Twenty-four small jobs for the text model: openings of announcements and product texts."""

from typing import Final

PROMPTS: Final = (
    "Write one sentence announcing a new bicycle light that charges in ten minutes.",
    "Write one sentence announcing that the town library opens on Sundays.",
    "Write a short product text for a steel water bottle that keeps tea hot.",
    "Write a short notice: the swimming pool is closed for cleaning this week.",
    "Write one sentence that invites neighbours to a street fair in June.",
    "Write a short product text for a wooden desk made of oak.",
    "Announce in one sentence that trains to the airport now run every half hour.",
    "Write a short product text for waterproof hiking boots.",
    "Write one sentence to welcome a new baker to the team of a bakery.",
    "Announce in one sentence that the museum shows old maps until September.",
    "Write a short product text for a small radio with a hand crank.",
    "Write one friendly sentence that reminds people to return borrowed tools.",
    "Announce in one sentence that a software update makes search faster.",
    "Write a short product text for a woollen blanket from Scotland.",
    "Write one sentence announcing a free course on repairing bicycles.",
    "Write a short notice: parking in the main street is not possible on Friday.",
    "Announce in one sentence that a café now roasts its own coffee.",
    "Write a short product text for a backpack with room for a laptop.",
    "Write one sentence that thanks volunteers for planting three hundred trees.",
    "Announce in one sentence that the choir sings in the old church on Saturday.",
    "Write a short product text for a garden hose that does not kink.",
    "Write one sentence announcing that a shop repairs phones while you wait.",
    "Write a short notice: the lift in the north building works again.",
    "Announce in one sentence a prize for the best photograph of the harbour.",
)
MAX_TOKENS: Final = 40
