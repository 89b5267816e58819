import base64
import json
import struct
from typing import Any

import httpx
import pytest

from inference.errors import InvalidRequest, UpstreamError, UpstreamInvalidResponse
from inference.remote.client import HttpLLMClient
from inference.types import Accepted, Embedding, EmbeddingRequest, Finished, Usage, UsageSource
from tests.inference.remote.asking import SPEC

ASKED = EmbeddingRequest("r1", "caller-name", ("one", (5, 7)))
FIRST, SECOND = struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)


class Host:
    def __init__(self, answer: Any, status: int = 200) -> None:
        self.answer, self.status = answer, status
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status, json=self.answer)

    async def embed(self, request: EmbeddingRequest = ASKED) -> list[Any]:
        client = HttpLLMClient(SPEC, transport=httpx.MockTransport(self))
        return [event async for event in client.embed(request)]

    @property
    def asked(self) -> dict[str, Any]:
        return json.loads(self.requests[0].content)


def answered(*vectors: Any, **more: Any) -> dict[str, Any]:
    data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return {"object": "list", "data": data, **more}


async def test_it_asks_for_base64_under_the_name_that_the_host_knows():
    host = Host(answered([1, 2], [3, 4]))
    await host.embed()
    assert host.requests[0].url == "http://gpu-1/v1/embeddings"
    assert host.asked == {
        "model": "their-name",
        "input": ["one", [5, 7]],
        "encoding_format": "base64",
    }


async def test_what_the_caller_said_is_passed_on():
    host = Host(answered([1, 2]))
    await host.embed(
        EmbeddingRequest("r", "m", ("a",), dimensions=2, truncate_tokens=-1, prompt_name="query")
    )
    more = {"dimensions": 2, "truncate_prompt_tokens": -1, "prompt_name": "query"}
    assert more.items() <= host.asked.items()


@pytest.mark.parametrize(
    "vectors",
    [
        ([1, 2], [3, 4]),
        (base64.b64encode(FIRST).decode(), base64.b64encode(SECOND).decode()),
    ],
    ids=["numbers", "base64"],
)
async def test_vectors_are_read_in_both_forms(vectors: Any):
    events = await Host(answered(*vectors, usage={"prompt_tokens": 9})).embed()
    assert events[:3] == [Accepted("gpu-1", "remote"), Embedding(0, FIRST), Embedding(1, SECOND)]
    assert isinstance(events[3], Finished)
    assert events[3].usage == Usage(9, 0, source=UsageSource.REPORTED)


async def test_the_index_says_which_input_a_vector_is_of():
    answer = answered([3, 4], [1, 2])
    answer["data"][0]["index"], answer["data"][1]["index"] = 1, 0
    events = await Host(answer).embed()
    assert {e.index: e.vector for e in events if isinstance(e, Embedding)} == {0: FIRST, 1: SECOND}


async def test_without_a_count_tokens_are_estimated():
    events = await Host(answered([1, 2], [3, 4])).embed()
    assert events[-1].usage == Usage(3, 0, source=UsageSource.ESTIMATED)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"data": "none"},
        answered([1, 2]),
        answered([1, 2], [3, 4, 5]),
        answered([1, 2], ["a", "b"]),
        answered([1, 2], "no base64!"),
        answered([1, 2], "AAA="),
        answered([1, 2], None),
        answered([], []),
        {"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]},
        {"data": [{"index": True, "embedding": [1]}, {"index": 1, "embedding": [2]}]},
        {"data": [[1], [2]]},
        answered([1, 2], base64.b64encode(struct.pack("<2f", 1, float("nan"))).decode()),
    ],
    ids=range(13),
)
async def test_an_answer_that_does_not_fit_is_the_hosts_fault(answer: Any):
    with pytest.raises(UpstreamInvalidResponse):
        await Host(answer).embed()


async def test_a_refusal_names_the_field():
    error = {"message": "input too long", "param": "input", "code": 400}
    with pytest.raises(InvalidRequest) as caught:
        await Host({"error": error}, status=400).embed()
    assert caught.value.param == "input"


async def test_a_failure_is_an_upstream_error():
    with pytest.raises(UpstreamError) as caught:
        await Host({"error": {"message": "boom"}}, status=500).embed()
    assert caught.value.status == 500
