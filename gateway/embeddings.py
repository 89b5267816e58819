"""Embeddings through the workflow of completions: the same rules, limits and books."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from gateway import completions
from gateway.exchange import Admitted, Completed, EmbeddingsRequest
from gateway.keys import Caller
from inference.errors import UpstreamInvalidResponse
from inference.types import Embedding

# Many vectors come at once; others get their turn in between.
PAUSE_EVERY = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` are little-endian float32, in the order of the inputs."""

    admitted: Admitted
    vectors: tuple[bytes, ...]
    completed: Completed


async def embed(caller: Caller, request: EmbeddingsRequest) -> Embedded:
    """Cancel it to stop the work. Raises GatewayError and InferenceError."""
    admitted: Admitted | None = None
    completed: Completed | None = None
    vectors: dict[int, bytes] = {}
    async with aclosing(completions.stream(caller, request)) as events:
        async for event in events:
            match event:
                case Admitted():
                    admitted = event
                case Embedding(index, vector):
                    vectors[index] = vector
                    if len(vectors) % PAUSE_EVERY == 0:
                        await asyncio.sleep(0)
                case Completed():
                    completed = event
    if admitted is None or completed is None:
        raise RuntimeError("a stream that does not raise has a first and a last event")
    if vectors.keys() != set(range(len(request.prompts))):
        raise UpstreamInvalidResponse("The backend did not answer with a vector for each input.")
    ordered = tuple(vectors[index] for index in range(len(vectors)))
    return Embedded(admitted, ordered, completed)
