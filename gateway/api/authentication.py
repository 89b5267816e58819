"""Who is calling: the key from the headers of a request or of a WebSocket handshake."""

from collections.abc import Mapping

from gateway import keys
from gateway.errors import MissingKey
from gateway.keys import Caller


def presented_key(headers: Mapping[bytes, bytes]) -> str:
    """The key of `Authorization: Bearer` or, where there is none, of `x-api-key`."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        key = headers.get(b"x-api-key", b"").decode("latin-1")
    key = key.strip()
    if not key:
        raise MissingKey
    return key


async def authenticate(headers: Mapping[bytes, bytes]) -> Caller:
    return await keys.averify(presented_key(headers))
