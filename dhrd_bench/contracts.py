"""The words everything else is written in.

What passes between the rooms of the harness and what a contributor implements. This module imports
nothing of the package and nothing heavy, so that a method file costs nothing to read.

The one rule that the types enforce: a test example is an `Example`, which has no label and no
rationale; only training and dev rows are `LabeledExample`. A method is never handed anything else.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:  # heavy: named for the reader and the type checker only
    import torch

UNPARSABLE = -1
"""Label id of an answer that could not be read; it counts as wrong."""


class Card(BaseModel):
    """Base of everything read from YAML: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------- data


Cut = Literal["start", "end"]
"""From which end a text is cut."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One input text in three parts, of which only `passage` may be truncated.

    Attributes
    ----------
    before, passage, after
        The parts.
    context
        Where spans are marked: the stretches of `text` around them, first and last place and the end they are cut
        from, in order. Where there are some they may be truncated instead of the whole passage.
    """

    before: str
    passage: str
    after: str
    context: tuple[tuple[int, int, Cut], ...] = ()

    @property
    def text(self) -> str:
        """The whole, untruncated input."""
        return self.before + self.passage + self.after

    @property
    def pieces(self) -> list[tuple[str, Cut | None]]:
        """The text in pieces, each with the end that it may be cut from; the first and the last may not.

        White space goes with what follows it: of "Text: ..." without the dots nothing is left behind the colon.
        """
        text, done = self.text, 0
        start = len(self.before)
        found: list[tuple[str, Cut | None]] = []
        for first, last, cut in self.context or ((start, start + len(self.passage), "end"),):
            if first < last:
                kept = text[done:first].rstrip()
                found += [(kept, None), (text[done + len(kept) : last], cut)]
                done = last
        return [*found, (text[done:], None)]


@dataclass(frozen=True, slots=True)
class Example:
    """What a method may see of a test row."""

    id: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class LabeledExample:
    """A training or dev row: an example, its class and, where a teacher left them, a rationale and soft labels.

    Attributes
    ----------
    counterfactuals
        Rationales that argue for another class than the row's, each behind the label id of that one.
    soft
        How probable the teacher took each class to be; only methods whose card says `MethodCard.uses_soft_labels` are
        given it.
    """

    example: Example
    label: int
    rationale: str | None = None
    counterfactuals: tuple[tuple[int, str], ...] = ()
    soft: tuple[float, ...] | None = None

    def mixed(self, share: float, temperature: float = 1.0) -> tuple[float, ...] | None:
        """Return class probabilities of which `share` are the teacher's and the rest the label's.

        The teacher's are p ** (1 / `temperature`), made to add up to 1. None, which means the label alone, if `share`
        is 0 or the row has no soft labels.
        """
        if not share or self.soft is None:
            return None
        # By the likeliest class, so that no power of small numbers is 0 throughout.
        powers = [(p / max(self.soft)) ** (1 / temperature) for p in self.soft]
        return tuple(share * power / sum(powers) + (1 - share) * (k == self.label) for k, power in enumerate(powers))


class TaskCard(Card):
    """A task as a method sees it.

    Attributes
    ----------
    name
        Name within the suite.
    labels
        Class names by label id.
    answers
        The words that stand for the classes in text, by label id; what an LM writes or is scored on.
    reason, answer
        Markers between input, rationale and answer: ``x + reason + r + answer + y``.
    instruction
        Asks an untrained LM for a rationale and an answer; used only by prompted methods.
    metrics
        Names of the metrics, each 0-100; the task's score is their mean.
    prompt, prompt_version
        Which prompt of the task this is.
    version
        Version of the task's data definition.
    description, licence, paper
        For people.
    """

    name: str
    labels: tuple[str, ...] = Field(min_length=2)
    answers: tuple[str, ...] = Field(min_length=2)
    reason: str = "\nReasoning:"
    answer: str = "\nFinal Answer:"
    instruction: str = ""
    metrics: tuple[str, ...] = Field(min_length=1)
    prompt: str
    prompt_version: str
    version: str
    description: str = ""
    licence: str = ""
    paper: str = ""


@dataclass(frozen=True, slots=True)
class TaskData:
    """All that `Method.fit` may learn from; the test split is not in it.

    Attributes
    ----------
    spare
        Labelled rows of the suite's train split beyond those of the comparison, in the order in which they would be
        drawn; only methods whose card says `MethodCard.uses_spare` are given them.
    """

    card: TaskCard
    train: tuple[LabeledExample, ...]
    dev: tuple[LabeledExample, ...]
    spare: tuple[LabeledExample, ...] = ()

    def lent_to(self, card: MethodCard) -> TaskData:
        """Return what of it the method of `card` is given: spare rows and soft labels only if it uses them."""
        lent = self if card.uses_spare else replace(self, spare=())
        if card.uses_soft_labels:
            return lent
        train, dev, spare = (
            tuple(row if row.soft is None else replace(row, soft=None) for row in rows)
            for rows in (lent.train, lent.dev, lent.spare)
        )
        return replace(lent, train=train, dev=dev, spare=spare)


# ---------------------------------------------------------------- budget


class Lora(Card):
    """LoRA settings; the defaults are the paper's."""

    r: int = Field(16, gt=0)
    alpha: int = Field(32, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj")


class Decoding(Card):
    """How text is generated. Temperature 0 is greedy."""

    max_new_tokens: int = Field(128, gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    batch_size: int = Field(32, gt=0)


class Budget(Card):
    """A named, frozen set of limits under which methods are compared.

    Attributes
    ----------
    train_rows, dev_rows, test_rows
        Row limits; None takes all. dev rows are carved from train, test rows are a seeded sample of
        whole groups (rows scored together) that is the same for every method and seed.
    require_rationale
        Train on the rows that have a rationale only, so that all methods see the same rows. Without it all labelled
        rows are trained on, and methods that read rationales read those that there are.
    rationales
        Share of the rows' rationales that are kept; the other rows are trained on with their labels alone.
    epochs, batch_size, learning_rate, weight_decay, warmup_steps, max_grad_norm
        AdamW with a cosine schedule; `batch_size` counts examples per optimiser step.
    optimizer
        ``adamw``, or with its two moments in 8 bits (Dettmers et al. 2022, arXiv 2110.02861; extra ``quant``):
        ``adamw_8bit``, and ``paged_adamw_8bit``, which lets them out to the host where a card is full.
    micro_tokens
        Real tokens per forward pass; only speed and memory depend on it. A card with room for more takes more.
    gradient_checkpointing
        Whether the way back computes the blocks' activations anew instead of keeping them: less memory for more time
        (Chen et al. 2016, arXiv 1604.06174), and the same gradients.
    max_length
        Tokens of the input x; longer passages are truncated.
    max_rationale
        Tokens of the rationale; longer ones are cut at the end.
    tuning
        ``lora``, ``full``, ``top:N`` (the N uppermost blocks and the final norm) or ``head``.
    seeds
        Seeds run when the user names none.
    """

    name: str
    version: str = "1.0.0"
    description: str = ""
    train_rows: int | None = Field(None, gt=0)
    dev_rows: int = Field(32, ge=0)
    test_rows: int | None = Field(None, gt=0)
    require_rationale: bool = True
    rationales: float = Field(1.0, ge=0, le=1)
    epochs: int = Field(3, gt=0)
    batch_size: int = Field(32, gt=0)
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(5, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    micro_tokens: int = Field(1024, gt=0)
    gradient_checkpointing: bool = False
    max_length: int = Field(512, gt=8)
    max_rationale: int = Field(256, gt=0)
    tuning: str = Field("lora", pattern=r"^(lora|full|head|top:[1-9]\d*)$")
    lora: Lora = Lora()
    decoding: Decoding = Decoding()
    seeds: int = Field(1, gt=0)


class Range(Card):
    """Values between two ends, both included; `log` draws them evenly on a logarithmic scale.

    They are whole numbers where both ends are.
    """

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError("low has to be below high, and above 0 on a logarithmic scale")
        return self


Setting = Range | Annotated[tuple[str | int | float | bool | None, ...], Field(min_length=1)]
"""What a setting is drawn from: a range, or a list of values."""


class Space(Card):
    """What a search for settings draws from; ``kind: space`` in a plug-in folder.

    Attributes
    ----------
    all
        Settings that are drawn alike for every method that has them, as the learning rate.
    methods
        A method's own, by its name.
    """

    all: dict[str, Setting] = {}
    methods: dict[str, dict[str, Setting]] = {}


# ---------------------------------------------------------------- backbones


class Gguf(Card):
    """A GGUF file that a Python package carries; the offline source of a backbone."""

    package: str
    module: str = Field(pattern=r"^\w+$")  # no submodule: to find one, Python runs its package
    file: str = Field(pattern=r"^[\w-][\w.-]*$")


class PackageFolder(Card):
    """A folder with a saved model that a Python package carries; the offline source of a backbone."""

    package: str
    module: str = Field(pattern=r"^\w+$")
    folder: str = Field(pattern=r"^[\w-][\w.-]*$")


class Random(Card):
    """Shape of a randomly initialised model over bytes: a Llama-style LM, or an encoder."""

    hidden_size: int
    layers: int
    heads: int
    seed: int
    encoder: bool = False


class BackboneCard(Card):
    """A backbone by name.

    Attributes
    ----------
    hub_id, revision
        Where the hub has it.
    gguf, folder
        Where it is had without the hub.
    random
        For tests: weights from a seed, tokens are bytes.
    dtype
        ``auto`` is bfloat16 where the device multiplies it in hardware, else float32.
    device
        ``auto`` is CUDA if there is one, else the CPU.
    quantize
        ``nf4`` holds the weights of the blocks' linear layers in four bits (extra ``quant``). They are frozen then:
        what can be trained is adapters and heads.
    engine
        What runs inference; training always runs on the transformers model.
    trust_remote_code
        Whether code of the hub repository may run; never unless the user says so where the backbone is named, as in
        ``NAME[trust_remote_code=true]``: no card can.
    """

    name: str
    hub_id: str = ""
    revision: str = "main"
    gguf: Gguf | None = None
    folder: PackageFolder | None = None
    random: Random | None = None
    licence: str = ""
    parameters: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    quantize: Literal["nf4"] | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    trust_remote_code: bool = False


class LanguageModel(Protocol):
    """What a method may ask of the backbone that it is lent; it is the harness that loads, trains and runs it."""

    @property
    def card(self) -> BackboneCard:
        """What was asked for."""

    @property
    def revision(self) -> str:
        """Hub commit, or a fingerprint of the local weights."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""

    @property
    def is_encoder(self) -> bool:
        """Whether every token sees the whole text; then it is no language model, and `logits` raises a `UserError`."""

    @property
    def eos_id(self) -> int:
        """Token id of the end of text."""

    @property
    def pad_id(self) -> int:
        """Token id of padding; never `eos_id`."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype."""

    @property
    def width(self) -> int:
        """Size d of a hidden state."""

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""

    def encode(self, text: str, prefix: str = "", suffix: str = "") -> list[int]:
        """Return the token ids of `text` between `prefix` and `suffix`.

        No special token is added, and none is taken from `text`, where its name is text; in a prefix or suffix, as of
        a chat turn, it is the token.
        """

    def encode_parts(self, parts: Sequence[str], prefix: str = "", suffix: str = "") -> list[list[int]]:
        """Return the token ids of each of `parts`, two at least; joined they are those of `encode` of the whole."""

    def begun(self, ids: list[int]) -> list[int]:
        """Return `ids` behind the tokens that the tokenizer puts before a text, if they do not begin with them.

        On an encoder they are also before those that the tokenizer puts behind a text.
        """

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, without special tokens."""

    def hidden(self, states: torch.Tensor, lengths: list[int], start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return states ``(T, d)`` after blocks `start` to `stop` of sequences that lie end to end.

        Parameters
        ----------
        states
            ``(T,)`` token ids if `start` is 0, else ``(T, d)`` states after block ``start - 1``.
        lengths
            Length of each sequence; they add up to T.
        start, stop
            Blocks to run; with `stop` None the final norm is applied, too.
        """

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the next-token logits ``(..., V)`` of states ``(..., d)`` after the final norm."""


# ---------------------------------------------------------------- methods


class MethodParams(Card):
    """Base of a method's parameters; subclasses declare fields with defaults, which are checked as values are."""

    model_config = ConfigDict(validate_default=True)


class PooledParams(MethodParams):
    """Parameters that every method has in common which classifies from a pooled state of x.

    Attributes
    ----------
    head
        Two layers, or one; ``unbiased`` is one without a bias, which the classifiers of transformers can hold.
    pooling
        How the states of x become one: the state of the token that has read all of it, their mean, or their mean
        weighted by one learned query.
    pause
        Fillers behind x, which is pooled with them: room to compute before the answer (Goyal et al. 2023,
        arXiv 2310.02226). There they are a new token that is learnt; here it is the last token of " .", which any
        tokenizer has and the backbone knows.
    """

    head: Literal["mlp", "linear", "unbiased"] = "mlp"
    pooling: Literal["last", "mean", "attention"] = "last"
    pause: int = Field(0, ge=0, le=64)


Inference = Literal["none", "pooled", "score", "generate"]
"""How a method comes to an answer at test time."""


def spelled(inference: Inference | tuple[Inference, ...]) -> str:
    """Return kinds of inference as one word, as ``pooled+generate``."""
    return inference if isinstance(inference, str) else "+".join(inference)


class MethodCard(Card):
    """What a leaderboard says of a method.

    Attributes
    ----------
    role
        ``baseline``: relative gains are taken over it. ``reference``: QPS ratios are taken to it.
        ``control``: an ablation that tells where a gain comes from. ``method``: anything else.
    uses_rationales
        Whether training reads them; the conformance kit checks both directions.
    rationales_optional
        Whether a method that reads them is still itself on a task that has none. If not, it is refused
        there, unless the user allows it.
    uses_counterfactuals
        Whether training reads rationales for other classes than the rows', too; it is refused where there are none, as
        above.
    uses_soft_labels, uses_spare
        Whether training reads a teacher's class probabilities, and rows beyond those of the comparison
        (`TaskData.spare`); a method is given neither unless it says so.
    inference
        ``none`` (no backbone at test time), ``pooled``, ``score`` (label words), ``generate``; several for a method
        that runs others.
    expected_failures
        Conformance checks that this method cannot pass, each with the reason.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = "1.0.0"
    summary: str
    objective: str
    paper: str = ""
    role: Literal["method", "baseline", "reference", "control"] = "method"
    trains: bool = True
    uses_rationales: bool = False
    rationales_optional: bool = False
    uses_counterfactuals: bool = False
    uses_soft_labels: bool = False
    uses_spare: bool = False
    inference: Inference | Annotated[tuple[Inference, ...], Field(min_length=1)]
    expected_failures: dict[str, str] = {}

    @property
    def kinds(self) -> tuple[Inference, ...]:
        """The kinds of inference that run the backbone; empty if none does."""
        named = (self.inference,) if isinstance(self.inference, str) else self.inference
        return tuple(kind for kind in named if kind != "none")

    def over(self, parts: Sequence[MethodCard]) -> MethodCard:
        """Return the card of a method that is composed of others: it trains, reads and infers as they do."""
        kinds = tuple(dict.fromkeys(kind for part in parts for kind in part.kinds))
        return self.model_copy(
            update={
                "trains": any(part.trains for part in parts),
                "uses_rationales": any(part.uses_rationales for part in parts),
                "uses_soft_labels": any(part.uses_soft_labels for part in parts),
                "uses_spare": any(part.uses_spare for part in parts),
                "rationales_optional": all(part.rationales_optional for part in parts if part.uses_rationales),
                "uses_counterfactuals": any(part.uses_counterfactuals for part in parts),
                "inference": kinds[0] if len(kinds) == 1 else kinds or "none",
            }
        )


@dataclass(frozen=True, slots=True)
class GeneratedRow:
    """A row that a generator has made.

    A generator is a function of a `random.Random` and a number of hops that makes one small world and returns its
    rows: as many of each class, alike in everything but what decides the class. It draws by methods that yield
    whole numbers (``choice``, ``sample``, ``randrange``), so that its rows are the same on every machine.

    Attributes
    ----------
    fields
        What the task's ``fields`` and prompts are about.
    label
        Name of the class.
    rationale
        The derivation, down to its conclusion.
    """

    fields: Mapping[str, bool | int | float | str]
    label: str
    rationale: str


@dataclass(slots=True)
class Predictions:
    """What a method answers, row by row.

    Attributes
    ----------
    labels
        ``(n,)`` label ids; `UNPARSABLE` where no answer could be read.
    scores
        ``(n, K)`` per-class scores, higher is likelier (logits or log-probabilities), if there are any.
    texts
        ``(n,)`` generated texts, if there are any.
    tokens_in, tokens_out
        ``(n,)`` tokens read and tokens generated.
    truncated
        How many inputs had their passage cut.
    """

    labels: list[int]
    scores: list[list[float]] | None = None
    texts: list[str] | None = None
    tokens_in: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    truncated: int = 0

    def corrected(self, places: Sequence[int], other: Predictions) -> Predictions:
        """Return these predictions with the answers of `other` at `places`; what was read and written for both counts.

        Scores are there if both have some, texts if one has.
        """
        count = len(self.labels)
        at = dict(zip(places, range(len(places)), strict=True))

        def chosen(own: list[Any] | None, others: list[Any] | None) -> list[Any]:
            return [(others or [""] * len(at))[at[i]] if i in at else (own or [""] * count)[i] for i in range(count)]

        def added(own: list[int], others: list[int]) -> list[int]:
            return [tokens + (others[at[i]] if i in at else 0) for i, tokens in enumerate(own)]

        return Predictions(
            chosen(self.labels, other.labels),
            None if self.scores is None or other.scores is None else chosen(self.scores, other.scores),
            None if self.texts is None and other.texts is None else chosen(self.texts, other.texts),
            added(self.tokens_in, other.tokens_in),
            added(self.tokens_out, other.tokens_out),
            self.truncated,
        )


@dataclass(slots=True)
class Context:
    """What the harness lends to a method while it runs one cell.

    Attributes
    ----------
    backbone
        The decoder LM and its tokenizer, in their original state.
    budget
        The limits that hold for every method of the comparison.
    task, seed
        Name of the task and seed number of the cell; `stream` derives random choices from them.
    progress
        Called with a phase (``"train"``, ``"dev"``, ``"predict"``), steps done, steps in all and figures to show.
    lap
        Called by inference code with the number of examples finished since the last call. The
        harness holds the clock; a method cannot report its own time.
    train_log
        Figures that training leaves for the record (tokens, seconds, loss by epoch).
    """

    backbone: LanguageModel
    budget: Budget
    task: str
    seed: int
    progress: Callable[[str, int, int, dict[str, float]], None] = lambda phase, done, total, figures: None
    lap: Callable[[int], None] = lambda examples: None
    train_log: dict[str, Any] = field(default_factory=dict)

    def stream(self, name: str) -> int:
        """Return the 63-bit seed of the random choice called `name`.

        It depends on the task, the seed number and the name, not on the method: two methods that
        ask for the same stream are paired. Put the method's own name in `name` to differ on purpose.
        """
        return derive_seed(self.task, str(self.seed), name)

    def inner(self, name: str, *, counted: bool = False) -> Context:
        """Return what to lend to another method that this one runs as its part called `name`.

        It shares backbone, budget and seeds, so that the part is the one that would run by itself. Its laps do not
        count: the method that runs it reports the examples that it has answered itself. With `counted` they do, as
        the part's answers are those of the whole. What the part's training leaves goes into
        ``train_log["inner"][name]``.
        """
        log = self.train_log.setdefault("inner", {}).setdefault(name, {})

        def progress(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
            self.progress(f"{name} {phase}", done, total, figures)

        lap = self.lap if counted else lambda examples: None
        return replace(self, progress=progress, lap=lap, train_log=log)


class Method(ABC):
    """A way to turn training rows into a classifier.

    Subclasses set `card`, may declare `Params`, and implement `fit` and `predict`. An instance
    serves one cell: it is fitted once and may then predict many times.
    """

    card: ClassVar[MethodCard]

    class Params(MethodParams):
        """No parameters unless a subclass declares some."""

    def __init__(self, params: MethodParams | None = None) -> None:
        self.params: Any = params if params is not None else self.Params()

    @classmethod
    def card_for(cls, params: Any) -> MethodCard:
        """Return the card under `params`; override it where a parameter changes what the card says."""
        return cls.card

    @abstractmethod
    def fit(self, task: TaskData, context: Context) -> None:
        """Learn from `task`; leave the fitted state on the instance."""

    @abstractmethod
    def predict(self, examples: Sequence[Example], context: Context) -> Predictions:
        """Answer each of `examples` on its own, in the order given."""

    def needs_lm(self) -> bool:
        """Whether it trains the backbone as a language model or asks it as one, which an encoder is not."""
        return bool({"score", "generate"} & set(self.card_for(self.params).kinds))

    def save(self, folder: Path) -> None:  # noqa: B027 - a method without state need not write one
        """Write the fitted state into `folder` (safetensors and JSON); nothing to write by default."""

    def load(self, folder: Path, task: TaskCard, context: Context) -> None:  # noqa: B027
        """Restore from `folder` what `save` wrote."""


# ---------------------------------------------------------------- seeds and identities


def derive_seed(*components: str) -> int:
    """Hash named components into a 63-bit seed (SHA-256, so it is the same on every machine)."""
    digest = hashlib.sha256("\x1f".join(components).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
