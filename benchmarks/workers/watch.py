"""Notes what our engine hands out, and when."""

import threading
import time
from collections import defaultdict
from itertools import pairwise

from benchmarks.gate import PATIENCE_S, Gate
from inference.errors import InferenceError
from inference.local.engine import StepOutput
from inference.types import Accepted, Finished, TokenChunk


class Watch:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected: dict[str, int] = {}
        self._stamps: dict[str, list[float]] = defaultdict(list)
        self._tokens: dict[str, int] = defaultdict(int)
        self._texts: dict[str, str] = defaultdict(str)
        self._ended: dict[str, Finished | InferenceError] = {}
        self._held: tuple[list[str], Gate] | None = None

    def expect(self, request_id: str, prompt_tokens: int) -> None:
        """A prompt that the tokenizer cut differently would be another measurement."""
        self._expected[request_id] = prompt_tokens

    def hold_when_started(self, request_ids: list[str], gate: Gate) -> None:
        """From the step on in which the last of these has its first token, stop at the gate."""
        with self._changed:
            self._held = (request_ids, gate)

    def release(self) -> None:
        with self._changed:
            self._held = None

    def emit(self, output: StepOutput) -> None:
        now = time.perf_counter()
        has_tokens = False
        with self._changed:
            for request_id, event in output.events:
                has_tokens |= isinstance(event, TokenChunk)
                self._note(request_id, event, now)
            self._changed.notify_all()
            held = self._held
        if has_tokens and held is not None and all(self._tokens[id_] for id_ in held[0]):
            held[1].close()
            held[1].tick()

    def _note(self, request_id: str, event: object, now: float) -> None:
        if isinstance(event, TokenChunk):
            self._stamps[request_id].append(now)
            self._tokens[request_id] += event.tokens
            self._texts[request_id] += event.text
        elif isinstance(event, Accepted):
            expected = self._expected.get(request_id, event.prompt_tokens)
            if event.prompt_tokens != expected:
                self._ended[request_id] = InferenceError(
                    f"{event.prompt_tokens} prompt tokens where {expected} were meant"
                )
        elif isinstance(event, Finished | InferenceError):
            self._ended.setdefault(request_id, event)

    def tokens_of(self, request_ids: list[str]) -> int:
        with self._changed:
            return sum(self._tokens[request_id] for request_id in request_ids)

    def text_of(self, request_id: str) -> str:
        return self._texts[request_id]

    def first_token_at(self, request_id: str) -> float:
        return self._stamps[request_id][0]

    def intervals(self, request_id: str, start: float, end: float) -> list[float]:
        """Seconds between neighbouring tokens that came in this time."""
        inside = [stamp for stamp in self._stamps[request_id] if start <= stamp <= end]
        return [later - earlier for earlier, later in pairwise(inside)]

    def wait_finished(self, request_ids: list[str]) -> list[Finished]:
        """Raises what one of them failed with, or TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: all(request_id in self._ended for request_id in request_ids), PATIENCE_S
            ):
                raise TimeoutError("the engine did not finish")
            ended = [self._ended[request_id] for request_id in request_ids]
        finished = []
        for end in ended:
            if isinstance(end, InferenceError):
                raise end
            finished.append(end)
        return finished
