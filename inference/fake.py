"""A scripted backend for tests, demos and CI: no model, no process, the same interface."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Self, TypeVar

from inference.backends import Health
from inference.errors import InferenceError
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingEvent,
    EmbeddingRequest,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Request,
    ScoredToken,
    TokenChunk,
    TokenLogprobs,
    Usage,
)

Respond = Callable[[GenerationRequest], Iterable[str]]
_AnyEvent = TypeVar("_AnyEvent", GenerationEvent, EmbeddingEvent)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: InferenceError
    after_tokens: int | None

    def raise_if_due(self, tokens: int | None) -> None:
        if tokens == self.after_tokens:
            # One instance may be raised for many requests: its traceback must not grow.
            raise self.error.with_traceback(None)


@dataclass(frozen=True, slots=True)
class _Hold:
    after_tokens: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class FakeBackend:
    """Answers with `tokens`, or with what `respond` makes of a request; `respond` must end.

    Vectors are those of `fake_vector`; each counts as a token where one stops or fails after some.
    `requests` holds every request that was started, `cancelled` the ids of those whose stream was
    closed or cancelled before its end, `running` how many are under way. `readiness` is what
    `health` says and may be set. Prompt tokens are counted as words. Once
    `chunks` is set, every answer is those, thoughts and calls and all, whatever is asked.
    """

    def __init__(
        self,
        id: str = "fake",
        tokens: Sequence[str] = ("Hello", " world"),
        *,
        respond: Respond | None = None,
        delay_s: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.id = id
        self.readiness = Health(is_ready=True)
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.running = 0
        self._closed = asyncio.Event()
        self._respond: Respond = respond or (lambda request: tokens)
        self.chunks: Sequence[TokenChunk] = ()
        self._delay_s = delay_s
        self._sleep = sleep
        self._failure: _Failure | None = None
        self._hold: _Hold | None = None

    def fail_with(self, error: InferenceError, *, after_tokens: int | None = None) -> Self:
        """Raise `error` in every request from now on: None before `Accepted`, n after n tokens.

        An answer of fewer than n tokens does not fail.
        """
        self._failure = _Failure(error, after_tokens)
        return self

    def recover(self) -> Self:
        self._failure = None
        return self

    def hold(self, *, after_tokens: int = 0) -> Self:
        """Stop every request after that many tokens until `release` is called."""
        self._hold = _Hold(after_tokens)
        return self

    async def held(self) -> None:
        """Return once a request waits at the hold."""
        if self._hold is None:
            raise RuntimeError("nothing holds: call hold() first")
        await self._hold.reached.wait()

    def release(self) -> None:
        """Let the held requests go on, and hold no later ones."""
        if self._hold is not None:
            self._hold.released.set()
            self._hold = None

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        return self._play(request, self._script(request))

    def embed(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]:
        return self._play(request, self._vectors(request))

    async def _play(
        self, request: Request, script: AsyncGenerator[_AnyEvent, None]
    ) -> AsyncGenerator[_AnyEvent, None]:
        self.requests.append(request)
        self.running += 1
        try:
            async with aclosing(script) as events:
                async for event in events:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.id)
            raise
        finally:
            self.running -= 1

    async def _script(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self._fail_if_due(None)
        prompt_tokens = count_words(request)
        yield Accepted(self.id, "fake", prompt_tokens)
        if request.echo:
            yield TokenChunk(0, prompt_text(request), 0, _scored(request, prompt_text(request)))
        chunks, reason = self._answer(request)
        for index, chunk in enumerate(chunks):
            await self._pause(index)
            if self._delay_s:
                await self._sleep(self._delay_s)
            yield chunk
        await self._pause(len(chunks))
        thought = sum(chunk.tokens for chunk in chunks if chunk.reasoning)
        yield Finished(reason, Usage(prompt_tokens, len(chunks), reasoning_tokens=thought))

    async def _vectors(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]:
        self._fail_if_due(None)
        counts = [len(one.split() if isinstance(one, str) else one) for one in request.inputs]
        yield Accepted(self.id, "fake", sum(counts))
        # Last to first, as nobody promises an order.
        for done, index in enumerate(reversed(range(len(counts)))):
            await self._pause(done)
            yield Embedding(index, fake_vector(request.inputs[index], request.dimensions))
        await self._pause(len(counts))
        yield Finished(FinishReason.STOP, Usage(sum(counts), 0))

    async def _pause(self, tokens: int) -> None:
        """What the script wants between the first `tokens` tokens and the next."""
        hold = self._hold
        if hold is not None and hold.after_tokens == tokens:
            hold.reached.set()
            await hold.released.wait()
        self._fail_if_due(tokens)

    def _fail_if_due(self, tokens: int | None) -> None:
        if self._failure is not None:
            self._failure.raise_if_due(tokens)

    def _answer(self, request: GenerationRequest) -> tuple[Sequence[TokenChunk], FinishReason]:
        if self.chunks:
            has_calls = any(chunk.tool_calls for chunk in self.chunks)
            return self.chunks, FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP
        texts, reason = self._texts(request)
        chunks = [TokenChunk(n, text, 1, _scored(request, text)) for n, text in enumerate(texts)]
        return chunks, reason

    def _texts(self, request: GenerationRequest) -> tuple[list[str], FinishReason]:
        limit = request.sampling.max_tokens
        said = list(islice(self._respond(request), None if limit is None else limit + 1))
        texts = said[:limit]
        stopped = cut_at_stop(texts, request.sampling.stop)
        if stopped is not None:
            return stopped, FinishReason.STOP
        return texts, FinishReason.LENGTH if len(said) > len(texts) else FinishReason.STOP

    async def health(self) -> Health:
        return self.readiness

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def closed(self) -> None:
        """Return once `aclose` was called."""
        await self._closed.wait()

    async def aclose(self) -> None:
        self._closed.set()


def fake_vector(text: str | tuple[int, ...], dimensions: int | None = None) -> bytes:
    """Four numbers, or as many as are asked for, that depend on the length alone."""
    return struct.pack(f"<{dimensions or 4}f", *[len(text), *[0.5] * ((dimensions or 4) - 1)])


def prompt_text(request: GenerationRequest) -> str:
    """Token ids are told as numbers, as there are no words behind them."""
    if request.prompt_ids is not None:
        return "".join(f"<{token}>" for token in request.prompt_ids)
    return request.prompt or ""


def _scored(request: GenerationRequest, text: str) -> tuple[TokenLogprobs, ...]:
    """The text as one token, and as many rivals as are asked for."""
    count = request.sampling.logprobs
    if count is None:
        return ()
    rivals = (ScoredToken(f"{text}{n}", f"{text}{n}".encode(), -1.0 - n) for n in range(count))
    return (TokenLogprobs(ScoredToken(text, text.encode(), -0.5), tuple(rivals)),)


def count_words(request: GenerationRequest) -> int:
    if request.prompt_ids is not None:
        return len(request.prompt_ids)
    if request.prompt is not None:
        return len(request.prompt.split())
    return sum(len(message.content.split()) for message in request.messages or ())


def cut_at_stop(texts: Sequence[str], stop: Sequence[str]) -> list[str] | None:
    """The texts up to the first stop string, also one that spans tokens; None without one.

    The tokens that make up the stop string stay, as empty texts: they were generated.
    """
    whole = ""
    for count, text in enumerate(texts, start=1):
        whole += text
        ends = [whole.find(word) for word in stop if word in whole]
        if ends:
            return _clip(texts[:count], min(ends))
    return None


def _clip(texts: Sequence[str], length: int) -> list[str]:
    clipped = []
    for text in texts:
        clipped.append(text[:length])
        length = max(0, length - len(text))
    return clipped
