from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from gateway import keys
from gateway.management.commands.rotate_key import DEFAULT_OVERLAP
from gateway.models import ApiKey, Quota, RateLimit
from models_registry import changes


class RateLimitInline(TabularInline):
    model = RateLimit
    extra = 0
    exclude = ("team",)


class QuotaInline(TabularInline):
    model = Quota
    extra = 0
    exclude = ("team",)


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("name", "masked", "team", "is_enabled", "expires_at", "last_used_at")
    list_filter = ("team", ("disabled_at", admin.EmptyFieldListFilter), "pepper_id")
    list_select_related = ("team",)
    search_fields = ("name", "public_id", "team__slug")
    autocomplete_fields = ("team",)
    readonly_fields = (
        *("masked", "disabled_at", "last_used_at", "created_at", "created_by"),
        *("pepper_id", "secret_number", "previous_expires_at"),
    )
    inlines = (RateLimitInline, QuotaInline)
    actions = ("disable", "enable", "rotate")

    @admin.display(description="Key", ordering="public_id")
    def masked(self, key: ApiKey) -> str:
        return str(key) if key.pk else "is shown once, after saving"

    @admin.display(description="Enabled", boolean=True)
    def is_enabled(self, key: ApiKey) -> bool:
        return key.disabled_at is None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            keys.forget_verified()
            return
        issued = keys.issue_row(obj, created_by_id=request.user.pk)
        messages.warning(request, f"Store this key now, it is not shown again: {issued.plaintext}")

    @admin.action(description="Disable selected keys", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for public_id in queryset.values_list("public_id", flat=True):
            self.log_change(request, keys.revoke(public_id), "Disabled.")
        self.message_user(
            request,
            f"The keys are disabled with change {changes.value(changes.KEYS)}; every process "
            "follows within a second, see Gateway processes.",
        )

    @admin.action(description="Enable selected keys", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for public_id in queryset.values_list("public_id", flat=True):
            self.log_change(request, keys.enable(public_id), "Enabled.")
        self.message_user(request, "The keys are enabled.")

    @admin.action(description="Rotate the selected key (one at a time)", permissions=["change"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        chosen = list(queryset.values_list("public_id", flat=True)[:2])
        if len(chosen) != 1:
            messages.error(request, "Rotate one key at a time: its new secret is shown once.")
            return
        issued = keys.rotate(chosen[0], DEFAULT_OVERLAP)
        self.log_change(request, issued.key, "Rotated.")
        until = f"{issued.key.previous_expires_at:%Y-%m-%d %H:%M} UTC"
        messages.warning(
            request,
            f"Store this key now, it is not shown again: {issued.plaintext} "
            f"The former secret is valid until {until}.",
        )
