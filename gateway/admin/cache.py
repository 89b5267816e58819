from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from gateway.models import CachedCompletion


@admin.register(CachedCompletion)
class CachedCompletionAdmin(ModelAdmin):
    list_display = (
        "cache_key",
        "team",
        "model_name",
        "hits",
        "is_pinned",
        "created_at",
        "expires_at",
    )
    list_filter = ("team", "is_pinned")
    list_select_related = ("team",)
    search_fields = ("cache_key__startswith", "model_name")
    show_full_result_count = False
    fields = (
        *list_display,
        "last_hit_at",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "text",
    )
    readonly_fields = tuple(name for name in fields if name != "is_pinned")
    actions = ("pin", "unpin")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.action(description="Pin selected answers", permissions=["change"])
    def pin(self, request: HttpRequest, queryset: QuerySet[CachedCompletion]) -> None:
        queryset.update(is_pinned=True)

    @admin.action(description="Unpin selected answers", permissions=["change"])
    def unpin(self, request: HttpRequest, queryset: QuerySet[CachedCompletion]) -> None:
        queryset.update(is_pinned=False)
