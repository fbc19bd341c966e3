"""The plot of replayed calls: none is lost in it, none hides another while there is room."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

from replay_measure.plot import plot

SVG = "{http://www.w3.org/2000/svg}"
FIGURE = Path(__file__).parent.parent / "scripts" / "figures" / "replay.svg"
HONEST = [0.0] * 7 + [0.02, 0.5]
LIES = [0.0, 0.9, 1.1, 3.0, 3.01, 3.02, 3.03, 1e9]


def drawn(text: str) -> tuple[list[str], list[tuple[str, float, float]]]:
    root = ElementTree.fromstring(text)
    words = [one.text or "" for one in root.iter(f"{SVG}text")]
    dots = [
        (one.attrib["class"], float(one.attrib["cx"]), float(one.attrib["cy"]))
        for one in root.iter(f"{SVG}circle")
    ]
    return words, dots[2:]  # the legend's come first


def test_every_call_is_a_dot_or_counted() -> None:
    words, dots = drawn(plot([("same <kernels>", True, HONEST), ("4 bits", False, LIES)]))
    assert [kind for kind, _, _ in dots] == ["honest"] * 2 + ["lie"] * 7
    for said in ("same <kernels>", "7", "0 of 9", "4 bits", "1", "6 of 8"):
        assert said in words


def test_calls_of_one_score_stand_beside_one_another() -> None:
    _, dots = drawn(plot([("lies", False, LIES)]))
    for (_, x, y), (_, other_x, other_y) in combinations(dots, 2):
        assert abs(x - other_x) + abs(y - other_y) >= 4


def test_the_figure_of_the_readme_shows_what_its_table_says() -> None:
    words, dots = drawn(FIGURE.read_text())
    accused = [word for word in words if re.fullmatch(r"\d+ of \d+", word)]
    readme = (FIGURE.parent.parent.parent / "README.md").read_text()
    table = re.findall(r"^\| ([^|]+) \| (\d+) \| \d+ \| [^|]* \| (\d+) \|", readme, re.MULTILINE)
    assert accused == [f"{found} of {calls}" for _, calls, found in table]
    assert len(table) == 14
    assert 300 < len(dots) < sum(int(calls) for _, calls, _ in table)
