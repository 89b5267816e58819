"""The events of the answers to one request, counted as they come."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference.tools import ToolCallDelta, joined
from inference.types import (
    Accepted,
    Event,
    Finished,
    FinishReason,
    Timings,
    TokenChunk,
    Usage,
    UsageSource,
)

TRUST = (UsageSource.EXACT, UsageSource.REPORTED, UsageSource.ESTIMATED)
"""Falling."""


@dataclass(slots=True)
class ChoiceTally:
    accepted: Accepted | None = None
    finished: Finished | None = None
    tokens: int = 0
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCallDelta] = field(default_factory=list)

    def add(self, event: Event) -> None:
        match event:
            case TokenChunk():
                self.tokens += event.tokens
                self.texts.append(event.text)
                if event.reasoning:
                    self.thoughts.append(event.reasoning)
                self.calls += event.tool_calls
            case Accepted():
                self.accepted = event
            case Finished():
                self.finished = event

    @property
    def is_plain(self) -> bool:
        """Text and nothing else."""
        return not (self.thoughts or self.calls)

    def transcript(self) -> str:
        """Thoughts and calls in tags, around the text."""
        thoughts = "".join(self.thoughts)
        calls = [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in joined(self.calls)
        ]
        parts = [f"<think>{thoughts}</think>"] if thoughts else []
        parts += ["".join(self.texts)] if any(self.texts) or not calls else []
        parts += [
            f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>" for call in calls
        ]
        return "\n".join(parts)

    def usage(self, prompt_estimate: int) -> Usage:
        """What the backend says in the end; before that, what has arrived."""
        if self.finished is not None:
            return self.finished.usage
        if self.accepted is None:
            return Usage(0, 0)
        prompt_tokens = self.accepted.prompt_tokens
        if prompt_tokens is None:
            return Usage(prompt_estimate, self.tokens, source=UsageSource.ESTIMATED)
        return Usage(prompt_tokens, self.tokens)


class Tally:
    """`n` choices for each of `prompts`; as in the OpenAI API, a prompt counts once for all of
    its choices."""

    def __init__(self, *, prompt_estimate: int, prompts: int = 1, n: int = 1) -> None:
        self.started_at = datetime.now(UTC)
        self._prompt_estimate = prompt_estimate // prompts
        self._n = n
        self._choices = [ChoiceTally() for _ in range(prompts * n)]
        self._started = time.perf_counter()
        self._first_token: float | None = None
        self._ended: float | None = None

    @property
    def text(self) -> str:
        """Of all choices, one after the other."""
        return "\n".join("".join(choice.texts) for choice in self._choices)

    @property
    def transcript(self) -> str:
        """The same with thoughts and calls."""
        return "\n".join(choice.transcript() for choice in self._choices)

    @property
    def is_plain(self) -> bool:
        return all(choice.is_plain for choice in self._choices)

    @property
    def accepted(self) -> Accepted | None:
        """The first choice that a backend took."""
        return next((c.accepted for c in self._choices if c.accepted is not None), None)

    @property
    def finished(self) -> Finished | None:
        """None until all choices are finished; reason and times are those of the first."""
        ends = [choice.finished for choice in self._choices if choice.finished is not None]
        if len(ends) < len(self._choices):
            return None
        return Finished(ends[0].reason, self.usage(), ends[0].timings)

    @property
    def reasons(self) -> tuple[FinishReason, ...]:
        return tuple(c.finished.reason for c in self._choices if c.finished is not None)

    def add(self, event: Event, choice: int = 0) -> None:
        if isinstance(event, TokenChunk) and event.tokens and self._first_token is None:
            self._first_token = time.perf_counter()
        self._choices[choice].add(event)

    def end(self) -> None:
        self._ended = time.perf_counter()

    def usage(self) -> Usage:
        starts = range(0, len(self._choices), self._n)
        by_prompt = [self._usage_of(self._choices[start : start + self._n]) for start in starts]
        return Usage(
            sum(used.prompt_tokens for used in by_prompt),
            sum(used.completion_tokens for used in by_prompt),
            sum(used.cached_tokens for used in by_prompt),
            _least_trusted(by_prompt),
            sum(used.reasoning_tokens for used in by_prompt),
        )

    def timings(self) -> Timings:
        """The times as the gateway saw them, and the wait in the backend as that one did."""
        finished = self.finished
        return Timings(
            queue_s=finished.timings.queue_s if finished else None,
            ttft_s=self._since_start(self._first_token),
            total_s=self._since_start(self._ended),
        )

    def _usage_of(self, choices: list[ChoiceTally]) -> Usage:
        """Of one prompt. A choice may reuse what another one computed, which is nobody's gain."""
        used = [c.usage(self._prompt_estimate) for c in choices if c.accepted is not None]
        if not used:
            return Usage(0, 0)
        return Usage(
            max(one.prompt_tokens for one in used),
            sum(one.completion_tokens for one in used),
            min(one.cached_tokens for one in used),
            _least_trusted(used),
            sum(one.reasoning_tokens for one in used),
        )

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self._started


def _least_trusted(parts: list[Usage]) -> UsageSource:
    return max((part.source for part in parts), key=TRUST.index)
