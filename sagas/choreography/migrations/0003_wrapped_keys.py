"""Clients' keys lay open before; wrap them."""

from collections.abc import Callable
from typing import Any

from django.db import migrations

from sagas.choreography import keys


def each(change: Callable[[bytes], bytes]) -> Callable[[Any, Any], None]:
    def run(apps: Any, editor: Any) -> None:
        rows = apps.get_model("choreography", "ClientKey").objects.using(editor.connection.alias)
        for row in rows.exclude(key=None).iterator():
            rows.filter(pk=row.pk).update(key=change(bytes(row.key)))

    return run


class Migration(migrations.Migration):
    dependencies = [("choreography", "0002_storage")]

    operations = [migrations.RunPython(each(keys.wrap), each(keys.unwrap))]
