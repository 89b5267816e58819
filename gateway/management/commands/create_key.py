import argparse
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from gateway import keys
from gateway.keys import IssuedKey, KeyTerms
from gateway.models import Period, Quota, QuotaUnit, RateLimit, Team

QUOTA_PATTERN = re.compile(r"(?P<unit>\w+)/(?P<period>\w+)=(?P<amount>[\d._]+)")
DURATION_PATTERN = re.compile(r"(?P<count>\d{1,6})(?P<unit>[mhdw])")
MAX_LIMIT = 2**31 - 1
DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Allowance:
    unit: str
    period: str
    amount: Decimal


class Command(BaseCommand):
    help = "Issue an API key, creating its team when it is new. The key is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        add: Callable[..., argparse.Action] = parser.add_argument
        add("--team", required=True, help="slug of the team, e.g. acme")
        add("--name", required=True, help="what the key is for, e.g. ci")
        add("--rpm", type=positive, help="requests per minute")
        add("--tpm", type=positive, help="tokens per minute")
        add("--concurrency", type=positive, help="requests at once")
        add(
            "--quota",
            type=allowance,
            action="append",
            default=[],
            metavar="UNIT/PERIOD=AMOUNT",
            help="requests, tokens or cost (millionths of the currency) per day, week, month or "
            "total, e.g. requests/day=50; may be repeated",
        )
        add("--model", action="append", default=[], help="allow only this model; may be repeated")
        add(
            "--endpoint",
            action="append",
            default=[],
            metavar="ROUTE",
            help="allow only this route, e.g. /v1/embeddings; may be repeated",
        )
        add(
            "--network",
            action="append",
            default=[],
            metavar="CIDR",
            help="allow only clients of this network, e.g. 10.0.0.0/8; may be repeated",
        )
        add("--expires", type=expiry, metavar="DATE|30d", help="UTC date or time, or 90m, 12h, 30d")
        add("--json", action="store_true", help="print one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                issued = issue(options)
        except ValidationError as error:
            raise CommandError(explain(error)) from None
        self.stdout.write(as_json(issued) if options["json"] else as_text(issued))


def issue(options: dict[str, Any]) -> IssuedKey:
    terms = KeyTerms(
        models=tuple(options["model"]),
        endpoints=tuple(options["endpoint"]),
        networks=tuple(options["network"]),
        expires_at=options["expires"],
    )
    issued = keys.issue(find_team(options["team"]), options["name"], terms)
    limit = RateLimit(
        key=issued.key,
        requests_per_minute=options["rpm"],
        tokens_per_minute=options["tpm"],
        concurrent_requests=options["concurrency"],
    )
    if options["rpm"] or options["tpm"] or options["concurrency"]:
        limit.full_clean()
        limit.save()
    for wanted in options["quota"]:
        quota = Quota(key=issued.key, unit=wanted.unit, period=wanted.period, amount=wanted.amount)
        quota.full_clean()
        quota.save()
    return issued


def explain(error: ValidationError) -> str:
    return " ".join(
        message if field == NON_FIELD_ERRORS else f"{field}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    )


def find_team(slug: str) -> Team:
    team = Team.objects.filter(slug=slug).first()
    if team is not None:
        return team
    team = Team(slug=slug, name=slug)
    try:
        team.full_clean()
    except ValidationError:
        raise CommandError(
            f"{slug!r} cannot name a team: use up to 50 letters, digits, hyphens or underscores."
        ) from None
    team.save()
    return team


def as_json(issued: IssuedKey) -> str:
    key = issued.key
    return json.dumps(
        {
            "key": issued.plaintext,
            "public_id": key.public_id,
            "team": key.team.slug,
            "name": key.name,
        }
    )


def as_text(issued: IssuedKey) -> str:
    key = issued.key
    terms = [f"models {', '.join(key.allowed_models)}"] if key.allowed_models else []
    terms += [f"routes {', '.join(key.allowed_endpoints)}"] if key.allowed_endpoints else []
    terms += [f"networks {', '.join(key.allowed_networks)}"] if key.allowed_networks else []
    terms += [str(quota) for quota in key.quotas.all()]
    if key.expires_at:
        terms.append(f"expires {key.expires_at:%Y-%m-%d %H:%M} UTC")
    return "\n".join(
        [
            f"New key {key.name!r} of team {key.team.slug}:",
            "",
            f"  {issued.plaintext}",
            "",
            "Store it now, it is not shown again.",
            *(f"  {term}" for term in terms),
            f"To revoke it: python manage.py revoke_key {key.public_id}",
        ]
    )


def positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_LIMIT:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def allowance(text: str) -> Allowance:
    match = QUOTA_PATTERN.fullmatch(text)
    if match is None or match["unit"] not in QuotaUnit or match["period"] not in Period:
        raise ArgumentTypeError(
            f"{text!r} is not UNIT/PERIOD=AMOUNT, e.g. requests/day=50; units are "
            f"{', '.join(QuotaUnit.values)}, periods are {', '.join(Period.values)}"
        )
    try:
        amount = Decimal(match["amount"])
    except InvalidOperation:
        raise ArgumentTypeError(f"{match['amount']!r} is not a number") from None
    return Allowance(match["unit"], match["period"], amount)


def expiry(text: str) -> datetime:
    """A moment in the future; a date means the start of that day, UTC."""
    try:
        duration = DURATION_PATTERN.fullmatch(text)
        moment = after(duration) if duration else datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is neither a date such as 2030-12-31 nor a duration such as 30d"
        ) from None
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} is too far away") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment <= timezone.now():
        raise ArgumentTypeError(f"{text!r} is in the past")
    return moment


def after(duration: re.Match[str]) -> datetime:
    return timezone.now() + timedelta(**{DURATION_UNITS[duration["unit"]]: int(duration["count"])})
