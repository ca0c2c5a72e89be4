"""Webhook deliveries are taken by hook, and found by age whether they are settled or not."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("sagas", "0007_cheap_checks"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=Q(("due_at__isnull", False)),
                fields=["webhook", "due_at"],
                name="delivery_due_by_hook",
            ),
        ),
        migrations.RemoveIndex(
            model_name="webhookdelivery",
            name="delivery_due",
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=Q(("due_at__isnull", False)), fields=["created_at"], name="delivery_pending"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=Q(("due_at__isnull", True)), fields=["created_at"], name="delivery_settled"
            ),
        ),
    ]
