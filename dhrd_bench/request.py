"""What a user asks for: one typed noun that the command line, a YAML file, Python and a record share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import yaml
from pydantic import BeforeValidator, Field

from dhrd_bench.cards import Reference, read_card, split_references
from dhrd_bench.contracts import Card
from dhrd_bench.errors import UserError, did_you_mean
from dhrd_bench.untrusted import read_yaml

Isolation = Literal["auto", "none", "audit", "process"]
ISOLATIONS: tuple[Isolation, ...] = ("auto", "none", "audit", "process")
Executor = Literal["local", "ray"]
EXECUTORS: tuple[Executor, ...] = ("local", "ray")
Scenario = Literal["offline", "single-stream", "server"]
SCENARIOS: tuple[Scenario, ...] = ("offline", "single-stream", "server")
Tracker = Literal["mlflow", "trackio", "wandb"]
TRACKERS: tuple[Tracker, ...] = ("mlflow", "trackio", "wandb")
EnergySource = Literal["counters", "codecarbon"]
ENERGY_SOURCES: tuple[EnergySource, ...] = ("counters", "codecarbon")
Sampler = Literal["random", "grid", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("random", "grid", "tpe")


MOST_SEEDS = 10_000


Name = TypeVar("Name", bound=str)


def parse_seeds(text: str) -> list[int]:
    """Read seeds: a count (``5`` is 0 to 4), a list (``0,3,7``) or a range (``2-4``); ``0`` is seed 0 alone.

    Raises
    ------
    UserError
        If the text is none of these.
    """
    try:
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        if len(pieces) == 1 and pieces[0].isdigit() and "," not in text:
            pieces = [f"0-{max(int(pieces[0]) - 1, 0)}"]
        seeds: list[int] = []
        for piece in pieces:
            first, dash, last = piece.partition("-")
            ends = int(first), int(last) if dash else int(first)
            if ends[1] - ends[0] + len(seeds) >= MOST_SEEDS or ends[1] >= 2**31:
                raise UserError(f"The seeds {text!r} are too many, or too large.", f"{MOST_SEEDS} below 2**31 can be.")
            seeds += range(ends[0], ends[1] + 1)
        if not seeds:
            raise ValueError
    except ValueError:
        raise UserError(
            f"Cannot read the seeds {text!r}.", "Write a count (5), a list (0,3,7) or a range (2-4)."
        ) from None
    return sorted(set(seeds))


def parse_scenarios(text: str) -> list[Scenario]:
    """Read a list like ``offline,server``.

    Raises
    ------
    UserError
        If one is unknown or none is named.
    """
    return _some_of(text, SCENARIOS, "scenario")


def parse_trackers(text: str) -> list[Tracker]:
    """Read a list like ``wandb,mlflow``.

    Raises
    ------
    UserError
        If one is unknown or none is named.
    """
    return _some_of(text, TRACKERS, "tracker")


def _some_of(text: str, known: Sequence[Name], what: str) -> list[Name]:
    names = split_references(text)
    for name in names:
        if name not in known:
            raise UserError(f"Unknown {what} {name!r}.", did_you_mean(name, known))
    if not names:
        raise UserError(f"No {what} was named.", f"Known: {', '.join(known)}.")
    return [name for name in known if name in names]


def parse_sampler(text: str) -> Sampler:
    """Return `text` as the sampler that it names.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    for known in SAMPLERS:
        if known == text:
            return known
    raise UserError(f"Unknown sampler {text!r}.", did_you_mean(text, SAMPLERS))


def parse_duration(text: str) -> float:
    """Read a time like ``90``, ``90s``, ``30m`` or ``1h30m`` as seconds.

    Raises
    ------
    UserError
        If the text is none, or no time at all.
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in (found.groups() if found else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < math.inf:
        raise UserError(f"Cannot read the time {text!r}.", "Write seconds (90), 30m or 1h30m.")
    return total


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _isolation(value: Any) -> Any:
    if isinstance(value, str) and value not in ISOLATIONS:
        raise UserError(f"Unknown isolation {value!r}.", did_you_mean(value, ISOLATIONS))
    return value


def _executor(value: Any) -> Any:
    if isinstance(value, str) and value not in EXECUTORS:
        raise UserError(f"Unknown executor {value!r}.", did_you_mean(value, EXECUTORS))
    return value


def _energy(value: Any) -> Any:
    if isinstance(value, str) and value not in ENERGY_SOURCES:
        raise UserError(f"Unknown source of energy figures {value!r}.", did_you_mean(value, ENERGY_SOURCES))
    return value


def _folder(value: Any) -> Any:
    if isinstance(value, str):
        named_folder(value)
    return value


def named_folder(text: str) -> Path:
    """Return the folder called `text`.

    Raises
    ------
    UserError
        If there is no text, as where a variable of the shell is not set: it would be the working folder.
    """
    if not text.strip():
        raise UserError("A folder has an empty name.", "Write '.' for the working folder.")
    return Path(text)


def _shard(value: Any) -> Any:
    if isinstance(value, str):
        parse_shard(value)
    return value


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``2/8`` as the number of a part, from 1, and how many there are.

    Raises
    ------
    UserError
        If it is no part of a whole.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    part, parts = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"There is no shard {text!r}.", "Write 2/8 for the second of eight.")
    return part, parts


def _stores(value: Any) -> Any:
    if isinstance(value, str):
        value = split_references(value)
    return dict(map(parse_store, value)) if isinstance(value, list | tuple) else value


def parse_store(text: str) -> tuple[str, str]:
    """Read ``NAME=FOLDER`` as the name of a rationale store and where it is, perhaps pinned.

    Raises
    ------
    UserError
        If it is none, or the name cannot stand behind a method's ``@``.
    """
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not equals or not folder or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(f"Cannot read the store {text!r}.", "Write NAME=FOLDER, or pinned NAME=FOLDER@FINGERPRINT.")
    return name, folder


def _references(value: Any) -> Any:
    return split_references(value) if isinstance(value, str) else value


def _seeds(value: Any) -> Any:
    return parse_seeds(str(value)) if isinstance(value, str | int) else value


def _scenarios(value: Any) -> Any:
    return parse_scenarios(value) if isinstance(value, str) else value


def _trackers(value: Any) -> Any:
    return parse_trackers(value) if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Folder = Annotated[Path, BeforeValidator(_folder)]
Names = Annotated[tuple[str, ...], BeforeValidator(_references)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(_seeds)]


class RunRequest(Card):
    """A grid of cells: methods x tasks x seeds of one suite, on one backbone, under one budget.

    Lists may be given as text with commas, as on the command line. `Plan.request` is the same request
    with everything said that was left open, and every name in its one spelling.

    Attributes
    ----------
    methods
        References, as in ``name[alpha=0.5]``, or ``name[alpha=0.5]@STORE`` to be taught with another store or a
        treatment of one.
    suite, prompt
        Name of the suite, and of its prompt if not its default one; ``superglue7[prompt=paper]`` is both.
    unshared
        Whether train rows that share their cluster's text with test rows are left out, as in
        ``superglue7[unshared=true]``.
    tasks, seeds
        None takes all tasks of the suite, and as many seeds as the budget says.
    backbone, budget
        References.
    data_dir
        Folder with the suite's files; None takes the environment's ``DHRD_DATA_DIR`` if that is set.
    rationales
        A store to take rationales from (``FOLDER``, or pinned ``FOLDER@FINGERPRINT``), not the suite's own.
    stores
        Further stores by the name that methods call them by; as text ``NAME=FOLDER``.
    paired
        Stores and treatments, named as after a method's ``@``, whose rows count beside those that methods name:
        a train row has a rationale in every one of them, or goes without.
    keep_rows
        Whether train rows are those that have a rationale where no store is named; a method that is taught with
        another store lacks rationales where that has none.
    allow_missing_rationales
        Whether a method that learns from rationales may be run on a task that has none.
    include
        Folders with plug-ins.
    results
        Folder of the records.
    executor
        Who runs the cells: this machine, or a Ray cluster.
    workers
        Cells that are run at a time, each worker a process of its own; they share processors and cards. None is one
        on this machine, and as many as a cluster has room for.
    processes
        Processes that train each cell together, on a card each or on a part of the threads.
    shard
        A part of the cells, ``2/8`` the second of eight: the parts of a grid, run wherever, are the grid.
    isolation
        Where methods work: ``process`` in one of their own that cannot read test labels, ``audit`` here, watched,
        ``none`` here; ``auto`` puts plug-ins where they are farthest from the labels, and leaves built-in methods here.
    cell_timeout
        Seconds that a cell may take, or a text like ``30m``; a cell that takes longer has failed.
    force
        Whether cells that have a record are run again.
    throughput
        Scenarios in which what was fitted is timed afterwards.
    track
        Experiment trackers that hear of each cell while it runs; their libraries are extras.
    energy
        Where joules come from: ``counters`` are the hardware's own, if it has some that can be read; ``codecarbon``
        is an estimate.
    tuned
        A file that ``dhrd-bench tune`` has written: `methods`, or all that it has, have the settings chosen there.
    """

    methods: Names = ()
    suite: str = "mini7"
    prompt: str | None = None
    unshared: bool = False
    tasks: Names | None = None
    backbone: str = "smollm2-135m"
    budget: str = "smoke"
    seeds: Seeds = None
    data_dir: Folder | None = None
    rationales: str | None = None
    stores: Annotated[dict[str, str], BeforeValidator(_stores)] = Field({})
    paired: Names = ()
    keep_rows: bool = False
    allow_missing_rationales: bool = False
    include: tuple[Folder, ...] = ()
    results: Folder = Path("results")
    executor: Annotated[Executor, BeforeValidator(_executor)] = "local"
    workers: Annotated[int, Field(gt=0)] | None = None
    processes: int = Field(1, gt=0)
    shard: Annotated[str | None, BeforeValidator(_shard)] = None
    isolation: Annotated[Isolation, BeforeValidator(_isolation)] = "auto"
    cell_timeout: Annotated[Seconds | None, BeforeValidator(_duration)] = None
    force: bool = False
    throughput: Annotated[tuple[Scenario, ...], BeforeValidator(_scenarios)] = ()
    track: Annotated[tuple[Tracker, ...], BeforeValidator(_trackers)] = ()
    energy: Annotated[EnergySource, BeforeValidator(_energy)] = "counters"
    tuned: Folder | None = None

    def without_places(self, backbone: str) -> RunRequest:
        """Return the request as a record may hold it: nothing in it tells of this machine's folders.

        Parameters
        ----------
        backbone
            What the backbone is called in records.
        """
        store = self.rationales and Path(self.rationales).name
        stores = {name: Path(folder).name for name, folder in self.stores.items()}
        update: dict[str, Any] = {"backbone": backbone, "data_dir": None, "include": (), "results": Path("results")}
        update |= {"rationales": store, "stores": stores, "track": (), "force": False, "tuned": None}
        return self.model_copy(update=update | {"executor": "local", "workers": None, "processes": 1, "shard": None})

    def to_yaml(self) -> str:
        """Return the request as a file that `read_request` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Options(TypedDict, total=False):
    """Options of a command line; None is one that was not given. The keys are those of `RunRequest`."""

    methods: str | None
    suite: str | None
    prompt: str | None
    tasks: str | None
    backbone: str | None
    budget: str | None
    seeds: str | None
    data_dir: Path | None
    rationales: str | None
    stores: list[str] | None
    paired: str | None
    keep_rows: bool | None
    allow_missing_rationales: bool | None
    include: list[Path] | None
    results: Path | None
    isolation: str | None
    cell_timeout: str | None
    force: bool | None
    executor: str | None
    workers: int | None
    processes: int | None
    shard: str | None
    throughput: str | None
    track: str | None
    energy: str | None
    tuned: Path | None


def read_request(config: Path | None, options: Options, defaults: Options | None = None) -> RunRequest:
    """Return the request of the file `config`, if one is named, with the given `options` laid over it.

    What neither says is as in `defaults`, a command's own, or else as `RunRequest` has it.

    Raises
    ------
    UserError
        If the file is none or has an unknown key, or a value that cannot be read; with the place.
    """
    raw: Any = {}
    if config is not None:
        raw = read_yaml(config)
        if not isinstance(raw, dict):
            raise UserError(f"{config}: a request is a mapping of keys.", "Start with 'methods: ...'.")
    given = {key: value for key, value in options.items() if value is not None}
    try:
        return read_card(RunRequest, {**(defaults or {}), **raw, **given}, config or Path("command line"))
    except UserError as error:  # of a value that has a form of its own, as seeds; it may stand in the file
        if config is None or str(config) in error.message:
            raise
        raise UserError(f"{config}: {error.message}", error.hint) from error


def split_suite(request: RunRequest) -> RunRequest:
    """Return `request` with the suite's name and its settings apart.

    Raises
    ------
    UserError
        If the suite has another setting, or two prompts are named.
    """
    reference = Reference.parse(request.suite)
    settings = reference.apply(SuiteSettings(), "Suite")
    if settings.prompt and request.prompt and settings.prompt != request.prompt:
        raise UserError(f"Two prompts: {settings.prompt!r} of the suite and {request.prompt!r}.", "Name one of them.")
    update = {"prompt": request.prompt or settings.prompt, "unshared": request.unshared or settings.unshared}
    return request.model_copy(update={"suite": reference.name, **update})


class SuiteSettings(Card):
    """Settings of a suite reference, as in ``superglue7[prompt=paper,unshared=true]``."""

    prompt: str | None = None
    unshared: bool = False
