"""What should be loaded and what callers may use: the wishes that engine hosts act on.

Commands and the admin call these; nothing here talks to another process.
"""

from django.db import transaction
from django.utils import timezone

from models_registry import changes
from models_registry.errors import ModelDisabled, NoSuchModel, NothingToLoad
from models_registry.models import Alias, DesiredState, Model


def find(name: str) -> Model:
    """By name or alias; raises NoSuchModel with the names that come close."""
    model = Model.objects.filter(name=name).first()
    if model is None:
        model = Model.objects.filter(aliases__name=name).first()
    if model is None:
        known = {*Model.objects.values_list("name", flat=True)}
        known.update(Alias.objects.values_list("name", flat=True))
        raise NoSuchModel(name, known)
    return model


@transaction.atomic
def load(model: Model) -> None:
    """Also asks for another try where an earlier one failed."""
    if not model.enabled:
        raise ModelDisabled(model.name)
    changes.bump(changes.CATALOG)
    if not model.backends.loadable().ask_to_load():
        raise NothingToLoad(model.name)


@transaction.atomic
def unload(model: Model) -> None:
    changes.bump(changes.CATALOG)
    if not model.backends.local().update(desired_state=DesiredState.UNLOADED):
        raise NothingToLoad(model.name)


@transaction.atomic
def set_enabled(model: Model, enabled: bool) -> None:
    """Disabling unloads, but keeps in mind what should be loaded when it is enabled again."""
    changes.bump(changes.CATALOG)
    Model.objects.filter(pk=model.pk).update(enabled=enabled, updated_at=timezone.now())
    model.enabled = enabled
