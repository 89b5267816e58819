from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from models_registry import names
from models_registry.entries import (
    DEFAULT_MAX_RUNNING,
    DEFAULT_PREFIX_PERCENT,
    MAX_PREFIX_PERCENT,
)
from models_registry.models.model import Model
from models_registry.querysets import BackendQuerySet

MAX_WEIGHT = 1000


def validate_variable_name(text: str) -> None:
    # The text is not repeated: somebody may have pasted the secret itself.
    if not names.is_variable_name(text):
        raise ValidationError("Name an environment variable that holds the key, e.g. GPU_KEY.")


def validate_base_url(text: str) -> None:
    problem = base_url_problem(text)
    if problem:
        raise ValidationError(problem)


def base_url_problem(text: str) -> str:
    """Why `text` cannot be the address of an OpenAI-compatible host; empty when it can."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or any(letter.isspace() for letter in text):
        return "is not an address such as http://gpu-1:8000/v1"
    if parts.username is not None or parts.query or parts.fragment:
        return "may not hold a user, a password or a query; name a variable in api_key_env"
    if parts.path in ("", "/"):
        return "has no path; OpenAI-compatible hosts answer under /v1, e.g. http://gpu-1:8000/v1"
    return ""


class Runtime(models.TextChoices):
    LOCAL = "local"
    REMOTE = "remote"


class Device(models.TextChoices):
    AUTO = "auto", "auto"
    CPU = "cpu", "cpu"
    MPS = "mps", "mps"
    CUDA = "cuda", "cuda"


class Weights(models.TextChoices):
    AUTO = "auto", "auto"
    FP32 = "fp32", "fp32"
    FP16 = "fp16", "fp16"
    BF16 = "bf16", "bf16"
    INT8 = "int8", "int8"


class LoadPolicy(models.TextChoices):
    """When a local backend is loaded: at start, or when it is first asked for."""

    EAGER = "eager"
    LAZY = "lazy"


class DesiredState(models.TextChoices):
    LOADED = "loaded"
    UNLOADED = "unloaded"


class Backend(models.Model):
    """One way to serve a model. `key` names it in logs, headers and socket names.

    `load_request` counts the wishes to load it, so that an engine host can tell a new wish, which
    is worth another try, from an old one that failed.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="backends")
    position = models.PositiveSmallIntegerField(default=0)
    key = models.CharField(max_length=160, unique=True, editable=False)
    runtime = models.CharField(max_length=8, choices=Runtime, default=Runtime.LOCAL)
    enabled = models.BooleanField(default=True)
    weight = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(MAX_WEIGHT)]
    )
    source = models.CharField(
        max_length=500, blank=True, help_text="builtin:demo, a Hub name or a folder."
    )
    device = models.CharField(max_length=8, choices=Device, default=Device.AUTO)
    weights = models.CharField(max_length=8, choices=Weights, default=Weights.AUTO)
    context = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    load = models.CharField(max_length=8, choices=LoadPolicy, default=LoadPolicy.LAZY)
    keep_alive_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Seconds without requests after which a lazy model is unloaded; empty: never.",
    )
    max_running = models.PositiveSmallIntegerField(
        default=DEFAULT_MAX_RUNNING,
        validators=[MinValueValidator(1)],
        help_text="Requests decoded together.",
    )
    prefix_percent = models.PositiveSmallIntegerField(
        default=DEFAULT_PREFIX_PERCENT,
        db_default=DEFAULT_PREFIX_PERCENT,
        validators=[MaxValueValidator(MAX_PREFIX_PERCENT)],
        help_text="Percent of the memory for KV that keeps prefixes of former prompts; 0: none.",
    )
    base_url = models.CharField(max_length=500, blank=True, validators=[validate_base_url])
    remote_model = models.CharField(
        max_length=200, blank=True, help_text="What the host calls the model."
    )
    api_key_env = models.CharField(
        "API key variable",
        max_length=names.MAX_NAME_LENGTH,
        blank=True,
        validators=[validate_variable_name],
        help_text="The environment variable that holds the host's key, never the key itself.",
    )
    desired_state = models.CharField(
        max_length=8, choices=DesiredState, default=DesiredState.UNLOADED, editable=False
    )
    load_request = models.PositiveIntegerField(default=0, editable=False)

    objects = BackendQuerySet.as_manager()

    class Meta:
        ordering = ["model", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "position"], name="backend_position_is_unique"
            ),
            models.CheckConstraint(
                name="backend_has_what_its_runtime_needs",
                condition=(Q(runtime=Runtime.LOCAL) & ~Q(source=""))
                | (Q(runtime=Runtime.REMOTE) & ~Q(base_url="") & ~Q(remote_model="")),
                violation_error_message=(
                    "A local backend needs a source, a remote one a base URL and a remote model."
                ),
            ),
            models.CheckConstraint(
                name="backend_weight_in_range",
                condition=Q(weight__gte=1, weight__lte=MAX_WEIGHT),
            ),
            models.CheckConstraint(
                name="backend_keep_alive_is_positive",
                condition=Q(keep_alive_s=None) | Q(keep_alive_s__gte=1),
            ),
        ]

    def __str__(self) -> str:
        return self.key

    def save(self, *args: object, **kwargs: object) -> None:
        if not self.key:
            self.key = f"{self.model.name}/{self.position}"
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def clean(self) -> None:
        """As the constraint says it, but at the field that is missing."""
        needed = {"source"} if self.runtime == Runtime.LOCAL else {"base_url", "remote_model"}
        missing = {name for name in needed if not getattr(self, name)}
        if missing:
            message = f"A {self.runtime} backend needs this."
            raise ValidationError(dict.fromkeys(missing, message))

    def answer_identity(self) -> list[str | int | None]:
        """What a change of which can change the answers."""
        if self.runtime == Runtime.REMOTE:
            return [self.runtime, self.base_url, self.remote_model]
        return [self.runtime, self.source, self.weights, self.context]

    def follow_load_policy(self) -> None:
        """What should be loaded without anybody asking for it; the caller saves."""
        is_eager = self.runtime == Runtime.LOCAL and self.load == LoadPolicy.EAGER
        self.desired_state = DesiredState.LOADED if is_eager else DesiredState.UNLOADED
