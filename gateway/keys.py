"""API keys: issued once, kept as a keyed digest, verified on every request.

What a key looks like and how it is proved is in `gateway.key_secrets`.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from gateway import database, key_secrets, key_use
from gateway.errors import (
    AddressNotAllowed,
    AuthenticationError,
    EndpointNotAllowed,
    InvalidKey,
    KeyDisabled,
    KeyExpired,
)
from gateway.key_cache import MAX_KNOWN, KeyCache
from gateway.models import ApiKey, BodyPolicy, Team
from models_registry import changes

RECHECK_BATCH = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """What the gateway needs to know of a verified key, free of the ORM."""

    key_id: int
    public_id: str
    key_name: str
    team_id: int
    team_slug: str
    allowed_models: frozenset[str] = frozenset()
    allowed_endpoints: frozenset[str] = frozenset()
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    body_policy: str = BodyPolicy.OFF
    secret_number: int = 1
    # The state of this process's knowledge that this was taken from, see `gateway.key_watch`.
    epoch: int = field(default=-1, compare=False)

    def may_use_model(self, name: str) -> bool:
        return not self.allowed_models or name in self.allowed_models

    def may_use_endpoint(self, endpoint: str) -> bool:
        return not self.allowed_endpoints or endpoint in self.allowed_endpoints

    def check(self, *, endpoint: str, address: str | None) -> None:
        """Raise EndpointNotAllowed or AddressNotAllowed; `address` None is a client without one."""
        if not self.may_use_endpoint(endpoint):
            raise EndpointNotAllowed(
                f"This API key may not use {endpoint}. Use a key whose scopes include it."
            )
        if self.allowed_networks and not self._is_allowed(address):
            raise AddressNotAllowed(
                "This API key may not be used from this network address. Ask your team owner."
            )

    def _is_allowed(self, address: str | None) -> bool:
        try:
            client: IPv4Address | IPv6Address = ip_address(address or "")
        except ValueError:
            return False
        # A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d.
        client = getattr(client, "ipv4_mapped", None) or client
        return any(client in ip_network(network) for network in self.allowed_networks)


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a new key may do; empty means everything."""

    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    body_policy: str = BodyPolicy.OFF


@dataclass(frozen=True)
class IssuedKey:
    """The only object that ever holds the plaintext; show it once, then let it go."""

    key: ApiKey
    plaintext: str = field(repr=False)


UNRESTRICTED = KeyTerms()

Standings = dict[Caller, Caller | AuthenticationError]


def issue(team: Team, name: str, terms: KeyTerms = UNRESTRICTED) -> IssuedKey:
    row = ApiKey(
        team=team,
        name=name,
        allowed_models=list(terms.models),
        allowed_endpoints=list(terms.endpoints),
        allowed_networks=list(terms.networks),
        expires_at=terms.expires_at,
        body_policy=terms.body_policy,
    )
    return issue_row(row)


def issue_row(row: ApiKey, created_by_id: int | None = None) -> IssuedKey:
    """Give an unsaved row its id and secret, and save it; ValidationError if it is not sound."""
    row.public_id = key_secrets.new_public_id()
    plaintext = _give_secret(row)
    row.created_by_id = created_by_id
    row.full_clean()
    row.save(force_insert=True)
    return IssuedKey(row, plaintext)


def rotate(public_id: str, overlap: timedelta) -> IssuedKey:
    """A new secret for the key; the one before it is valid for `overlap` more, older ones are not.

    Raises ApiKey.DoesNotExist.
    """
    with transaction.atomic():
        row = _locked(public_id)
        row.previous_digest, row.previous_pepper_id = row.digest, row.pepper_id
        row.previous_expires_at = timezone.now() + overlap
        row.secret_number += 1
        plaintext = _give_secret(row)
        row.save()
    forget_verified()
    return IssuedKey(row, plaintext)


def revoke(public_id: str) -> ApiKey:
    """Disable the key; ApiKey.DoesNotExist if there is none. Other processes follow in a second."""
    return _set_disabled(public_id, timezone.now())


def enable(public_id: str) -> ApiKey:
    return _set_disabled(public_id, None)


def _set_disabled(public_id: str, moment: datetime | None) -> ApiKey:
    with transaction.atomic():
        row = _locked(public_id)
        if (row.disabled_at is None) != (moment is None):
            row.disabled_at = moment
            row.save(update_fields=["disabled_at"])
    forget_verified()
    return row


def _locked(public_id: str) -> ApiKey:
    # The counter first: all changes of keys take it before any row, so no two can deadlock.
    changes.bump(changes.KEYS)
    rows = ApiKey.objects.select_related("team").select_for_update(of=("self",))
    return rows.get(public_id=public_id)


def _give_secret(row: ApiKey) -> str:
    plaintext = key_secrets.new_key(row.public_id)
    row.pepper_id = settings.API_KEY_CURRENT_PEPPER
    row.digest = key_secrets.digest_of(plaintext, row.pepper_id)
    return plaintext


def verify(plaintext: str) -> Caller:
    """Who holds this key; raises MissingKey, InvalidKey, KeyDisabled or KeyExpired."""
    public_id = key_secrets.parse(plaintext)
    row = ApiKey.objects.select_related("team").filter(public_id=public_id).first()
    # An unknown id takes the same steps as a wrong secret, so that time does not tell them apart.
    is_current = _proves(plaintext, row.pepper_id if row else None, row.digest if row else "")
    is_previous = _proves(
        plaintext, row.previous_pepper_id if row else None, row.previous_digest if row else ""
    )
    if row is None or not (is_current or is_previous):
        raise InvalidKey
    if is_current and row.pepper_id != settings.API_KEY_CURRENT_PEPPER:
        key_use.note_old_pepper(row, plaintext)
    return _caller(row, row.secret_number if is_current else row.secret_number - 1)


def _proves(plaintext: str, pepper_id: int | None, digest: str) -> bool:
    pepper = settings.API_KEY_CURRENT_PEPPER if pepper_id is None else pepper_id
    return key_secrets.is_proved_by(plaintext, pepper, digest)


def recheck(callers: Collection[Caller]) -> Standings:
    """What these callers are by now, or why they are none any more; never a caller is left out."""
    found: Standings = {}
    wanted = sorted({caller.key_id for caller in callers})
    for start in range(0, len(wanted), RECHECK_BATCH):
        batch = wanted[start : start + RECHECK_BATCH]
        rows = ApiKey.objects.select_related("team").in_bulk(batch)
        for caller in callers:
            if caller.key_id in batch:
                found[caller] = _standing(rows.get(caller.key_id), caller)
    return found


def _standing(row: ApiKey | None, caller: Caller) -> Caller | AuthenticationError:
    try:
        if row is None or caller.secret_number not in (row.secret_number, row.secret_number - 1):
            raise InvalidKey
        return _caller(row, caller.secret_number)
    except AuthenticationError as error:
        return error


async def averify(plaintext: str) -> Caller:
    """As `verify`, from this process's memory where it can; DependencyUnavailable without one."""
    return await _verified.get(plaintext)


def forget_verified() -> None:
    """Make this process look every key up again."""
    _verified.outdate()


class VerifiedKeys:
    """The callers that this process knows; a key that has expired since is refused all the same."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = timezone.now,
        clock: Callable[[], float] = time.monotonic,
        max_known: int = MAX_KNOWN,
    ) -> None:
        self._now = now
        self._cache = KeyCache(self._look_up, clock=clock, max_known=max_known)

    @property
    def epoch(self) -> int:
        return self._cache.epoch

    async def get(self, plaintext: str) -> Caller:
        key_secrets.parse(plaintext)
        caller = unexpired(await self._cache.get(plaintext), self._now())
        key_use.note(caller.key_id, self._now())
        return caller

    def outdate(self) -> None:
        self._cache.outdate()

    def vouch(self, until: float) -> None:
        self._cache.vouch(until)

    async def _look_up(self, plaintext: str) -> Caller:
        epoch = self._cache.epoch
        return replace(await database.run(verify, plaintext), epoch=epoch)


_verified = VerifiedKeys()


def verified() -> VerifiedKeys:
    """Those of this process."""
    return _verified


def _caller(row: ApiKey, secret_number: int) -> Caller:
    """The holder of a secret that is proved; raises KeyDisabled and KeyExpired."""
    if row.disabled_at is not None or not row.team.is_active:
        raise KeyDisabled
    ends = [row.expires_at]
    if secret_number != row.secret_number:
        ends.append(row.previous_expires_at)
    caller = Caller(
        key_id=row.pk,
        public_id=row.public_id,
        key_name=row.name,
        team_id=row.team_id,
        team_slug=row.team.slug,
        allowed_models=frozenset(row.allowed_models),
        allowed_endpoints=frozenset(row.allowed_endpoints),
        allowed_networks=tuple(row.allowed_networks),
        expires_at=min((end for end in ends if end is not None), default=None),
        body_policy=row.body_policy,
        secret_number=secret_number,
    )
    return unexpired(caller, timezone.now())


def unexpired(caller: Caller, now: datetime) -> Caller:
    """Raises KeyExpired; everything else about the key is as it was."""
    if caller.expires_at is not None and caller.expires_at <= now:
        raise KeyExpired
    return caller
