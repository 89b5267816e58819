"""Readers of environment variables that refuse a bad value instead of guessing."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})
MEMORY_UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
MEMORY_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|MiB|GiB|%|)")


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in TRUE_WORDS:
        return True
    if value in FALSE_WORDS:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is not a yes or no; use 1 or 0.")


def number(name: str, default: float, *, minimum: float = 0) -> float:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    try:
        parsed = float(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a number.") from None
    if not math.isfinite(parsed):
        raise ImproperlyConfigured(f"{name}={value!r} is not a number.")
    if parsed < minimum:
        raise ImproperlyConfigured(f"{name}={value} is below {minimum:g}.")
    return parsed


def integer(name: str, default: int, *, minimum: int = 0) -> int:
    parsed = number(name, default, minimum=minimum)
    if parsed != int(parsed):
        raise ImproperlyConfigured(f"{name}={os.environ[name]!r} is not a whole number.")
    return int(parsed)


@dataclass(frozen=True, slots=True)
class MemorySize:
    """Either bytes or a share of something, from 0 to 1."""

    bytes: int | None = None
    share: float | None = None

    def of(self, whole_bytes: int) -> int:
        return int(whole_bytes * self.share) if self.share is not None else self.bytes or 0


def memory(name: str, default: str) -> MemorySize:
    value = os.environ.get(name, "").strip() or default
    match = MEMORY_SIZE.fullmatch(value)
    amount = float(match[1]) if match else 0
    unit = match[2] if match else ""
    if match is None or amount <= 0 or (unit == "%" and amount > 100):
        raise ImproperlyConfigured(
            f"{name}={value!r} is not an amount of memory; use bytes, 8GB, 8GiB or 75%."
        )
    if unit == "%":
        return MemorySize(share=amount / 100)
    return MemorySize(bytes=int(amount * MEMORY_UNITS[unit]))


def words(name: str, default: Sequence[str] = ()) -> list[str]:
    """A comma-separated list; empty items are dropped."""
    value = os.environ.get(name)
    if value is None:
        return list(default)
    return [word.strip() for word in value.split(",") if word.strip()]


def networks(name: str) -> list[str]:
    """A comma-separated list of IP addresses and networks."""
    found = words(name)
    for network in found:
        try:
            ip_network(network)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error}; use 10.0.0.0/8 or 10.0.0.1.") from None
    return found


def choice(name: str, options: Sequence[str], default: str) -> str:
    value = os.environ.get(name, "").strip() or default
    if value not in options:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(options)}.")
    return value


def path(name: str, default: Path) -> Path:
    value = os.environ.get(name, "").strip()
    return Path(value).expanduser().resolve() if value else default


def secret(name: str) -> str | None:
    """The variable `name`, or the content of the file that `name`_FILE points at."""
    file_name = os.environ.get(f"{name}_FILE", "").strip()
    if not file_name:
        return os.environ.get(name) or None
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE={file_name}: {error.strerror}.") from None
