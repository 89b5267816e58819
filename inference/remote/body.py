"""The body that a host is sent: the OpenAI API's fields, and those that vLLM and SGLang add."""

import json
from typing import Final

from inference.types import Constraint, ConstraintKind, GenerationRequest, SamplingParams

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
    if request.constraint is not None:
        body |= _constraint(request.constraint)
    return body | _sampling(request.sampling) | _logprobs(request)


def _constraint(wanted: Constraint) -> dict[str, object]:
    """In the words of the OpenAI API where it has some, else in vLLM's."""
    match wanted.kind:
        case ConstraintKind.JSON_OBJECT:
            return {"response_format": {"type": "json_object"}}
        case ConstraintKind.JSON_SCHEMA:
            # A name is required; not every caller gave one.
            named: dict[str, object] = {"name": wanted.name or "answer"}
            if wanted.description:
                named["description"] = wanted.description
            if wanted.strict is not None:
                named["strict"] = wanted.strict
            named["schema"] = json.loads(wanted.text)
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        case ConstraintKind.CHOICE:
            return {"structured_outputs": {"choice": json.loads(wanted.text)}}
        case ConstraintKind.REGEX | ConstraintKind.GRAMMAR:
            return {"structured_outputs": {wanted.kind.value: wanted.text}}


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
