"""The body that a host is sent: the OpenAI API's fields, and those that vLLM and SGLang add."""

from typing import Final

from inference.types import GenerationRequest, SamplingParams

# Not sent unless the caller said them: the host has defaults of its own.
_FIELDS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
)


def body_of(request: GenerationRequest, model: str, *, stream: bool) -> dict[str, object]:
    body: dict[str, object] = {"model": model, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if request.messages is not None:
        body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
    else:
        body["prompt"] = request.prompt if request.prompt_ids is None else request.prompt_ids
    if request.echo:
        body["echo"] = True
    return body | _sampling(request.sampling) | _logprobs(request)


def _sampling(params: SamplingParams) -> dict[str, object]:
    given = {name: getattr(params, name) for name in _FIELDS}
    body = {name: value for name, value in given.items() if value is not None and value != ()}
    for name, harmless in (("min_tokens", 0), ("ignore_eos", False)):
        if body[name] == harmless:
            del body[name]
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    return body


def _logprobs(request: GenerationRequest) -> dict[str, object]:
    """Chats and plain prompts ask for them in different words."""
    count = request.sampling.logprobs
    if count is None:
        return {}
    if request.messages is None:
        return {"logprobs": count}
    return {"logprobs": True, "top_logprobs": count}
