"""API keys: issued once, kept as a keyed digest, verified on every request.

A key reads `sk-llms-<public id>-<secret>`. The public id finds the row, the HMAC-SHA-256 of the
whole key under a numbered pepper proves it. The secret has more than 200 random bits, so a fast
digest is enough: there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.utils import timezone

from gateway import database
from gateway.errors import (
    AddressNotAllowed,
    AuthenticationError,
    EndpointNotAllowed,
    InvalidKey,
    KeyDisabled,
    KeyExpired,
    MissingKey,
)
from gateway.models import ApiKey, BodyPolicy, Team
from gateway.models.keys import KEY_PREFIX

PUBLIC_ID_LENGTH = 12
SECRET_LENGTH = 40
KEY_PATTERN = re.compile(rf"{KEY_PREFIX}-(?P<public_id>[a-z0-9]{{12,32}})-[A-Za-z0-9_-]{{20,128}}")
# The public id alone, the key as lists show it, or a whole key, however spoilt its secret is.
NAMING_PATTERN = re.compile(rf"(?:{KEY_PREFIX}-)?(?P<public_id>[a-z0-9]{{12,32}})(?:-.*)?")
# Enough for every key that is in use at a time; flooding it with wrong keys costs look-ups only.
MAX_VERIFIED = 10_000


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

    def may_use_model(self, name: str) -> bool:
        return not self.allowed_models or name in self.allowed_models

    def check(self, *, endpoint: str, address: str | None) -> None:
        """Raise EndpointNotAllowed or AddressNotAllowed; `address` None is a client without one."""
        if self.allowed_endpoints and endpoint not in self.allowed_endpoints:
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
    row.public_id = _random(string.ascii_lowercase + string.digits, PUBLIC_ID_LENGTH)
    secret = _random(string.ascii_letters + string.digits, SECRET_LENGTH)
    plaintext = f"{KEY_PREFIX}-{row.public_id}-{secret}"
    row.pepper_id = settings.API_KEY_CURRENT_PEPPER
    row.digest = _digest(plaintext, settings.API_KEY_PEPPERS[row.pepper_id])
    row.created_by_id = created_by_id
    row.full_clean()
    row.save(force_insert=True)
    return IssuedKey(row, plaintext)


def revoke(public_id: str) -> ApiKey:
    """Disable the key; ApiKey.DoesNotExist if there is none. Other processes follow in a second."""
    return _set_disabled(public_id, timezone.now())


def enable(public_id: str) -> ApiKey:
    return _set_disabled(public_id, None)


def _set_disabled(public_id: str, moment: datetime | None) -> ApiKey:
    row = ApiKey.objects.select_related("team").get(public_id=public_id)
    if (row.disabled_at is None) != (moment is None):
        row.disabled_at = moment
        row.save(update_fields=["disabled_at"])
    forget_verified()
    return row


def public_id_of(text: str) -> str | None:
    """The public id in what people paste to name a key."""
    match = NAMING_PATTERN.fullmatch(text.strip())
    return match["public_id"] if match else None


def verify(plaintext: str) -> Caller:
    """Who holds this key; raises MissingKey, InvalidKey, KeyDisabled or KeyExpired."""
    public_id = _parse(plaintext)
    row = ApiKey.objects.select_related("team").filter(public_id=public_id).first()
    # An unknown id takes the same steps as a wrong secret, so that time does not tell them apart.
    pepper_id = row.pepper_id if row else settings.API_KEY_CURRENT_PEPPER
    digest = _digest(plaintext, settings.API_KEY_PEPPERS.get(pepper_id, ""))
    is_right = hmac.compare_digest(digest, row.digest if row else "0" * len(digest))
    if row is None or not is_right or pepper_id not in settings.API_KEY_PEPPERS:
        raise InvalidKey
    if row.disabled_at is not None or not row.team.is_active:
        raise KeyDisabled
    return _unexpired(_caller(row), timezone.now())


async def averify(plaintext: str) -> Caller:
    """As `verify`, from this process's memory where it can; DependencyUnavailable without one."""
    return await _verified.get(plaintext)


def forget_verified() -> None:
    """Make this process look every key up again."""
    _verified.clear()


@dataclass(frozen=True, slots=True)
class _Verdict:
    verdict: Caller | type[AuthenticationError]
    until: float


class VerifiedKeys:
    """The verdicts of the last `settings.API_KEY_CACHE_TTL_S` seconds, wrong keys included.

    They are filed under a digest of the whole key: a wrong secret cannot hit, nor displace, the
    verdict of the right one.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = timezone.now,
        clock: Callable[[], float] = time.monotonic,
        max_entries: int = MAX_VERIFIED,
    ) -> None:
        self._verdicts: OrderedDict[str, _Verdict] = OrderedDict()
        self._now = now
        self._clock = clock
        self._max_entries = max_entries

    async def get(self, plaintext: str) -> Caller:
        _parse(plaintext)
        name = _digest(plaintext, settings.API_KEY_PEPPERS[settings.API_KEY_CURRENT_PEPPER])
        known = self._verdicts.get(name)
        if known is None or known.until <= self._clock():
            return await self._look_up(name, plaintext)
        if isinstance(known.verdict, Caller):
            return _unexpired(known.verdict, self._now())
        raise known.verdict

    def clear(self) -> None:
        self._verdicts.clear()

    async def _look_up(self, name: str, plaintext: str) -> Caller:
        # The time before the look-up: a key revoked while it runs must not outlive its term.
        until = self._clock() + settings.API_KEY_CACHE_TTL_S
        try:
            caller = await database.run(verify, plaintext)
        except AuthenticationError as error:
            self._keep(name, _Verdict(type(error), until))
            raise
        self._keep(name, _Verdict(caller, until))
        return caller

    def _keep(self, name: str, verdict: _Verdict) -> None:
        # Taken out first, so that it counts as new again.
        self._verdicts.pop(name, None)
        self._verdicts[name] = verdict
        while len(self._verdicts) > self._max_entries:
            self._verdicts.popitem(last=False)


_verified = VerifiedKeys()


def _parse(plaintext: str) -> str:
    """The public id of what at least looks like a key."""
    if not plaintext:
        raise MissingKey
    match = KEY_PATTERN.fullmatch(plaintext)
    if match is None:
        raise InvalidKey
    return match["public_id"]


def _caller(row: ApiKey) -> Caller:
    return Caller(
        key_id=row.pk,
        public_id=row.public_id,
        key_name=row.name,
        team_id=row.team_id,
        team_slug=row.team.slug,
        allowed_models=frozenset(row.allowed_models),
        allowed_endpoints=frozenset(row.allowed_endpoints),
        allowed_networks=tuple(row.allowed_networks),
        expires_at=row.expires_at,
        body_policy=row.body_policy,
    )


def _unexpired(caller: Caller, now: datetime) -> Caller:
    if caller.expires_at is not None and caller.expires_at <= now:
        raise KeyExpired
    return caller


def _digest(plaintext: str, pepper: str) -> str:
    return hmac.new(pepper.encode(), plaintext.encode("ascii"), hashlib.sha256).hexdigest()


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
