"""Errors across the runner socket: class and data there, the very same class and data here."""

from collections.abc import Callable
from dataclasses import dataclass

from inference.errors import (
    BackendUnavailable,
    InferenceError,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    PromptTooLong,
    RunnerDied,
    UnknownModel,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRateLimited,
    UpstreamTimeout,
    WrongTask,
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """`fields` are keyword arguments of the constructor and attributes of the same names."""

    kind: type[InferenceError]
    fields: tuple[str, ...] = ()
    takes_message: bool = True


_SHAPES = (
    _Shape(InferenceError),
    _Shape(InvalidRequest, ("param", "code")),
    _Shape(WrongTask, ("param",)),
    _Shape(PromptTooLong, ("prompt_tokens", "context", "max_tokens", "param"), takes_message=False),
    _Shape(UnknownModel, ("model",), takes_message=False),
    _Shape(BackendUnavailable, ("retry_after_s",)),
    _Shape(ModelLoading, ("retry_after_s",)),
    _Shape(Overloaded, ("retry_after_s",)),
    _Shape(RunnerDied, ("retry_after_s",)),
    _Shape(UpstreamError, ("status",)),
    _Shape(UpstreamTimeout, ("status",)),
    _Shape(UpstreamInvalidResponse, ("status",)),
    _Shape(UpstreamRateLimited, ("retry_after_s",)),
)
_BY_KIND: dict[type, _Shape] = {shape.kind: shape for shape in _SHAPES}
_BY_CODE = {shape.kind.code: shape for shape in _SHAPES}


def pack_error(error: InferenceError) -> dict[str, object]:
    """A class that `inference.errors` does not define travels as its nearest ancestor there."""
    shape = next(_BY_KIND[kind] for kind in type(error).__mro__ if kind in _BY_KIND)
    return {
        "code": shape.kind.code,
        "message": str(error),
        "data": {name: getattr(error, name) for name in shape.fields},
    }


def unpack_error(packed: object) -> InferenceError:
    """Raises KeyError, TypeError or ValueError where `packed` is not what `pack_error` made."""
    if not isinstance(packed, dict):
        raise TypeError("an error is not a map")
    shape, data = _BY_CODE[packed["code"]], packed["data"]
    if set(data) != set(shape.fields):
        raise ValueError("an error has other fields than its code says")
    make: Callable[..., InferenceError] = shape.kind
    if shape.takes_message:
        return make(str(packed["message"]), **data)
    return make(**data)
