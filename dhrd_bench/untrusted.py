"""Files of strangers: YAML and JSON read within limits, and paths that stay in their folder.

Suites, cards, stores and records are data, whoever wrote them. Here is what keeps them so: no tag of YAML makes an
object, no nesting and no alias takes the memory, and no link leads to another folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from dhrd_bench.errors import UserError

YAML_BYTES = 2**20
"""What is longer was not written by hand, and is no card."""
YAML_DEPTH = 50
YAML_EXPANDED = 10 * YAML_BYTES
"""Characters of a text whose aliases are written out."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_yaml(path: Path) -> Any:
    """Return what the YAML file at `path` says.

    Raises
    ------
    UserError
        If it cannot be read, with the line if there is one.
    """
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the text of a file that people write.

    Raises
    ------
    UserError
        If it cannot be read, is no UTF-8, or is too long for one.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(YAML_BYTES + 1)
        if len(content) > YAML_BYTES:
            raise UserError(f"{path} is longer than {YAML_BYTES:,} bytes.", "Put rows into a file of their own.")
        return content.decode()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8.", "Save it as UTF-8.") from error


def parse_yaml(text: str, place: Path | str) -> Any:
    """Return what `text` says, which stands at `place`.

    Beside plain YAML are refused: a key that is there twice, tags of other than plain values, nesting and aliases
    beyond all need.

    Raises
    ------
    UserError
        If it is no such YAML, with the line if there is one.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{place}{line}: {reason}.", "Mend the YAML there.") from error
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:  # a date with 99 days
        raise UserError(f"{place}: {error}.", "Mend the YAML, or put the value in quotes.") from error


class _Loader(yaml.SafeLoader):
    """Reads what JSON can say, and dates."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, unless it is too deep, too large or ambiguous."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        node = super().compose_node(parent, index) if self._depth <= YAML_DEPTH else None
        self._depth -= 1
        problem = f"nested more than {YAML_DEPTH} deep"
        if node is not None:
            alias = isinstance(event, yaml.AliasEvent)
            problem = _ALIAS if alias and id(node) not in self._sizes else self._mistake(node)
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return node

    def _mistake(self, node: yaml.Node) -> str:
        """Return what is wrong with a node whose parts are composed; keep its size."""
        if isinstance(node, yaml.ScalarNode):
            self._sizes[id(node)] = 1 + len(node.value)
            return "half a character (a lone surrogate)" if _SURROGATE.search(node.value) else ""
        children: list[yaml.Node] = node.value
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                return f"the key {max(keys, key=keys.count)!r} is there twice"
            children = [part for pair in node.value for part in pair]
        self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in children)
        return "its aliases stand for too long a text" if self._sizes[id(node)] > YAML_EXPANDED else ""


def _refuse(_: _Loader, node: yaml.Node) -> Any:
    problem = f"could not determine a constructor for the tag {node.tag!r}"
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_ALIAS = "an alias stands inside what it stands for"

for _kind in ("binary", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _refuse)


def parse_json(text: str | bytes) -> Any:
    """Return what `text` says.

    Raises
    ------
    ValueError
        If it is no JSON, or nested too deep for a reader.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path`, whose links are followed, is outside `folder`; what cannot be followed counts as outside."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name with NUL, a circle of links
        return True
