"""What counts as a near-duplicate, on questions like those that generators write."""

from __future__ import annotations

import pytest

from tasks.crossdomain import GeneratorConfig
from tasks.crossdomain.similarity import Neighbours

THRESHOLD = GeneratorConfig().max_similarity

QUESTION = (
    "A 70 kg patient receives a loading dose of 500 mg of an aminoglycoside whose volume of distribution is 0.25 L/kg "
    "and whose half-life equals that of a patient with normal renal function. After how many hours does the plasma "
    "concentration fall below the toxic trough level of the drug?"
)
OTHER_NUMBERS = QUESTION.replace("70", "82.5").replace("500", "1,200").replace("0.25", "0.3")
OTHER_WORDS = QUESTION.replace("A 70 kg patient receives", "A 70 kg man is given").replace("fall below", "drop below")
SAME_TOPIC = (
    "A drug with linear kinetics is infused at a constant rate into a 70 kg patient until steady state. The infusion "
    "is then stopped. Derive how many half-lives pass before less than the minimum inhibitory concentration of a "
    "susceptible Pseudomonas strain remains in plasma, given a steady state concentration of 32 mg/L."
)
OTHER_TOPIC = (
    "In a population in Hardy-Weinberg equilibrium, phenylketonuria occurs in 1 of 10,000 births. What is the "
    "probability that two healthy siblings of patients, who marry each other, have an affected first child?"
)


@pytest.mark.parametrize("text", [QUESTION, QUESTION.upper(), OTHER_NUMBERS, OTHER_WORDS])
def test_near_duplicates_are_near(text: str) -> None:
    seen = Neighbours()
    seen.add(QUESTION)
    assert seen.nearest(text) >= THRESHOLD


@pytest.mark.parametrize("text", [SAME_TOPIC, OTHER_TOPIC])
def test_other_questions_are_not(text: str) -> None:
    seen = Neighbours()
    seen.add(QUESTION)
    assert seen.nearest(text) < 0.5 < THRESHOLD


def test_the_nearest_of_all_counts_and_nothing_else_changes_it() -> None:
    alone, crowd = Neighbours(), Neighbours()
    assert alone.nearest(QUESTION) == 0
    alone.add(OTHER_WORDS)
    for text in (OTHER_TOPIC, OTHER_WORDS, SAME_TOPIC):
        crowd.add(text)
    assert crowd.nearest(QUESTION) == pytest.approx(alone.nearest(QUESTION))
