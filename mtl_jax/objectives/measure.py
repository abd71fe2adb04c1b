"""Measures: in which direction a recorded value is good, and in which unit it is read.

They are declared with the value, the loss here and a score in its `Score`, and travel
with it in the records. Nothing is guessed from a name.
"""

from typing import NamedTuple


class Measure(NamedTuple):
    """Direction and unit of a loss or a score."""

    direction: int
    """+1 where more is better, -1 where less is."""
    unit: str
    """Symbol, such as ``nats``; empty for a plain number. Of ``%`` the records hold the
    fraction."""

    @property
    def factor(self) -> int:
        """Return the factor from the records to what people read.

        >>> Measure(1, "%").factor, LOSS.factor
        (100, 1)
        """
        return 100 if self.unit == "%" else 1

    @property
    def digits(self) -> int:
        """Return the number of decimals that people read."""
        return 1 if self.unit == "%" else 3


LOSS = Measure(-1, "nats")
"""Loss of any objective, per example."""
