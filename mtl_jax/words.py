"""Words that stand for labels where every task answers in the same ones."""

SIMILARITIES = tuple(f"{fifths / 5:.1f}" for fifths in range(26))
"""What STS-B's similarities are rounded to."""
CLASSES = (
    "unacceptable",
    "acceptable",
    "negative",
    "positive",
    "not_equivalent",
    "equivalent",
    "not_duplicate",
    "duplicate",
    "entailment",
    "neutral",
    "contradiction",
    "not_entailment",
)
LABEL_WORDS: dict[str, int] = {
    word: number for number, word in enumerate((*CLASSES, *SIMILARITIES))
}
"""Word to its number."""
