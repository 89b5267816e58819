"""From bytes to a validated form; every way to be wrong becomes a BadRequest in plain words."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import BadRequest

Form = TypeVar("Form", bound=BaseModel)

SHOWN_CHARACTERS = 40

NOT_A = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "string_type": "text",
    "finite_number": "a finite number",
    "int_from_float": "a whole number",
}
SAID = {
    "missing": "It is required.",
    "literal_error": "{shown} is not one of {expected}.",
    "greater_than_equal": "{shown} is below the minimum of {ge:.15g}.",
    "less_than_equal": "{shown} is above the maximum of {le:.15g}.",
    "too_short": "It must not be empty.",
    "too_long": "At most {max_length} are allowed.",
    "string_too_short": "It must not be empty.",
    "string_pattern_mismatch": "{shown} does not match {pattern}.",
    "string_too_long": "It is longer than {max_length} characters.",
}
CODES = {
    "missing": "missing_required_parameter",
    "missing_input": "missing_required_parameter",
    "unsupported_parameter": "unsupported_parameter",
}
"""All by pydantic's type of error; other types come from our own validators, in plain words."""


def parse_object(body: bytes | str) -> dict[str, Any]:
    """A key that is given twice counts as given last; NaN and deep nesting are not JSON here."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error.msg} "
            f"(line {error.lineno}, column {error.colno}).",
            code="invalid_json",
        ) from None
    if not isinstance(content, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_json")
    return content


def validate(form: type[Form], content: Mapping[str, Any]) -> Form:
    """Raises BadRequest for the first thing that is wrong."""
    try:
        return form.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
    raise _bad_request(details)


def _bad_request(details: ErrorDetails) -> BadRequest:
    param = _path(details)
    prefix = f"{param}: " if param else ""
    code = CODES.get(details["type"], "invalid_value")
    return BadRequest(prefix + _message(details), param=param, code=code)


def _path(details: ErrorDetails) -> str | None:
    """`messages[0].role`; `at` in the context is a part that a validator looked into itself."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"])
    path += str(details.get("ctx", {}).get("at", ""))
    return path.removeprefix(".") or None


def _message(details: ErrorDetails) -> str:
    kind, context, shown = details["type"], details.get("ctx", {}), show(details["input"])
    if kind in NOT_A:
        return f"{shown} is not {NOT_A[kind]}."
    if kind in SAID:
        return SAID[kind].format(shown=shown, **context)
    return details["msg"].removesuffix(".") + "."


def show(value: object) -> str:
    """A value as an error message may quote it: never a whole prompt."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return "A list"
    if isinstance(value, dict):
        return "An object"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
