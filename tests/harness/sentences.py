"""Find sentences over 25 words in the texts that users read: pages, help texts and docstrings.

`python tests/harness/sentences.py` counts them in this clone, `--list` shows them, and a folder as argument names another clone.
Blocks of code, results of notebooks, targets of links, References and examples do not count. Code in backquotes is one word.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_WORDS = 25
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r'<div class="output">.*')  # of a cell, on one line
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`[^`]*`")
SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Note):$", re.MULTILINE)
SKIPPED = re.compile(r"^(References|Example|Examples):\n(?:[ ]+.*\n|\n)*", re.MULTILINE)
ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +|^ {4}\*{0,2}\w+(?:, \w+)*: +|^#+ .*$|^>? ?\|?[-|: ]+\|$", re.MULTILINE)
END = re.compile(r"(?<=[.!?])(?<!\bal\.)(?<!\beq\.)(?<!\balg\.)(?<!e\.g\.)(?<!i\.e\.)[)*\"”]*\s+|\n\s*\n|\|(?=\s)")


def texts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, place and text of everything that counts."""
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        yield name, name, (root / name).read_text()
    for page in sorted((root / "docs").rglob("*.md")):
        yield "docs/", str(page.relative_to(root)), page.read_text()
    for file in sorted([*(root / "pyrovae").rglob("*.py"), *(root / "models").rglob("*.py")]):
        if (root / "pyrovae" / "models") in file.parents:  # a link to models/
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            place = f"{file.relative_to(root)}:{getattr(node, 'lineno', 1)}"
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                is_command = "commands" in file.parts and isinstance(node, ast.FunctionDef)
                yield "help texts" if is_command else "docstrings", place, ast.get_docstring(node) or ""
            elif isinstance(node, ast.keyword) and node.arg == "help":
                parts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                yield "help texts", place, "".join(str(part) for part in parts)


def sentences(text: str) -> Iterator[str]:
    text = LINK.sub(r"\1", OUTPUT.sub("", COMMENT.sub("", FENCE.sub("\n\n", text))))
    text = SECTION.sub("\n\n", SKIPPED.sub("\n\n", CODE.sub("`code`", text) + "\n"))
    for sentence in END.split(ITEM.sub("\n\n", text)):
        yield " ".join(sentence.split())


def num_words(sentence: str) -> int:
    """Words have a letter; a formula without spaces is one."""
    return sum(any(character.isalpha() for character in word) for word in sentence.split())


def long_sentences(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Place and sentence, by kind."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, place, text in texts(root):
        for sentence in sentences(text):
            found.setdefault(kind, [])
            if num_words(sentence) > MAX_WORDS:
                found[kind].append((place, sentence))
    return found


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--list"]
    result = long_sentences(Path(arguments[0] if arguments else "."))
    for kind, items in result.items():
        print(f"{len(items):5} {kind}")
        for place, sentence in items if "--list" in sys.argv else []:
            print(f"      {place}: {sentence}")
    print(f"{sum(map(len, result.values())):5} in all")
