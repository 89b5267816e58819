"""What one request has used so far, and the closing of its books, which happens exactly once.

Closing settles the admission, records the outcome, keeps the answer for the cache, counts and
logs. It runs in a task of its own: whoever waits for it may be cancelled, the closing goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable
from decimal import Decimal

from gateway import admission, completion_cache, metrics, request_log, usage
from gateway.admission import Admission, Demand
from gateway.completion_cache import NewAnswer
from gateway.errors import GatewayError
from gateway.exchange import CacheState, CallerRequest, CompletionRequest
from gateway.keys import Caller
from gateway.models import BodyPolicy, RequestStatus
from gateway.runtime import Runtime
from gateway.usage import Outcome
from inference.errors import InferenceError, InvalidRequest, ModelLoading, Overloaded, UnknownModel
from inference.types import Usage
from models_registry.catalog import CatalogModel

logger = logging.getLogger(__name__)

# Before anything was generated, a rule or a bound said no. Every other error is a failure.
REFUSALS = (GatewayError, InvalidRequest, UnknownModel, ModelLoading, Overloaded)


class Bill:
    """Made when a request comes in; `close` must be awaited in the end, however it ends.

    The first of `finish`, `fail` and `abandon` decides what becomes of it.
    """

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        request: CallerRequest,
        *,
        prompt_estimate: int,
    ) -> None:
        self.caller = caller
        self.request = request
        self.prompt_estimate = prompt_estimate
        self.tally = request.new_tally(prompt_estimate)
        self.model: CatalogModel | None = None
        self.cache = CacheState.BYPASS
        self.cache_key: str | None = None
        self._runtime = runtime
        self._admitting: asyncio.Task[Admission | None] | None = None
        self._status: RequestStatus | None = None
        self._error_code = ""
        self._closing: asyncio.Task[None] | None = None
        runtime.enter()

    @property
    def is_replay(self) -> bool:
        """The answer comes from the cache: it costs nothing."""
        return self.cache in metrics.REPLAYED

    async def admit(self, demand: Demand) -> Admission:
        # A task of its own: cancelled half-way, the holds could be taken with nobody to know.
        self._admitting = asyncio.create_task(admission.admit(demand, self._is_open))
        admitted = await asyncio.shield(self._admitting)
        if admitted is None:
            # Only a bill that has ended gets none, and whoever ended it has left.
            raise asyncio.CancelledError
        return admitted

    def finish(self) -> None:
        self._end(RequestStatus.COMPLETED)

    def abandon(self) -> None:
        """The caller has left."""
        self._end(RequestStatus.CLIENT_DISCONNECT, "client_disconnected")

    def fail(self, error: Exception) -> None:
        code = error.code if isinstance(error, GatewayError | InferenceError) else "internal_error"
        if self.tally.accepted is None and isinstance(error, REFUSALS):
            self._end(RequestStatus.REFUSED, code)
            metrics.count_refusal(error)
        else:
            self._end(RequestStatus.FAILED, code)

    async def close(self) -> None:
        """Return once the books are closed; a failure to write them is logged, not raised."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
            self._runtime.leave_after(self._closing)
        await asyncio.shield(self._closing)

    def _is_open(self) -> bool:
        return self._status is None

    def _end(self, status: RequestStatus, error_code: str = "") -> None:
        if self._status is None:
            self._status, self._error_code = status, error_code
            self.tally.end()

    async def _close(self) -> None:
        outcome = self._outcome()
        await self._attempt("settle", self._settle(outcome))
        await self._attempt("record", usage.record(outcome))
        await self._attempt("cache", self._store())
        metrics.observe(outcome, model=self.model.name if self.model else metrics.OTHER)
        request_log.write(outcome)

    async def _attempt(self, step: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            metrics.BOOKKEEPING_FAILURES.labels(step).inc()
            logger.exception("request %s: cannot %s", self.request.request_id, step)

    async def _settle(self, outcome: Outcome) -> None:
        if self._admitting is None:
            return
        try:
            taken = await self._admitting
        except GatewayError:
            return
        if taken is None:
            return
        await admission.settle(
            taken,
            tokens=outcome.usage.total_tokens,
            cost=outcome.cost,
            keep_request=self.is_replay,
        )

    async def _store(self) -> None:
        """Keep a new answer that ran to its end; the cache has its own say in the matter."""
        model, finished = self.model, self.tally.finished
        is_new = self._status is RequestStatus.COMPLETED and not self.is_replay
        if self.cache_key is None or not is_new or model is None or finished is None:
            return
        # The cache keeps texts alone.
        if not isinstance(self.request, CompletionRequest) or not self.tally.is_plain:
            return
        answer = NewAnswer(
            model.name, model.revision, self.tally.text, finished.reason, finished.usage
        )
        await completion_cache.store(self.cache_key, self.caller, self.request, answer)

    def _outcome(self) -> Outcome:
        accepted = None if self.is_replay else self.tally.accepted
        finished = self.tally.finished
        # A replay used nothing: the sums of the records are what the quotas were charged.
        used = Usage(0, 0) if self.is_replay else self.tally.usage()
        is_text_kept = self.caller.body_policy == BodyPolicy.FULL
        return Outcome(
            request=self.request,
            caller=self.caller,
            model=self.model.name if self.model else self.request.model,
            model_revision=self.model.revision if self.model else "",
            backend=accepted.backend if accepted else "",
            device=accepted.device if accepted else "",
            status=self._status or RequestStatus.FAILED,
            error_code=self._error_code,
            usage=used,
            cost=self.model.price.cost(used) if self.model and self.model.price else Decimal(0),
            cache=self.cache,
            finish_reason=finished.reason if finished else None,
            started_at=self.tally.started_at,
            timings=self.tally.timings(),
            response_text=self.tally.transcript if is_text_kept else None,
        )
