"""What requests leave behind of their keys: when a key was last used, and whose pepper is old.

Noted in memory and written by `flush` in the background. Both are bounded; what does not fit is
dropped, as the next use of the key notes it again.
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from gateway import key_secrets
from gateway.models import ApiKey

MAX_NOTED = 10_000


@dataclass(frozen=True, slots=True)
class Rehash:
    old: str
    new: str
    pepper_id: int


_uses: dict[int, datetime] = {}
_rehashes: dict[int, Rehash] = {}


def note(key_id: int, at: datetime) -> None:
    if key_id in _uses or len(_uses) < MAX_NOTED:
        _uses[key_id] = at


def note_old_pepper(row: ApiKey, plaintext: str) -> None:
    """The digest under the current pepper can be made only now that the key is here."""
    if len(_rehashes) < MAX_NOTED:
        pepper_id = settings.API_KEY_CURRENT_PEPPER
        new = key_secrets.digest_of(plaintext, pepper_id)
        _rehashes[row.pk] = Rehash(row.digest, new, pepper_id)


def flush() -> None:
    """Write what was noted; raises django.db.Error, and then it is noted still."""
    # Taken out one by one: other threads go on to note.
    for pk, rehash in list(_rehashes.items()):
        ApiKey.objects.rehash(pk=pk, old=rehash.old, new=rehash.new, pepper_id=rehash.pepper_id)
        _rehashes.pop(pk, None)
    uses = dict(_uses)
    if uses:
        ApiKey.objects.note_use(uses)
    for pk, at in uses.items():
        if _uses.get(pk) == at:
            del _uses[pk]


def forget() -> None:
    _uses.clear()
    _rehashes.clear()
