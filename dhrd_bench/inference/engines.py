"""Which engine a backbone runs on."""

from __future__ import annotations

from dhrd_bench.backbones import Backbone
from dhrd_bench.inference.engine import Engine


def engine_of(backbone: Backbone) -> Engine:
    """Return the engine that the backbone's card names.

    Raises
    ------
    UserError
        If this machine cannot run it; the message says what to install or to choose.
    """
    if backbone.engine is None:
        if backbone.card.engine == "vllm":
            from dhrd_bench.inference.vllm import Vllm as Chosen
        else:
            from dhrd_bench.inference.transformers import Transformers as Chosen  # type: ignore[assignment]
        backbone.engine = Chosen(backbone)
    assert isinstance(backbone.engine, Engine)
    return backbone.engine
