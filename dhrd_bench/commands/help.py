"""What the command line says of itself: panels, examples, and the names that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

RUN, OWN, LOOK, USE = "Run and report", "Your own", "Look", "Beyond the benchmark"
COMMAND_PANELS = {
    "demo": RUN, "run": RUN, "tune": RUN, "study": RUN, "report": RUN, "plot": RUN, "serve": RUN, "throughput": RUN,
    "rerun": RUN, "power": RUN, "records": RUN,
    "new": OWN, "generate": OWN, "check": OWN, "rationales": OWN,
    "export": USE, "predict": USE, "push": USE, "import": USE,
    "list": LOOK, "doctor": LOOK,
}  # fmt: skip

PANELS = {
    "Which cells": ("methods", "suite", "prompt", "tasks", "backbone", "budget", "seeds", "config", "tuned"),
    "Data and plug-ins": (
        "data_dir", "rationales", "store", "paired", "keep_rows", "allow_missing_rationales", "include",
        "studies",
    ),
    "Way of running": (
        "dry_run", "throughput", "isolation", "cell_timeout", "force", "executor", "workers", "processes", "shard",
        "track", "energy", "stop_after",
    ),
    "Search": ("trials", "dev_rows", "space", "sampler", "random_seed"),
    "Load": ("scenarios", "rounds", "block", "queries", "p99_bound"),
    "Statistics": (
        "baseline", "reference", "against", "margin", "resamples", "seed", "discordance", "lasting", "seed_sd",
        "metric", "amend",
    ),
    "Classifier": ("adapter", "onnx", "model", "batch", "device", "private"),
    "Logs": ("log_task", "score"),
    "Output": ("results", "format_", "output", "as_json", "sort", "details", "wide", "data", "schema", "port"),
}  # fmt: skip
"""Options by the panel that they stand in, whichever command they belong to."""

# No built-in method is named in the harness: a user's own stands for all of them.
EXAMPLES = {
    "demo": (
        "dhrd-bench demo",
        "dhrd-bench demo --backbone tiny --results elsewhere",
    ),
    "run": (
        "dhrd-bench run --methods my-method,another --tasks rte --dry-run",
        "dhrd-bench run --methods 'my-method[alpha=0.5]' --budget laptop --seeds 5",
        "dhrd-bench run --methods another --suite superglue7 --data-dir SuperGLUE",
        "dhrd-bench run --methods my-method --suite tickets --include plugins",
        "dhrd-bench run --methods my-method,my-method@mine --store mine=FOLDER",
    ),
    "tune": (
        "dhrd-bench tune --methods my-method,another --trials 16 --output tuning.yaml",
        "dhrd-bench tune --methods another --trials 8 --dev-rows 200 --output t.yaml",
    ),
    "report": (
        "dhrd-bench report --suite mini7",
        "dhrd-bench report --results my-results --format html --output site",
        "dhrd-bench report --methods my-method,another --margin 2 --details",
        "dhrd-bench report --metric accuracy --sort qps",
    ),
    "plot": (
        "dhrd-bench plot pareto --suite mini7 --output pareto.svg",
        "dhrd-bench plot gains --margin 2 --output gains.pdf --data",
        "dhrd-bench plot curves --suite mini7 --methods my-method,another",
    ),
    "serve": (
        "dhrd-bench serve",
        "dhrd-bench serve --results my-results --port 8080",
    ),
    "throughput": (
        "dhrd-bench throughput --methods my-method,another --suite mini7 --tasks rte",
        "dhrd-bench throughput --methods another --scenarios server --p99-bound 0.2",
    ),
    "rerun": (
        "dhrd-bench rerun results/mini7/smollm2-135m/smoke/another/RTE/seed-0.json",
        "dhrd-bench rerun their-record.json --data-dir SuperGLUE --verify 'my name'",
    ),
    "power": (
        "dhrd-bench power --methods my-method,another --budget laptop",
        "dhrd-bench power --methods my-method,another --seeds 5 --margin 1",
    ),
    "new": (
        "dhrd-bench new method my-method",
        "dhrd-bench new suite tickets --from tickets.csv --text message --label urgency",
        "dhrd-bench new suite moods --from train.parquet --test test.parquet \\\n"
        "      --text premise --text hypothesis --label mood --id key",
    ),
    "generate": (
        "dhrd-bench generate derivations --rows 5000 --seed 1 --output more",
        "dhrd-bench generate derivations --hops 2-4 --test-hops 5-6 --output deeper",
    ),
    "check": (
        "dhrd-bench check my-method --include plugins",
        "dhrd-bench check --all",
    ),
    "list": (
        "dhrd-bench list methods --include plugins",
        "dhrd-bench list budgets --json",
    ),
    "doctor": (
        "dhrd-bench doctor",
        "dhrd-bench doctor --data-dir SuperGLUE --json",
    ),
    "export": (
        "dhrd-bench export results/mini7/.../RTE/seed-0.json --output rte",
        "dhrd-bench export results/.../seed-0.json --output rte --adapter",
    ),
    "predict": (
        "dhrd-bench predict rows.jsonl --model rte --output answers.jsonl",
        "dhrd-bench predict rows.csv --model rte --device cuda --batch 128",
    ),
    "push": ("dhrd-bench push rte OWNER/NAME --private",),
    "import": (
        "dhrd-bench import lm-eval-output --task boolq --method large-model",
        "dhrd-bench import logs/a.eval logs/b.eval --suite superglue7 --task RTE \\\n"
        "      --method large-model --data-dir SuperGLUE",
    ),
    "records check": (
        "dhrd-bench records check",
        "dhrd-bench records check my-results --data-dir SuperGLUE --clean",
    ),
    "records pack": ("dhrd-bench records pack my-results --output my-records.tar.gz",),
    "records merge": ("dhrd-bench records merge my-records.tar.gz other-results --results results",),
    "records submit": ("dhrd-bench records submit my-results --data-dir SuperGLUE",),
    "records predictions": ("dhrd-bench records predictions mini7/smollm2-135m/smoke/another/RTE/seed-0",),
    "records migrate": ("dhrd-bench records migrate --results my-results --dry-run",),
    "records schema": ("dhrd-bench records schema --output schema.json",),
    "study freeze": (
        "dhrd-bench study freeze studies/my-study.yaml",
        "dhrd-bench study freeze studies/my-study.yaml --amend 'fewer tasks: no time'",
    ),
    "study run": (
        "dhrd-bench study run studies/my-study.yaml",
        "dhrd-bench study run studies/my-study.yaml --workers 4 --stop-after 2h",
    ),
    "study report": (
        "dhrd-bench study report studies/my-study.yaml",
        "dhrd-bench study report studies/my-study.yaml --format json",
    ),
    "rationales generate": (
        "dhrd-bench rationales generate --suite mini7 --teacher openai:MODEL --dry-run",
        "dhrd-bench rationales generate --suite mini7 --teacher local:smollm2-135m \\\n      --limit 20 --output store",
    ),
    "rationales audit": (
        "dhrd-bench rationales audit --suite superglue7 --data-dir SuperGLUE",
        "dhrd-bench rationales audit --suite mini7 --rationales store --json",
    ),
    "rationales from-scores": (
        "dhrd-bench rationales from-scores predictions.json \\\n"
        "      --suite mini7 --task RTE --teacher large-model --output store",
    ),
    "rationales show": ("dhrd-bench rationales show --suite mini7 --task RTE --limit 3",),
    "rationales merge": ("dhrd-bench rationales merge store another-store --output joined",),
}
"""Command lines by the command, a group's with the group's name before it."""


class _Command(TyperCommand):
    """A command whose options are in the panels of `PANELS`, unless they name one themselves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        panel_of = {option: panel for panel, options in PANELS.items() for option in options}
        for parameter in self.params:
            if getattr(parameter, "rich_help_panel", "") is None and parameter.param_type_name == "option":
                parameter.rich_help_panel = panel_of.get(parameter.name or "")  # type: ignore[attr-defined]


def dress(app: typer.Typer, group: str = "") -> None:
    """Put the commands of `app` into panels, their options, too, and examples below their help.

    Parameters
    ----------
    app
        The program, or a group of its commands.
    group
        The group's name, and a space.
    """
    for command in app.registered_commands:
        name = group + str(command.name or getattr(command.callback, "__name__", "").replace("_", "-"))
        command.cls = _Command
        command.rich_help_panel = COMMAND_PANELS.get(name)
        command.epilog = _epilog(EXAMPLES[name]) if name in EXAMPLES else None
    for each in app.registered_groups:
        each.rich_help_panel = COMMAND_PANELS.get(str(each.name))
        if each.typer_instance is not None and not each.hidden:  # a hidden one is another name of one that is not
            dress(each.typer_instance, f"{each.name} ")


def _epilog(examples: Iterable[str]) -> str:
    lines = [f"  {example}".replace("[", "\\[") for example in examples]  # a bracket alone would be markup
    return "\n".join(["[bold]Examples[/bold]", *lines])


# ---------------------------------------------------------------- completion


def completed(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """Return what completes names of `kind`, a registry's name; of a list with commas, its last name."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from dhrd_bench import plugins, registry

        with suppress(Exception):  # a folder half typed, a broken plug-in: there is nobody to tell it to
            for folder in ctx.params.get("include") or ():
                plugins.include(Path(folder))
        before, comma, last = incomplete.rpartition(",")
        with suppress(Exception):
            return [f"{before}{comma}{name}" for name in getattr(registry, kind).names() if name.startswith(last)]
        return []

    return complete


def kinds_to_list() -> list[str]:
    """Return what the list command can list."""
    from dhrd_bench.commands.listing import KINDS

    return list(KINDS)


def kinds_to_make() -> list[str]:
    """Return what the new command can make."""
    from dhrd_bench.commands.new import KINDS

    return list(KINDS)


def kinds_to_draw() -> list[str]:
    """Return what the plot command can draw."""
    from dhrd_bench.report.plotdata import DATA

    return list(DATA)
