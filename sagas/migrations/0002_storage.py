"""What Django's models cannot say: the append-only audit, and room on the page for updates."""

from django.db import migrations

GUARD = """
CREATE FUNCTION sagas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'The audit of a saga is never changed; write a new row instead.';
END $$;
CREATE TRIGGER sagas_append_only BEFORE UPDATE OR DELETE ON sagas_sagaevent
    FOR EACH ROW EXECUTE FUNCTION sagas_refuse_change();
CREATE TRIGGER sagas_append_only_truncate BEFORE TRUNCATE ON sagas_sagaevent
    FOR EACH STATEMENT EXECUTE FUNCTION sagas_refuse_change();
"""
UNGUARD = """
DROP TRIGGER sagas_append_only_truncate ON sagas_sagaevent;
DROP TRIGGER sagas_append_only ON sagas_sagaevent;
DROP FUNCTION sagas_refuse_change();
"""

# Rows of running sagas are rewritten many times; free room on their page keeps those updates
# heap-only (no index is touched), see the PostgreSQL manual, "Heap-Only Tuples".
ROOM = """
ALTER TABLE sagas_saga SET (fillfactor = 75);
ALTER TABLE sagas_sagastep SET (fillfactor = 75);
"""
NO_ROOM = """
ALTER TABLE sagas_saga RESET (fillfactor);
ALTER TABLE sagas_sagastep RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("sagas", "0001_initial")]

    operations = [
        migrations.RunSQL(GUARD, UNGUARD),
        migrations.RunSQL(ROOM, NO_ROOM),
    ]
