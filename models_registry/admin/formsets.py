"""Rules over several rows of one form, which the rows' own `clean` cannot see."""

import itertools
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from unfold.forms import PaginationInlineFormSet

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class PriceFormSet(PaginationInlineFormSet):
    def clean(self) -> None:
        super().clean()
        spans = sorted(
            (row["valid_from"], row.get("valid_to") or END_OF_TIME) for row in _kept_rows(self)
        )
        for (_, end), (next_start, _) in itertools.pairwise(spans):
            if next_start < end:
                raise ValidationError(
                    "Two prices are valid at the same time. End the earlier one first (valid to)."
                )


class AliasFormSet(PaginationInlineFormSet):
    def clean(self) -> None:
        super().clean()
        if any(row.get("name") == self.instance.name for row in _kept_rows(self)):
            raise ValidationError("An alias must differ from the model's own name.")


def _kept_rows(formset: PaginationInlineFormSet) -> list[dict[str, Any]]:
    rows = [form.cleaned_data for form in formset.forms if hasattr(form, "cleaned_data")]
    wanted = [row for row in rows if row and not row.get("DELETE")]
    return [row for row in wanted if row.get("valid_from") or row.get("name")]
