import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from gateway import key_secrets, keys, processes, quotas
from gateway.admin import GatewayProcessAdmin
from gateway.errors import KeyDisabled
from gateway.models import (
    ApiKey,
    CachedCompletion,
    GatewayProcess,
    InferenceLog,
    Membership,
    Quota,
    RateLimit,
    RequestBody,
    UsageRecord,
    UsageRollup,
)
from gateway.quotas import Spend
from models_registry import changes
from tests.personas import Persona

MODELS = [model.__name__ for model in apps.get_app_config("gateway").get_models()]
READ_ONLY = [
    "GatewayProcess",
    "LedgerEntry",
    "QuotaWindow",
    "UsageRecord",
    "UsageRollup",
    "InferenceLog",
    "RequestBody",
]


@pytest.fixture
def control_room(admin_client: Client, alice: Persona) -> Client:
    """The admin with a row in every table."""
    team, now = alice.key.team, timezone.now()
    Membership.objects.create(user=User.objects.get(), team=team)
    RateLimit.objects.create(key=alice.key, requests_per_minute=5)
    quota = Quota.objects.create(team=team, unit="cost", period="week", amount=Decimal(100))
    quotas.hold([quota], request_id="req_1", wanted=Spend(1, 1, Decimal(1)))
    CachedCompletion.objects.create(
        team=team,
        cache_key="0" * 64,
        model_name="demo",
        prompt_tokens=1,
        completion_tokens=1,
        expires_at=now + timedelta(days=1),
    )
    UsageRecord.objects.create(request_id="req_1", team=team, key=alice.key, status="completed")
    UsageRollup.objects.create(hour=now, team=team, key_public_id="x", model="demo")
    GatewayProcess.objects.create(host="alpha", pid=1)
    InferenceLog.objects.create(request_id="req_1", backend="demo/0", model="demo")
    RequestBody.objects.create(request_id="req_1", prompt=[], expires_at=now)
    return admin_client


def url(model: str, page: str, *args: object) -> str:
    return reverse(f"admin:gateway_{model.lower()}_{page}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_the_list_of_every_table_opens(control_room: Client, model: str) -> None:
    answer = control_room.get(url(model, "changelist"))
    assert answer.status_code == 200
    assert answer.context["cl"].result_list


@pytest.mark.parametrize("model", MODELS)
def test_the_page_of_a_row_of_every_table_opens(control_room: Client, model: str) -> None:
    row = apps.get_model("gateway", model)._default_manager.first()
    assert row is not None
    assert control_room.get(url(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_every_table_can_be_searched(control_room: Client, model: str) -> None:
    assert control_room.get(url(model, "changelist"), {"q": "req_1"}).status_code == 200


@pytest.mark.parametrize("model", ["Team", "Membership", "ApiKey", "RateLimit", "Quota"])
def test_the_form_for_a_new_row_opens(control_room: Client, model: str) -> None:
    assert control_room.get(url(model, "add")).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY)
def test_the_books_cannot_be_edited(control_room: Client, model: str) -> None:
    row = apps.get_model("gateway", model)._default_manager.first()
    assert row is not None
    assert control_room.get(url(model, "add")).status_code == 403
    assert control_room.post(url(model, "change", row.pk), {}).status_code == 403


@pytest.mark.parametrize("model", [name for name in READ_ONLY if name != "RequestBody"])
def test_the_books_cannot_be_deleted(control_room: Client, model: str) -> None:
    row = apps.get_model("gateway", model)._default_manager.first()
    assert row is not None
    assert control_room.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", READ_ONLY)
def test_large_tables_are_never_counted(control_room: Client, model: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        control_room.get(url(model, "changelist"))
    assert not [query for query in queries if "COUNT(" in query["sql"]]


EMPTY_INLINES = {
    f"{prefix}-{field}": "0"
    for prefix in ("ratelimits", "quotas")
    for field in ("TOTAL_FORMS", "INITIAL_FORMS")
}
NO_LISTS = {"allowed_models": "", "allowed_endpoints": "", "allowed_networks": ""}


def form(someone: Persona, **changes: Any) -> dict[str, Any]:
    fields = {"name": "ci", "team": someone.key.team_id, "body_policy": "off"}
    return fields | NO_LISTS | EMPTY_INLINES | changes


def issue_in_admin(client: Client, someone: Persona, **changes: Any) -> str:
    page = client.post(url("ApiKey", "add"), form(someone, **changes), follow=True)
    [plaintext] = re.findall(r"sk-llms-[a-z0-9]+-[A-Za-z0-9]{40}", page.content.decode())
    return plaintext


def test_a_key_issued_in_the_admin_works(control_room: Client, alice: Persona) -> None:
    caller = keys.verify(issue_in_admin(control_room, alice, allowed_models='["demo"]'))
    assert (caller.team_slug, caller.allowed_models) == ("acme", {"demo"})
    assert ApiKey.objects.get(pk=caller.key_id).created_by == User.objects.get()


def test_a_key_issued_in_the_admin_is_shown_once(control_room: Client, alice: Persona) -> None:
    secret = issue_in_admin(control_room, alice).rsplit("-", 1)[1]
    row = ApiKey.objects.get(name="ci")
    for page in (url("ApiKey", "changelist"), url("ApiKey", "change", row.pk)):
        assert secret not in control_room.get(page).content.decode()


def test_a_key_issued_in_the_admin_leaves_no_secret_behind(
    control_room: Client, alice: Persona
) -> None:
    secret = issue_in_admin(control_room, alice).rsplit("-", 1)[1]
    assert not [entry for entry in LogEntry.objects.all() if secret in repr(vars(entry))]
    assert not [row for row in Session.objects.all() if secret in repr(row.get_decoded())]


def test_a_key_can_be_issued_with_its_limits(control_room: Client, alice: Persona) -> None:
    limit = {
        "ratelimits-TOTAL_FORMS": "1",
        "ratelimits-0-requests_per_minute": "7",
        "ratelimits-0-mode": "enforce",
    }
    public_id = key_secrets.public_id_of(issue_in_admin(control_room, alice, **limit))
    assert RateLimit.objects.get(key__public_id=public_id).requests_per_minute == 7


def test_saving_a_key_again_keeps_its_secret(control_room: Client, alice: Persona) -> None:
    change = url("ApiKey", "change", alice.key.pk)
    inlines = {"ratelimits-TOTAL_FORMS": "0", "ratelimits-INITIAL_FORMS": "0"}
    answer = control_room.post(change, form(alice, name="renamed", **inlines))
    assert answer.status_code == 302
    assert keys.verify(alice.plaintext).key_name == "renamed"


def act(client: Client, model: str, action: str, pk: int) -> None:
    data = {"action": action, "_selected_action": [pk]}
    assert client.post(url(model, "changelist"), data, follow=True).status_code == 200


def test_disable_and_enable_do_what_they_say(control_room: Client, alice: Persona) -> None:
    act(control_room, "ApiKey", "disable", alice.key.pk)
    with pytest.raises(KeyDisabled):
        keys.verify(alice.plaintext)
    act(control_room, "ApiKey", "enable", alice.key.pk)
    assert keys.verify(alice.plaintext).public_id == alice.key.public_id


def test_a_key_is_rotated_in_the_admin_and_shown_once(control_room: Client, alice: Persona) -> None:
    data = {"action": "rotate", "_selected_action": [alice.key.pk]}
    page = control_room.post(url("ApiKey", "changelist"), data, follow=True).content.decode()
    [plaintext] = re.findall(r"sk-llms-[a-z0-9]+-[A-Za-z0-9]{40}", page)
    assert keys.verify(plaintext).key_id == keys.verify(alice.plaintext).key_id
    assert plaintext not in control_room.get(url("ApiKey", "changelist")).content.decode()


def test_only_one_key_is_rotated_at_a_time(
    control_room: Client, alice: Persona, carol: Persona
) -> None:
    data = {"action": "rotate", "_selected_action": [alice.key.pk, carol.key.pk]}
    page = control_room.post(url("ApiKey", "changelist"), data, follow=True)
    assert "one key at a time" in page.content.decode()
    assert not ApiKey.objects.filter(secret_number=2).exists()


def test_the_admin_shows_which_process_is_up_to_date(control_room: Client, alice: Persona) -> None:
    processes.acknowledge(processes.Process("beta", 2), changes.value(changes.KEYS))
    page = control_room.get(url("GatewayProcess", "changelist"))
    rows = page.context["cl"].result_list
    shown = GatewayProcessAdmin(GatewayProcess, admin.site)
    assert {str(row): shown.is_up_to_date(row) for row in rows} == {
        "alpha:1": False,
        "beta:2": True,
    }


def test_an_answer_can_be_pinned_and_unpinned(control_room: Client) -> None:
    answer = CachedCompletion.objects.get()
    act(control_room, "CachedCompletion", "pin", answer.pk)
    assert CachedCompletion.objects.filter(is_pinned=True).exists()
    act(control_room, "CachedCompletion", "unpin", answer.pk)
    assert not CachedCompletion.objects.filter(is_pinned=True).exists()


def test_the_unit_of_a_quota_with_books_stays(control_room: Client) -> None:
    page = control_room.get(url("Quota", "change", Quota.objects.get().pk))
    assert not {"unit", "period"} & set(page.context["adminform"].form.fields)


def test_a_bad_limit_is_explained_in_the_form(control_room: Client, alice: Persona) -> None:
    page = control_room.post(url("RateLimit", "add"), {"key": alice.key.pk, "mode": "enforce"})
    assert "Give at least one limit." in page.content.decode()


def test_every_model_is_in_the_admin() -> None:
    assert [
        name for name in MODELS if not admin.site.is_registered(apps.get_model("gateway", name))
    ] == []
