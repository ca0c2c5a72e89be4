"""The tables that are partitioned by date, their guard against change, and the making of partitions.

A column or index of these is changed here and in the models alike; Django's migrations only know
their state.
"""

from django.db import migrations

TABLES = """
CREATE SEQUENCE choreography_event_position AS bigint CACHE 1;
CREATE TABLE choreography_event (
    position bigint NOT NULL DEFAULT nextval('choreography_event_position'),
    at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    topic varchar(120) NOT NULL,
    stream uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    type varchar(80) NOT NULL,
    schema_version smallint NOT NULL CHECK (schema_version > 0),
    source varchar(120) NOT NULL,
    correlation_id varchar(128) NOT NULL,
    causation_id uuid,
    client uuid,
    sealed text NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (position, at)
) PARTITION BY RANGE (at);
ALTER SEQUENCE choreography_event_position OWNED BY choreography_event.position;
CREATE INDEX choreography_event_of_stream ON choreography_event (stream, version);
CREATE INDEX choreography_event_of_type ON choreography_event (topic, type, position);
CREATE INDEX choreography_event_at ON choreography_event (at);

CREATE TABLE choreography_inbox (
    at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    consumer varchar(80) NOT NULL,
    PRIMARY KEY (event_id, consumer, at)
) PARTITION BY RANGE (at);

CREATE TABLE choreography_auditentry (
    at timestamptz NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    topic varchar(120) NOT NULL,
    stream uuid NOT NULL,
    type varchar(80) NOT NULL,
    source varchar(120) NOT NULL,
    correlation_id varchar(128) NOT NULL,
    causation_id uuid,
    detail text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (position, at)
) PARTITION BY RANGE (at);
CREATE INDEX choreography_auditentry_of_stream ON choreography_auditentry (stream);

CREATE FUNCTION choreography_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation',
              HINT = 'What has happened is never changed; tell what happened since in a new event.';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON choreography_event
    FOR EACH ROW EXECUTE FUNCTION choreography_refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON choreography_event
    FOR EACH STATEMENT EXECUTE FUNCTION choreography_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON choreography_auditentry
    FOR EACH ROW EXECUTE FUNCTION choreography_refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON choreography_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION choreography_refuse_change();

-- Rows of streams are rewritten with every event, and those of read models too: room on the page.
ALTER TABLE choreography_stream SET (fillfactor = 75);
ALTER TABLE choreography_ordersbyclient SET (fillfactor = 75);
ALTER TABLE choreography_revenuebystoreday SET (fillfactor = 50);
"""

# A row trigger of a partitioned table comes to its partitions by itself, a statement trigger does not.
MAKE = """
CREATE FUNCTION choreography_make_partitions(since date, until date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child text;
    day date;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY
        ARRAY['choreography_event', 'choreography_inbox', 'choreography_auditentry'] LOOP
        FOR day IN SELECT generate_series(since, until, '1 day')::date LOOP
            child := parent || to_char(day, '_YYYYMMDD');
            CONTINUE WHEN to_regclass(child) IS NOT NULL;
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            IF parent <> 'choreography_inbox' THEN
                EXECUTE format(
                    'CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I'
                    ' FOR EACH STATEMENT EXECUTE FUNCTION choreography_refuse_change()', child);
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
SELECT choreography_make_partitions(
    (now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 14);
"""

UNDO = """
DROP TABLE choreography_event, choreography_inbox, choreography_auditentry;
DROP FUNCTION choreography_make_partitions(date, date);
DROP FUNCTION choreography_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("choreography", "0001_initial")]

    operations = [
        migrations.RunSQL(TABLES, migrations.RunSQL.noop),
        migrations.RunSQL(MAKE, UNDO),
    ]
