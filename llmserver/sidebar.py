"""The control room's menu: grouped by what people come to do, not by Django app."""

from typing import Any

from django.urls import reverse_lazy


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{model}_changelist")}


def _group(title: str, *pages: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "separator": True, "items": list(pages)}


NAVIGATION = [
    _group(
        "Access",
        _page("API keys", "key", "gateway_apikey"),
        _page("Teams", "groups", "gateway_team"),
        _page("Members", "badge", "gateway_membership"),
        _page("Users", "person", "auth_user"),
    ),
    _group(
        "Allowances",
        _page("Rate limits", "speed", "gateway_ratelimit"),
        _page("Quotas", "data_usage", "gateway_quota"),
        _page("Quota windows", "date_range", "gateway_quotawindow"),
        _page("Ledger", "receipt_long", "gateway_ledgerentry"),
    ),
    _group(
        "Traffic",
        _page("Usage", "monitoring", "gateway_usagerecord"),
        _page("Hourly roll-ups", "bar_chart", "gateway_usagerollup"),
        _page("Inferences", "bolt", "gateway_inferencelog"),
        _page("Stored bodies", "description", "gateway_requestbody"),
        _page("Completion cache", "cached", "gateway_cachedcompletion"),
    ),
    _group(
        "Models",
        _page("Models", "neurology", "models_registry_model"),
        _page("Aliases", "alternate_email", "models_registry_alias"),
        _page("Backends", "dns", "models_registry_backend"),
        _page("Prices", "payments", "models_registry_price"),
        _page("Revisions", "history", "models_registry_registryrevision"),
    ),
    _group(
        "Engine",
        _page("Gateway processes", "lan", "gateway_gatewayprocess"),
        _page("Hosts", "computer", "models_registry_enginehost"),
        _page("Runners", "memory", "models_registry_runner"),
    ),
]
