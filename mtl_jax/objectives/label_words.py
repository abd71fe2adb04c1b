"""Words that say labels, so that tasks of text have one kind of target.

The labels of GLUE (Wang et al., 2019) as T5 says them (Raffel et al., 2020, appendix
D), and similarities in steps of a fifth.

>>> LABEL_WORDS["entailment"], LABEL_WORDS["2.6"], len(LABEL_WORDS)
(8, 25, 38)
>>> NUMBERS[LABEL_WORDS["2.6"]], NUMBERS[LABEL_WORDS["entailment"]]
(2.6, -1.0)
"""

_NAMES = (
    "unacceptable", "acceptable", "negative", "positive", "not_equivalent",
    "equivalent", "not_duplicate", "duplicate", "entailment", "neutral",
    "contradiction", "not_entailment",
)  # fmt: skip
_SIMILARITIES = tuple(f"{fifths / 5:.1f}" for fifths in range(26))

LABEL_WORDS: dict[str, int] = {
    word: number for number, word in enumerate(_NAMES + _SIMILARITIES)
}
"""Numbers of all words."""

NUMBERS: tuple[float, ...] = (-1.0,) * len(_NAMES) + tuple(map(float, _SIMILARITIES))
"""Numbers that the words say; -1 for a word that says none, as in T5's evaluation
(Raffel et al., 2020)."""
