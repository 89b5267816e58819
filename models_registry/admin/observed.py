from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from models_registry.admin.labels import (
    HOST_COLOURS,
    RUNNER_COLOURS,
    STATE_COLOURS,
    state_label,
)
from models_registry.models import (
    Alias,
    Backend,
    ChangeCounter,
    EngineHost,
    Price,
    RegistryRevision,
    Runner,
)


class ReadOnlyAdmin(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Backend)
class BackendAdmin(ReadOnlyAdmin):
    """Backends are edited on the page of their model."""

    list_display = ("key", "state", "runtime", "where", "device", "load", "desired_state")
    list_filter = ("runtime", "load", "desired_state")
    search_fields = ("key", "source", "base_url")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backend]:
        queryset: QuerySet[Backend] = super().get_queryset(request)
        return queryset.prefetch_related("runners__host")

    @display(description="State", label=STATE_COLOURS)
    def state(self, backend: Backend) -> tuple[str, str]:
        return state_label(backend)

    @display(description="Source")
    def where(self, backend: Backend) -> str:
        return backend.source or backend.base_url


@admin.register(Alias)
class AliasAdmin(ReadOnlyAdmin):
    list_display = ("name", "model")
    list_select_related = ("model",)
    search_fields = ("name",)


@admin.register(Price)
class PriceAdmin(ReadOnlyAdmin):
    list_display = (
        "model",
        "valid_from",
        "valid_to",
        "input_per_million",
        "cached_input_per_million",
        "output_per_million",
    )
    list_select_related = ("model",)


@admin.register(EngineHost)
class EngineHostAdmin(ReadOnlyAdmin):
    list_display = ("name", "status", "pid", "started_at", "heartbeat_at", "memory", "last_error")

    @display(description="Status", label=HOST_COLOURS)
    def status(self, host: EngineHost) -> str:
        if host.pid is None:
            return "stopped"
        return "alive" if host.is_alive else "silent"

    @display(description="Memory free")
    def memory(self, host: EngineHost) -> str:
        if not host.memory_total_bytes or host.memory_available_bytes is None:
            return ""
        return f"{host.memory_available_bytes / 1e9:.1f} of {host.memory_total_bytes / 1e9:.1f} GB"


@admin.register(Runner)
class RunnerAdmin(ReadOnlyAdmin):
    list_display = (
        "backend",
        "host",
        "coloured_state",
        "task",
        "progress",
        "device",
        "dtype",
        "restarts",
    )
    list_filter = ("state", "host")
    list_select_related = ("backend", "host")

    @display(description="State", label=RUNNER_COLOURS, ordering="state")
    def coloured_state(self, runner: Runner) -> tuple[str, str]:
        return runner.state, runner.get_state_display()


@admin.register(RegistryRevision)
class RegistryRevisionAdmin(ReadOnlyAdmin):
    list_display = ("number", "created_at", "applied_by", "source", "summary")
    list_filter = ("applied_by",)

    @display(description="Changes")
    def summary(self, revision: RegistryRevision) -> str:
        added, changed, removed = (
            len(revision.diff.get(kind, [])) for kind in ("added", "changed", "removed")
        )
        return f"+{added} ~{changed} -{removed}"


@admin.register(ChangeCounter)
class ChangeCounterAdmin(ReadOnlyAdmin):
    list_display = ("topic", "value")
