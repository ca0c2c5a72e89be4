"""Who paused and resumed which type, and why: append-only as the audit of a saga is."""

from django.db import migrations, models

GUARD = """
CREATE TRIGGER sagas_append_only BEFORE UPDATE OR DELETE ON sagas_typeevent
    FOR EACH ROW EXECUTE FUNCTION sagas_refuse_change();
CREATE TRIGGER sagas_append_only_truncate BEFORE TRUNCATE ON sagas_typeevent
    FOR EACH STATEMENT EXECUTE FUNCTION sagas_refuse_change();
"""
UNGUARD = """
DROP TRIGGER sagas_append_only_truncate ON sagas_typeevent;
DROP TRIGGER sagas_append_only ON sagas_typeevent;
"""


class Migration(migrations.Migration):
    dependencies = [("sagas", "0005_webhooks")]

    operations = [
        migrations.CreateModel(
            name="TypeEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("type", models.CharField(max_length=80)),
                ("at", models.DateTimeField()),
                (
                    "kind",
                    models.CharField(choices=[("paused", "paused"), ("resumed", "resumed")], max_length=20),
                ),
                ("actor", models.CharField(max_length=150)),
                ("reason", models.TextField()),
            ],
            options={"ordering": ["-id"], "default_permissions": ("view",)},
        ),
        migrations.RunSQL(GUARD, UNGUARD),
        migrations.AlterModelOptions(
            name="typepause",
            options={"default_permissions": ("view",), "verbose_name_plural": "types of sagas"},
        ),
    ]
