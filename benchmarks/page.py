"""What a benchmark keeps: its figures as JSON, and its section of a page, which stands between two comments."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def keep(name: str, figures: Mapping[str, Any], sections: Mapping[str, str], page: Path = PAGE) -> None:
    """Write `results/<name>.json`, and each section of the page.

    Raises:
        SystemExit: the page lacks a section.
    """
    file = ROOT / "results" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for section, text in sections.items():
        replace_section(section, text, page)


def replace_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between `<!-- name -->` and `<!-- /name -->` of the page, which must be there.

    Raises:
        SystemExit: the page has no such section.
    """
    whole = page.read_text(encoding="utf-8")
    section = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not section.search(whole):
        raise SystemExit(f"{page} has no section <!-- {name} --> ... <!-- /{name} -->: put the two comments back")
    page.write_text(section.sub(lambda m: f"{m[1]}{text.strip()}\n{m[2]}", whole, count=1), encoding="utf-8")


def table(heads: list[str], rows: list[list[str]], *, text_columns: int = 1) -> str:
    """A Markdown table; columns after the first `text_columns` are set to the right."""
    rule = ["---"] * text_columns + ["--:"] * (len(heads) - text_columns)
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, rule, *rows])


def signed(value: float, digits: int = 1) -> str:
    """`value` with its sign, a true minus, and none where it rounds to 0."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]
