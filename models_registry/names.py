"""How models and aliases may be called, in models.yaml and in the admin alike."""

import re

MAX_NAME_LENGTH = 128
NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@+-]*[A-Za-z0-9])?")
NAME_RULE = (
    "use letters, digits and . _ : / @ + - between them, "
    f"at most {MAX_NAME_LENGTH} characters, e.g. qwen3-0.6b"
)
VARIABLE_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and NAME_PATTERN.fullmatch(text) is not None


def is_variable_name(text: str) -> bool:
    """Whether `text` can name an environment variable; most secrets cannot."""
    return len(text) <= MAX_NAME_LENGTH and VARIABLE_PATTERN.fullmatch(text) is not None
