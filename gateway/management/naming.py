"""How commands are told which key is meant."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError

from gateway import key_secrets
from gateway.models import ApiKey


def public_id(text: str) -> str:
    """What was typed may hold a secret, so no message repeats it."""
    return key_secrets.public_id_of(text) or ""


@contextmanager
def known_key() -> Iterator[None]:
    try:
        yield
    except ApiKey.DoesNotExist:
        raise CommandError(
            "There is no such key. Give its public id, the part between 'sk-llms-' and the "
            "next '-'; the admin lists all keys."
        ) from None
