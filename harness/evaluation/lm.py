"""The evaluation model: lm-evaluation-harness's `LM` interface and the tasks' own requests, on a loaded model.

Scores equal those of lm-evaluation-harness's HFLM on the same requests. The *shared* path computes a few-shot prefix
once, a question once for all its choices, and logits only where they are scored; it decodes many rows over one copy of
their prefix. The *plain* path runs padded batches and transformers' own generation; models whose attention cannot be
shared, and methods whose weights depend on the whole sequence, take it. `path` says which one it is, and `reason` why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, resolve_max_length
from torch import nn

from harness.evaluation.decode import Generation
from harness.evaluation.encode import Encoder, Scored
from harness.evaluation.likelihood import Likelihood
from harness.evaluation.passes import uncounted
from harness.evaluation.runner import Limits, Path, Progress, Runner
from harness.evaluation.sampling import Sampling
from methods.routing.frozen import input_device
from results.ground.digest import seed_from
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.checkpoints import Checkpoint
    from methods.base import Composed
    from methods.routing.context import RoutingContext
    from tasks.base import Request


class EvaluationLM(TemplateLM):
    """Scores continuations and continues prompts.

    Args:
        model: a loaded transformers model, possibly with routed layers; its forward stays the entry point.
        tokenizer: its tokenizer; not changed.
        batch_tokens: most tokens of one forward pass; never more than suits the device (`Limits.of`).
        batch_rows: most rows decoded at once.
        kv_cache: False where weights depend on whole sequences (`Composed.kv_cache`): nothing is shared or kept then.
        whole_prompts: True where weights are fixed on a prompt (`Composed.whole_prompts`): no prefix is shared then.
        passes: of the base model behind each of the model's (`Composed.passes`).
        path: `shared` and `plain` force a path; `auto` takes `shared` where it computes what the model does.
        context: the routed layers' context: told which tokens are prompt, and silent while the path is chosen.
        on_progress: called with (requests done, requests in all) of the current call.
        max_length: longest sequence; None reads it from the model's configuration.
        add_bos: see `Encoder`.
        max_new_tokens: default of lm-eval requests that do not say.
        cache_bytes: most memory for keys and values while decoding, besides the shared prefix.
        seed: of sampled generations.
        around: see `SharedPasses`.

    Attributes:
        path: the path taken; decided when it is first needed.
        reason: why `path` is `plain`; empty otherwise.
        truncated: requests so far whose context was cut on the left.
        tokens: tokens so far: `evaluation_input` as asked, `evaluation_computed` in the base model's forward
            passes over prompts and continuations and in decoding steps, `evaluation_generated`.
    """

    backend: Literal["causal", "seq2seq"]

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        batch_tokens: int | None = None,
        batch_rows: int = 64,
        kv_cache: bool = True,
        whole_prompts: bool = False,
        passes: int = 1,
        path: Literal["auto", "shared", "plain"] = "auto",
        context: RoutingContext | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        max_length: int | None = None,
        add_bos: bool | None = None,
        max_new_tokens: int = 256,
        cache_bytes: int = 4 << 30,
        seed: int = 0,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__()
        config: Any = model.config
        self.model = model
        self.tokenizer = tokenizer
        self.backend = "seq2seq" if config.is_encoder_decoder else "causal"
        self.max_length = max_length or resolve_max_length(config, tokenizer)
        self.encoder = Encoder(tokenizer, backend=self.backend, max_length=self.max_length, add_bos=add_bos)
        self.truncated = 0
        self._device = input_device(model)
        self._max_new_tokens = max_new_tokens
        self._seed = seed
        self._input_tokens = self._generated = 0
        self._progress = Progress(on_progress)
        self._runner = Runner(
            model,
            tokenizer,
            self.encoder.pad_token,
            Limits.of(self._device, batch_tokens, batch_rows, cache_bytes),
            kv_cache=kv_cache,
            whole_prompts=whole_prompts,
            passes=passes,
            asked=path,
            context=context,
            progress=self._progress,
            around=around,
        )

    @classmethod
    def of(cls, composed: Composed, tokenizer: Any, **options: Any) -> Self:
        """Of a composed model, with everything that it says of itself; `options` as above."""
        return cls(
            composed.model,
            tokenizer,
            kv_cache=composed.kv_cache,
            whole_prompts=composed.whole_prompts,
            passes=composed.passes,
            context=composed.context,
            around=partial(uncounted, composed),
            **options,
        )

    @property
    def batch_tokens(self) -> int:
        """Most tokens of one forward pass."""
        return self._runner.limits.batch_tokens

    # ---- the tasks' requests

    def score(self, requests: Sequence[Request], kept: Checkpoint | None = None) -> list[Any]:
        """Raw outputs in the order of the requests: a `Likelihood`, or the list of a generation's texts.

        Args:
            requests: in any order.
            kept: of the evaluation, to go on from.

        Raises:
            HarnessError: a request does not fit the model.
        """
        scored = [i for i, request in enumerate(requests) if request.kind == "loglikelihood"]
        open_ended = [i for i, request in enumerate(requests) if request.kind == "generate"]
        self._progress.begin(len(requests))
        outputs: list[Any] = [None] * len(requests)
        pairs = [(requests[i].prefix + requests[i].context, requests[i].continuation) for i in scored]
        for i, likelihood in zip(scored, self._score(self.encoder.pairs(pairs), kept), strict=True):
            outputs[i] = likelihood
        jobs: list[Generation] = []
        owners: list[int] = []
        prompts = self._prompts(
            [(requests[i].prefix + requests[i].context, requests[i].max_new_tokens) for i in open_ended]
        )
        for i, prompt in zip(open_ended, prompts, strict=True):
            request = requests[i]
            stops = self._with_end_text(request.until)
            for sample in range(request.samples if request.temperature else 1):
                seed = seed_from(self._seed, request.prefix + request.context, sample)
                sampling = Sampling(request.temperature, seed) if request.temperature else None
                jobs.append(Generation(prompt, request.max_new_tokens, stops, sampling))
                owners.append(i)
        self._progress.weigh(len(open_ended), len(jobs))
        for i, text in zip(owners, self._generate(jobs, kept), strict=True):
            outputs[i] = [*(outputs[i] or []), text]
        for i in open_ended:
            outputs[i] *= requests[i].samples // len(outputs[i])
        return outputs

    def pass_prompts(self, requests: Sequence[Request]) -> None:
        """Pass the prompt of each request once, equal ones together, and forget what came out."""
        truncated = self.truncated
        scored = [(one.prefix + one.context, one.continuation) for one in requests if one.kind == "loglikelihood"]
        written = [(one.prefix + one.context, one.max_new_tokens) for one in requests if one.kind == "generate"]
        prompts = [item.context for item in self.encoder.pairs(scored)] + self._prompts(written)
        self._runner.pass_prompts(list(dict.fromkeys(map(tuple, prompts))))
        self.truncated = truncated

    # ---- lm-eval's interface

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """See `lm_eval.api.model.LM.loglikelihood`."""
        self._progress.begin(len(requests))
        pairs = [request.args for request in requests]
        answers = [(value, greedy) for value, greedy in self._score(self.encoder.pairs(pairs))]
        for pair, answer in zip(pairs, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return answers

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        self._progress.begin(len(requests))
        items = [self.encoder.fit(context, continuation) for _, context, continuation in requests]
        return [(value, greedy) for value, greedy in self._score(items)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """See `lm_eval.api.model.LM.loglikelihood_rolling`: whole texts, in disjoint windows of the model's length."""
        owners, windows = [], []
        for i, tokens in enumerate(self.encoder.encode([request.args[0] for request in requests])):
            for window in utils.get_rolling_token_windows(
                token_list=tokens,
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                owners.append(i)
                windows.append(self.encoder.fit(*utils.make_disjoint_window(window)))
        totals = [0.0] * len(requests)
        self._progress.begin(len(windows))
        for i, likelihood in zip(owners, self._score(windows), strict=True):
            totals[i] += likelihood.loglikelihood
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """See `lm_eval.api.model.LM.generate_until`; every row stops as if it were alone in its batch.

        Raises:
            HarnessError: a generation setting other than stop strings, length, temperature, top_p and top_k.
        """
        self._progress.begin(len(requests))
        settings = [normalize_gen_kwargs(request.args[1], self._max_new_tokens) for request in requests]
        lengths = [own["max_gen_toks"] for own in settings]
        prompts = self._prompts([(request.args[0], most) for request, most in zip(requests, lengths, strict=True)])
        jobs = [
            self._job(request.args[0], prompt, dict(own))
            for request, prompt, own in zip(requests, prompts, settings, strict=True)
        ]
        texts = self._generate(jobs)
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _job(self, text: str, prompt: list[int], settings: dict[str, Any]) -> Generation:
        stops, most = self._with_end_text(settings.pop("until")), settings.pop("max_gen_toks")
        sampled, temperature = settings.pop("do_sample"), settings.pop("temperature", None) or 0.0
        top_p, top_k = settings.pop("top_p", None) or 1.0, settings.pop("top_k", None) or 0
        if settings:
            raise HarnessError(
                f"Generation setting '{sorted(settings)[0]}' is not supported: "
                "use until, max_gen_toks, do_sample, temperature, top_p or top_k."
            )
        if not sampled or not temperature:
            return Generation(prompt, most, stops)
        return Generation(prompt, most, stops, Sampling(temperature, seed_from(self._seed, text, 0), top_p, top_k))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids of one text."""
        return self.encoder.encode([string], add_special_tokens=add_special_tokens)[0]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Text of a conversation, its last message left open where no generation prompt is added."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context becomes."""
        return int(self.encoder.prefix_token)

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's cache keys."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    # ---- tokens in, results out

    @property
    def path(self) -> Path:
        """The path taken."""
        return self._runner.choose()[0]

    @property
    def reason(self) -> str:
        """Why `path` is `plain`; empty where it is `shared`."""
        return self._runner.choose()[1]

    @property
    def generation_reason(self) -> str:
        """Why generation takes the plain path, which a model's generation config can ask for; empty otherwise."""
        return self._runner.generation_reason()

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens by kind (see the class)."""
        return {
            "evaluation_input": self._input_tokens,
            "evaluation_computed": self._runner.passes.tokens + self._runner.plain.tokens,
            "evaluation_generated": self._generated,
        }

    @property
    def computed(self) -> dict[str, int]:
        """Tokens of forward passes so far, by path; settable, since an earlier process may have made some."""
        return {"shared": self._runner.passes.tokens, "plain": self._runner.plain.tokens}

    @computed.setter
    def computed(self, tokens: Mapping[str, int]) -> None:
        self._runner.passes.tokens, self._runner.plain.tokens = tokens["shared"], tokens["plain"]

    def _score(self, items: Sequence[Scored], kept: Checkpoint | None = None) -> list[Likelihood]:
        self.truncated += sum(item.truncated > 0 for item in items)
        self._input_tokens += sum(len(item.inputs) for item in items)
        return self._runner.score(items, kept)

    def _generate(self, jobs: Sequence[Generation], kept: Checkpoint | None = None) -> list[str]:
        self._input_tokens += sum(len(job.prompt) for job in jobs)
        made = self._runner.generate(jobs, kept)
        self._generated += sum(len(row) for row in made)
        return [self._runner.stops.text(row, job.stops) for row, job in zip(made, jobs, strict=True)]

    def _prompts(self, texts: Sequence[tuple[str, int]]) -> list[list[int]]:
        for _, most in texts:
            if not 0 < most < self.max_length:
                raise HarnessError(
                    f"Cannot generate {most} tokens: give 1 to {self.max_length - 1}, the model's length."
                )
        room = [self.max_length - (most if self.backend == "causal" else 0) for _, most in texts]
        prompts = self.encoder.prompts([text for text, _ in texts], room)
        self.truncated += sum(cut > 0 for _, cut in prompts)
        return [ids for ids, _ in prompts]

    def _with_end_text(self, until: Sequence[str]) -> tuple[str, ...]:
        end_text = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        return tuple(stop for stop in handle_stop_sequences(list(until), end_text) if stop)
