"""vLLM as an engine: the fitted weights as a merged checkpoint, run on a CUDA device.

Written against the interface of vLLM 0.33 and tested with a stand-in for it; see docs/throughput.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from dhrd_bench.backbones import Backbone
from dhrd_bench.backbones.cache import cache_folder
from dhrd_bench.backbones.workclock import standing_still
from dhrd_bench.contracts import Decoding, derive_seed
from dhrd_bench.errors import UserError
from dhrd_bench.inference.engine import Continuation, Engine, Stop
from dhrd_bench.modeling.pooling import Pool

MEMORY = 0.9
"""Share of the device's free memory that vLLM may take; the model that is trained stays where it is."""

Runner = Literal["generate", "pooling"]


class Vllm(Engine):
    """One `vllm.LLM` at a time, with the weights that are in place, as a generator or as a pooler.

    It is made when it is first asked (the harness warms up before the clock starts) and freed as soon
    as other weights come. Between two calls nothing is remembered: the prefix cache is emptied, else
    a block of examples timed twice would be read once.
    """

    name = "vllm"
    batching = "continuous, by the engine"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        if backbone.quantized:
            raise UserError(
                "The engine vllm takes merged weights, and weights in four bits take nothing up.",
                "Leave engine=vllm or quantize=nf4 out.",
            )
        self._vllm = _import()
        self._llm: Any = None
        self._runner: Runner | None = None
        self._owner: object | None = None
        self._checkpoint: TemporaryDirectory[str] | None = None

    @property
    def version(self) -> str:
        """Version of the package."""
        return str(self._vllm.__version__)

    def pooled(self, sequences: Sequence[list[int]], pool: Pool = None) -> Iterator[tuple[list[int], Tensor]]:
        """Yield all states at once; see `Engine.pooled`."""
        if pool is not None:
            raise UserError(
                "The engine vllm gives the last token's state alone.", "Leave [engine=vllm] out, or pool the last."
            )
        outputs = self._ready("pooling").encode(self._prompts(sequences), pooling_task="embed", use_tqdm=False)
        states = [output.outputs.data for output in outputs]
        if states:
            yield list(range(len(states))), torch.stack(states).to(self.backbone.device)

    def log_likelihoods(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[list[float]]]]:
        """Yield all at once: one request a prompt and distinct beginning of an answer, which share the prompt.

        Each request asks for the log-probabilities of the tokens that continue it in some answer. Answers
        of one token thus need one request a prompt.
        """
        beginnings: dict[tuple[int, ...], list[int]] = {}
        for answer in answers:
            for length, token in enumerate(answer):
                following = beginnings.setdefault(tuple(answer[:length]), [])
                if token not in following:
                    following.append(token)
        requests = [[*prompt, *beginning] for prompt in prompts for beginning in beginnings]
        settings = [
            self._vllm.SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=tokens, detokenize=False)
            for _ in prompts
            for tokens in beginnings.values()
        ]
        outputs = iter(self._ready("generate").generate(self._prompts(requests), settings, use_tqdm=False))
        table = []
        for _ in prompts:
            answered = {beginning: next(outputs).outputs[0].logprobs[0] for beginning in beginnings}
            table.append(
                [sum(answered[tuple(answer[:i])][answer[i]].logprob for i in range(len(answer))) for answer in answers]
            )
        if table:
            yield list(range(len(table))), table

    def continuations(
        self,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        stop: Stop,
        seeds: Sequence[int],
        samples: int = 1,
        finished: Callable[[int, int], None] = lambda prompts, tokens: None,
    ) -> list[Continuation]:
        """Generate up to the marker, then, as further requests, what is left behind it.

        vLLM stops at text, not at tokens. So a row first runs until the marker's text appears; if it ends
        in the marker's tokens it is continued for exactly as many tokens as `stop` allows, and otherwise
        as before. Tokens and their count are exact. What the second request costs (its prompt comes from
        the prefix cache) is part of the time.
        """
        results = [Continuation() for _ in prompts for _ in range(samples)]
        if stop.found([]):
            for result in results:
                result.marker_end = 0
        llm, texts = self._ready("generate"), self._texts(stop)
        under_way = list(range(len(results)))
        while under_way:
            requests = [[*prompts[row // samples], *results[row].ids] for row in under_way]
            settings = [
                self._settings(results[row], decoding, stop, texts, seeds[row // samples], row % samples)
                for row in under_way
            ]
            outputs = llm.generate(self._prompts(requests), settings, use_tqdm=False)
            under_way = [
                row
                for row, output in zip(under_way, outputs, strict=True)
                if self._take(results[row], output.outputs[0], decoding, stop)
            ]
        if prompts:
            finished(len(prompts), sum(result.steps for result in results))
        return results

    def _settings(
        self, so_far: Continuation, decoding: Decoding, stop: Stop, texts: list[str], seed: int, sample: int
    ) -> Any:
        left = decoding.max_new_tokens - so_far.steps
        behind = so_far.marker_end is not None
        if behind:
            left = min(left, stop.after)
        sampling: dict[str, Any] = {"temperature": 0.0}
        if decoding.temperature:
            row_seed = derive_seed(str(seed), str(sample), str(so_far.steps))
            sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": row_seed}
        return self._vllm.SamplingParams(
            max_tokens=left,
            # The end of text is the tokenizer's alone: a model's generation config may name further tokens.
            ignore_eos=True,
            stop_token_ids=[self.backbone.eos_id],
            stop=None if behind else texts or None,
            logprob_token_ids=list(stop.watch) if behind and stop.watch else None,
            **sampling,
        )

    def _take(self, result: Continuation, output: Any, decoding: Decoding, stop: Stop) -> bool:
        """Add what a request generated to `result`; return whether the row goes on."""
        tokens = list(output.token_ids)
        result.steps += len(tokens)
        if result.marker_end is not None and stop.watch:
            result.after_marker = [output.logprobs[0][token].logprob for token in stop.watch]
        at_end = tokens[-1:] == [self.backbone.eos_id]
        result.ids += tokens[:-1] if at_end else tokens
        if at_end or not tokens or result.marker_end is not None or result.steps >= decoding.max_new_tokens:
            return False
        if stop.found(result.ids):
            result.marker_end = len(result.ids)
        return True

    def _texts(self, stop: Stop) -> list[str]:
        """Return the markers as text, those left out that end in another."""
        texts = {text for marker in stop.markers if (text := self.backbone.decode(list(marker)))}
        return sorted(text for text in texts if not any(text != other and text.endswith(other) for other in texts))

    def _prompts(self, sequences: Sequence[list[int]]) -> list[Any]:
        return [self._vllm.TokensPrompt(prompt_token_ids=ids) for ids in sequences]

    def _ready(self, runner: Runner) -> Any:
        """Return the LLM with the weights that are in place and nothing in its cache."""
        if self._llm is None or self._runner != runner or self._owner is not self.backbone.loaded_weights:
            self.release()
            self._load(runner)
        elif runner == "generate":
            self._llm.reset_prefix_cache()
        return self._llm

    @standing_still()
    def _load(self, runner: Runner) -> None:
        cache_folder().mkdir(parents=True, exist_ok=True)
        self._checkpoint = TemporaryDirectory(prefix="vllm-", dir=cache_folder())
        # The model carries the fitted weights, LoRA merged: vLLM reads them as any checkpoint.
        self.backbone.model.save_pretrained(self._checkpoint.name)
        self.backbone.tokenizer.save_pretrained(self._checkpoint.name)
        settings: dict[str, Any] = {"enable_prefix_caching": runner == "generate"}
        if runner == "pooling":
            from vllm.config import PoolerConfig

            # The plain state of the last token: vLLM would make it a unit vector.
            settings |= {
                "convert": "embed",
                "pooler_config": PoolerConfig(seq_pooling_type="LAST", use_activation=False),
            }
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info(self.backbone.device)
            settings["gpu_memory_utilization"] = MEMORY * free / total
        self._llm = self._vllm.LLM(
            model=self._checkpoint.name,
            runner=runner,
            dtype=self.backbone.card.dtype,
            max_model_len=-1,  # as long as fits
            generation_config="vllm",  # the budget says how to decode, not the model
            trust_remote_code=self.backbone.card.trust_remote_code,
            **settings,
        )
        self._runner, self._owner = runner, self.backbone.loaded_weights

    def release(self) -> None:
        """Free the device and the checkpoint."""
        if self._llm is not None:
            from vllm.distributed import cleanup_dist_env_and_memory

            self._llm = self._owner = self._runner = None
            cleanup_dist_env_and_memory()
        if self._checkpoint is not None:
            self._checkpoint.cleanup()
            self._checkpoint = None


def _import() -> Any:
    """Import vLLM if it is here and has a device to run on."""
    choose = "Choose the reference engine by leaving [engine=vllm] out."
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise UserError(
            f"The engine vllm cannot be imported ({error}).", f"pip install 'dhrd-bench[vllm]'. {choose}"
        ) from error
    if not current_platform.is_cuda():
        raise UserError("The engine vllm needs a CUDA device and finds none.", choose)
    return vllm
