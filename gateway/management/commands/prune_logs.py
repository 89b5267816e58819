import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from gateway import quotas
from gateway.models import CachedCompletion, InferenceLog, RequestBody, UsageRecord


class Command(BaseCommand):
    help = "Delete old usage records, logs and ledger entries, and what has expired, in batches."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than-days",
            type=int,
            default=settings.LOG_RETENTION.days,
            help="default: LLMSERVER_LOG_RETENTION_DAYS (%(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["older_than_days"]
        if days < 1:
            raise CommandError("--older-than-days must be at least 1.")
        now = timezone.now()
        try:
            before = now - timedelta(days=days)
        except OverflowError:
            raise CommandError(f"--older-than-days {days} reaches before year 1.") from None
        deleted = {
            "usage_records": UsageRecord.objects.filter(created_at__lt=before).prune(),
            "inference_logs": InferenceLog.objects.filter(created_at__lt=before).prune(),
            "request_bodies": RequestBody.objects.filter(expires_at__lte=now).prune(),
            "cached_completions": CachedCompletion.objects.expired(now).prune(),
            "ledger_entries": quotas.prune(before),
        }
        if options["json"]:
            self.stdout.write(json.dumps(deleted))
            return
        for name, count in deleted.items():
            self.stdout.write(f"{count:8} {name.replace('_', ' ')} deleted")
