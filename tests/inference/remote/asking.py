"""Asking a scripted host through a real client."""

from contextlib import aclosing
from dataclasses import replace
from typing import Any

from inference.backends import RemoteSpec
from inference.errors import InferenceError
from inference.remote.client import HttpLLMClient
from inference.types import GenerationEvent, GenerationRequest, Message, TokenChunk
from tests.inference.remote.upstream import Script, Upstream

CHAT = GenerationRequest("r1", "caller-name", messages=(Message("user", "Say hi"),))
SPEC = RemoteSpec("gpu-1", "http://gpu-1/v1", "their-name")


async def collect(
    client: HttpLLMClient, request: GenerationRequest = CHAT
) -> list[GenerationEvent]:
    async with aclosing(client.generate(request)) as events:
        return [event async for event in events]


async def ask(script: Script, **limits: float) -> list[Any]:
    """What a caller sees of a scripted host; an error comes last in the list."""
    async with Upstream(script) as upstream:
        client = HttpLLMClient(replace(SPEC, base_url=upstream.base_url, **limits))
        seen: list[Any] = []
        try:
            async for event in client.generate(CHAT):
                seen.append(event)
                if isinstance(event, TokenChunk):
                    upstream.read.set()
        except InferenceError as error:
            seen.append(error)
        await client.aclose()
        return seen


def texts(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, TokenChunk)]
