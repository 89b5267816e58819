"""The text of a key, and the digest that proves it.

A key reads `sk-llms-<public id>-<secret>`. The public id finds the row, the HMAC-SHA-256 of the
whole key under a numbered pepper proves it. The secret has more than 200 random bits, so a fast
digest is enough: there is nothing to guess.
"""

import hmac
import re
import secrets
import string

from django.conf import settings

from gateway.errors import InvalidKey, MissingKey
from gateway.models.keys import DIGEST_LENGTH, KEY_PREFIX

PUBLIC_ID_LENGTH = 12
SECRET_LENGTH = 40
KEY_PATTERN = re.compile(rf"{KEY_PREFIX}-(?P<public_id>[a-z0-9]{{12,32}})-[A-Za-z0-9_-]{{20,128}}")
# The public id alone, the key as lists show it, or a whole key, however spoilt its secret is.
NAMING_PATTERN = re.compile(rf"(?:{KEY_PREFIX}-)?(?P<public_id>[a-z0-9]{{12,32}})(?:-.*)?")


def new_public_id() -> str:
    return _random(string.ascii_lowercase + string.digits, PUBLIC_ID_LENGTH)


def new_key(public_id: str) -> str:
    secret = _random(string.ascii_letters + string.digits, SECRET_LENGTH)
    return f"{KEY_PREFIX}-{public_id}-{secret}"


def parse(plaintext: str) -> str:
    """The public id of what at least looks like a key; raises MissingKey or InvalidKey."""
    if not plaintext:
        raise MissingKey
    match = KEY_PATTERN.fullmatch(plaintext)
    if match is None:
        raise InvalidKey
    return match["public_id"]


def public_id_of(text: str) -> str | None:
    """The public id in what people paste to name a key."""
    match = NAMING_PATTERN.fullmatch(text.strip())
    return match["public_id"] if match else None


def digest_of(plaintext: str, pepper_id: int) -> str:
    """KeyError for a pepper that is not configured any more."""
    pepper: str = settings.API_KEY_PEPPERS[pepper_id]
    return hmac.digest(pepper.encode(), plaintext.encode("ascii"), "sha256").hex()


def is_proved_by(plaintext: str, pepper_id: int, digest: str) -> bool:
    """In the same time whether the digest differs or its pepper is gone."""
    is_known = pepper_id in settings.API_KEY_PEPPERS
    made = digest_of(plaintext, pepper_id if is_known else settings.API_KEY_CURRENT_PEPPER)
    return hmac.compare_digest(made, digest or "0" * DIGEST_LENGTH) and is_known


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
