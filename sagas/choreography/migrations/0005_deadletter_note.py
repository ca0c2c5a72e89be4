from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("choreography", "0004_default_partitions")]

    operations = [
        migrations.AddField(
            model_name="deadletter",
            name="note",
            field=models.CharField(blank=True, db_default="", default="", max_length=500),
        ),
    ]
