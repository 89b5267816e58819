"""/v1/embeddings: its body, and how the OpenAI API writes vectors."""

import asyncio
import base64
import sys
from array import array
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.api.answers import Answer
from gateway.api.completion_body import Prompts
from gateway.api.sampling_body import Body
from gateway.api.schemas import ModelName
from gateway.embeddings import PAUSE_EVERY, Embedded
from gateway.exchange import EmbeddingsRequest, Prompt

MAX_INPUTS = 2048
"""As the OpenAI API has it."""


def _not_too_many(inputs: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    if len(inputs) > MAX_INPUTS:
        raise PydanticCustomError(
            "too_many_inputs",
            "At most {most} inputs are allowed; send them in several requests",
            {"most": MAX_INPUTS},
        )
    return inputs


def _not_zero(value: int | None) -> int | None:
    if value == 0:
        raise PydanticCustomError("no_tokens", "Nothing would be left; send -1 or at least 1")
    return value


class EmbeddingsBody(Body):
    model: ModelName = Field(description="A model's name or alias, see /v1/models.")
    input: Annotated[Prompts, AfterValidator(_not_too_many)]
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Field(description="Numbers, or little-endian float32 in base64, a quarter of the size."),
    ] = None
    dimensions: Annotated[
        int | None,
        Field(ge=1, le=65536, description="Cut vectors, of models that are made for it."),
    ] = None
    user: str | None = None
    truncate_prompt_tokens: Annotated[
        int | None,
        Field(ge=-1, le=2**31 - 1, description="Cut long inputs; -1 to what the model takes."),
        AfterValidator(_not_zero),
    ] = None
    prompt_name: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="A prompt of the model's own config."),
    ] = None

    def addressed(self, *, request_id: str, endpoint: str) -> EmbeddingsRequest:
        """The request for the workflow, under the id that the caller sees."""
        return EmbeddingsRequest(
            request_id=request_id,
            endpoint=endpoint,
            model=self.model,
            prompts=self.input,
            dimensions=self.dimensions,
            truncate_tokens=self.truncate_prompt_tokens,
            prompt_name=self.prompt_name,
        )


async def embeddings_answer(
    embedded: Embedded, encoding: Literal["float", "base64"] | None, headers: dict[str, str]
) -> Answer:
    """Written piece by piece: thousands of vectors are tens of megabytes, and others wait."""
    pieces: list[bytes] = []
    for index, vector in enumerate(embedded.vectors):
        written = base64.b64encode(vector).decode() if encoding == "base64" else numbers(vector)
        pieces.append(orjson.dumps({"object": "embedding", "index": index, "embedding": written}))
        if len(pieces) % PAUSE_EVERY == 0:
            await asyncio.sleep(0)
    tokens = embedded.completed.usage.prompt_tokens
    frame: dict[str, Any] = {
        "object": "list",
        "data": orjson.Fragment(b"[" + b",".join(pieces) + b"]"),
        "model": embedded.admitted.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Answer(orjson.dumps(frame), headers)


def numbers(vector: bytes) -> list[float]:
    read = array("f", vector)
    if sys.byteorder == "big":
        read.byteswap()
    return read.tolist()
