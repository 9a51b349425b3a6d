-- The log. Append-only by grant: the lifecycle role may INSERT and SELECT, nothing else (R2).
-- Partitioned by the time that a UUIDv7 message id carries, so that all facts of a message lie together.
CREATE SEQUENCE lifecycle.message_events_position CACHE 100;

CREATE TABLE lifecycle.message_events (
    message_id     uuid NOT NULL,
    kind           text COLLATE "C" NOT NULL CHECK (kind IN (
        'created', 'scheduled', 'held', 'routed', 'intent', 'retried', 'sent', 'errored', 'failed', 'expired',
        'superseded', 'bounced', 'cancelled', 'received', 'converted')),
    attempt        smallint NOT NULL CHECK (attempt >= 0),
    key            text COLLATE "C" NOT NULL,
    occurred_at    timestamptz NOT NULL DEFAULT now(),
    application_id uuid NOT NULL,
    reason         text,
    data           jsonb,
    sealed         bytea,
    epoch          smallint NOT NULL DEFAULT current_setting('automata.epoch')::smallint,
    txid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position       bigint NOT NULL DEFAULT nextval('lifecycle.message_events_position'),
    PRIMARY KEY (message_id, kind, attempt, key)
) PARTITION BY RANGE (message_id);
CREATE INDEX message_events_tail ON lifecycle.message_events (epoch, txid, position);

-- The projection: status = fold(events). No index on a column that changes, so that updates stay HOT.
CREATE TABLE lifecycle.messages (
    id              uuid NOT NULL PRIMARY KEY,
    application_id  uuid NOT NULL,
    subscription_id uuid NOT NULL,
    channel         text NOT NULL,
    lane            text NOT NULL CHECK (lane IN ('critical', 'normal', 'bulk')),
    category        text NOT NULL CHECK (category IN ('info', 'ad')),
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN (
        'pending', 'successful', 'failed', 'errored', 'received', 'converted', 'cancelled')),
    attempt         smallint NOT NULL DEFAULT 1,
    ttl             integer NOT NULL CHECK (ttl > 0),
    handoff_id      uuid NOT NULL,
    collapse_hash   bytea,
    reason          text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz,
    received_at     timestamptz,
    converted_at    timestamptz,
    failed_at       timestamptz,
    cancelled_at    timestamptz
) PARTITION BY RANGE (id);
CREATE INDEX messages_collapse
    ON lifecycle.messages (subscription_id, collapse_hash, id) WHERE collapse_hash IS NOT NULL;

-- What was given to the pipeline and is not yet known to be through (R5, R6). One row an envelope.
CREATE TABLE lifecycle.handoffs (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    lane           text NOT NULL CHECK (lane IN ('critical', 'normal', 'bulk')),
    message_ids    uuid[] NOT NULL,
    repairs        smallint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX handoffs_age ON lifecycle.handoffs (lane, created_at);

-- The one mechanism for "later" (R9). Kept small, vacuumed hard: claims slow down with dead rows.
CREATE TABLE lifecycle.due (
    message_id     uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    lane           text NOT NULL CHECK (lane IN ('critical', 'normal', 'bulk')),
    due_at         timestamptz NOT NULL,
    reason         text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX due_when ON lifecycle.due (due_at);

CREATE TABLE lifecycle.idempotency_keys (
    application_id uuid NOT NULL,
    key            text NOT NULL,
    fingerprint    bytea NOT NULL,
    answer         bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, key)
);
CREATE INDEX idempotency_keys_age ON lifecycle.idempotency_keys (created_at);

-- Where each reader of the log stands (R13).
CREATE TABLE lifecycle.cursors (
    name     text PRIMARY KEY,
    epoch    smallint NOT NULL,
    txid     xid8 NOT NULL,
    position bigint NOT NULL
);

-- Raised when a dump is restored or a copy promoted: transaction ids start again, positions of the log do not compare.
CREATE TABLE lifecycle.epochs (
    epoch      smallint PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO lifecycle.epochs (epoch) VALUES (1);

CREATE FUNCTION lifecycle.first_id_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    lpad(to_hex((extract(EPOCH FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20)
)::uuid;

-- Weekly partitions from a week ago to `weeks` ahead. The lifecycle role may create partitions, but owns none.
CREATE FUNCTION lifecycle.ensure_partitions(weeks integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, lifecycle
AS $$
DECLARE
    week  timestamptz;
    label text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('lifecycle.ensure_partitions'));
    FOR n IN -1 .. weeks LOOP
        week := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + n * interval '7 days';
        label := to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW');
        IF to_regclass('lifecycle.messages_' || label) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE lifecycle.%I PARTITION OF lifecycle.messages FOR VALUES FROM (%L) TO (%L) '
                'WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1)',
                'messages_' || label,
                lifecycle.first_id_at(week), lifecycle.first_id_at(week + interval '7 days'));
        END IF;
        IF to_regclass('lifecycle.message_events_' || label) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE lifecycle.%I PARTITION OF lifecycle.message_events FOR VALUES FROM (%L) TO (%L)',
                'message_events_' || label,
                lifecycle.first_id_at(week), lifecycle.first_id_at(week + interval '7 days'));
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION lifecycle.ensure_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lifecycle.ensure_partitions(integer) TO automata_lifecycle;

-- Ids that carry a time outside of the weekly partitions (a clock far off) are kept all the same.
CREATE TABLE lifecycle.messages_other PARTITION OF lifecycle.messages DEFAULT WITH (fillfactor = 50);
CREATE TABLE lifecycle.message_events_other PARTITION OF lifecycle.message_events DEFAULT;
SELECT lifecycle.ensure_partitions(8);

GRANT SELECT, INSERT ON lifecycle.message_events TO automata_lifecycle;
GRANT USAGE ON SEQUENCE lifecycle.message_events_position TO automata_lifecycle;
GRANT SELECT, INSERT, UPDATE ON lifecycle.messages, lifecycle.cursors TO automata_lifecycle;
GRANT SELECT, INSERT, UPDATE, DELETE ON lifecycle.handoffs, lifecycle.due, lifecycle.idempotency_keys
    TO automata_lifecycle;
GRANT SELECT ON lifecycle.epochs TO automata_lifecycle;
