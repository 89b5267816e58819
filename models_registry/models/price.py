from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from models_registry.models.model import Model
from models_registry.querysets import PriceQuerySet

PER_MILLION = "Per million tokens, in the server's currency."


class Price(models.Model):
    """What tokens cost from `valid_from` until before `valid_to`; None is open-ended."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    valid_from = models.DateTimeField(default=timezone.now)
    valid_to = models.DateTimeField(null=True, blank=True)
    input_per_million = models.DecimalField(
        max_digits=12, decimal_places=6, default=Decimal(0), help_text=PER_MILLION
    )
    cached_input_per_million = models.DecimalField(
        max_digits=12, decimal_places=6, default=Decimal(0), help_text=PER_MILLION
    )
    output_per_million = models.DecimalField(
        max_digits=12, decimal_places=6, default=Decimal(0), help_text=PER_MILLION
    )

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["model", "-valid_from"]
        constraints = [
            models.CheckConstraint(
                name="price_ends_after_it_starts",
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                violation_error_message="The price must end after it starts.",
            ),
            models.UniqueConstraint(
                fields=["model"], condition=Q(valid_to=None), name="price_one_open_end_per_model"
            ),
            models.UniqueConstraint(
                fields=["model", "valid_from"], name="price_one_start_per_model"
            ),
            models.CheckConstraint(
                name="price_rates_are_not_negative",
                condition=Q(
                    input_per_million__gte=0,
                    cached_input_per_million__gte=0,
                    output_per_million__gte=0,
                ),
                violation_error_message="A price cannot be negative.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"

    def clean(self) -> None:
        """Refuse an overlap; SQLite has no exclusion constraints that could."""
        if not self.model_id:
            return
        others = Price.objects.filter(model_id=self.model_id).exclude(pk=self.pk)
        if self.valid_to is not None:
            others = others.filter(valid_from__lt=self.valid_to)
        if others.filter(Q(valid_to=None) | Q(valid_to__gt=self.valid_from)).exists():
            raise ValidationError(
                "The model already has a price in that time. End that one first (valid to)."
            )
