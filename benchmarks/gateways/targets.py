"""How each gateway is asked for an answer of the mock."""

from dataclasses import dataclass, field, replace

import httpx
import orjson

from benchmarks.gateways import answers
from benchmarks.gateways.upstream import Upstream
from benchmarks.worker import MeasurementFailed

KINDS = ("plain", "stream", "paced")
QUESTION = "What is the capital of France? Answer in one sentence, and name the river it lies on."


@dataclass(frozen=True, slots=True)
class Ask:
    """One POST request, sent again and again."""

    url: str
    headers: dict[str, str]
    body: bytes

    def with_fields(self, **fields: object) -> "Ask":
        return replace(self, body=orjson.dumps(orjson.loads(self.body) | fields))


@dataclass(frozen=True, slots=True)
class Target:
    """A running gateway; `pid` is that of the process whose children belong to it."""

    name: str
    asks: dict[str, Ask]
    pid: int
    note: str = ""
    expects_headers: tuple[str, ...] = field(default=())

    def check(self) -> None:
        """Raises MeasurementFailed unless it passes on what the mock answers."""
        with httpx.Client(timeout=60.0) as client:
            for kind, judge in (
                ("plain", answers.check_completion),
                ("stream", answers.check_stream),
            ):
                ask = self.asks[kind]
                answer = client.post(ask.url, headers=ask.headers, content=ask.body)
                if answer.status_code != httpx.codes.OK:
                    raise MeasurementFailed(
                        f"{self.name} answered {answer.status_code}: {answer.text[:300]}"
                    )
                judge(answer.content)
                if missing := [name for name in self.expects_headers if name not in answer.headers]:
                    raise MeasurementFailed(f"{self.name} sent no {', '.join(missing)}")


def body_of(kind: str, model: str) -> bytes:
    """No temperature: such a request is not cached by a cache of deterministic answers."""
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": QUESTION},
        ],
        "max_tokens": 512,
    }
    if kind != "plain":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body)


def by_model(url: str, key: str) -> dict[str, Ask]:
    """For gateways that choose the upstream by the model's name, which is the kind."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    path = f"{url}/v1/chat/completions"
    return {kind: Ask(path, headers, body_of(kind, kind)) for kind in KINDS}


def by_path(url: str, upstream: Upstream, tokens: int) -> dict[str, Ask]:
    """For the ceiling, which passes paths on; and for the upstream itself, with an empty `url`."""
    asks = {}
    for kind in KINDS:
        base = upstream.base_url(kind, tokens)
        path = "/" + base.partition("://")[2].partition("/")[2] if url else base
        address = f"{url}{path}/chat/completions"
        asks[kind] = Ask(address, {"content-type": "application/json"}, body_of(kind, "mock"))
    return asks


def by_header(url: str, upstream: Upstream, tokens: int) -> dict[str, Ask]:
    """For Portkey, which is told the upstream by each request."""
    asks = {}
    for kind in KINDS:
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": upstream.base_url(kind, tokens),
        }
        asks[kind] = Ask(f"{url}/v1/chat/completions", headers, body_of(kind, "mock"))
    return asks
