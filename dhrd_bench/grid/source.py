"""A digest of Python source on which no interpreter has a say.

The text of syntax trees and the tokens of formatted strings differ between versions of Python. So what is
hashed is the source itself, token by token, less comments, docstrings, blank lines and blank space between
tokens. Only the standard library is used, and nothing of the package.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLANK = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_MARKS = {tokenize.NEWLINE: "\n", tokenize.INDENT: "\x0e", tokenize.DEDENT: "\x0f"}
# From 3.12 on a formatted string comes in pieces; its text, from start to end, is the one token it was before.
_OPENS = {getattr(tokenize, name) for name in ("FSTRING_START", "TSTRING_START") if hasattr(tokenize, name)}
_CLOSES = {getattr(tokenize, name) for name in ("FSTRING_END", "TSTRING_END") if hasattr(tokenize, name)}

Place = tuple[int, int]
"""Line, counted from 1, and column in characters, counted from 0."""


def source_digest(sources: Iterable[str]) -> str:
    """Return a 16-digit hash of Python `sources`; neither their order nor a repeated one matters.

    Raises
    ------
    SyntaxError
        If one of them is no Python.
    """
    hashed = hashlib.sha256()
    for normal in sorted({normal_form(source) for source in sources}):
        hashed.update(hashlib.sha256(normal.encode()).digest())
    return hashed.hexdigest()[:16]


def normal_form(source: str) -> str:
    """Return the tokens of `source`, joined by blanks, without comments and docstrings.

    Raises
    ------
    SyntaxError
        If it is no Python.
    """
    source = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    docstrings = list(_docstrings(source))
    words = []
    for start, text in _tokens(source):
        if not any(first <= start < last for first, last in docstrings):
            words.append(text)
    return " ".join(words)


def read_source(path: Path) -> str:
    """Return the text of a Python file in the encoding that it declares."""
    with tokenize.open(path) as stream:
        return stream.read()


def imported_files(path: Path, root: Path) -> set[Path]:
    """Return the files below `root` that the file at `path` imports by name, be it relatively or absolutely.

    Imports are read, not run: one whose name is made while running is not seen.
    """
    names: set[tuple[Path, str]] = set()
    for node in ast.walk(ast.parse(read_source(path))):
        if isinstance(node, ast.Import):
            names |= {(base, alias.name) for alias in node.names for base in (root, root.parent)}
        elif isinstance(node, ast.ImportFrom):
            bases = [path.parents[node.level - 1]] if 0 < node.level <= len(path.parents) else [root, root.parent]
            module = node.module or ""
            names |= {(base, f"{module}.{alias.name}".strip(".")) for alias in node.names for base in bases}
            names |= {(base, module) for base in bases if module}
    files = {file for base, name in names for file in _files(base, name)}
    return {file for file in files if root in file.parents and file != path}


def _files(base: Path, name: str) -> Iterator[Path]:
    """Yield the module called `name` below `base`, and the packages it lies in."""
    place = base
    for part in name.split("."):
        place = place / part
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield file.resolve()


def _tokens(source: str) -> Iterator[tuple[Place, str]]:
    """Yield where each token that counts begins, and its text; a formatted string is one token."""
    lines = [f"{line}\n" for line in source.split("\n")]
    depth, opened = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _OPENS:
            opened = token.start if depth == 0 else opened
            depth += 1
        elif token.type in _CLOSES:
            depth -= 1
            if depth == 0:
                yield opened, _slice(lines, opened, token.end)
        elif depth == 0 and token.type not in _BLANK:
            yield token.start, _MARKS.get(token.type, token.string)


def _slice(lines: list[str], start: Place, end: Place) -> str:
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    return lines[first - 1][left:] + "".join(lines[first : last - 1]) + lines[last - 1][:right]


def _docstrings(source: str) -> Iterator[tuple[Place, Place]]:
    """Yield where docstrings begin and end."""
    # Lines as the parser counts them; a form feed or the like does not end one.
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
            continue
        value = node.body[0].value if isinstance(node.body[0], ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            assert value.end_lineno is not None
            assert value.end_col_offset is not None
            yield (
                _characters(lines, value.lineno, value.col_offset),
                _characters(lines, value.end_lineno, value.end_col_offset),
            )


def _characters(lines: list[str], line: int, column: int) -> Place:
    """Return the place of a column that is counted in bytes of UTF-8, as the parser does."""
    return line, len(lines[line - 1].encode()[:column].decode())
