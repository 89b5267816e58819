"""Tracebacks that may be logged: where it happened, without the values in the message."""

import traceback


def frames_of(error: BaseException) -> str:
    """The text of an unforeseen exception is left out, as it may quote a prompt or an answer."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__} at\n{frames}"
