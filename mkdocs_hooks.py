"""What the site needs beyond docs/: guides that are not in the navigation yet, model cards, linked files, and notes on
blocks that no test runs.

Pages link to files of the repository as they do on a code host (`../results/explain.json`); the site carries copies
of these files, so that every link leads somewhere without network.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parent
CARDS = REPOSITORY / "src" / "mien" / "weights"
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
NOT_RUN = re.compile(r"^<!-- not run(?: in tests)?(?: \((?P<words>[^)]*)\))?(?:: (?P<reason>.+?))? -->\n", re.MULTILINE)
SHIM = "https://unpkg.com/iframe-worker/shim"
COMMANDS = """# Commands

What `mien COMMAND --help` says. Exit codes: 0 all is well; 1 some inputs of several failed, each named on standard
error; 2 nothing could be done.
"""
INSTEAD = {"../README.md": "index.md", "../../../README.md": "../index.md"}  # what the site has of its own


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Guides that the navigation does not name stand at the end of its guides, so that none is lost."""
    assert config.nav is not None
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    guides = next(section["Guides"] for section in config.nav if "Guides" in section)
    for path in sorted(Path(config.docs_dir).glob("*.md")):
        if path.name not in named:
            guides.append({path.stem.replace("-", " ").capitalize(): path.name})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the model cards, the page of commands, and the files that pages link to."""
    for card in sorted(CARDS.glob("*.md")):
        text = card.read_text(encoding="utf-8").replace("](../../../docs/", "](../")
        files.append(File.generated(config, f"cards/{card.name}", content=text))
    files.append(File.generated(config, "reference/commands.md", content=_commands()))
    for page in list(files.documentation_pages()):
        for found in LINK.finditer(page.content_string):
            target = _outside(page.src_uri, found["target"])
            if target is not None and files.get_file_from_path(_copied(target)) is None:
                content = (REPOSITORY / target).read_bytes()
                files.append(File.generated(config, _copied(target), content=content))
    return files


def on_nav(nav: Navigation, /, *, config: MkDocsConfig, files: Files) -> Navigation:
    """Cards are reached from the page of model cards; they need no line of their own."""
    del config
    for file in files.documentation_pages():
        if file.src_uri.startswith("cards/"):
            file.inclusion = file.inclusion.NOT_IN_NAV
    return nav


def on_page_markdown(markdown: str, /, *, page: Page, **_: Any) -> str:
    """Turn links to files of the repository to their copies, and markers of blocks that no test runs into a note."""

    def turned(found: re.Match[str]) -> str:
        target = INSTEAD.get(found["target"], found["target"])
        outside = _outside(page.file.src_uri, target)
        if outside is not None:
            up = "../" * page.file.src_uri.count("/")
            target = up + _copied(outside)
        return target + (found["anchor"] or "")

    return NOT_RUN.sub(_note, LINK.sub(turned, markdown))


def _note(found: re.Match[str]) -> str:
    """What the page says of a block that no test runs, or of which some lines are not run."""
    words = ", ".join(f"`{word.strip()}`" for word in (found["words"] or "").split(",") if word.strip())
    subject = f"Lines with {words} are not run" if words else "Not run"
    reason = f": {found['reason']}" if found["reason"] else ""
    return f"{subject} in tests{reason}.\n{{ .not-run }}\n\n"


def on_post_build(*, config: MkDocsConfig) -> None:
    """The theme would fetch the shim of its search; the site has its own copy."""
    site = Path(config.site_dir)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        up = "../" * (len(page.relative_to(site).parts) - 1)
        page.write_text(text.replace(SHIM, f"{up}javascripts/iframe-worker.js"), encoding="utf-8")


def _outside(page: str, target: str) -> str | None:
    """The file of the repository, outside docs/, that a link means; None for other links."""
    if target in INSTEAD or not target.startswith("../"):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if path.startswith("src/mien/weights/") and path.endswith(".md"):
        return None
    return path if not path.startswith("docs/") and (REPOSITORY / path).is_file() else None


def _copied(path: str) -> str:
    """Where a file of the repository lies in the site; text, so that a browser shows it."""
    return f"files/{path}" if Path(path).suffix in {".json", ".py", ".txt"} else f"files/{path}.txt"


def _commands() -> str:
    """Each command's own help."""
    from typer.main import get_command  # noqa: PLC0415

    from mien.cli import app  # noqa: PLC0415

    parts = [COMMANDS]
    root: Any = get_command(app)
    for verb, command in root.commands.items():
        parts.append(f"## mien {verb}\n\n{_usage(command)}")
        for name, sub in getattr(command, "commands", {}).items():
            parts.append(f"### mien {verb} {name}\n\n{_usage(sub)}")
    return "\n".join(parts)


def _usage(command: Any) -> str:
    """Help text and a table of options."""
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            names = parameter.metavar or (parameter.name.upper() + ("..." if parameter.nargs == -1 else ""))
        elif parameter.name == "help":
            continue
        else:
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        text = (getattr(parameter, "help", "") or "").replace("|", "\\|").replace("\n", " ")
        default = parameter.default
        shown = "" if default is None or callable(default) or default is False or default == () else f"`{default}`"
        rows.append(f"| `{names.replace('|', chr(92) + '|')}` | {text} | {shown} |")
    table = "\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) if rows else ""
    return f"{(command.help or '').strip()}\n\n{table}\n"
