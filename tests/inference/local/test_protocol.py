import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import errors
from inference.errors import InferenceError, Overloaded, PromptTooLong
from inference.local.protocol import (
    Cancel,
    Draining,
    Embed,
    FrameReader,
    Generate,
    Hello,
    Message,
    Op,
    ProtocolError,
    Step,
    decode,
    encode,
)
from inference.local.runner_spec import EngineInfo, EngineStats
from inference.local.wire_errors import pack_error, unpack_error
from inference.types import (
    Accepted,
    Constraint,
    ConstraintKind,
    Embedding,
    EmbeddingRequest,
    Finished,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    ScoredToken,
    Timings,
    TokenChunk,
    TokenLogprobs,
    Usage,
)
from inference.types import Message as ChatMessage

SAMPLE_ERRORS: list[InferenceError] = [
    errors.InferenceError("it broke"),
    errors.InvalidRequest("no such role", param="messages"),
    errors.PromptTooLong(prompt_tokens=600, context=512, max_tokens=20, param="prompt"),
    errors.InvalidRequest("too long", param="input[3]", code="context_length_exceeded"),
    errors.WrongTask("it makes vectors"),
    errors.UnknownModel("missing"),
    errors.BackendUnavailable("later", retry_after_s=7.5),
    errors.ModelLoading("loading", retry_after_s=3.0),
    errors.Overloaded("full", retry_after_s=1.0),
    errors.RunnerDied("gone"),
    errors.UpstreamError("bad", status=500),
    errors.UpstreamTimeout("slow"),
    errors.UpstreamInvalidResponse("odd", status=200),
    errors.UpstreamRateLimited("limited", retry_after_s=9.0),
]

counts = st.integers(0, 2**40)
texts = st.text(st.characters(exclude_categories=["Cs"]))
sampling = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    max_tokens=st.none() | counts,
    stop=st.lists(texts, max_size=3).map(tuple),
    stop_token_ids=st.lists(counts, max_size=3).map(tuple),
    logit_bias=st.lists(st.tuples(counts, st.floats(-100, 100)), max_size=3).map(tuple),
    ignore_eos=st.booleans(),
    logprobs=st.none() | st.integers(0, 20),
)
chats = st.lists(st.builds(ChatMessage, texts, texts), max_size=3).map(tuple)
requests = st.builds(
    GenerationRequest, id=texts, model=texts, messages=chats, sampling=sampling
) | st.builds(GenerationRequest, id=texts, model=texts, prompt=texts, sampling=sampling)
requests |= st.builds(
    GenerationRequest,
    id=texts,
    model=texts,
    prompt_ids=st.lists(counts, max_size=5).map(tuple),
    constraint=st.builds(Constraint, st.sampled_from(ConstraintKind), texts, texts),
    echo=st.booleans(),
)
embedding_requests = st.builds(
    EmbeddingRequest,
    id=texts,
    model=texts,
    inputs=st.lists(texts | st.lists(counts, max_size=3).map(tuple), max_size=4).map(tuple),
    dimensions=st.none() | counts,
    truncate_tokens=st.none() | st.integers(-1, 2**31),
    prompt_name=st.none() | texts,
)
numbers = st.none() | st.floats(-9999, 0)
tokens = st.builds(ScoredToken, texts, st.none() | st.binary(max_size=8), numbers)
scored = st.builds(TokenLogprobs, tokens, st.lists(tokens, max_size=3).map(tuple))
seconds = st.none() | st.floats(0, 1e6)
timings = st.builds(Timings, seconds, seconds, seconds)
events = (
    st.builds(TokenChunk, counts, texts, counts)
    | st.builds(TokenChunk, counts, texts, counts, st.lists(scored, max_size=3).map(tuple))
    | st.builds(Embedding, counts, st.binary(max_size=64))
    | st.builds(Accepted, texts, texts, st.none() | counts)
    | st.builds(Finished, usage=st.builds(Usage, counts, counts, counts), timings=timings)
)
stats = st.builds(
    EngineStats,
    running=counts,
    waiting=counts,
    kv_bytes=counts,
    prefix_bytes=counts,
    prefix_queries=counts,
    prefix_hits=counts,
)
infos = st.builds(EngineInfo, context=counts, parameters=counts, memory_bytes=counts)
messages = (
    st.builds(Generate, counts, requests)
    | st.builds(Embed, counts, embedding_requests)
    | st.builds(Cancel, counts)
    | st.builds(Hello, infos)
    | st.builds(Step, st.lists(st.tuples(counts, events), max_size=5).map(tuple), stats)
    | st.just(Draining())
)


def bodies_of(frame: bytes) -> list[bytes]:
    return FrameReader().feed(frame)


def decode_step_error(error: InferenceError) -> InferenceError:
    (body,) = bodies_of(encode(Step(((1, error),), EngineStats())))
    step = decode(body)
    assert isinstance(step, Step)
    ((_, decoded),) = step.events
    assert isinstance(decoded, InferenceError)
    return decoded


def all_subclasses(kind: type) -> set[type]:
    return {kind}.union(*(all_subclasses(child) for child in kind.__subclasses__()))


@given(messages)
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    (body,) = bodies_of(encode(message))
    assert decode(body) == message


@given(st.lists(messages, max_size=4), st.data())
def test_frames_survive_any_split_of_the_stream(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(encode(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    received = [decode(body) for piece in pieces for body in reader.feed(piece)]
    assert received == sent


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_and_nothing_else(body: bytes) -> None:
    try:
        decode(body)
    except ProtocolError:
        return


@given(st.recursive(st.none() | st.integers() | texts, lambda x: st.lists(x), max_leaves=10))
def test_foreign_msgpack_is_a_protocol_error_and_nothing_else(value: object) -> None:
    try:
        body = msgpack.packb([Op.STEP, value, value])
        decode(body)
    except (ProtocolError, OverflowError):
        return


@pytest.mark.parametrize("error", SAMPLE_ERRORS, ids=lambda error: error.code)
def test_an_error_arrives_as_the_same_class_with_its_data(error: InferenceError) -> None:
    decoded = decode_step_error(error)
    assert type(decoded) is type(error)
    assert str(decoded) == str(error)
    assert vars(decoded) == vars(error)


def test_every_error_of_the_package_is_known_on_the_wire() -> None:
    defined = {
        kind for kind in all_subclasses(InferenceError) if kind.__module__ == errors.__name__
    }
    assert {type(error) for error in SAMPLE_ERRORS} == defined


def test_an_error_class_of_its_own_travels_as_its_nearest_known_ancestor() -> None:
    class KvMemoryFull(Overloaded):
        code = "kv_memory_full"

    decoded = decode_step_error(KvMemoryFull("full", retry_after_s=4.0))
    assert type(decoded) is Overloaded
    assert decoded.retry_after_s == 4.0


def test_an_error_with_other_fields_is_not_taken() -> None:
    packed = pack_error(PromptTooLong(prompt_tokens=1, context=2)) | {"data": {"context": 1}}
    with pytest.raises(ValueError, match="other fields"):
        unpack_error(packed)


def test_a_frame_over_the_limit_is_refused_from_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        FrameReader(max_frame_bytes=100).feed(struct.pack(">I", 101))


def test_a_request_over_the_limit_is_not_sent() -> None:
    request = GenerationRequest(id="r", model="m", prompt="x" * 17 * 1024 * 1024)
    with pytest.raises(ProtocolError, match="over the limit"):
        encode(Generate(1, request))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (GenerationRequest(id="r", model="m", prompt="\ud800"), "surrogate"),
        (GenerationRequest("r", "m", prompt="", sampling=SamplingParams(seed=2**64)), "64 bits"),
    ],
    ids=["surrogate", "large number"],
)
def test_a_request_that_cannot_travel_says_why(request_: GenerationRequest, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        encode(Generate(1, request_))


def test_text_of_the_engine_always_arrives() -> None:
    (body,) = bodies_of(encode(Step(((1, TokenChunk(0, "a\ud800b")),), EngineStats())))
    assert decode(body) == Step(((1, TokenChunk(0, "a?b")),), EngineStats())


def test_another_protocol_version_is_named() -> None:
    body = msgpack.packb([Op.HELLO, 99, {"words": "we do not know"}])
    with pytest.raises(ProtocolError, match="speaks protocol 99"):
        decode(body)


def test_a_protocol_error_never_quotes_a_prompt() -> None:
    body = msgpack.packb([Op.GENERATE, 1, {"id": "r", "model": "m", "prompt": ["secret words"]}])
    with pytest.raises(ProtocolError) as caught:
        decode(body)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_token_costs_few_bytes() -> None:
    many = tuple((n, TokenChunk(100, " word")) for n in range(100))
    assert len(encode(Step(many, EngineStats()))) < 100 * 14 + 40


def test_finish_reasons_stay_enums() -> None:
    finished = Finished(FinishReason.LENGTH, Usage(1, 2))
    (body,) = bodies_of(encode(Step(((1, finished),), EngineStats())))
    step = decode(body)
    assert isinstance(step, Step)
    assert step.events[0][1] == finished
    assert isinstance(step.events[0][1], Finished)
    assert isinstance(step.events[0][1].reason, FinishReason)
