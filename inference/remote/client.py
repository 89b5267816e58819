"""A backend on another host that speaks the OpenAI API, as vLLM, SGLang, TGI and llama.cpp do."""

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Final

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from inference.backends import Health, RemoteSpec
from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    UpstreamInvalidResponse,
)
from inference.remote.answer import MAX_BODY_BYTES, Answer
from inference.remote.body import body_of
from inference.remote.chunks import read_json
from inference.remote.deadlines import Deadlines
from inference.remote.embeddings import MAX_VECTORS_BYTES, embeddings_body, read_embeddings
from inference.remote.failures import Fault, failure, read_fault, retry_after_s
from inference.remote.tally import Tally
from inference.types import (
    Accepted,
    EmbeddingEvent,
    EmbeddingRequest,
    GenerationEvent,
    GenerationRequest,
)

logger = logging.getLogger(__name__)

DEVICE: Final = "remote"
MAX_CONNECTIONS: Final = 512
MAX_ERROR_BODY_BYTES: Final = 64 * 1024

# uvicorn and llama.cpp close an idle connection after 5 s. A request sent into one that is just
# being closed fails, so ours are dropped first.
_KEEP_ALIVE_S: Final = 4.0


class HttpLLMClient:
    """Keeps one pool of connections to the host until `aclose`.

    With `stream` False it asks for the answer in one piece, for hosts that cannot stream; either
    way it understands both kinds of answer. `transport` replaces the network, for tests. Raises
    ValueError for a `base_url` that is no HTTP URL.
    """

    def __init__(
        self,
        spec: RemoteSpec,
        *,
        stream: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._spec = spec
        self._stream = stream
        base_url = _parse_url(spec.base_url)
        self._chat_url = _under(base_url, "chat/completions")
        self._completions_url = _under(base_url, "completions")
        self._embeddings_url = _under(base_url, "embeddings")
        self._models_url = _under(base_url, "models")
        self._responses: set[httpx.Response] = set()
        self._http = httpx.AsyncClient(
            transport=transport or _new_transport(),
            # The answers' own deadlines are kept by Deadlines. Opening a connection and waiting
            # for a free one share a limit, as they do in aiohttp.
            timeout=httpx.Timeout(
                None, connect=spec.connect_timeout_s, pool=spec.connect_timeout_s
            ),
            # No compression: an encoder on the way would hold tokens back.
            headers={"user-agent": "llm-server", "accept-encoding": "identity"},
        )

    @property
    def id(self) -> str:
        return self._spec.id

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        deadlines = Deadlines(self._spec, has_first_token=self._stream)
        tally = Tally(request, deadlines)
        url = self._completions_url if request.messages is None else self._chat_url
        body = body_of(request, self._spec.model, stream=self._stream)
        async with self._open(self._request(url, request.id, body), deadlines) as response:
            yield Accepted(self.id, DEVICE)
            async with aclosing(Answer(response, self.id, deadlines).deltas()) as deltas:
                async for delta in deltas:
                    if (chunk := tally.add(delta)) is not None:
                        yield chunk
        yield tally.finished()

    async def embed(self, request: EmbeddingRequest) -> AsyncGenerator[EmbeddingEvent, None]:
        deadlines = Deadlines(self._spec, has_first_token=False)
        body = embeddings_body(request, self._spec.model)
        asked = self._request(self._embeddings_url, request.id, body)
        async with self._open(asked, deadlines) as response:
            yield Accepted(self.id, DEVICE)
            content = await Answer(response, self.id, deadlines).body(MAX_VECTORS_BYTES)
        for event in read_embeddings(content, request, self.id, deadlines.elapsed_s):
            yield event

    async def health(self) -> Health:
        """Asks for the list of models, which costs the host no generation.

        A host that takes longer for that than `connect_timeout_s` counts as hanging.
        """
        deadlines, timeout_s = Deadlines(self._spec), self._spec.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                headers = self._authorization()
                request = self._http.build_request("GET", self._models_url, headers=headers)
                async with self._open(request, deadlines) as response:
                    # Read to the end, so that the connection can be used again.
                    await Answer(response, self.id, deadlines).body(MAX_BODY_BYTES)
        except TimeoutError:
            return Health(is_ready=False, detail=f"no answer within {timeout_s:g} s")
        except InferenceError as error:
            return Health(is_ready=False, detail=str(error))
        return Health(is_ready=True)

    async def aclose(self) -> None:
        """Ends running requests as well: they raise."""
        # First, as aiohttp leaves whoever waits for a body waiting when its session closes.
        for response in tuple(self._responses):
            await response.aclose()
        await self._http.aclose()

    def _request(self, url: httpx.URL, id: str, body: dict[str, object]) -> httpx.Request:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
            "x-client-request-id": id,
        }
        try:
            content = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            # Half a surrogate pair, or a number of more than 64 bits.
            raise InvalidRequest(f"The request cannot be sent as JSON: {error}.") from None
        headers |= self._authorization()
        return self._http.build_request("POST", url, content=content, headers=headers)

    def _authorization(self) -> dict[str, str]:
        """Reads the key each time, so that this object never holds it."""
        name = self._spec.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name, "").strip()
        if not key:
            raise BackendUnavailable(
                f"Backend {self.id!r} needs a key: set the environment variable {name}."
            )
        if not (key.isascii() and key.isprintable()):
            raise BackendUnavailable(
                f"The environment variable {name} for backend {self.id!r} holds characters "
                "that no HTTP header can carry."
            )
        return {"authorization": f"Bearer {key}"}

    @asynccontextmanager
    async def _open(
        self, request: httpx.Request, deadlines: Deadlines
    ) -> AsyncGenerator[httpx.Response, None]:
        """The response to `request` if it is a success; closing it stops the work at the host."""
        response = await self._send(request, deadlines)
        self._responses.add(response)
        try:
            if not response.is_success:
                raise await self._failure(response, deadlines)
            yield response
        finally:
            self._responses.discard(response)
            await response.aclose()

    async def _send(self, request: httpx.Request, deadlines: Deadlines) -> httpx.Response:
        if self._http.is_closed:
            raise BackendUnavailable(f"Backend {self.id!r} was closed. Try again.")
        try:
            async with asyncio.timeout_at(deadlines.next_at):
                return await self._http.send(request, stream=True)
        except TimeoutError:
            raise deadlines.expired() from None
        except httpx.RequestError as error:
            raise BackendUnavailable(
                f"Backend {self.id!r} could not be reached. Try again later."
            ) from error
        except aiohttp.ClientError:
            # Not chained: the repr of such an error shows the headers that were sent.
            raise UpstreamInvalidResponse(
                f"Backend {self.id!r} did not answer in HTTP. "
                "Whoever runs it should check its base_url."
            ) from None

    async def _failure(self, response: httpx.Response, deadlines: Deadlines) -> InferenceError:
        deadlines.end()
        fault = Fault()
        try:
            body = await Answer(response, self.id, deadlines).body(MAX_ERROR_BODY_BYTES)
            fault = read_fault(read_json(self._redacted(body), self.id)) or fault
        except InferenceError as error:
            # The status alone says enough.
            logger.debug("no reason from backend %s: %s", self.id, error)
        return failure(self.id, response.status_code, fault, retry_after_s(response.headers))

    def _redacted(self, body: bytes) -> bytes:
        """Hosts and proxies may repeat the headers they were sent."""
        key = os.environ.get(self._spec.api_key_env or "", "").strip()
        return body.replace(key.encode(), b"***") if key else body


def _parse_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{base_url!r} is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{base_url!r} is no URL of the form http://host:port/v1")
    return url


def _under(base_url: httpx.URL, path: str) -> httpx.URL:
    return base_url.copy_with(path=f"{base_url.path.rstrip('/')}/{path}")


@cache
def _tls() -> ssl.SSLContext:
    """Shared, as reading the certificate authorities takes some 20 ms."""
    return httpx.create_ssl_context()


def _new_transport() -> AiohttpTransport:
    def new_session() -> aiohttp.ClientSession:
        # Cookies of a load balancer would pin all tenants to one replica.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S, ssl=_tls()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    return AiohttpTransport(verify=_tls(), client=new_session)
