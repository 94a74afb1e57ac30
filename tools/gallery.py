"""Write docs/gallery.md: every example that makes a picture, with that picture and what it shows.

python tools/gallery.py [--check]

Text comes from the docstrings of the examples: the first sentence is the title, the rest up to the usage line the text.
Pictures are made by the test of the gallery (``FARFRAME_UPDATE_GALLERY=1``), which also holds examples to them.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "images" / "gallery"


@dataclass(frozen=True)
class Example:
    """An example; ``arguments``: what its usage line gives it before the picture's path."""

    path: Path
    title: str
    text: str
    arguments: tuple[str, ...]

    @property
    def picture(self) -> Path:
        """What it is expected to draw."""
        return PICTURES / f"{self.path.stem}.jpg"


def examples() -> list[Example]:
    """The examples whose usage line ends with a picture to write, by name."""
    found = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
        usage = re.compile(rf"python examples/{path.name}((?: \S+)*) \S+\.png$")
        number = next((number for number, line in enumerate(lines) if usage.match(line)), None)
        if number is None:
            continue
        words = usage.match(lines[number])
        text = " ".join(" ".join(lines[:number]).split())
        title, _, rest = text.partition(". ")
        found.append(Example(path, title.rstrip(":."), rest.strip(), tuple((words[1] if words else "").split())))
    return found


def page() -> str:
    """The page's text."""
    parts = [
        "# Gallery",
        "",
        "Everything here is drawn by a render server and comes out of its video stream, each by one short program in",
        "`examples/` that ends with the picture. All run as they stand, against a service that runs on this machine",
        "(`farframe up`): `python examples/explode.py builtin://Engine out.png`.",
    ]
    for example in examples():
        name = f"examples/{example.path.name}"
        picture = example.picture.relative_to(PAGE.parent).as_posix()
        parts += ["", f"## {example.title}", ""]
        parts += [f"![{example.title}]({picture})", ""]
        parts += [f"{example.text} [`{name}`](../{name})".strip()]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or with ``--check`` say whether it is what would be written."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what the examples say: run python tools/gallery.py", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
