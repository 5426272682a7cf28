"""The project's own files and the commands' --help as pages of the site, so that no text is there twice."""

import os
import re
import runpy
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "BUILD_NOTES.md": "lab-book.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files, config):
    """Add the pages."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=_links((ROOT / name).read_text())))
    files.append(File.generated(config, "command-reference.md", content=_commands()))
    return files


def on_page_markdown(markdown, page, **_):
    """Let links out of this folder lead to the pages of those files; of a file that has no page the name is left."""
    depth = page.file.src_uri.count("/")

    def link(found: re.Match) -> str:
        shown, up, name, anchor = found.groups()
        if up.count("../") <= depth:  # stays in this folder
            return found[0]
        return f"[{shown}]({'../' * depth}{PAGES[name]}{anchor})" if name in PAGES else shown

    return re.sub(r"\[([^\]]*)\]\(((?:\.\./)+)([^)#\s]+)([^)\s]*)\)", link, markdown)


def _commands() -> str:
    """What every command says of itself; of what the package needs, its arguments need lazy-loader alone."""
    os.environ["COLUMNS"] = "100"  # argparse wraps its lines there
    sys.path.insert(0, str(ROOT))
    build_parser = runpy.run_path(str(ROOT / "ugejax" / "app" / "cli" / "arguments.py"))["build_parser"]
    (commands,) = build_parser()._subparsers._group_actions
    parts = [
        "# Command reference\n\nEvery command with all its options; [commands by task](commands.md) says which to use. "
        "Exit codes: 0 done, 1 a check failed, 2 a mistake in what was given, 130 interrupted.\n"
    ]
    for name, command in commands.choices.items():
        parts.append(f"## ugejax {name}\n\n```text\n{command.format_help()}```\n")
    return "\n".join(parts)


def _links(text: str) -> str:
    """The text of a file in the root with links that hold from this folder; of other files the name alone is left."""

    def link(found: re.Match) -> str:
        shown, target = found.groups()
        name, hash_, anchor = target.partition("#")
        if target.startswith(("http", "#")):
            return found[0]
        if name.startswith("docs/"):
            return f"[{shown}]({target.removeprefix('docs/')})"
        return f"[{shown}]({PAGES[name]}{hash_}{anchor})" if name in PAGES else shown

    return re.sub(r"(?<!`)\[([^\]]*)\]\(([^)\s]+)\)", link, text)
