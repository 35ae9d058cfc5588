"""What a teacher is asked, and how its reply is read: versioned templates in YAML files of this folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from dhrd_bench.cards import read_card
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.untrusted import read_yaml

VERDICT_WORDS = ("yes", "no", "true", "false", "correct", "incorrect", "right", "wrong")
"""Words that give a verdict away in any task; a task's own answers come on top of them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a teacher is sent about one row; `sample` tells repeated asks apart."""

    system: str
    user: str
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from a reply.

    Attributes
    ----------
    rationale
        The text before the sentinel.
    answer
        Label id of the answer after it; None if none could be read.
    closed
        Whether the sentinel was there.
    """

    rationale: str
    answer: int | None
    closed: bool


class TeacherPrompt(Card):
    """A versioned template.

    Attributes
    ----------
    label_seen
        Whether the gold label is shown. Where it is not, a template that mentions ``answer`` is an
        error, and only replies whose answer is the gold label are used.
    system, user
        Jinja templates over ``input``, ``answers``, ``barred``, ``sentinel`` and, if `label_seen`,
        ``answer``.
    sentinel
        Ends the rationale; the answer follows on a new line.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str
    label_seen: bool
    system: str = ""
    user: str
    sentinel: str = Field("[END OF REASONING]", pattern=r"\w")

    @property
    def identity(self) -> str:
        """Name, version and a hash of the templates, so that an edit without a new version shows."""
        content = "\x1f".join([self.system, self.user, self.sentinel, str(self.label_seen)])
        return f"{self.name}@{self.version}+{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def render(self, text: str, answers: Sequence[str], label: int) -> Ask:
        """Fill the templates in for one row.

        Raises
        ------
        UserError
            If a template cannot be filled in; it names the template and what is wrong.
        """
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import SandboxedEnvironment

        barred = list(dict.fromkeys([*VERDICT_WORDS, *(answer.lower() for answer in answers if len(answer) > 2)]))
        values: dict[str, object] = {
            "input": text,
            "answers": list(answers),
            "barred": barred,
            "sentinel": self.sentinel,
        }
        if self.label_seen:
            values["answer"] = answers[label]
        environment = SandboxedEnvironment(undefined=StrictUndefined)
        try:
            system, user = (environment.from_string(part).render(values) for part in (self.system, self.user))
        except TemplateError as error:
            raise UserError(
                f"The prompt {self.name!r} cannot be filled in: {error}.", did_you_mean("", values)
            ) from None
        return Ask(system.strip(), user.strip())

    def read(self, reply: str, answers: Sequence[str]) -> Reading:
        """Split a reply into rationale and answer.

        Without the sentinel the answer is looked for in the last line, where it is taken off the
        rationale if the line holds nothing else.
        """
        # Small teachers drop the brackets or break the line.
        core = r"\s*".join(re.escape(word) for word in self.sentinel.strip("[]<>() ").split())
        pattern = rf"[\[<(*]*{core}[\]>)*:.]*"
        before, *after = re.split(pattern, reply, maxsplit=1, flags=re.IGNORECASE)
        if after:
            lines = [line for line in after[0].splitlines() if line.strip()]
            return Reading(before.strip(), read_answer(lines[0], answers) if lines else None, closed=True)
        body, _, last = before.strip().rpartition("\n")
        answer = read_answer(last, answers)
        bare = answer is not None and _plain(_PREFIX.sub("", last)) == _plain(answers[answer])
        return Reading(body.strip() if bare else before.strip(), answer if bare else None, closed=False)


_PREFIX = re.compile(r"^\W*(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is\b|:)?\s*", re.IGNORECASE)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower().replace("_", " ")))


def read_answer(line: str, answers: Sequence[str]) -> int | None:
    """Return the label id that `line` names; None if it names none, or several."""
    words = f" {_plain(line)} "
    named: list[int] = []
    for label in sorted(range(len(answers)), key=lambda label: -len(answers[label])):
        answer = f" {_plain(answers[label])} "
        if answer in words:
            named.append(label)
            words = words.replace(answer, "  ")  # "entailment" is not named by "not entailment"
    return named[0] if len(named) == 1 else None


def prompt_names() -> list[str]:
    """Return the names of the built-in prompts."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_prompt(name: str) -> TeacherPrompt:
    """Return a built-in prompt by name, or the one in a YAML file.

    Raises
    ------
    UserError
        If there is none of that name, or the file is no prompt.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(__file__).parent / f"{name}.yaml"
    if not path.is_file():
        if path.parent != Path(__file__).parent:
            raise UserError(f"No prompt file at {path}.")
        raise UserError(f"Unknown prompt {name!r}.", did_you_mean(name, prompt_names()))
    raw = read_yaml(path)
    return read_card(TeacherPrompt, raw if isinstance(raw, dict) else {}, path)
