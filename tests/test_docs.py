"""Every command of the pages is run, or its page says why not.

A block that stands below ``<!-- not run: REASON -->`` is left out. The others of a page are run one after the other in
one folder, with stand-ins for what a reader has and a test has not: the random backbone, the smallest budget, two
seeds and one task where a line names none, and rows of `mini7` for the release of SuperGLUE. Lines of a block
that are no commands are what is printed, and have to be. A block below ``<!-- NAME.py -->`` is what the reader makes of
a file that a command has written into the plug-in folder.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import dhrd

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "suites/*/README.md", "benchmarks/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
BLOCK = re.compile(
    r"(?:^<!-- (?:not run: (?P<reason>.+)|(?P<file>\w+\.py)) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.M | re.S,
)
COMMAND = re.compile(r"^(?:\$ )?(?:dhrd-bench|make|python|pip|git) ", re.M)
SETTLED = {
    "run": ("--backbone tiny", "--budget smoke", "--seeds 2"),
    "tune": ("--backbone tiny", "--budget smoke"),
    "throughput": ("--backbone tiny", "--budget smoke"),
    "rationales": (),
}
"""What a command is given unless its line says it."""
TASKS = {"mini7": "rte", "superglue7": "rte", "derivations": "ordering", "deeper": "dates"}


def blocks(page: str) -> Iterator[re.Match[str]]:
    yield from BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))


def commands(body: str) -> Iterator[tuple[str, list[str]]]:
    """Return the commands of a block, each with the lines that it prints."""
    lines = body.replace("\\\n", " ").splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start].removeprefix("$ "), [line for line in lines[start + 1 : end] if line.strip()]


def settled(line: str) -> list[str]:
    """Return the words of a command line, with stand-ins."""
    line = line.replace("local:smollm2-135m", "local:tiny")
    line = line.replace("audit --suite superglue7", "audit --suite mini7")  # those of SuperGLUE fit its own rows only
    words = shlex.split(line, comments=True)
    assert words[0] == "dhrd-bench", line
    given = {word for word in words if word.startswith("--")}
    if "--config" not in given and "--tuned" not in given:
        for option in SETTLED.get(words[1], ()):
            name, value = option.split()
            words += [] if name in given else [name, value]
        suite = words[words.index("--suite") + 1] if "--suite" in given else None
        if words[1] in SETTLED and suite in TASKS and "--tasks" not in given:
            words += ["--tasks", TASKS[suite]]
    return words[1:]


def test_blocks_of_commands_are_known_as_such() -> None:
    """A block that nobody knows for one is not run."""
    for page in PAGES:
        for block in blocks(page):
            if block["language"] not in ("console", "python", "yaml", "toml") and not block["reason"]:
                assert not COMMAND.search(block["body"]), f"{page}: ```console\n{block['body']}"
            elif block["language"] == "console":
                assert block["body"].startswith("$ "), f"{page}: {block['body']}"


@pytest.fixture(
    scope="module", params=[page for page in PAGES if any(b["language"] == "console" for b in blocks(page))]
)
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.docs
def test_the_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    for folder in ("examples", "results", "studies"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copytree(ROOT / "suites/mini7", tmp_path / "path/to/SuperGLUE")
    shutil.copy(ROOT / "examples/triage/messages.csv", tmp_path / "tickets.csv")
    for block in blocks(page):
        if block["file"] and (edited := tmp_path / "plugins" / block["file"]).exists():
            edited.write_text(block["body"], encoding="utf-8")
        if block["language"] != "console" or block["reason"]:
            continue
        for line, printed in commands(block["body"]):
            for part in line.split(" && "):
                text, _, target = part.partition(" > ")
                done = dhrd(*settled(text), cwd=tmp_path, DHRD_DATA_DIR=str(tmp_path / "path/to/SuperGLUE"))
                output = done.stdout + done.stderr
                if target:
                    (tmp_path / target.split("#")[0].strip()).write_text(done.stdout, encoding="utf-8")
                wanted = [2] if any(each.startswith("error: ") for each in printed) else [0]
                wanted += [1] if "throughput" in part else []  # a figure of a busy machine is INVALID
                assert done.returncode in wanted, f"{part}\n{output}"
            shown = " ".join(output.split())
            assert all(" ".join(each.split()) in shown for each in printed), f"{line}\n{output}"
