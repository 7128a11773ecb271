-- This service's queue. The first start creates it; to do it by hand: psql --file queue.sql URL
CREATE SCHEMA mq_{{ cookiecutter.project_slug.replace("-", "_") }}
    CREATE TABLE subscriptions (listener text PRIMARY KEY, type text NOT NULL)  -- others may add theirs
    CREATE TABLE events (  -- a row for each listener of an event, until it has handled it
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        listener text NOT NULL,
        document bytea NOT NULL,  -- a CloudEvent: JSON, in UTF-8
        stored timestamptz NOT NULL DEFAULT clock_timestamp(),
        due timestamptz DEFAULT clock_timestamp(),  -- future: in hand or waiting; NULL: a dead letter
        attempts int NOT NULL DEFAULT 0,
        dead_letter json  -- the error and its time
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
    CREATE INDEX events_due ON events (listener, due, id);  -- so other listeners' rows cost nothing

-- How another program sends an event: SELECT publish('OrderPlaced', '{"specversion": "1.0", ...}')
CREATE FUNCTION mq_{{ cookiecutter.project_slug.replace("-", "_") }}.publish(type text, document text) RETURNS void BEGIN ATOMIC
    INSERT INTO mq_{{ cookiecutter.project_slug.replace("-", "_") }}.events (listener, document)
        SELECT listener, convert_to($2, 'UTF8') FROM mq_{{ cookiecutter.project_slug.replace("-", "_") }}.subscriptions s WHERE s.type = $1;
    SELECT pg_notify('mq_{{ cookiecutter.project_slug.replace("-", "_") }}', '');
END;
