import hashlib
import json

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from inference.types import Task
from models_registry import names


def validate_name(text: str) -> None:
    if not names.is_name(text):
        raise ValidationError(f"{text!r} is not a usable name: {names.NAME_RULE}.")


class Provenance(models.TextChoices):
    """Who owns a row: `sync_models` changes its own rows only."""

    FILE = "file", "models.yaml"
    ADMIN = "admin", "Admin"


class TaskChoice(models.TextChoices):
    """What a model is for; auto is what its files say once it is loaded."""

    AUTO = "auto", "auto"
    GENERATION = Task.GENERATION.value, "generation"
    EMBEDDING = Task.EMBEDDING.value, "embedding"


class Model(models.Model):
    """What callers put in `model`. `revision` changes with whatever changes the answers."""

    name = models.CharField(
        max_length=names.MAX_NAME_LENGTH, unique=True, validators=[validate_name]
    )
    enabled = models.BooleanField(
        default=True, help_text="A disabled model does not exist for callers."
    )
    context = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Tokens of prompt and output together; empty for what the backend reports.",
    )
    # With a default of the database's own, so that a gateway of the version before, which does not
    # know the column, can still add models while an upgrade is under way.
    task = models.CharField(
        max_length=16,
        choices=TaskChoice,
        default=TaskChoice.AUTO,
        db_default=TaskChoice.AUTO,
        help_text="Whether it writes text or makes embeddings; auto goes by the model's files.",
    )
    fallbacks = models.JSONField(
        default=list, blank=True, help_text="Models to try in order when this one cannot answer."
    )
    provenance = models.CharField(
        max_length=8, choices=Provenance, default=Provenance.ADMIN, editable=False
    )
    revision = models.CharField(max_length=16, default="", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if Alias.objects.filter(name=self.name).exists():
            raise ValidationError({"name": f"{self.name!r} is already an alias of a model."})
        if not isinstance(self.fallbacks, list) or not all(
            isinstance(name, str) for name in self.fallbacks
        ):
            raise ValidationError({"fallbacks": 'Give a list of model names, e.g. ["demo"].'})
        if self.name in self.fallbacks:
            raise ValidationError({"fallbacks": "A model cannot fall back to itself."})

    @property
    def declared_task(self) -> Task | None:
        return None if self.task == TaskChoice.AUTO else Task(self.task)

    def answer_revision(self) -> str:
        """A short hash of what defines the answers: weights and hosts, not devices or load."""
        parts = [
            backend.answer_identity()
            for backend in self.backends.filter(enabled=True).order_by("position")
        ]
        # What is not said changes nothing, so that answers of earlier versions stay cached.
        told = [] if self.task == TaskChoice.AUTO else [self.task]
        text = json.dumps([self.context, *parts, *told])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def refresh_revision(self) -> None:
        """Call after its backends, its context or its task were changed."""
        revision = self.answer_revision()
        if revision != self.revision:
            self.revision = revision
            self.save(update_fields=["revision", "updated_at"])


class Alias(models.Model):
    """Another name of a model; unique among aliases and model names together."""

    name = models.CharField(
        max_length=names.MAX_NAME_LENGTH, unique=True, validators=[validate_name]
    )
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if Model.objects.filter(name=self.name).exists():
            raise ValidationError({"name": f"{self.name!r} is already the name of a model."})
