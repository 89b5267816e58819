"""Everything a backend can raise. No HTTP here: `gateway.api.errors` maps these to answers.

InferenceError
├── InvalidRequest          a value that only the backend can judge
│   ├── PromptTooLong       prompt plus output do not fit the context
│   └── WrongTask           text asked of an embedding model, or vectors of another
├── UnknownModel            no route of that name
├── BackendUnavailable      try again later
│   ├── ModelLoading        weights are on their way
│   ├── Overloaded          the queue is full
│   └── RunnerDied          the process that held the request is gone
└── UpstreamError           a remote host misbehaved
    ├── UpstreamTimeout
    ├── UpstreamInvalidResponse
    └── UpstreamRateLimited
"""


class InferenceError(Exception):
    """Base of all errors of this package; `code` travels over the runner socket."""

    code = "inference_error"


class InvalidRequest(InferenceError):
    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code


class PromptTooLong(InvalidRequest):
    code = "context_length_exceeded"

    def __init__(
        self, *, prompt_tokens: int, context: int, max_tokens: int = 0, param: str = "messages"
    ) -> None:
        wanted = f"{prompt_tokens} prompt tokens"
        if max_tokens:
            wanted += f" and {max_tokens} tokens of output"
        super().__init__(
            f"This model's context is {context} tokens, but the request needs {wanted}. "
            "Shorten the prompt or lower max_tokens.",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.context = context
        self.max_tokens = max_tokens


class WrongTask(InvalidRequest):
    """The model is not made for what it is asked."""

    code = "wrong_task"

    def __init__(self, message: str, *, param: str | None = "model") -> None:
        super().__init__(message, param=param)


class UnknownModel(InferenceError):
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} does not exist or your key may not use it.")
        self.model = model


class BackendUnavailable(InferenceError):
    """Nothing can serve the model right now; worth a retry after `retry_after_s` seconds."""

    code = "backend_unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelLoading(BackendUnavailable):
    code = "model_loading"


class Overloaded(BackendUnavailable):
    code = "overloaded"


class RunnerDied(BackendUnavailable):
    code = "runner_died"


class UpstreamError(InferenceError):
    """`status` is the upstream's HTTP status, or None where there was no answer."""

    code = "upstream_error"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"


class UpstreamInvalidResponse(UpstreamError):
    code = "upstream_invalid_response"


class UpstreamRateLimited(UpstreamError):
    code = "upstream_rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, status=429)
        self.retry_after_s = retry_after_s
