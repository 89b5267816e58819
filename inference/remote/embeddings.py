"""Vectors from a host: what /v1/embeddings is sent, and how its answer is read.

Base64 is asked for, a quarter of the size of numbers; hosts that do not know it send numbers.
"""

import base64
import binascii
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from inference.errors import UpstreamInvalidResponse
from inference.remote.chunks import read_json
from inference.remote.failures import failure, read_fault
from inference.remote.tally import estimate_tokens
from inference.types import (
    Embedding,
    EmbeddingRequest,
    Finished,
    FinishReason,
    Timings,
    Usage,
    UsageSource,
)

# 2048 inputs with 4096 dimensions each, as numbers.
MAX_VECTORS_BYTES: Final = 192 * 1024 * 1024
_MAX_DIMENSIONS: Final = 65536


def embeddings_body(request: EmbeddingRequest, model: str) -> dict[str, object]:
    texts = list(request.inputs)
    body: dict[str, object] = {"model": model, "input": texts, "encoding_format": "base64"}
    optional = {
        "dimensions": request.dimensions,
        "truncate_prompt_tokens": request.truncate_tokens,
        "prompt_name": request.prompt_name,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def read_embeddings(
    body: bytes, request: EmbeddingRequest, backend: str, elapsed_s: float
) -> Iterator[Embedding | Finished]:
    """Raises UpstreamInvalidResponse unless there is one usable vector for each input."""
    payload = read_json(body, backend)
    if fault := read_fault(payload):
        raise failure(backend, fault.status or 500, fault, None)
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(data, list) or len(data) != len(request.inputs):
        raise _invalid(backend, "not one vector for each input")
    vectors = dict(_read_one(entry, place, backend) for place, entry in enumerate(data))
    if vectors.keys() != set(range(len(data))) or len(set(map(len, vectors.values()))) != 1:
        raise _invalid(backend, "vectors that do not fit the inputs")
    for place, vector in vectors.items():
        yield Embedding(place, vector)
    used = _read_usage(payload, request) if isinstance(payload, dict) else Usage(0, 0)
    yield Finished(FinishReason.STOP, used, Timings(total_s=elapsed_s))


def _read_one(entry: object, place: int, backend: str) -> tuple[int, bytes]:
    if not isinstance(entry, dict):
        raise _invalid(backend, "data that are no objects")
    index, vector = entry.get("index", place), entry.get("embedding")
    if isinstance(index, bool) or not isinstance(index, int):
        raise _invalid(backend, "an index that is no number")
    try:
        packed = _packed(vector)
    except (TypeError, ValueError, OverflowError, struct.error, binascii.Error):
        packed = b""
    if not packed:
        raise _invalid(backend, "a vector that cannot be read")
    return index, packed


def _packed(vector: object) -> bytes:
    """Raises one of several errors for what is no finite vector."""
    if isinstance(vector, str):
        packed = base64.b64decode(vector, validate=True)
        numbers = struct.unpack(f"<{len(packed) // 4}f", packed)
    elif isinstance(vector, list) and len(vector) <= _MAX_DIMENSIONS:
        numbers = tuple(vector)
        packed = struct.pack(f"<{len(vector)}f", *vector)
    else:
        raise ValueError("neither text nor numbers")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("not finite")
    return packed


def _read_usage(payload: Mapping[str, object], request: EmbeddingRequest) -> Usage:
    usage = payload.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 < tokens < 1_000_000_000:
        return Usage(tokens, 0, source=UsageSource.REPORTED)
    counts = (
        estimate_tokens(len(one.encode(errors="replace"))) if isinstance(one, str) else len(one)
        for one in request.inputs
    )
    return Usage(sum(counts), 0, source=UsageSource.ESTIMATED)


def _invalid(backend: str, what: str) -> UpstreamInvalidResponse:
    return UpstreamInvalidResponse(f"Backend {backend!r} answered with {what}.")
