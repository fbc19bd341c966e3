"""What every side is asked: short texts, no two alike, that the model answers at length."""

from __future__ import annotations

from typing import Final

_KINDS: Final = (
    *("Brave", "Clever", "Gentle", "Hungry", "Lonely", "Noisy", "Proud", "Quiet", "Sleepy"),
    *("Tiny", "Wise", "Young", "Old"),
)
_WHO: Final = (
    *("bakers", "bears", "farmers", "foxes", "knights", "otters", "painters", "pirates"),
    *("robots", "sailors", "teachers", "tigers", "wizards", "wolves"),
)
_WHERE: Final = (
    *("Alaska", "Brazil", "Canada", "Egypt", "Finland", "Greece", "India", "Japan", "Kenya"),
    *("Mexico", "Norway", "Peru", "Spain", "Turkey", "Vietnam"),
)


class Prompts:
    """Hands out texts of about ten tokens; what differs comes first.

    With the template around them they are some forty tokens. Caches of prompts can share the
    template's head and nothing more, since no text is given out twice to the same side.
    """

    def __init__(self) -> None:
        self._next = 0

    def take(self, workers: int, calls: int) -> list[list[str]]:
        """Return `calls` texts for each of `workers`."""
        return [[self._text() for _ in range(calls)] for _ in range(workers)]

    def _text(self) -> str:
        number, self._next = self._next, self._next + 1
        number, kind = divmod(number, len(_KINDS))
        number, who = divmod(number, len(_WHO))
        number, where = divmod(number, len(_WHERE))
        text = f"{_KINDS[kind]} {_WHO[who]} in {_WHERE[where]}: write a long story."
        return f"{number}. {text}" if number else text
