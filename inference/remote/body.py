"""The body that a host is sent: the OpenAI API's fields, and those that vLLM and SGLang add."""

import json
from typing import Final

from inference.tools import Function, ToolChoice, Tools
from inference.types import (
    Constraint,
    ConstraintKind,
    GenerationRequest,
    Message,
    SamplingParams,
    TemplateOption,
)

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
        body["messages"] = [_message(message) for message in request.messages]
    else:
        body["prompt"] = request.prompt if request.prompt_ids is None else request.prompt_ids
    if request.echo:
        body["echo"] = True
    if request.constraint is not None:
        body |= _constraint(request.constraint)
    body |= _sampling(request.sampling) | _logprobs(request)
    return body | _tools(request.tools) | _options(request.template_options)


def _message(message: Message) -> dict[str, object]:
    # A call without words has no content in the OpenAI API, and some hosts insist on it.
    content = message.content or None if message.tool_calls else message.content
    body: dict[str, object] = {"role": message.role, "content": content}
    if message.reasoning:
        body["reasoning_content"] = message.reasoning
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _tools(tools: Tools | None) -> dict[str, object]:
    if tools is None:
        return {}
    body: dict[str, object] = {"tools": [_tool(function) for function in tools.functions]}
    if tools.named:
        body["tool_choice"] = {"type": "function", "function": {"name": tools.named}}
    elif tools.choice is not ToolChoice.AUTO:
        body["tool_choice"] = str(tools.choice)
    if tools.parallel is not None:
        body["parallel_tool_calls"] = tools.parallel
    return body


def _tool(function: Function) -> dict[str, object]:
    written = function.written()
    if function.strict is not None and isinstance(said := written["function"], dict):
        said["strict"] = function.strict
    return written


def _options(options: tuple[TemplateOption, ...]) -> dict[str, object]:
    """The one option that the OpenAI API has, and the others as vLLM and SGLang take them."""
    given = dict(options)
    effort = given.pop("reasoning_effort", None)
    body: dict[str, object] = {} if effort is None else {"reasoning_effort": effort}
    return body | ({"chat_template_kwargs": given} if given else {})


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
