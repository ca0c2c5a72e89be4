"""Who closed which participant's circuit by hand, and why: append-only as the audit of a saga is."""

from django.db import migrations, models

GUARD = """
CREATE TRIGGER sagas_append_only BEFORE UPDATE OR DELETE ON sagas_circuitevent
    FOR EACH ROW EXECUTE FUNCTION sagas_refuse_change();
CREATE TRIGGER sagas_append_only_truncate BEFORE TRUNCATE ON sagas_circuitevent
    FOR EACH STATEMENT EXECUTE FUNCTION sagas_refuse_change();
"""
UNGUARD = """
DROP TRIGGER sagas_append_only_truncate ON sagas_circuitevent;
DROP TRIGGER sagas_append_only ON sagas_circuitevent;
"""


class Migration(migrations.Migration):
    dependencies = [("sagas", "0008_deliveries_by_hook")]

    operations = [
        migrations.CreateModel(
            name="CircuitEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("participant", models.CharField(max_length=80)),
                ("at", models.DateTimeField()),
                ("actor", models.CharField(max_length=150)),
                ("reason", models.TextField()),
            ],
            options={
                "ordering": ["-id"],
                "default_permissions": ("view",),
                "verbose_name": "circuit closed by hand",
                "verbose_name_plural": "circuits closed by hand",
            },
        ),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
