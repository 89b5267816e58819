"""One loaded model and the one thread that owns it.

Other threads leave requests and cancellations in the intake. The step thread picks them up before
each step, runs the model, and hands out everything that the step produced at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    PromptTooLong,
    WrongTask,
)
from inference.local import loading, sampling_rules
from inference.local.detokenizer import Detokenizer
from inference.local.generation import Generation
from inference.local.intake import Arrivals, Intake
from inference.local.loaded_model import LoadedModel, OnProgress
from inference.local.runner_spec import EngineStats, RunnerSpec, StepUnderWay
from inference.local.scheduler import Scheduler, Step
from inference.local.sequence import Sequence
from inference.local.tracebacks import frames_of
from inference.local.vocabulary import Score
from inference.types import (
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Request,
    SamplingParams,
)

if TYPE_CHECKING:
    from torch import Tensor

    from inference.local.matcher import Matcher

logger = logging.getLogger(__name__)

# One failed step can be the fault of a request; this many in a row are the fault of the model.
MAX_FAILED_STEPS = 3

# People pause this long between two turns of a conversation; then its memory is worth more.
IDLE_S = 300.0

Events = list[tuple[str, GenerationEvent | InferenceError]]


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step produced; a Finished or an InferenceError is the last event of its request."""

    events: Events
    stats: EngineStats


class Engine:
    """`start` once, `stop` once; `submit` and `cancel` from any thread but the engine's own.

    `failed` says why the engine ended on its own. It is set before the last `emit`, which fails
    everything under way; after that every `submit` raises BackendUnavailable.
    """

    def __init__(self, spec: RunnerSpec, loaded: LoadedModel, *, idle_s: float = IDLE_S) -> None:
        """Without any request for `idle_s` seconds it forgets the prefixes of former ones."""
        self.info = loaded.info
        self.failed: str | None = None
        self.step_under_way: StepUnderWay | None = None
        self._threads_wanted: int | None = None
        self._backend = spec.backend_id
        self._loaded = loaded
        self._idle_s = idle_s
        self._memory = EngineStats()
        self._scheduler = Scheduler(loaded.limits, loaded.prefixes)
        self._intake = Intake[Generation](loaded.limits.max_running + loaded.limits.max_waiting)
        self._generations: dict[str, Generation] = {}
        self._failed_steps = 0
        self._thread: threading.Thread | None = None

    @classmethod
    def load(cls, spec: RunnerSpec, on_progress: OnProgress) -> "Engine":
        """Blocks for seconds to minutes; raises ModelLoadError."""
        return cls(spec, loading.load_generator(spec, on_progress))

    def start(self, emit: Callable[[StepOutput], None]) -> None:
        """`emit` is called from the step thread, once or twice per step, and must not block."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name="engine", daemon=True)
        self._thread.start()

    def use_threads(self, count: int) -> None:
        """Takes effect before the next step."""
        self._threads_wanted = count

    def submit(self, request: Request) -> None:
        """Tokenises, and compiles a constraint, in the calling thread, unless the house is full.

        Raises Overloaded, PromptTooLong, InvalidRequest or BackendUnavailable; then no event
        follows. Otherwise Accepted is the first one.
        """
        if not isinstance(request, GenerationRequest):
            raise WrongTask(
                "This model writes text and makes no embeddings. Ask it at /v1/chat/completions, "
                "or choose an embedding model; /v1/models tells which is which."
            )
        arrived_at = time.monotonic()
        self._intake.reserve(request.id)
        try:
            generation = self._prepare(request)
            generation.sequence.clock.arrived_at = arrived_at
            self._intake.deliver(request.id, generation)
        except BaseException:
            self._intake.leave(request.id)
            raise

    def cancel(self, request_id: str) -> None:
        """Takes effect before the next step, with Finished(ABORT) as the last event."""
        self._intake.cancel(request_id)

    def stats(self) -> EngineStats:
        running = len(self._scheduler.running)
        waiting = max(0, self._intake.count - running)
        return replace(self._memory, running=running, waiting=waiting)

    def stop(self) -> None:
        """Requests under way end with BackendUnavailable; returns when the thread has ended."""
        self._intake.close()
        if self._thread is not None:
            self._thread.join()

    def _prepare(self, request: GenerationRequest) -> Generation:
        loaded = self._loaded
        sampling = request.sampling.with_defaults(loaded.defaults)
        sampling_rules.check(sampling, loaded.vocabulary.size)
        prompt_ids = self._encode(request)
        room = self._room(request, sampling, len(prompt_ids))
        parser = loaded.prompts.parser(request, prompt_ids)
        constraint = loaded.prompts.constraint(request, parser)
        ends = frozenset(sampling.stop_token_ids)
        if constraint is not None or not sampling.ignore_eos:
            ends |= loaded.eos_ids
        max_tokens = sampling.max_tokens or room
        sequence = Sequence(request.id, prompt_ids, sampling, max_tokens, ends=ends)
        sequence.cache_salt, sequence.priority = request.cache_salt, request.priority
        if constraint is not None:
            sequence.matcher = loaded.grammars.matcher_for(constraint)
        if request.echo and sampling.logprobs is not None:
            sequence.told = 0
        echo = loaded.prompts.text_of(request) if request.echo else None
        decode = loaded.prompts.decode if parser is None else loaded.prompts.decode_marked
        detokenizer = Detokenizer(decode, prompt_ids, sampling.stop)
        return Generation(sequence, detokenizer, loaded.vocabulary, echo=echo, parser=parser)

    def _room(
        self, request: GenerationRequest, sampling: SamplingParams, prompt_tokens: int
    ) -> int:
        """For how many tokens of output; raises PromptTooLong where that is not enough."""
        room = self.info.context - prompt_tokens
        if room < (sampling.max_tokens or 1):
            raise PromptTooLong(
                prompt_tokens=prompt_tokens,
                context=self.info.context,
                max_tokens=sampling.max_tokens or 0,
                param="prompt" if request.messages is None else "messages",
            )
        return room

    def _encode(self, request: GenerationRequest) -> list[int]:
        if request.prompt_ids is not None:
            sampling_rules.require_known(request.prompt_ids, self._loaded.vocabulary.size, "prompt")
        return self._loaded.prompts.encode(request)

    def _run(self, emit: Callable[[StepOutput], None]) -> None:
        try:
            self._serve(emit)
        except Exception as error:
            # The edge of the thread: whoever waits must hear that it is gone.
            logger.exception("the step thread failed")
            self.failed = f"{type(error).__name__} in the step thread"
        self._close(emit)

    def _serve(self, emit: Callable[[StepOutput], None]) -> None:
        while self.failed is None:
            wait_s = 0.0 if self._scheduler.has_work else self._idle_s
            arrivals = self._intake.take(wait_s)
            if arrivals is None:
                return
            self._emit(emit, self._meet(arrivals))
            if wait_s and arrivals.is_empty:
                self._forget_prefixes()
            if self._scheduler.has_work:
                self._emit(emit, self._step())

    def _emit(self, emit: Callable[[StepOutput], None], events: Events) -> None:
        if self._loaded.prefixes is not None:
            self._memory = self._loaded.prefixes.stats
        if events:
            emit(StepOutput(events, self.stats()))

    def _forget_prefixes(self) -> None:
        if self._loaded.prefixes is not None:
            self._loaded.prefixes.clear()
            self._memory = self._loaded.prefixes.stats

    def _meet(self, arrivals: Arrivals[Generation]) -> Events:
        events: Events = []
        for generation in arrivals.requests:
            sequence = generation.sequence
            self._generations[sequence.id] = generation
            self._scheduler.add(sequence)
            events.append((sequence.id, generation.accepted(self._backend, self.info.device)))
        for request_id in arrivals.cancelled:
            if (cancelled := self._generations.get(request_id)) is not None:
                events.append(
                    (request_id, cancelled.finished(FinishReason.ABORT, time.monotonic()))
                )
                self._keep(cancelled.sequence)
                self._release(cancelled.sequence)
        return events

    def _step(self) -> Events:
        self._take_threads()
        step = self._scheduler.next_step()
        self.step_under_way = _sizes(step)
        started_at = time.monotonic()
        try:
            events = self._compute(step)
        except Exception as error:
            # The edge for whatever torch or the model may raise: all that took part are failed.
            logger.exception("a step failed")
            self._count_failure(error)
            return self._fail(
                (chunk.sequence for chunk in step.chunks),
                "The model failed while it computed this request. Try again in a moment.",
            )
        finally:
            self.step_under_way = None
        self._failed_steps = 0
        self._scheduler.observe(step, time.monotonic() - started_at)
        return events

    def _take_threads(self) -> None:
        count, self._threads_wanted = self._threads_wanted, None
        if count is not None:
            # Loaded by now; at the top of the file it would hold up a runner's first status.
            from torch import set_num_threads

            # In this thread: OpenMP keeps a number for each thread that computes.
            set_num_threads(count)

    def _compute(self, step: Step) -> Events:
        for sequence in step.preempted:
            self._keep(sequence)
            self._loaded.forward.release(sequence.id)
        if self._loaded.prefixes is not None:
            for sequence, match in step.restored:
                self._loaded.prefixes.restore(sequence.id, match)
        for chunk in step.chunks:
            if chunk.sequence.clock.scheduled_at is None:
                chunk.sequence.clock.scheduled_at = time.monotonic()
        sampling = [chunk.sequence for chunk in step.chunks if chunk.samples]
        # Which rows there are changes once a prompt has been told.
        rows = _sampling_rows(step)
        logits = self._loaded.forward.run(step.chunks)
        events = self._tell_prompts(step, logits)
        if len(rows) < len(logits):
            logits = logits[rows]
        for chunk in step.chunks:
            chunk.sequence.computed += chunk.tokens
        return events + self._sample(logits, sampling)

    def _tell_prompts(self, step: Step, logits: "Tensor") -> Events:
        """The log probabilities of those prompts whose callers want them, as far as computed."""
        events: Events = []
        start = 0
        for chunk in step.chunks:
            sequence, rows = chunk.sequence, logits[start : start + chunk.logit_rows]
            start += chunk.logit_rows
            if sequence.scores_prompt:
                scores = self._loaded.sampler.score_prompt(rows, sequence)
                events.append((sequence.id, self._generations[sequence.id].tell_prompt(scores)))
        return events

    def _sample(self, logits: "Tensor", sequences: list[Sequence]) -> Events:
        sampler = self._loaded.sampler
        scores = sampler.scores(logits, sequences)
        tokens = sampler.sample(logits, sequences)
        events: Events = []
        for sequence, token, score in zip(sequences, tokens, scores.of(tokens), strict=True):
            events += self._advance(sequence, token, score)
        return events

    def _advance(self, sequence: Sequence, token: int | None, score: Score | None) -> Events:
        if token is None:
            return self._fail(
                [sequence],
                "The model computed no usable numbers for this request. Change the prompt, or "
                "load the model with `weights: fp32`.",
            )
        if sequence.matcher is not None and sequence.matcher.problem is not None:
            return self._give_up(sequence, sequence.matcher)
        if not sequence.output_tokens:
            # Others with the same prompt need not wait for the whole answer.
            self._keep(sequence)
        generation = self._generations[sequence.id]
        try:
            events = generation.advance(token, time.monotonic(), score)
        except Exception as error:  # noqa: BLE001 - no fault of the others in its step
            logger.error("could not go on with %s: %s", sequence.id, frames_of(error))
            return self._fail(
                [sequence],
                "The server could not read what the model wrote. Try again, or change the prompt.",
            )
        if generation.is_finished:
            self._keep(sequence)
            self._release(sequence)
        return [(sequence.id, event) for event in events]

    def _fail(self, sequences: Iterable[Sequence], message: str) -> Events:
        failed = list(sequences)
        for sequence in failed:
            self._release(sequence)
        return [(sequence.id, BackendUnavailable(message)) for sequence in failed]

    def _give_up(self, sequence: Sequence, matcher: "Matcher") -> Events:
        self._release(sequence)
        message = f"The answer cannot go on with this {matcher.param}: {matcher.problem}."
        return [(sequence.id, InvalidRequest(message, param=matcher.param))]

    def _count_failure(self, error: Exception) -> None:
        self._failed_steps += 1
        if self._failed_steps >= MAX_FAILED_STEPS:
            self.failed = f"{self._failed_steps} steps in a row failed, at last with {error!r}"

    def _keep(self, sequence: Sequence) -> None:
        if self._loaded.prefixes is None:
            return
        try:
            self._loaded.prefixes.keep(sequence)
        except (RuntimeError, MemoryError):
            # torch reports exhausted memory as either. No request fails over an optional copy.
            logger.exception("could not keep a prefix; dropped all of them")
            self._forget_prefixes()

    def _release(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._loaded.forward.release(sequence.id)
        del self._generations[sequence.id]
        self._intake.leave(sequence.id)

    def _close(self, emit: Callable[[StepOutput], None]) -> None:
        """Fail every request that is still inside, whatever state the rest is in."""
        self._intake.close()
        self._scheduler = Scheduler(self._loaded.limits)
        message = "The model was unloaded before the request was done. Try again in a moment."
        under_way = self._intake.clear()
        self._emit(emit, [(request_id, BackendUnavailable(message)) for request_id in under_way])


def _sizes(step: Step) -> StepUnderWay:
    return StepUnderWay(
        began_at=time.monotonic(),
        rows=len(step.chunks),
        new_tokens=sum(chunk.tokens for chunk in step.chunks),
        longest_row=max((len(chunk.sequence.tokens) for chunk in step.chunks), default=0),
    )


def _sampling_rows(step: Step) -> list[int]:
    """Where the logits of those that sample stand: in the last row of each chunk of theirs."""
    rows, end = [], 0
    for chunk in step.chunks:
        end += chunk.logit_rows
        if chunk.samples:
            rows.append(end - 1)
    return rows
