"""A default partition for each dated table takes what no day's partition is there for.

Making partitions empties them into the days that were missing.
"""

import importlib

from django.db import migrations

MAKE_BEFORE = importlib.import_module("sagas.choreography.migrations.0002_storage").MAKE

# A default partition is replaced as a whole: its rows cannot be deleted, which is the point of the store.
# Rows that nobody sees yet would keep a day's partition from being made, so the parent is locked before
# looking; that lock is the one that making a partition takes anyway.
MAKE = """
CREATE FUNCTION choreography_guard_truncate(partition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF partition NOT LIKE 'choreography_inbox%' THEN
        EXECUTE format(
            'CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION choreography_refuse_change()', partition);
    END IF;
END $$;

CREATE FUNCTION choreography_make_default(parent text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
    PERFORM choreography_guard_truncate(parent || '_default');
END $$;

CREATE FUNCTION choreography_make_day(parent text, day date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    child text := parent || to_char(day, '_YYYYMMDD');
BEGIN
    IF to_regclass(child) IS NOT NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
        day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    PERFORM choreography_guard_truncate(child);
    RETURN 1;
END $$;

CREATE OR REPLACE FUNCTION choreography_make_partitions(since date, until date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    spare text;
    strays boolean;
    missing boolean;
    day date;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY
        ARRAY['choreography_event', 'choreography_inbox', 'choreography_auditentry'] LOOP
        spare := parent || '_default';
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', spare) INTO strays;
        SELECT bool_or(to_regclass(parent || to_char(d, '_YYYYMMDD')) IS NULL)
          INTO missing FROM generate_series(since, until, '1 day') AS d;
        CONTINUE WHEN NOT strays AND NOT missing;
        EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', spare) INTO strays;
        IF strays THEN
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, spare);
            FOR day IN EXECUTE format('SELECT DISTINCT (at AT TIME ZONE ''UTC'')::date FROM %I', spare) LOOP
                made := made + choreography_make_day(parent, day);
            END LOOP;
            EXECUTE format('INSERT INTO %I SELECT * FROM %I', parent, spare);
            EXECUTE format('DROP TABLE %I', spare);
            PERFORM choreography_make_default(parent);
        END IF;
        FOR day IN SELECT generate_series(since, until, '1 day')::date LOOP
            made := made + choreography_make_day(parent, day);
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
SELECT choreography_make_default(parent)
  FROM unnest(ARRAY['choreography_event', 'choreography_inbox', 'choreography_auditentry']) AS parent;
"""

# Emptied first; what is of days to come has a partition of its own then.
UNDO = f"""
SELECT choreography_make_partitions(
    (now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 14);
DROP TABLE choreography_event_default, choreography_inbox_default, choreography_auditentry_default;
DROP FUNCTION choreography_make_partitions(date, date);
DROP FUNCTION choreography_make_day(text, date);
DROP FUNCTION choreography_make_default(text);
DROP FUNCTION choreography_guard_truncate(text);
{MAKE_BEFORE}
"""


class Migration(migrations.Migration):
    dependencies = [("choreography", "0003_wrapped_keys")]

    operations = [migrations.RunSQL(MAKE, UNDO)]
