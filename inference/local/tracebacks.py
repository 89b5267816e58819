"""Tracebacks that may be logged: where it happened, without the values in the message."""

import sys
import threading
import traceback


def frames_of(error: BaseException) -> str:
    """The text of an unforeseen exception is left out, as it may quote a prompt or an answer."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__} at\n{frames}"


def stack_of(thread_name: str) -> str:
    """Where a thread of that name is right now; empty where there is none."""
    frames = sys._current_frames()
    found = [thread.ident for thread in threading.enumerate() if thread.name == thread_name]
    return "".join(
        line for ident in found if ident in frames for line in traceback.format_stack(frames[ident])
    )
