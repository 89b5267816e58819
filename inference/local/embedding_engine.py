"""One loaded embedding model and the one thread that owns it.

Requests of all clients are in one queue of batches: what waits when a batch ends is what the next
one is made of, and nothing waits for company.
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
    Overloaded,
    WrongTask,
)
from inference.local.embedding_batches import Batch, BatchQueue, EmbeddingJob
from inference.local.intake import Arrivals, Intake
from inference.local.loaded_model import LoadedEmbedder
from inference.local.runner_spec import EngineStats, RunnerSpec, StepUnderWay
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingEvent,
    EmbeddingRequest,
    Finished,
    FinishReason,
    Request,
    Usage,
)

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

# One failed batch can be the fault of a request; this many in a row are the fault of the model.
MAX_FAILED_BATCHES = 3

# Token ids of all requests inside, some 80 MB of them; one that finds them below is taken.
MAX_TOKENS_INSIDE = 2**21

Events = list[tuple[str, EmbeddingEvent | InferenceError]]


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """What one batch produced; a Finished or an InferenceError is the last event of its request."""

    events: Events
    stats: EngineStats


class EmbeddingEngine:
    """To the runner what `engine.Engine` is, for a model that makes vectors."""

    def __init__(self, spec: RunnerSpec, loaded: LoadedEmbedder) -> None:
        self.info = loaded.info
        self.failed: str | None = None
        self.step_under_way: StepUnderWay | None = None
        self._backend = spec.backend_id
        self._loaded = loaded
        self._threads_wanted: int | None = None
        self._queue = BatchQueue(loaded.budget)
        self._intake = Intake[EmbeddingJob](spec.max_running + spec.max_waiting)
        self._jobs: dict[str, EmbeddingJob] = {}
        self._started: set[str] = set()
        self._tokens_inside: dict[str, int] = {}
        self._failed_batches = 0
        self._thread: threading.Thread | None = None
        loaded.embedder.on_layer = self._renew

    def start(self, emit: Callable[[BatchOutput], None]) -> None:
        """`emit` is called from the engine's thread, once per batch, and must not block."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name="engine", daemon=True)
        self._thread.start()

    def use_threads(self, count: int) -> None:
        """Takes effect before the next batch."""
        self._threads_wanted = count

    def submit(self, request: Request) -> None:
        """Tokenises in the calling thread, unless the house is full.

        Raises WrongTask, InvalidRequest, Overloaded or BackendUnavailable; then no event follows.
        """
        if not isinstance(request, EmbeddingRequest):
            raise WrongTask(
                "This model makes embeddings and writes no text. Ask it at /v1/embeddings, or "
                "choose another model; /v1/models tells which is which."
            )
        arrived_at = time.monotonic()
        self._intake.reserve(request.id)
        try:
            job = self._prepare(request)
            job.clock.arrived_at = arrived_at
            self._tokens_inside[job.id] = job.tokens
            self._intake.deliver(request.id, job)
        except BaseException:
            self._tokens_inside.pop(request.id, None)
            self._intake.leave(request.id)
            raise

    def cancel(self, request_id: str) -> None:
        """Takes effect before the next batch, with Finished(ABORT) as the last event."""
        self._intake.cancel(request_id)

    def stats(self) -> EngineStats:
        running = len(self._started)
        return EngineStats(running=running, waiting=max(0, self._intake.count - running))

    def stop(self) -> None:
        """Requests under way end with BackendUnavailable; returns when the thread has ended."""
        self._intake.close()
        if self._thread is not None:
            self._thread.join()

    def _prepare(self, request: EmbeddingRequest) -> EmbeddingJob:
        self._check_dimensions(request.dimensions)
        inside = sum(list(self._tokens_inside.values()))
        if inside > MAX_TOKENS_INSIDE:
            raise Overloaded(
                f"The model has {inside} tokens of other requests before it. Try again in a moment."
            )
        job = EmbeddingJob(request.id, self._loaded.inputs.encode(request), request.cache_salt)
        job.dimensions = request.dimensions
        return job

    def _check_dimensions(self, wanted: int | None) -> None:
        full, allowed = self._loaded.embedder.dimensions, self._loaded.matryoshka
        if wanted is None or wanted == full:
            return
        if not allowed:
            fault = f"This model makes vectors of {full} numbers, which cannot be cut; leave it out"
        elif wanted > full:
            fault = f"This model makes vectors of {full} numbers; ask for no more"
        elif 0 in allowed or wanted in allowed:
            return
        else:
            fault = f"This model's vectors can be cut to {', '.join(map(str, allowed))} numbers"
        raise InvalidRequest(f"dimensions: {fault}.", param="dimensions")

    def _run(self, emit: Callable[[BatchOutput], None]) -> None:
        try:
            self._serve(emit)
        except Exception as error:
            # The edge of the thread: whoever waits must hear that it is gone.
            logger.exception("the engine's thread failed")
            self.failed = f"{type(error).__name__} in the engine's thread"
        self._close(emit)

    def _serve(self, emit: Callable[[BatchOutput], None]) -> None:
        while self.failed is None:
            arrivals = self._intake.take(0.0 if self._queue else None)
            if arrivals is None:
                return
            self._emit(emit, self._meet(arrivals))
            if self._queue:
                self._emit(emit, self._compute(self._queue.next_batch()))

    def _emit(self, emit: Callable[[BatchOutput], None], events: Events) -> None:
        if events:
            emit(BatchOutput(events, self.stats()))

    def _meet(self, arrivals: Arrivals[EmbeddingJob]) -> Events:
        events: Events = []
        for job in arrivals.requests:
            self._jobs[job.id] = job
            self._queue.add(job)
            events.append((job.id, Accepted(self._backend, self.info.device, job.tokens)))
        for request_id in arrivals.cancelled:
            if (cancelled := self._jobs.get(request_id)) is not None:
                events.append((request_id, _finished(cancelled, FinishReason.ABORT)))
                self._release(cancelled)
        return events

    def _compute(self, batch: Batch) -> Events:
        self._take_threads()
        now = time.monotonic()
        for row in batch.rows:
            self._started.add(row.job.id)
            if row.job.clock.scheduled_at is None:
                row.job.clock.scheduled_at = now
        self.step_under_way = StepUnderWay(now, len(batch.rows), batch.places, batch.width)
        try:
            vectors = self._loaded.embedder.run([row.tokens for row in batch.rows])
        except Exception as error:
            # The edge for whatever torch or the model may raise: all that took part are failed.
            logger.exception("a batch failed")
            self._count_failure(error)
            return self._fail(
                {row.job.id for row in batch.rows},
                "The model failed while it computed this request. Try again in a moment.",
            )
        finally:
            self.step_under_way = None
        self._failed_batches = 0
        return self._hand_out(batch, vectors)

    def _renew(self) -> None:
        """A long input may take longer than a step may; one that is stuck ends no layer."""
        if (step := self.step_under_way) is not None:
            self.step_under_way = replace(step, began_at=time.monotonic())

    def _take_threads(self) -> None:
        count, self._threads_wanted = self._threads_wanted, None
        if count is not None:
            # Loaded by now; at the top of the file it would hold up a runner's first status.
            from torch import set_num_threads

            # In this thread: OpenMP keeps a number for each thread that computes.
            set_num_threads(count)

    def _hand_out(self, batch: Batch, vectors: "Tensor") -> Events:
        events: Events = []
        usable = vectors.isfinite().all(dim=1).tolist()
        broken = {row.job.id for row, ok in zip(batch.rows, usable, strict=True) if not ok}
        for row, vector in zip(batch.rows, vectors, strict=True):
            if row.job.id not in broken:
                packed = self._loaded.embedder.finish(vector, row.job.dimensions)
                events.append((row.job.id, Embedding(row.index, packed)))
        for job in {row.job.id: row.job for row in batch.rows}.values():
            if not job.left and job.id not in broken:
                events.append((job.id, _finished(job, FinishReason.STOP)))
                self._release(job)
        return events + self._fail(
            broken,
            "The model computed no usable numbers for this request. Change the input, or load "
            "the model with `weights: fp32`.",
        )

    def _fail(self, ids: Iterable[str], message: str) -> Events:
        failed = sorted(ids)
        for request_id in failed:
            self._release(self._jobs[request_id])
        return [(request_id, BackendUnavailable(message)) for request_id in failed]

    def _count_failure(self, error: Exception) -> None:
        self._failed_batches += 1
        if self._failed_batches >= MAX_FAILED_BATCHES:
            self.failed = f"{self._failed_batches} batches in a row failed, at last with {error!r}"

    def _release(self, job: EmbeddingJob) -> None:
        self._queue.remove(job)
        self._started.discard(job.id)
        del self._jobs[job.id]
        del self._tokens_inside[job.id]
        self._intake.leave(job.id)

    def _close(self, emit: Callable[[BatchOutput], None]) -> None:
        """Fail every request that is still inside, whatever state the rest is in."""
        self._intake.close()
        message = "The model was unloaded before the request was done. Try again in a moment."
        under_way = self._intake.clear()
        self._emit(emit, [(request_id, BackendUnavailable(message)) for request_id in under_way])


def _finished(job: EmbeddingJob, reason: FinishReason) -> Finished:
    return Finished(reason, Usage(job.tokens, 0), job.clock.timings(time.monotonic()))
