"""The workflow of one request, the same for every edge and dialect.

Visible model → holds → cache → backend → settle and record → last event. An edge reads events
and turns them into its own protocol; whatever it does, the books end up balanced.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from gateway import choices, completion_cache, leases, runtime
from gateway.admission import Admission, Demand
from gateway.billing import Bill
from gateway.completion_cache import CachedAnswer
from gateway.errors import ShuttingDown
from gateway.exchange import (
    Admitted,
    CacheState,
    CallerRequest,
    Completed,
    CompletionEvent,
    CompletionRequest,
    Prompt,
)
from gateway.keys import Caller
from gateway.leases import Lease
from gateway.runtime import Runtime
from inference.errors import (
    BackendUnavailable,
    UnknownModel,
    UpstreamInvalidResponse,
    WrongTask,
)
from inference.tools import ToolCall, joined
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingRequest,
    Event,
    Finished,
    FinishReason,
    Request,
    Task,
    TokenChunk,
    TokenLogprobs,
    Usage,
)
from models_registry.catalog import CatalogModel

CACHE_BACKEND = "cache"
REPLAY_CHUNKS = 8
# Chat templates put a few tokens around each message.
TOKENS_PER_MESSAGE = 4
# English text has about four bytes to a token; code and other languages have fewer.
BYTES_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer; `reason` is why it ended."""

    text: str
    reason: FinishReason
    logprobs: tuple[TokenLogprobs, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """All answers to a request, for those who do not stream; there is at least one."""

    admitted: Admitted
    choices: tuple[Choice, ...]
    completed: Completed

    @property
    def text(self) -> str:
        return self.choices[0].text


async def stream(
    caller: Caller, request: CallerRequest, lease: Lease | None = None
) -> AsyncGenerator[CompletionEvent, None]:
    """Yield `Admitted`, `TokenChunk`s and `Completed`, or raise a refusal before the first.

    Whoever asks for embeddings gets `Embedding`s in place of the chunks.

    Close it (`contextlib.aclosing`) to stop the generation; the caller then pays for the tokens
    that were generated. Raises GatewayError and InferenceError, also half-way: when the key is
    revoked, for one. An edge that has to hear of that takes the lease itself.
    """
    process = runtime.current()
    await process.start()
    bill = Bill(process, caller, request, prompt_estimate=estimate_prompt(request))
    lease = lease or leases.take(caller, endpoint=request.endpoint)
    try:
        async with aclosing(_answer(process, bill, lease)) as events:
            async for event in events:
                yield event
    except (asyncio.CancelledError, GeneratorExit):
        bill.abandon()
        raise
    except Exception as error:
        bill.fail(error)
        raise
    finally:
        await bill.close()


async def complete(caller: Caller, request: CompletionRequest) -> Completion:
    """Raises as `stream` does; what went wrong half-way is raised too, and the text is lost."""
    async with aclosing(stream(caller, request)) as source:
        events = [event async for event in source]
    match events:
        case [Admitted() as admitted, *chunks, Completed() as completed]:
            found = _choices([c for c in chunks if isinstance(c, TokenChunk)], completed)
            return Completion(admitted, found, completed)
    raise RuntimeError("a stream that does not raise has a first and a last event")


def _choices(chunks: list[TokenChunk], completed: Completed) -> tuple[Choice, ...]:
    by_choice: list[list[TokenChunk]] = [[] for _ in completed.reasons]
    for chunk in chunks:
        by_choice[chunk.choice].append(chunk)
    return tuple(
        Choice(
            "".join(chunk.text for chunk in own),
            reason,
            tuple(one for chunk in own for one in chunk.logprobs),
            "".join(chunk.reasoning for chunk in own),
            joined(delta for chunk in own for delta in chunk.tool_calls),
        )
        for own, reason in zip(by_choice, completed.reasons, strict=True)
    )


async def _answer(
    process: Runtime, bill: Bill, lease: Lease
) -> AsyncGenerator[CompletionEvent, None]:
    model = bill.model = _visible_model(process, bill)
    lease.model = model.name
    _require_task(model, bill.request)
    if process.is_draining:
        raise ShuttingDown
    admission = await bill.admit(_demand(bill, model))
    is_admitted = False
    sources = await _sources(process, bill, model)
    async with aclosing(lease.guard(choices.merged(sources))) as events:
        async for choice, event in events:
            bill.tally.add(event, choice)
            match event:
                case Accepted() if not is_admitted:
                    is_admitted = True
                    yield _admitted(bill, model, event, admission)
                case TokenChunk() | Embedding():
                    yield event
    finished = bill.tally.finished
    if finished is None:
        raise UpstreamInvalidResponse(f"The answer of model {model.name!r} broke off.")
    bill.finish()
    # The books are closed before the last event: who has seen it can see them.
    await bill.close()
    first, *others = bill.tally.reasons
    yield Completed(first, finished.usage, is_cached=bill.is_replay, others=tuple(others))


def _visible_model(process: Runtime, bill: Bill) -> CatalogModel:
    """One answer for a model that is not there and one that the key may not use."""
    model = process.catalog.resolve(bill.request.model)
    if not bill.caller.may_use_model(model.name):
        raise UnknownModel(bill.request.model)
    return model


def _require_task(model: CatalogModel, request: CallerRequest) -> None:
    """Where the catalog does not know what a model is for, the backend has its say."""
    if model.task is None or model.task is request.task:
        return
    if model.task is Task.EMBEDDING:
        raise WrongTask(
            f"The model {model.name!r} makes embeddings and writes no text. Ask it at "
            "/v1/embeddings, or choose another model."
        )
    raise WrongTask(
        f"The model {model.name!r} writes text and makes no embeddings. Choose an embedding model; "
        "/v1/models tells which models are."
    )


def _demand(bill: Bill, model: CatalogModel) -> Demand:
    """The most that the request can use: its prompt and its output ceiling."""
    request = bill.request
    ceiling = request.output_ceiling(settings.DEFAULT_TOKEN_RESERVE)
    most = Usage(bill.prompt_estimate, ceiling)
    return Demand(
        caller=bill.caller,
        model=model.name,
        request_id=request.request_id,
        tokens=most.total_tokens,
        cost=model.price.cost(most) if model.price else Decimal(0),
    )


def _admitted(
    bill: Bill, model: CatalogModel, accepted: Accepted, admission: Admission
) -> Admitted:
    return Admitted(
        request_id=bill.request.request_id,
        model=model.name,
        backend=accepted.backend,
        cache=bill.cache,
        created=bill.tally.started_at,
        requests=admission.requests,
        tokens=admission.tokens,
        prompt_tokens=accepted.prompt_tokens if len(bill.request.prompts) < 2 else None,
    )


async def _sources(
    process: Runtime, bill: Bill, model: CatalogModel
) -> list[AsyncGenerator[Event, None]]:
    """The cached answer, else what backends make; raises ModelLoading and the like."""
    if answer := await _cached(bill, model):
        return [_replay(answer)]
    # What one team's prompts begin with must not show in how fast another gets its answer.
    cache_salt = str(bill.caller.team_id)
    wanted = bill.request.for_model(model.name, cache_salt)
    return [_ask(process, bill, model, one) for one in wanted]


async def _ask(
    process: Runtime, bill: Bill, model: CatalogModel, request: Request
) -> AsyncGenerator[Event, None]:
    """Wait for the model to be loaded, again where it was unloaded just as it was asked."""
    give_up_at = time.monotonic() + settings.LOAD_WAIT_S
    has_begun = False
    while True:
        served = await process.wait_for_backend(model.name, give_up_at)
        seen = process.catalog
        if served.revision != model.revision:
            # It changed while it was loaded: the answer is not one of the model asked for.
            bill.cache_key = None
        try:
            async with aclosing(_answers(process, request)) as events:
                async for event in events:
                    has_begun = True
                    yield event
            return
        except BackendUnavailable as error:
            if has_begun or type(error) is not BackendUnavailable or not served.is_local:
                raise
            if not await process.wait_for_change(seen, give_up_at):
                raise


def _answers(process: Runtime, request: Request) -> AsyncGenerator[Event, None]:
    if isinstance(request, EmbeddingRequest):
        return process.backends.embed(request)
    return process.backends.generate(request)


async def _cached(bill: Bill, model: CatalogModel) -> CachedAnswer | None:
    request = bill.request
    if not (isinstance(request, CompletionRequest) and completion_cache.is_cacheable(request)):
        return None
    key = completion_cache.key_for(bill.caller.team_id, model.name, model.revision, request)
    bill.cache_key = key
    if request.cache.no_cache:
        return None
    answer = await completion_cache.lookup(key, bill.caller)
    bill.cache = CacheState.HIT if answer else CacheState.MISS
    return answer


async def _replay(answer: CachedAnswer) -> AsyncGenerator[Event, None]:
    """The text in a few pieces, with the tokens it took shared out among them."""
    yield Accepted(CACHE_BACKEND, CACHE_BACKEND, answer.usage.prompt_tokens)
    text, tokens = answer.text, answer.usage.completion_tokens
    pieces = max(1, min(REPLAY_CHUNKS, tokens, len(text)))
    for piece in range(pieces):
        start, end = (len(text) * edge // pieces for edge in (piece, piece + 1))
        first, last = (tokens * edge // pieces for edge in (piece, piece + 1))
        yield TokenChunk(first, text[start:end], last - first)
    yield Finished(answer.reason, answer.usage)


def estimate_prompt(request: CallerRequest) -> int:
    """Tokens of all prompts, rather too many than too few: what is not used is given back."""
    if request.messages is None:
        return sum(_estimate(prompt) for prompt in request.prompts)
    size = sum(_size(text) for message in request.messages for text in message.texts)
    tools = request.tools if isinstance(request, CompletionRequest) else None
    for function in tools.functions if tools else ():
        size += _size(function.name + function.description + function.parameters)
    return math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * (len(request.messages) + 1)


def _estimate(prompt: Prompt) -> int:
    if isinstance(prompt, tuple):
        return len(prompt)
    return math.ceil(_size(prompt) / BYTES_PER_TOKEN)


def _size(text: str) -> int:
    # A lone surrogate, which JSON can spell, has no encoding.
    return len(text.encode(errors="replace"))
