from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from gateway.admin.read_only import ReadOnlyAdmin
from gateway.models import LedgerEntry, Quota, QuotaWindow, RateLimit


@admin.register(RateLimit)
class RateLimitAdmin(ModelAdmin):
    list_display = (
        "scope",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "mode",
    )
    list_filter = ("mode",)
    list_select_related = ("team", "key")
    search_fields = ("team__slug", "key__public_id", "key__name", "model_name")
    autocomplete_fields = ("team", "key")


@admin.register(Quota)
class QuotaAdmin(ModelAdmin):
    list_display = ("scope", "unit", "period", "amount", "mode")
    list_filter = ("unit", "period", "mode")
    list_select_related = ("team", "key")
    search_fields = ("team__slug", "key__public_id", "key__name", "model_name")
    autocomplete_fields = ("team", "key")

    def get_readonly_fields(
        self, request: HttpRequest, obj: Quota | None = None
    ) -> tuple[str, ...]:
        # The books are kept in this unit and by this period.
        return ("unit", "period") if obj else ()


@admin.register(QuotaWindow)
class QuotaWindowAdmin(ReadOnlyAdmin):
    list_display = ("quota", "window_id", "used", "held")
    list_select_related = ("quota__team", "quota__key")
    ordering = ("-pk",)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "kind", "amount", "quota", "window_id", "request_id")
    list_filter = ("kind",)
    list_select_related = ("quota__team", "quota__key")
    search_fields = ("request_id__exact",)
    ordering = ("-pk",)
