"""What a lie's file says of itself: its docstring, read."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

FOLDER: Final = Path(__file__).parent / "lies"
_DOC: Final = re.compile(
    r"(?P<lie>.+)\.\n\n"
    r"Caught by (?P<by>[^,]+), (?P<check>[^,]+), after (?P<calls>\d+) calls?\.\n"
    r"Evidence: (?P<evidence>[^.]+)\.\n"
)


@dataclass(frozen=True)
class Told:
    """One lie: who catches it, by which check, after how many calls, with what evidence."""

    name: str
    lie: str
    by: str
    check: str
    calls: int
    evidence: str

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"tests.liars.lies.{self.name}")

    @property
    def row(self) -> str:
        """The lie as a row of the README's table."""
        name = f"[{self.lie}](tests/liars/lies/{self.name}.py)"
        return f"| {name} | {self.by} | {self.check} | {self.calls} | {self.evidence} |"


def lies() -> list[Told]:
    """Return all lies, by who catches them, check and name."""
    found = [_read(path) for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    return sorted(found, key=lambda told: (told.by, told.check, told.name))


def table() -> str:
    """Return the README's table."""
    head = ["| lie | caught by | check | after calls | evidence |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(told.row for told in lies())])


def _read(path: Path) -> Told:
    found = _DOC.match(path.read_text().removeprefix('"""'))
    assert found, f"{path.name} does not say who catches it"
    values = found.groupdict()
    lie = " ".join(values["lie"].split())
    return Told(
        path.stem, lie, values["by"], values["check"], int(values["calls"]), values["evidence"]
    )


def main() -> None:
    """Write the table into the README."""
    readme = FOLDER.parent.parent.parent / "README.md"
    text = readme.read_text()
    head = table().split("\n", 1)[0]
    before, _, rest = text.partition(head)
    readme.write_text(before + table() + "\n\n" + rest.partition("\n\n")[2])


if __name__ == "__main__":
    main()
