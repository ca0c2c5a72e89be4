"""Statuses as domains, counters without checks: a statement parses no constraint any more (`sagas.fields`)."""

from django.db import migrations, models

import sagas.fields
import sagas.state

DOMAINS = """
CREATE DOMAIN sagas_status AS varchar(20) CHECK (VALUE IN (
    'pending', 'in_progress', 'waiting', 'completed', 'compensating', 'compensated', 'failed', 'parked',
    'compensation_failed'));
CREATE DOMAIN sagas_step_status AS varchar(20) CHECK (VALUE IN (
    'pending', 'in_progress', 'waiting', 'completed', 'failed', 'compensating', 'compensated',
    'compensation_failed', 'skipped'));
"""
NO_DOMAINS = "DROP DOMAIN sagas_status; DROP DOMAIN sagas_step_status;"


class Migration(migrations.Migration):
    dependencies = [
        ("sagas", "0006_type_events"),
    ]

    operations = [
        migrations.RunSQL(DOMAINS, NO_DOMAINS),
        migrations.RemoveConstraint(
            model_name="saga",
            name="saga_status_known",
        ),
        migrations.RemoveConstraint(
            model_name="sagastep",
            name="step_status_known",
        ),
        migrations.AlterField(
            model_name="saga",
            name="epoch",
            field=models.IntegerField(
                default=0, help_text="Changes when the saga turns or a person intervenes."
            ),
        ),
        migrations.AlterField(
            model_name="saga",
            name="extensions",
            field=models.SmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="saga",
            name="retreat_to",
            field=models.SmallIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="saga",
            name="rev",
            field=models.IntegerField(default=0, help_text="Changes with every transition."),
        ),
        migrations.AlterField(
            model_name="saga",
            name="rings",
            field=models.SmallIntegerField(default=0, help_text="How often a scan rang in vain."),
        ),
        migrations.AlterField(
            model_name="saga",
            name="sequence",
            field=models.IntegerField(default=0, help_text="How many effects were begun, in order."),
        ),
        migrations.AlterField(
            model_name="saga",
            name="status",
            field=sagas.fields.StatusField(
                choices=[
                    ("pending", "pending"),
                    ("in_progress", "in progress"),
                    ("waiting", "waiting"),
                    ("completed", "completed"),
                    ("compensating", "compensating"),
                    ("compensated", "compensated"),
                    ("failed", "failed"),
                    ("parked", "parked"),
                    ("compensation_failed", "compensation failed"),
                ],
                default=sagas.state.Status["PENDING"],
                domain="sagas_status",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="saga",
            name="version",
            field=models.SmallIntegerField(),
        ),
        migrations.AlterField(
            model_name="sagaevent",
            name="attempt",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagaevent",
            name="epoch",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="attempts",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="crashes",
            field=models.SmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="forgiven",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="generation",
            field=models.SmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="position",
            field=models.SmallIntegerField(),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="sequence",
            field=models.IntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="status",
            field=sagas.fields.StatusField(
                choices=[
                    ("pending", "pending"),
                    ("in_progress", "in progress"),
                    ("waiting", "waiting"),
                    ("completed", "completed"),
                    ("failed", "failed"),
                    ("compensating", "compensating"),
                    ("compensated", "compensated"),
                    ("compensation_failed", "compensation failed"),
                    ("skipped", "skipped"),
                ],
                default=sagas.state.StepStatus["PENDING"],
                domain="sagas_step_status",
                max_length=20,
            ),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="undo_attempts",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="undo_crashes",
            field=models.SmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="undo_forgiven",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="sagastep",
            name="undo_generation",
            field=models.SmallIntegerField(default=0),
        ),
    ]
