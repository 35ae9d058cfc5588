"""Settings drawn where earlier trials were good: Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dhrd_bench.contracts import Range, Setting, derive_seed
from dhrd_bench.errors import UserError
from dhrd_bench.search.space import Settings, rounded


def proposed(
    space: Mapping[str, Setting], before: Sequence[tuple[Settings, float]], random_seed: int, trial: int
) -> Settings:
    """Return the settings of a trial after those `before`, each with its score.

    They depend on these, the seed and the number of the trial alone, so that a search that was interrupted goes on as
    if it had not been.

    Raises
    ------
    UserError
        If Optuna is not installed.
    """
    optuna: Any = _optuna()
    ways = {name: _way(optuna, setting) for name, setting in space.items()}
    seed = derive_seed("search", str(random_seed), str(trial)) % 2**32
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for settings, score in before:
        # Settings that were not drawn, as those of the first trial, may lie outside of the space.
        if all(_holds(space[name], settings[name]) for name in space):
            study.add_trial(optuna.trial.create_trial(params=settings, distributions=ways, value=score))
    params = study.ask(ways).params
    return {
        name: rounded(setting, params[name]) if isinstance(setting, Range) else params[name]
        for name, setting in space.items()
    }


def _holds(setting: Setting, value: Any) -> bool:
    return setting.low <= value <= setting.high if isinstance(setting, Range) else value in setting


def _way(optuna: Any, setting: Setting) -> Any:
    if not isinstance(setting, Range):
        return optuna.distributions.CategoricalDistribution(setting)
    whole = isinstance(setting.low, int) and isinstance(setting.high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(setting.low, setting.high, log=setting.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        message = "The sampler 'tpe' takes Optuna, which is not installed."
        raise UserError(message, "Install it: pip install 'dhrd-bench[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
