"""The wire between a gateway process and a runner: msgpack frames over a Unix socket.

A frame is a 4-byte big-endian length and a msgpack array that starts with an `Op`. The runner
speaks first (`Hello`). A client numbers its requests itself; the number names the request on that
connection only, so two gateway processes may use the same request id. Per engine step a
connection gets one `Step` with all its new events.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

import msgpack
from pydantic import TypeAdapter, ValidationError

from inference.errors import InferenceError
from inference.local.runner_spec import EngineInfo, EngineStats
from inference.local.wire_errors import pack_error, unpack_error
from inference.tools import ToolCallDelta
from inference.types import (
    Accepted,
    Embedding,
    EmbeddingRequest,
    Event,
    Finished,
    GenerationRequest,
    ScoredToken,
    TokenChunk,
    TokenLogprobs,
)

VERSION = 3
MAX_FRAME_BYTES = 16 * 1024 * 1024


class ProtocolError(Exception):
    """The bytes are not ours; the connection they came over is of no more use."""


@dataclass(frozen=True, slots=True)
class Hello:
    info: EngineInfo
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Generate:
    number: int
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class Embed:
    number: int
    request: EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    number: int


@dataclass(frozen=True, slots=True)
class Step:
    """`events` pair a request's number with what happened; news of stats alone has none."""

    events: tuple[tuple[int, Event | InferenceError], ...]
    stats: EngineStats


@dataclass(frozen=True, slots=True)
class Draining:
    """The runner takes no more requests on any connection and finishes those it has."""


Message = Hello | Generate | Embed | Cancel | Step | Draining


class Op(IntEnum):
    HELLO = 0
    GENERATE = 1
    CANCEL = 2
    STEP = 3
    DRAINING = 4
    EMBED = 5


class _Kind(IntEnum):
    TOKEN = 0
    ACCEPTED = 1
    FINISHED = 2
    ERROR = 3
    EMBEDDING = 4


_INFO = TypeAdapter(EngineInfo)
_STATS = TypeAdapter(EngineStats)
_REQUEST = TypeAdapter(GenerationRequest)
_EMBEDDING_REQUEST = TypeAdapter(EmbeddingRequest)
_ACCEPTED = TypeAdapter(Accepted)
_FINISHED = TypeAdapter(Finished)
_SCORED: TypeAdapter[list[tuple[str, bytes | None, float | None]]] = TypeAdapter(
    list[tuple[str, bytes | None, float | None]]
)
_DELTAS = TypeAdapter(list[ToolCallDelta])
_LENGTH = struct.Struct(">I")


def encode(message: Message) -> bytes:
    """A whole frame. Raises ProtocolError for a request that cannot travel: it is too large, holds
    a number beyond 64 bits or text that is not Unicode."""
    # What the engine says must reach the client, whatever is in it; what a caller says is refused.
    unicode_errors = "strict" if isinstance(message, Generate | Embed) else "replace"
    try:
        body: bytes = msgpack.packb(_pack(message), unicode_errors=unicode_errors)
    except UnicodeEncodeError:
        raise ProtocolError("text holds a lone surrogate, which is not valid Unicode") from None
    except OverflowError:
        raise ProtocolError("a number does not fit 64 bits") from None
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"{len(body)} bytes are over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """The message in one frame's body; raises ProtocolError, whose text quotes none of it."""
    try:
        parts = msgpack.unpackb(body, use_list=False)
        return _unpack(Op(parts[0]), parts[1:])
    except ValidationError as error:
        # pydantic's own text quotes the values, which may be a prompt.
        where = error.errors(include_input=False, include_url=False, include_context=False)[0]
        location = ".".join(str(step) for step in where["loc"])
        raise ProtocolError(f"a bad value in a frame: {location} {where['msg']}") from None
    except (ValueError, TypeError, LookupError, OverflowError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not a frame of this protocol ({type(error).__name__})") from None


def _pack(message: Message) -> tuple[object, ...]:
    match message:
        case Step(events, stats):
            packed = [_pack_event(number, event) for number, event in events]
            return Op.STEP, packed, _STATS.dump_python(stats)
        case Generate(number, request):
            return Op.GENERATE, number, _REQUEST.dump_python(request)
        case Embed(number, embedding_request):
            return Op.EMBED, number, _EMBEDDING_REQUEST.dump_python(embedding_request)
        case Cancel(number):
            return Op.CANCEL, number
        case Hello(info, version):
            return Op.HELLO, version, _INFO.dump_python(info)
        case Draining():
            return (Op.DRAINING,)


def _unpack(op: Op, parts: tuple[object, ...]) -> Message:
    match op, parts:
        case Op.STEP, (tuple() as events, stats):
            return Step(
                tuple(_unpack_event(event) for event in events), _STATS.validate_python(stats)
            )
        case Op.GENERATE, (int() as number, request):
            return Generate(number, _REQUEST.validate_python(request))
        case Op.EMBED, (int() as number, request):
            return Embed(number, _EMBEDDING_REQUEST.validate_python(request))
        case Op.CANCEL, (int() as number,):
            return Cancel(number)
        case Op.HELLO, (int() as version, info):
            # Another version may describe itself in other words, so its info is not read.
            if version != VERSION:
                raise ProtocolError(
                    f"the runner speaks protocol {version} and this process {VERSION}; "
                    "restart both so that they come from one installation"
                )
            return Hello(_INFO.validate_python(info))
        case Op.DRAINING, ():
            return Draining()
    raise ValueError("wrong parts")


def _pack_event(number: int, event: Event | InferenceError) -> tuple[object, ...]:
    match event:
        case TokenChunk(index, text, tokens):
            return number, _Kind.TOKEN, index, text, tokens, *_pack_extras(event)
        case Embedding(index, vector):
            return number, _Kind.EMBEDDING, index, vector
        case Accepted():
            return number, _Kind.ACCEPTED, _ACCEPTED.dump_python(event)
        case Finished():
            return number, _Kind.FINISHED, _FINISHED.dump_python(event)
        case InferenceError():
            return number, _Kind.ERROR, pack_error(event)


def _unpack_event(packed: object) -> tuple[int, Event | InferenceError]:
    match packed:
        case (int() as number, _Kind.TOKEN, int() as index, str() as text, int() as tokens):
            return number, TokenChunk(index, text, tokens)
        case (
            int() as number,
            _Kind.TOKEN,
            int() as index,
            str() as text,
            int() as tokens,
            tuple() as told,
            str() as reasoning,
            calls,
        ):
            logprobs = tuple(_unpack_logprobs(one) for one in told)
            deltas = tuple(_DELTAS.validate_python(calls))
            return number, TokenChunk(
                index, text, tokens, logprobs, reasoning=reasoning, tool_calls=deltas
            )
        case (int() as number, _Kind.EMBEDDING, int() as index, bytes() as vector):
            return number, Embedding(index, vector)
        case (int() as number, _Kind.ACCEPTED, accepted):
            return number, _ACCEPTED.validate_python(accepted)
        case (int() as number, _Kind.FINISHED, finished):
            return number, _FINISHED.validate_python(finished)
        case (int() as number, _Kind.ERROR, error):
            return number, unpack_error(error)
    raise ValueError("not an event")


def _pack_extras(chunk: TokenChunk) -> tuple[object, ...]:
    """What hardly any token has, so that nearly all go without."""
    if not (chunk.logprobs or chunk.reasoning or chunk.tool_calls):
        return ()
    told = [_pack_logprobs(one) for one in chunk.logprobs]
    return told, chunk.reasoning, _DELTAS.dump_python(list(chunk.tool_calls))


def _pack_logprobs(logprobs: TokenLogprobs) -> list[tuple[object, ...]]:
    """The token itself, then those in its place."""
    tokens = (logprobs.token, *logprobs.top)
    return [(token.text, token.data, token.logprob) for token in tokens]


def _unpack_logprobs(packed: object) -> TokenLogprobs:
    token, *top = _SCORED.validate_python(packed)
    return TokenLogprobs(ScoredToken(*token), tuple(ScoredToken(*one) for one in top))


class FrameReader:
    """Cuts a byte stream into frame bodies; holds at most one unfinished frame."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completed. Raises ProtocolError as soon as a header announces
        more than the limit, before that body is taken in."""
        self._buffer += data
        bodies = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._max_frame_bytes:
                raise ProtocolError(
                    f"a frame of {length} bytes is over the limit of {self._max_frame_bytes}"
                )
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return bodies
