"""The numbered peppers of API keys, from LLMSERVER_KEY_PEPPER and LLMSERVER_KEY_PEPPER_<number>."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from llmserver import data_dir, env

FIRST = 1
# What the column that holds the number takes.
LARGEST_NUMBER = 32_767
SHORTEST_PEPPER = 16
FIRST_NAME = "LLMSERVER_KEY_PEPPER"
CURRENT_NAME = "LLMSERVER_KEY_PEPPER_CURRENT"
NUMBERED_NAME = re.compile(rf"({FIRST_NAME}_(\d+))(?:_FILE)?")


def read(folder: Path) -> dict[int, str]:
    """All that may verify. Without any in the environment the first is made and kept in `folder`;
    one that is kept there already is read in any case."""
    found = {number: _pepper(name) for number, name in sorted(_numbered().items())}
    first = env.secret(FIRST_NAME)
    if first and FIRST in found:
        raise ImproperlyConfigured(f"{FIRST_NAME} and {FIRST_NAME}_1 are the same; give one.")
    if first:
        found[FIRST] = first
    elif FIRST not in found and (not found or (folder / "key_pepper").exists()):
        found[FIRST] = data_dir.kept_secret(folder, "key_pepper")
    return found


def current(peppers: Mapping[int, str]) -> int:
    """The one that signs: the newest, unless LLMSERVER_KEY_PEPPER_CURRENT says otherwise."""
    number = env.integer(CURRENT_NAME, max(peppers))
    if number not in peppers:
        raise ImproperlyConfigured(f"{CURRENT_NAME}={number}, but there is no pepper {number}.")
    return number


def _numbered() -> dict[int, str]:
    matches = map(NUMBERED_NAME.fullmatch, os.environ)
    names = {int(match[2]): match[1] for match in matches if match}
    for number, name in names.items():
        if not FIRST <= number <= LARGEST_NUMBER or name != f"{FIRST_NAME}_{number}":
            raise ImproperlyConfigured(f"{name}: number peppers from 1 to {LARGEST_NUMBER}.")
    return names


def _pepper(name: str) -> str:
    pepper = env.secret(name) or ""
    if len(pepper) < SHORTEST_PEPPER:
        raise ImproperlyConfigured(
            f"{name} is shorter than {SHORTEST_PEPPER} characters; "
            "make one with: openssl rand -base64 48"
        )
    return pepper
