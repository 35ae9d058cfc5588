"""A stand-in for the part of vLLM 0.33 that the engine uses: plain Hugging Face forward passes, one request at a time.

Signatures, defaults and the form of the outputs are those of the package; anything else is refused.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int = 16
    logprob_token_ids: list[int] | None = None
    detokenize: bool = True

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError("max_tokens must be at least 1")
        if self.stop and not self.detokenize:
            raise ValueError("stop strings are only supported when detokenize is True")
        if any(not text for text in self.stop or ()):
            raise ValueError("stop cannot contain an empty string")


@dataclass
class PoolerConfig:
    seq_pooling_type: str | None = None
    use_activation: bool | None = None


class LLM:
    alive: ClassVar[weakref.WeakSet[LLM]] = weakref.WeakSet()
    made: ClassVar[list[str]] = []
    requests: ClassVar[int] = 0

    def __init__(
        self,
        model: str,
        *,
        runner: str = "auto",
        convert: str = "auto",
        dtype: str = "auto",
        max_model_len: int | None = None,
        generation_config: str = "auto",
        trust_remote_code: bool = False,
        enable_prefix_caching: bool = True,
        pooler_config: PoolerConfig | None = None,
    ) -> None:
        assert not LLM.alive, "the device holds one at a time"
        self.runner, self.pooler, self.caching = runner, pooler_config, enable_prefix_caching
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.resets = 0
        LLM.alive.add(self)
        LLM.made.append(runner)

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        self.resets += 1
        return True

    @torch.inference_mode()
    def encode(
        self, prompts: list[dict[str, Any]], pooling_params: None = None, *, use_tqdm: bool, pooling_task: str
    ) -> list[Any]:
        assert (self.runner, pooling_task) == ("pooling", "embed")
        assert not self.caching
        assert self.pooler is not None
        assert self.pooler.seq_pooling_type == "LAST"
        found = []
        for prompt in prompts:
            state = self.model.model(torch.tensor([prompt["prompt_token_ids"]])).last_hidden_state[0, -1].float()
            if self.pooler.use_activation is not False:
                state = torch.nn.functional.normalize(state, dim=0)
            found.append(SimpleNamespace(outputs=SimpleNamespace(data=state)))
        return found

    def generate(
        self, prompts: list[dict[str, Any]], sampling_params: list[SamplingParams], *, use_tqdm: bool
    ) -> list[Any]:
        assert self.runner == "generate"
        LLM.requests += len(prompts)
        return [self._one(prompt, params) for prompt, params in zip(prompts, sampling_params, strict=True)]

    @torch.inference_mode()
    def _one(self, prompt: dict[str, Any], params: SamplingParams) -> Any:
        generator = torch.Generator().manual_seed(params.seed or 0)
        tokens: list[int] = []
        noted: list[dict[int, Any]] = []
        ids, cache, reason, why = torch.tensor([prompt["prompt_token_ids"]]), None, None, None
        while reason is None:
            output = self.model(ids, past_key_values=cache, use_cache=True)
            cache, logits = output.past_key_values, output.logits[0, -1].float()
            tokens.append(_draw(logits, params, generator))
            if params.logprob_token_ids:
                rows = logits.log_softmax(-1)
                wanted = [tokens[-1], *params.logprob_token_ids]
                noted.append({token: SimpleNamespace(logprob=float(rows[token])) for token in wanted})
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            if (not params.ignore_eos and tokens[-1] == self.tokenizer.eos_token_id) or tokens[-1] in (
                params.stop_token_ids or ()
            ):
                reason = "stop"
            elif any(stop in text for stop in params.stop or ()):
                reason, why = "stop", next(stop for stop in params.stop or () if stop in text)
            elif len(tokens) == params.max_tokens:
                reason = "length"
            ids = torch.tensor([[tokens[-1]]])
        logprobs = noted if params.logprob_token_ids else None
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tokens, logprobs=logprobs, finish_reason=reason, stop_reason=why)]
        )


def _draw(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    if params.temperature == 0:
        return int(logits.argmax())
    probabilities, places = (logits / params.temperature).softmax(-1).sort(descending=True)
    probabilities[probabilities.cumsum(-1) - probabilities >= params.top_p] = 0
    return int(places[torch.multinomial(probabilities, 1, generator=generator)])


def install(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = True) -> type[LLM]:
    """Put the stand-in where ``import vllm`` finds it."""
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.config", "vllm.distributed", "vllm.platforms")}
    root: Any = modules["vllm"]
    root.__version__, root.LLM, root.SamplingParams, root.TokensPrompt = "0.33.0", LLM, SamplingParams, dict
    modules["vllm.config"].PoolerConfig = PoolerConfig  # type: ignore[attr-defined]
    modules["vllm.distributed"].cleanup_dist_env_and_memory = lambda: None  # type: ignore[attr-defined]
    modules["vllm.platforms"].current_platform = SimpleNamespace(is_cuda=lambda: cuda)  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    LLM.made, LLM.requests = [], 0
    return LLM
