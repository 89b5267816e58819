from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from gateway.admin.read_only import ReadOnlyAdmin
from gateway.models import InferenceLog, RequestBody, UsageRecord, UsageRollup


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "request_id",
        "team",
        "key_public_id",
        "model",
        "status",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "cost",
        "cache_state",
    )
    list_filter = ("status", "cache_state", "team")
    list_select_related = ("team",)
    search_fields = ("request_id__exact",)
    ordering = ("-created_at",)


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    list_display = (
        "hour",
        "team",
        "key_public_id",
        "model",
        "requests",
        "failed",
        "refused",
        "prompt_tokens",
        "completion_tokens",
        "cost",
    )
    list_filter = ("team",)
    list_select_related = ("team",)
    ordering = ("-hour", "pk")


@admin.register(InferenceLog)
class InferenceLogAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "request_id",
        "model",
        "backend",
        "device",
        "queue_s",
        "ttft_s",
        "total_s",
        "completion_tokens",
        "finish_reason",
    )
    search_fields = ("request_id__exact",)
    ordering = ("-created_at",)


@admin.register(RequestBody)
class RequestBodyAdmin(ReadOnlyAdmin):
    list_display = ("request_id", "created_at", "expires_at")
    search_fields = ("request_id__exact",)
    ordering = ("-pk",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Texts of people can be deleted before their time."""
        return request.user.has_perm("gateway.delete_requestbody")
