from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import display

from models_registry import changes, desired, entries, revisions, rows
from models_registry.admin.formsets import AliasFormSet, PriceFormSet
from models_registry.admin.labels import (
    PROVENANCE_COLOURS,
    STATE_COLOURS,
    leading_state,
    state_label,
)
from models_registry.entries import ModelEntry
from models_registry.errors import RegistryError
from models_registry.models import Alias, Backend, Model, Price, Provenance, Runner
from models_registry.observed import told_task

if TYPE_CHECKING:
    RowForm = forms.ModelForm[Model]
else:
    RowForm = forms.ModelForm

SOURCE = "admin"

Act = Callable[[Model], None]


class AliasInline(TabularInline):
    model = Alias
    formset = AliasFormSet
    extra = 0


class PriceInline(TabularInline):
    model = Price
    formset = PriceFormSet
    extra = 0


class BackendInline(StackedInline):
    model = Backend
    extra = 0
    readonly_fields = ("key", "state")
    fieldsets = (
        (None, {"fields": (("key", "state"), ("position", "runtime", "weight", "enabled"))}),
        (
            "Local",
            {
                "fields": (
                    ("source", "device", "weights"),
                    ("load", "keep_alive_s", "context", "max_running", "prefix_percent"),
                )
            },
        ),
        ("Remote", {"fields": (("base_url", "remote_model", "api_key_env"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backend]:
        queryset: QuerySet[Backend] = super().get_queryset(request)
        return queryset.select_related("model").prefetch_related("runners__host")

    @display(description="State", label=STATE_COLOURS)
    def state(self, backend: Backend) -> tuple[str, str]:
        return state_label(backend) if backend.pk else ("disabled", "new")


class ModelForm(RowForm):
    """`before` is what the rows said until this form was saved."""

    before: ModelEntry | None = None


@admin.register(Model)
class ModelRowAdmin(ModelAdmin):
    form = ModelForm
    list_display = (
        "name",
        "state",
        "purpose",
        "is_enabled",
        "alias_names",
        "backend_count",
        "owner",
    )
    list_filter = ("enabled", "task", "provenance")
    search_fields = ("name", "aliases__name")
    readonly_fields = ("provenance", "revision", "created_at", "updated_at")
    fields = ("name", ("enabled", "context", "task"), "fallbacks", *readonly_fields)
    inlines = (AliasInline, BackendInline, PriceInline)
    actions = ("load_models", "unload_models", "enable_models", "disable_models")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        queryset: QuerySet[Model] = super().get_queryset(request)
        runners = Prefetch("backends__runners", Runner.objects.select_related("host"))
        return queryset.prefetch_related("aliases", "backends", runners)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # Keys of backends, usage records and allow lists hold the name.
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    @display(description="State", label=STATE_COLOURS)
    def state(self, model: Model) -> tuple[str, str]:
        return leading_state(list(model.backends.all()))

    @display(description="Task", ordering="task")
    def purpose(self, model: Model) -> str:
        return told_task(model)

    @display(description="Enabled", boolean=True, ordering="enabled")
    def is_enabled(self, model: Model) -> bool:
        return model.enabled

    @display(description="Aliases")
    def alias_names(self, model: Model) -> str:
        return ", ".join(alias.name for alias in model.aliases.all())

    @display(description="Backends")
    def backend_count(self, model: Model) -> int:
        return len(model.backends.all())

    @display(description="From", label=PROVENANCE_COLOURS, ordering="provenance")
    def owner(self, model: Model) -> tuple[str, str]:
        return model.provenance, model.get_provenance_display()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        changes.bump(changes.CATALOG)
        form.before = rows.read(Model.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if formset.model is Backend:
            for backend_form in formset.forms:
                _prepare(backend_form)
        super().save_formset(request, form, formset, change)

    def save_related(
        self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        model = Model.objects.get(pk=form.instance.pk)
        # models.yaml does not say whether a model is enabled, so that alone takes nothing from it.
        is_edited = bool(set(form.changed_data) - {"enabled"})
        is_edited = is_edited or any(formset.has_changed() for formset in formsets)
        if is_edited and model.provenance == Provenance.FILE:
            self._take_over(request, model)
        model.refresh_revision()
        after = rows.read(model)
        if form.before is None:
            _record(request, {"added": [entries.plain(after)]})
        elif form.before != after:
            change_of = {"old": entries.plain(form.before), "new": entries.plain(after)}
            _record(request, {"changed": [change_of]})

    def _take_over(self, request: HttpRequest, model: Model) -> None:
        model.provenance = Provenance.ADMIN
        model.save(update_fields=["provenance", "updated_at"])
        messages.warning(
            request,
            f"{model.name} now belongs to the admin: models.yaml no longer changes it. Delete it "
            "here and sync to give it back.",
        )

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        self._delete(request, Model.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._delete(request, queryset)

    def _delete(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        changes.bump(changes.CATALOG)
        removed = [rows.read(model) for model in queryset]
        listed = queryset.filter(provenance=Provenance.FILE).values_list("name", flat=True)
        for name in listed:
            messages.warning(
                request,
                f"models.yaml still lists {name}: it comes back with the next sync unless you "
                "remove it there too.",
            )
        queryset.delete()
        _record(request, {"removed": [entries.plain(entry) for entry in removed]})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        # Backends and runners go with their model, though nobody may delete one by itself.
        return deleted, counts, set(), protected

    @admin.action(description="Load", permissions=["change"])
    def load_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._each(request, queryset, desired.load, "will be loaded")

    @admin.action(description="Unload", permissions=["change"])
    def unload_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._each(request, queryset, desired.unload, "will be unloaded")

    @admin.action(description="Enable", permissions=["change"])
    def enable_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._each(request, queryset, partial(desired.set_enabled, enabled=True), "is enabled")

    @admin.action(description="Disable", permissions=["change"])
    def disable_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._each(request, queryset, partial(desired.set_enabled, enabled=False), "is disabled")

    def _each(self, request: HttpRequest, queryset: QuerySet[Model], act: Act, done: str) -> None:
        for model in queryset:
            try:
                act(model)
            except RegistryError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{model.name} {done}.")


def _prepare(form: Any) -> None:
    backend: Backend = form.instance
    if "position" in form.changed_data:
        # Made anew from the position when the row is saved.
        backend.key = ""
    if not backend.pk or {"load", "runtime"} & set(form.changed_data):
        backend.follow_load_policy()


def _record(request: HttpRequest, diff: dict[str, Any]) -> None:
    complete = {"added": [], "changed": [], "removed": []} | diff
    revisions.record(complete, by=request.user.get_username(), source=SOURCE)
