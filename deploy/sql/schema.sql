-- The whole schema: what the numbered files beside this one come to. Written by `make generate`; change a migration.
-- Roles, passwords and the rows that migrations insert are not in it, nor are the weekly partitions.

CREATE SCHEMA application;

CREATE SCHEMA lifecycle;

CREATE SCHEMA lifecycle_archive;

CREATE SCHEMA subscription;

CREATE SCHEMA templating;

CREATE FUNCTION lifecycle.add_partition(parent text, week date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'lifecycle'
    SET lock_timeout TO '75ms'
    AS $$
DECLARE
    made    text := parent || '_' || lifecycle.week_label(week);
    id_name text := CASE parent WHEN 'messages' THEN 'id' ELSE 'message_id' END;
    low     uuid := lifecycle.first_id_of(week);
    high    uuid := lifecycle.first_id_of(week + 7);
    today   date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF parent NOT IN ('messages', 'message_events') OR week <> date_trunc('week', week)::date
        OR week NOT BETWEEN today - 6 AND today + 371 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no week that may be made';
    END IF;
    IF to_regclass('lifecycle.' || made) IS NOT NULL OR NOT pg_try_advisory_xact_lock(hashtext('lifecycle.weeks')) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE lifecycle.%I (LIKE lifecycle.%I INCLUDING ALL EXCLUDING INDEXES)', made, parent);
    IF parent = 'messages' THEN
        EXECUTE format('ALTER TABLE lifecycle.%I SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1)', made);
    END IF;
    EXECUTE format('LOCK TABLE ONLY lifecycle.%I IN SHARE UPDATE EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE lifecycle.%I IN ACCESS EXCLUSIVE MODE', parent || '_other');
    EXECUTE format(
        'WITH moved AS (DELETE FROM lifecycle.%I WHERE %I >= %L AND %I < %L RETURNING *) '
        'INSERT INTO lifecycle.%I SELECT * FROM moved', parent || '_other', id_name, low, id_name, high, made);
    EXECUTE format(
        'ALTER TABLE lifecycle.%I ATTACH PARTITION lifecycle.%I FOR VALUES FROM (%L) TO (%L)', parent, made, low, high);
    RETURN true;
END
$$;

CREATE FUNCTION lifecycle.archive_week(asked date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'lifecycle'
    SET lock_timeout TO '75ms'
    AS $$
DECLARE
    state    record;
    messages text := 'messages_' || lifecycle.week_label(asked);
    events   text := 'message_events_' || lifecycle.week_label(asked);
    newest   record;
BEGIN
    SELECT * INTO state FROM lifecycle.archived_weeks AS w WHERE w.week = asked FOR UPDATE;
    IF NOT coalesce(state.counted, false) OR state.archived_at IS NOT NULL THEN
        RETURN CASE WHEN state.archived_at IS NULL THEN 'uncounted' ELSE 'archived' END;
    END IF;
    IF EXISTS (SELECT FROM lifecycle.due AS d
        WHERE d.message_id >= lifecycle.first_id_of(asked) AND d.message_id < lifecycle.first_id_of(asked + 7)) THEN
        UPDATE lifecycle.archived_weeks AS w SET look_at = now() + interval '1 hour' WHERE w.week = asked;
        RETURN 'open';
    END IF;
    LOCK TABLE ONLY lifecycle.message_events, ONLY lifecycle.messages IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('LOCK TABLE lifecycle.%I, lifecycle.%I, lifecycle.messages_other, lifecycle.message_events_other '
        'IN ACCESS EXCLUSIVE MODE NOWAIT', messages, events);
    -- One step backwards on an index, however large the table is.
    EXECUTE format('SELECT e.epoch, e.txid, e.position, EXISTS (SELECT FROM lifecycle.cursors AS c '
        'WHERE c.name = ''relay'' AND (c.epoch, c.txid, c.position) >= (e.epoch, e.txid, e.position)) AS is_read '
        'FROM (SELECT epoch, txid, position FROM lifecycle.%I ORDER BY epoch DESC, txid DESC, position DESC LIMIT 1) '
        'AS e', events) INTO newest;
    IF (newest.epoch, newest.txid) >= (state.epoch, state.since) THEN
        PERFORM lifecycle.count_anew(asked);
        RETURN 'changed';
    ELSIF NOT newest.is_read THEN
        RETURN 'unread';
    END IF;
    EXECUTE format('ALTER TABLE lifecycle.messages DETACH PARTITION lifecycle.%I', messages);
    EXECUTE format('ALTER TABLE lifecycle.message_events DETACH PARTITION lifecycle.%I', events);
    EXECUTE format('ALTER TABLE lifecycle.%I SET SCHEMA lifecycle_archive', messages);
    EXECUTE format('ALTER TABLE lifecycle.%I SET SCHEMA lifecycle_archive', events);
    UPDATE lifecycle.archived_weeks AS w SET archived_at = now() WHERE w.week = asked;
    RETURN 'archived';
END
$$;

CREATE FUNCTION lifecycle.count_anew(asked date) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'lifecycle'
    AS $$
BEGIN
    DELETE FROM lifecycle.week_counts WHERE week = asked;
    UPDATE lifecycle.archived_weeks
    SET epoch = current_setting('automata.epoch')::smallint, since = pg_snapshot_xmin(pg_current_snapshot()),
        counted_to = lifecycle.first_id_of(asked), counted = false, open_id = NULL, look_at = now()
    WHERE week = asked;
END
$$;

CREATE FUNCTION lifecycle.count_week(asked date, page integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'lifecycle'
    SET lock_timeout TO '75ms'
    AS $$
DECLARE
    state      record;
    last       uuid;
    found      integer;
    first_open uuid;
BEGIN
    IF asked <> date_trunc('week', asked)::date OR asked + 8 > (now() AT TIME ZONE 'UTC')::date THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no week that is over';
    END IF;
    INSERT INTO lifecycle.archived_weeks AS w (week, epoch, since, counted_to)
    VALUES (asked, current_setting('automata.epoch')::smallint, pg_snapshot_xmin(pg_current_snapshot()),
        lifecycle.first_id_of(asked))
    ON CONFLICT DO NOTHING;
    SELECT * INTO state FROM lifecycle.archived_weeks AS w WHERE w.week = asked FOR UPDATE;
    IF state.archived_at IS NOT NULL THEN
        RETURN 'archived';
    ELSIF state.counted THEN
        RETURN 'counted';
    ELSIF state.open_id IS NOT NULL THEN
        IF EXISTS (SELECT FROM lifecycle.messages AS m
            WHERE m.id = state.open_id AND m.status IN ('pending', 'errored')) THEN
            UPDATE lifecycle.archived_weeks AS w SET look_at = now() + interval '1 hour' WHERE w.week = asked;
            RETURN 'open';
        END IF;
        PERFORM lifecycle.count_anew(asked);
        SELECT * INTO state FROM lifecycle.archived_weeks AS w WHERE w.week = asked;
    END IF;
    WITH looked_at AS MATERIALIZED (
        SELECT m.id, m.application_id, (m.created_at AT TIME ZONE 'UTC')::date AS day, m.channel, m.category, m.status
        FROM lifecycle.messages AS m
        WHERE m.id > state.counted_to AND m.id < lifecycle.first_id_of(asked + 7)
        ORDER BY m.id LIMIT page
    ), counts AS (
        INSERT INTO lifecycle.week_counts AS c (week, application_id, day, channel, category, status, messages)
        SELECT asked, l.application_id, l.day, l.channel, l.category, l.status, count(*)
        FROM looked_at AS l GROUP BY l.application_id, l.day, l.channel, l.category, l.status
        ON CONFLICT (week, application_id, day, channel, category, status)
            DO UPDATE SET messages = c.messages + excluded.messages
    )
    SELECT max(l.id::text)::uuid, count(*), min(l.id::text) FILTER (WHERE l.status IN ('pending', 'errored'))::uuid
    INTO last, found, first_open FROM looked_at AS l;
    IF first_open IS NOT NULL THEN
        UPDATE lifecycle.archived_weeks AS w SET open_id = first_open, look_at = now() + interval '1 hour'
        WHERE w.week = asked;
        RETURN 'open';
    END IF;
    UPDATE lifecycle.archived_weeks AS w SET counted_to = coalesce(last, w.counted_to), counted = found < page
    WHERE w.week = asked;
    RETURN CASE WHEN found < page THEN 'counted' ELSE 'more' END;
END
$$;

CREATE FUNCTION lifecycle.first_id_at(moment timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((lpad(to_hex(((EXTRACT(epoch FROM moment) * (1000)::numeric))::bigint), 12, '0'::text) || repeat('0'::text, 20)))::uuid;

CREATE FUNCTION lifecycle.first_id_of(week date) RETURNS uuid
    LANGUAGE sql STABLE
    RETURN lifecycle.first_id_at(((week)::timestamp without time zone AT TIME ZONE 'UTC'::text));

CREATE FUNCTION lifecycle.week_label(week date) RETURNS text
    LANGUAGE sql STABLE
    RETURN to_char((week)::timestamp with time zone, 'IYYY"w"IW'::text);

CREATE TABLE application.api_keys (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    name text NOT NULL,
    keyed_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone,
    hint text DEFAULT ''::text NOT NULL,
    expires_at timestamp with time zone,
    lifetime interval,
    last_used_at timestamp with time zone,
    rotated_from uuid,
    CONSTRAINT api_keys_hint_check CHECK ((length(hint) <= 8)),
    CONSTRAINT api_keys_keyed_hash_check CHECK ((length(keyed_hash) = 32)),
    CONSTRAINT api_keys_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)))
);

CREATE TABLE application.applications (
    id uuid NOT NULL,
    name text NOT NULL,
    tier text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    identity_public_key text,
    identity_required boolean DEFAULT false NOT NULL,
    CONSTRAINT applications_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT applications_tier_check CHECK ((tier = ANY (ARRAY['default'::text, 'premium'::text, 'enterprise'::text, 'unlimited'::text])))
);

CREATE TABLE application.audit_log (
    application_id uuid NOT NULL,
    "position" bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    request_id text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE application.audit_log ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME application.audit_log_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE application.credentials (
    application_id uuid NOT NULL,
    provider text NOT NULL,
    version integer NOT NULL,
    sealed bytea NOT NULL,
    wrapped_key bytea NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT credentials_provider_check CHECK ((provider = ANY (ARRAY['apns'::text, 'fcm'::text]))),
    CONSTRAINT credentials_version_check CHECK ((version > 0))
);

CREATE UNLOGGED TABLE application.rate_windows (
    application_id uuid NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    granted integer NOT NULL,
    ceiling integer NOT NULL,
    CONSTRAINT rate_windows_ceiling_check CHECK ((ceiling >= 0)),
    CONSTRAINT rate_windows_granted_check CHECK ((granted >= 0))
);

CREATE TABLE application.stops (
    application_id uuid NOT NULL,
    channel text NOT NULL,
    actor text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT stops_channel_check CHECK ((channel ~ '^([a-z][a-z_]{0,31}|[*])$'::text)),
    CONSTRAINT stops_reason_check CHECK ((length(reason) <= 500))
);

CREATE TABLE lifecycle.alerts (
    id bigint NOT NULL,
    msg_id uuid DEFAULT gen_random_uuid() NOT NULL,
    application_id uuid NOT NULL,
    alert jsonb NOT NULL
);

ALTER TABLE lifecycle.alerts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME lifecycle.alerts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE lifecycle.archived_weeks (
    week date NOT NULL,
    epoch smallint NOT NULL,
    since xid8 NOT NULL,
    counted_to uuid NOT NULL,
    counted boolean DEFAULT false NOT NULL,
    open_id uuid,
    look_at timestamp with time zone DEFAULT now() NOT NULL,
    archived_at timestamp with time zone
);

CREATE TABLE lifecycle.week_counts (
    week date NOT NULL,
    application_id uuid NOT NULL,
    day date NOT NULL,
    channel text NOT NULL,
    category text NOT NULL,
    status text NOT NULL,
    messages bigint NOT NULL
);

CREATE VIEW lifecycle.archived_counts AS
 SELECT c.week,
    c.application_id,
    c.day,
    c.channel,
    c.category,
    c.status,
    c.messages
   FROM (lifecycle.week_counts c
     JOIN lifecycle.archived_weeks w ON ((w.week = c.week)))
  WHERE (w.archived_at IS NOT NULL);

CREATE SEQUENCE lifecycle.message_events_position
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 100;

CREATE TABLE lifecycle.message_events (
    message_id uuid NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    attempt smallint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    application_id uuid NOT NULL,
    reason text,
    data jsonb,
    sealed bytea,
    epoch smallint DEFAULT (current_setting('automata.epoch'::text))::smallint NOT NULL,
    txid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "position" bigint DEFAULT nextval('lifecycle.message_events_position'::regclass) NOT NULL,
    CONSTRAINT message_events_attempt_check CHECK ((attempt >= 0)),
    CONSTRAINT message_events_kind_check CHECK ((kind = ANY (ARRAY['created'::text, 'scheduled'::text, 'held'::text, 'routed'::text, 'intent'::text, 'retried'::text, 'sent'::text, 'errored'::text, 'failed'::text, 'expired'::text, 'superseded'::text, 'bounced'::text, 'cancelled'::text, 'received'::text, 'converted'::text])))
)
PARTITION BY RANGE (message_id);

CREATE TABLE lifecycle.messages (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    channel text NOT NULL,
    lane text NOT NULL,
    category text NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    attempt smallint DEFAULT 1 NOT NULL,
    ttl integer NOT NULL,
    handoff_id uuid NOT NULL,
    collapse_hash bytea,
    reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    received_at timestamp with time zone,
    converted_at timestamp with time zone,
    failed_at timestamp with time zone,
    cancelled_at timestamp with time zone,
    user_id uuid,
    template_id uuid,
    template_version integer,
    waited_ms bigint DEFAULT 0 NOT NULL,
    uncounted smallint DEFAULT 0 NOT NULL,
    CONSTRAINT messages_category_check CHECK ((category = ANY (ARRAY['info'::text, 'ad'::text]))),
    CONSTRAINT messages_lane_check CHECK ((lane = ANY (ARRAY['critical'::text, 'normal'::text, 'bulk'::text]))),
    CONSTRAINT messages_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'successful'::text, 'failed'::text, 'errored'::text, 'received'::text, 'converted'::text, 'cancelled'::text]))),
    CONSTRAINT messages_ttl_check CHECK ((ttl > 0))
)
PARTITION BY RANGE (id);

CREATE VIEW lifecycle.attached_weeks AS
 SELECT to_date("substring"((c.relname)::text, '[0-9]{4}w[0-9]{2}$'::text), 'IYYY"w"IW'::text) AS week
   FROM (pg_inherits i
     JOIN pg_class c ON ((c.oid = i.inhrelid)))
  WHERE ((i.inhparent = ANY (ARRAY[('lifecycle.messages'::regclass)::oid, ('lifecycle.message_events'::regclass)::oid])) AND (c.relname ~ '^message(s|_events)_[0-9]{4}w[0-9]{2}$'::text))
  GROUP BY (to_date("substring"((c.relname)::text, '[0-9]{4}w[0-9]{2}$'::text), 'IYYY"w"IW'::text))
 HAVING (count(*) = 2);

CREATE TABLE lifecycle.breakers (
    application_id uuid NOT NULL,
    channel text NOT NULL,
    reason text NOT NULL,
    retry_class text NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    probe_at timestamp with time zone NOT NULL,
    probed_at timestamp with time zone,
    failures integer DEFAULT 1 NOT NULL,
    CONSTRAINT breakers_channel_check CHECK (((length(channel) >= 1) AND (length(channel) <= 32))),
    CONSTRAINT breakers_failures_check CHECK ((failures > 0)),
    CONSTRAINT breakers_reason_check CHECK ((length(reason) <= 200)),
    CONSTRAINT breakers_retry_class_check CHECK ((retry_class = ANY (ARRAY['network'::text, 'outage'::text, 'credentials'::text])))
);

CREATE TABLE lifecycle.cursors (
    name text NOT NULL,
    epoch smallint NOT NULL,
    txid xid8 NOT NULL,
    "position" bigint NOT NULL
);

CREATE TABLE lifecycle.due (
    message_id uuid NOT NULL,
    application_id uuid NOT NULL,
    lane text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    released_at timestamp with time zone,
    CONSTRAINT due_lane_check CHECK ((lane = ANY (ARRAY['critical'::text, 'normal'::text, 'bulk'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='0');

CREATE TABLE lifecycle.epochs (
    epoch smallint NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE lifecycle.handoffs (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    lane text NOT NULL,
    message_ids uuid[] NOT NULL,
    repairs smallint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    published boolean DEFAULT true NOT NULL,
    size smallint DEFAULT 0 NOT NULL,
    expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT handoffs_lane_check CHECK ((lane = ANY (ARRAY['critical'::text, 'normal'::text, 'bulk'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='0');

CREATE TABLE lifecycle.idempotency_keys (
    application_id uuid NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    subjects uuid[] DEFAULT '{}'::uuid[] NOT NULL
);

CREATE TABLE lifecycle.message_events_other (
    message_id uuid CONSTRAINT message_events_message_id_not_null NOT NULL,
    kind text CONSTRAINT message_events_kind_not_null NOT NULL COLLATE pg_catalog."C",
    attempt smallint CONSTRAINT message_events_attempt_not_null NOT NULL,
    key text CONSTRAINT message_events_key_not_null NOT NULL COLLATE pg_catalog."C",
    occurred_at timestamp with time zone DEFAULT now() CONSTRAINT message_events_occurred_at_not_null NOT NULL,
    application_id uuid CONSTRAINT message_events_application_id_not_null NOT NULL,
    reason text,
    data jsonb,
    sealed bytea,
    epoch smallint DEFAULT (current_setting('automata.epoch'::text))::smallint CONSTRAINT message_events_epoch_not_null NOT NULL,
    txid xid8 DEFAULT pg_current_xact_id() CONSTRAINT message_events_txid_not_null NOT NULL,
    "position" bigint DEFAULT nextval('lifecycle.message_events_position'::regclass) CONSTRAINT message_events_position_not_null NOT NULL,
    CONSTRAINT message_events_attempt_check CHECK ((attempt >= 0)),
    CONSTRAINT message_events_kind_check CHECK ((kind = ANY (ARRAY['created'::text, 'scheduled'::text, 'held'::text, 'routed'::text, 'intent'::text, 'retried'::text, 'sent'::text, 'errored'::text, 'failed'::text, 'expired'::text, 'superseded'::text, 'bounced'::text, 'cancelled'::text, 'received'::text, 'converted'::text])))
);

CREATE TABLE lifecycle.messages_other (
    id uuid CONSTRAINT messages_id_not_null NOT NULL,
    application_id uuid CONSTRAINT messages_application_id_not_null NOT NULL,
    subscription_id uuid CONSTRAINT messages_subscription_id_not_null NOT NULL,
    channel text CONSTRAINT messages_channel_not_null NOT NULL,
    lane text CONSTRAINT messages_lane_not_null NOT NULL,
    category text CONSTRAINT messages_category_not_null NOT NULL,
    status text DEFAULT 'pending'::text CONSTRAINT messages_status_not_null NOT NULL,
    attempt smallint DEFAULT 1 CONSTRAINT messages_attempt_not_null NOT NULL,
    ttl integer CONSTRAINT messages_ttl_not_null NOT NULL,
    handoff_id uuid CONSTRAINT messages_handoff_id_not_null NOT NULL,
    collapse_hash bytea,
    reason text,
    created_at timestamp with time zone DEFAULT now() CONSTRAINT messages_created_at_not_null NOT NULL,
    sent_at timestamp with time zone,
    received_at timestamp with time zone,
    converted_at timestamp with time zone,
    failed_at timestamp with time zone,
    cancelled_at timestamp with time zone,
    user_id uuid,
    template_id uuid,
    template_version integer,
    waited_ms bigint DEFAULT 0 CONSTRAINT messages_waited_ms_not_null NOT NULL,
    uncounted smallint DEFAULT 0 CONSTRAINT messages_uncounted_not_null NOT NULL,
    CONSTRAINT messages_category_check CHECK ((category = ANY (ARRAY['info'::text, 'ad'::text]))),
    CONSTRAINT messages_lane_check CHECK ((lane = ANY (ARRAY['critical'::text, 'normal'::text, 'bulk'::text]))),
    CONSTRAINT messages_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'successful'::text, 'failed'::text, 'errored'::text, 'received'::text, 'converted'::text, 'cancelled'::text]))),
    CONSTRAINT messages_ttl_check CHECK ((ttl > 0))
)
WITH (fillfactor='50');

CREATE TABLE lifecycle.receipt_cursors (
    application_id uuid NOT NULL,
    walk smallint NOT NULL,
    last_id uuid NOT NULL,
    CONSTRAINT receipt_cursors_walk_check CHECK ((walk = ANY (ARRAY[0, 1])))
);

CREATE TABLE lifecycle.receipts_awaited (
    message_id uuid NOT NULL,
    application_id uuid NOT NULL,
    look_at timestamp with time zone NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000', autovacuum_vacuum_cost_delay='0');

CREATE TABLE lifecycle.reconciliations (
    lane text NOT NULL,
    id uuid NOT NULL,
    epoch smallint NOT NULL,
    handoff_ids uuid[] NOT NULL,
    stage smallint DEFAULT 0 NOT NULL,
    stream_created timestamp with time zone,
    last_seq bigint,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT reconciliations_lane_check CHECK ((lane = ANY (ARRAY['critical'::text, 'normal'::text, 'bulk'::text]))),
    CONSTRAINT reconciliations_stage_check CHECK (((stage >= 0) AND (stage <= 5)))
);

CREATE TABLE lifecycle.reserved_sends (
    message_id uuid NOT NULL,
    application_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    category text NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT reserved_sends_category_check CHECK ((category = ANY (ARRAY['info'::text, 'ad'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.05');

CREATE TABLE subscription.data_keys (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    user_id uuid,
    subscription_id uuid
);

CREATE TABLE subscription.erasures (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    user_id uuid NOT NULL,
    subscriptions uuid[] NOT NULL,
    key_ids uuid[] NOT NULL,
    actor text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone
);

CREATE TABLE subscription.import_errors (
    application_id uuid NOT NULL,
    import_id uuid NOT NULL,
    line bigint NOT NULL,
    code text NOT NULL,
    field text
);

CREATE TABLE subscription.import_parts (
    application_id uuid NOT NULL,
    import_id uuid NOT NULL,
    first_line bigint NOT NULL,
    lines integer NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT import_parts_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT import_parts_first_line_check CHECK ((first_line > 0)),
    CONSTRAINT import_parts_lines_check CHECK ((lines > 0))
);

CREATE TABLE subscription.imports (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    actor text NOT NULL,
    status text DEFAULT 'running'::text NOT NULL,
    lines_done bigint DEFAULT 0 NOT NULL,
    created bigint DEFAULT 0 NOT NULL,
    updated bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT imports_status_check CHECK ((status = ANY (ARRAY['running'::text, 'completed'::text, 'failed'::text])))
);

CREATE TABLE subscription.subscription_events (
    "position" bigint NOT NULL,
    subscription_id uuid NOT NULL,
    application_id uuid NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    reason text,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    source text DEFAULT 'api'::text NOT NULL,
    CONSTRAINT subscription_events_kind_check CHECK ((kind = ANY (ARRAY['created'::text, 'subscribed'::text, 'unsubscribed'::text, 'disabled'::text, 'error'::text, 'status_changed'::text, 'token_updated'::text, 'device_updated'::text, 'tags_changed'::text, 'consent_changed'::text, 'user_linked'::text, 'user_unlinked'::text, 'confirmed'::text, 'archived'::text, 'erased'::text]))),
    CONSTRAINT subscription_events_source_check CHECK ((source = ANY (ARRAY['api'::text, 'user'::text, 'sdk'::text, 'provider'::text, 'import'::text])))
);

ALTER TABLE subscription.subscription_events ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME subscription.subscription_events_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE subscription.subscriptions (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    type text NOT NULL,
    status smallint NOT NULL,
    user_id uuid,
    key_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    token_hint text NOT NULL,
    token_kind text NOT NULL,
    token_version integer DEFAULT 1 NOT NULL,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    sealed_token bytea NOT NULL,
    device_info jsonb DEFAULT '{}'::jsonb NOT NULL,
    country text GENERATED ALWAYS AS (upper((device_info ->> ('country_code'::text COLLATE "C")))) STORED,
    test boolean GENERATED ALWAYS AS (COALESCE(((device_info ->> 'test_type'::text) = ANY (ARRAY['1'::text, '2'::text])), false)) STORED NOT NULL,
    tags jsonb DEFAULT '{}'::jsonb NOT NULL,
    ad_consent boolean NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    subscribed_at timestamp with time zone,
    unsubscribed_at timestamp with time zone,
    last_active_at timestamp with time zone,
    archived_at timestamp with time zone,
    wrapped_key bytea,
    installation_id text COLLATE pg_catalog."C",
    secret_hash bytea,
    night_consent boolean DEFAULT false NOT NULL,
    language text GENERATED ALWAYS AS ((device_info ->> ('device_language'::text COLLATE "C"))) STORED,
    timezone text GENERATED ALWAYS AS ((device_info ->> ('timezone'::text COLLATE "C"))) STORED,
    quiet_hours jsonb,
    CONSTRAINT subscriptions_installation_id_check CHECK (((length(installation_id) >= 1) AND (length(installation_id) <= 128))),
    CONSTRAINT subscriptions_secret_hash_check CHECK ((length(secret_hash) = 32)),
    CONSTRAINT subscriptions_token_hash_check CHECK ((length(token_hash) = 32)),
    CONSTRAINT subscriptions_token_kind_check CHECK ((token_kind = ANY (ARRAY['token'::text, 'fid'::text]))),
    CONSTRAINT subscriptions_token_version_check CHECK ((token_version > 0)),
    CONSTRAINT subscriptions_type_check CHECK ((type = ANY (ARRAY['iOSPush'::text, 'AndroidPush'::text, 'Email'::text, 'SMS'::text, 'KakaoTalk'::text, 'InAppMessage'::text, 'WebPush'::text])))
)
WITH (fillfactor='80');

CREATE TABLE subscription.users (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    external_id text COLLATE pg_catalog."C",
    key_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_active_at timestamp with time zone,
    erased_at timestamp with time zone,
    CONSTRAINT users_external_id_check CHECK (((length(external_id) >= 1) AND (length(external_id) <= 255)))
);

CREATE TABLE templating.templates (
    id uuid NOT NULL,
    application_id uuid NOT NULL,
    name text NOT NULL,
    description text,
    is_active boolean DEFAULT true NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    actor text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT templates_description_check CHECK ((length(description) <= 2000)),
    CONSTRAINT templates_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT templates_version_check CHECK ((version > 0))
);

CREATE TABLE templating.versions (
    template_id uuid NOT NULL,
    version integer NOT NULL,
    application_id uuid NOT NULL,
    content jsonb NOT NULL,
    default_locale text,
    variants jsonb DEFAULT '[]'::jsonb NOT NULL,
    variables text[] DEFAULT '{}'::text[] NOT NULL,
    actor text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT versions_version_check CHECK ((version > 0))
);

ALTER TABLE ONLY lifecycle.message_events ATTACH PARTITION lifecycle.message_events_other DEFAULT;

ALTER TABLE ONLY lifecycle.messages ATTACH PARTITION lifecycle.messages_other DEFAULT;

ALTER TABLE ONLY application.api_keys
    ADD CONSTRAINT api_keys_keyed_hash_key UNIQUE (keyed_hash);

ALTER TABLE ONLY application.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY application.applications
    ADD CONSTRAINT applications_pkey PRIMARY KEY (id);

ALTER TABLE ONLY application.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (application_id, "position");

ALTER TABLE ONLY application.credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (application_id, provider);

ALTER TABLE ONLY application.rate_windows
    ADD CONSTRAINT rate_windows_pkey PRIMARY KEY (application_id, starts_at);

ALTER TABLE ONLY application.stops
    ADD CONSTRAINT stops_pkey PRIMARY KEY (application_id, channel);

ALTER TABLE ONLY lifecycle.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY lifecycle.archived_weeks
    ADD CONSTRAINT archived_weeks_pkey PRIMARY KEY (week);

ALTER TABLE ONLY lifecycle.breakers
    ADD CONSTRAINT breakers_pkey PRIMARY KEY (application_id, channel);

ALTER TABLE ONLY lifecycle.cursors
    ADD CONSTRAINT cursors_pkey PRIMARY KEY (name);

ALTER TABLE ONLY lifecycle.due
    ADD CONSTRAINT due_pkey PRIMARY KEY (message_id);

ALTER TABLE ONLY lifecycle.epochs
    ADD CONSTRAINT epochs_pkey PRIMARY KEY (epoch);

ALTER TABLE ONLY lifecycle.handoffs
    ADD CONSTRAINT handoffs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY lifecycle.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (application_id, key);

ALTER TABLE ONLY lifecycle.message_events
    ADD CONSTRAINT message_events_pkey PRIMARY KEY (message_id, kind, attempt, key);

ALTER TABLE ONLY lifecycle.message_events_other
    ADD CONSTRAINT message_events_other_pkey PRIMARY KEY (message_id, kind, attempt, key);

ALTER TABLE ONLY lifecycle.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (id);

ALTER TABLE ONLY lifecycle.messages_other
    ADD CONSTRAINT messages_other_pkey PRIMARY KEY (id);

ALTER TABLE ONLY lifecycle.receipt_cursors
    ADD CONSTRAINT receipt_cursors_pkey PRIMARY KEY (application_id, walk);

ALTER TABLE ONLY lifecycle.receipts_awaited
    ADD CONSTRAINT receipts_awaited_pkey PRIMARY KEY (message_id);

ALTER TABLE ONLY lifecycle.reconciliations
    ADD CONSTRAINT reconciliations_pkey PRIMARY KEY (lane);

ALTER TABLE ONLY lifecycle.reserved_sends
    ADD CONSTRAINT reserved_sends_pkey PRIMARY KEY (message_id);

ALTER TABLE ONLY lifecycle.week_counts
    ADD CONSTRAINT week_counts_pkey PRIMARY KEY (week, application_id, day, channel, category, status);

ALTER TABLE ONLY subscription.data_keys
    ADD CONSTRAINT data_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY subscription.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (id);

ALTER TABLE ONLY subscription.import_errors
    ADD CONSTRAINT import_errors_pkey PRIMARY KEY (application_id, import_id, line);

ALTER TABLE ONLY subscription.import_parts
    ADD CONSTRAINT import_parts_pkey PRIMARY KEY (application_id, import_id, first_line);

ALTER TABLE ONLY subscription.imports
    ADD CONSTRAINT imports_pkey PRIMARY KEY (application_id, id);

ALTER TABLE ONLY subscription.subscription_events
    ADD CONSTRAINT subscription_events_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY subscription.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY subscription.users
    ADD CONSTRAINT users_application_id_external_id_key UNIQUE (application_id, external_id);

ALTER TABLE ONLY subscription.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY templating.templates
    ADD CONSTRAINT templates_application_id_name_key UNIQUE (application_id, name);

ALTER TABLE ONLY templating.templates
    ADD CONSTRAINT templates_pkey PRIMARY KEY (id);

ALTER TABLE ONLY templating.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (template_id, version);

CREATE INDEX api_keys_application ON application.api_keys USING btree (application_id);

CREATE INDEX audit_log_action ON application.audit_log USING btree (application_id, action, "position");

CREATE INDEX audit_log_actor ON application.audit_log USING btree (application_id, actor, "position");

CREATE INDEX audit_log_resource ON application.audit_log USING btree (application_id, resource, "position");

CREATE INDEX audit_log_time ON application.audit_log USING btree (application_id, occurred_at);

CREATE INDEX due_held ON lifecycle.due USING btree (application_id, reason, message_id) WHERE ((released_at IS NULL) AND ((reason ~~ 'breaker:%'::text) OR (reason ~~ 'emergency_stop:%'::text)));

CREATE INDEX due_pressed ON lifecycle.due USING btree (application_id, lane) WHERE (reason = ANY (ARRAY['rate_limit'::text, 'provider_slow'::text]));

CREATE INDEX due_released ON lifecycle.due USING btree (released_at) WHERE (released_at IS NOT NULL);

CREATE INDEX due_turns ON lifecycle.due USING btree (lane, application_id, due_at);

CREATE INDEX due_when ON lifecycle.due USING btree (due_at);

CREATE INDEX handoffs_age ON lifecycle.handoffs USING btree (lane, created_at) WHERE published;

CREATE INDEX handoffs_expiry ON lifecycle.handoffs USING btree (expires_at);

CREATE INDEX handoffs_looked_at ON lifecycle.handoffs USING btree (lane, id) WHERE published;

CREATE INDEX handoffs_published ON lifecycle.handoffs USING btree (application_id, lane) INCLUDE (size) WHERE published;

CREATE INDEX handoffs_waiting ON lifecycle.handoffs USING btree (lane, application_id, id) WHERE (NOT published);

CREATE INDEX idempotency_keys_age ON lifecycle.idempotency_keys USING btree (created_at);

CREATE INDEX idempotency_keys_subjects ON lifecycle.idempotency_keys USING gin (subjects) WHERE (subjects <> '{}'::uuid[]);

CREATE INDEX message_events_tail ON ONLY lifecycle.message_events USING btree (epoch, txid, "position");

CREATE INDEX message_events_other_epoch_txid_position_idx ON lifecycle.message_events_other USING btree (epoch, txid, "position");

CREATE INDEX messages_list ON ONLY lifecycle.messages USING btree (application_id, id);

CREATE INDEX messages_other_application_id_id_idx ON lifecycle.messages_other USING btree (application_id, id);

CREATE INDEX messages_subscription ON ONLY lifecycle.messages USING btree (subscription_id, id);

CREATE INDEX messages_other_subscription_id_id_idx ON lifecycle.messages_other USING btree (subscription_id, id);

CREATE INDEX messages_template ON ONLY lifecycle.messages USING btree (template_id, id) WHERE (template_id IS NOT NULL);

CREATE INDEX messages_other_template_id_id_idx ON lifecycle.messages_other USING btree (template_id, id) WHERE (template_id IS NOT NULL);

CREATE INDEX messages_user ON ONLY lifecycle.messages USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX messages_other_user_id_id_idx ON lifecycle.messages_other USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX receipts_awaited_look ON lifecycle.receipts_awaited USING btree (look_at);

CREATE INDEX reserved_sends_age ON lifecycle.reserved_sends USING btree (at);

CREATE INDEX reserved_sends_subject ON lifecycle.reserved_sends USING btree (application_id, subject_id, at) INCLUDE (category);

CREATE INDEX data_keys_user ON subscription.data_keys USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE INDEX erasures_open ON subscription.erasures USING btree (requested_at) WHERE (completed_at IS NULL);

CREATE INDEX subscription_events_link ON subscription.subscription_events USING btree (((data ->> 'user_id'::text)), subscription_id) WHERE (kind = ANY (ARRAY['user_linked'::text, 'user_unlinked'::text]));

CREATE INDEX subscription_events_subscription ON subscription.subscription_events USING btree (subscription_id, "position");

CREATE UNIQUE INDEX subscriptions_installation ON subscription.subscriptions USING btree (application_id, type, installation_id) WHERE ((installation_id IS NOT NULL) AND (archived_at IS NULL));

CREATE INDEX subscriptions_list ON subscription.subscriptions USING btree (application_id, id) WHERE (archived_at IS NULL);

CREATE INDEX subscriptions_list_status ON subscription.subscriptions USING btree (application_id, status, id) WHERE ((archived_at IS NULL) AND (status <> 1));

CREATE INDEX subscriptions_list_type ON subscription.subscriptions USING btree (application_id, type, id) WHERE (archived_at IS NULL);

CREATE UNIQUE INDEX subscriptions_secret ON subscription.subscriptions USING btree (application_id, secret_hash) WHERE (secret_hash IS NOT NULL);

CREATE UNIQUE INDEX subscriptions_token ON subscription.subscriptions USING btree (application_id, token_hash) WHERE (archived_at IS NULL);

CREATE INDEX subscriptions_user ON subscription.subscriptions USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE INDEX templates_list ON templating.templates USING btree (application_id, id);

ALTER INDEX lifecycle.message_events_tail ATTACH PARTITION lifecycle.message_events_other_epoch_txid_position_idx;

ALTER INDEX lifecycle.message_events_pkey ATTACH PARTITION lifecycle.message_events_other_pkey;

ALTER INDEX lifecycle.messages_list ATTACH PARTITION lifecycle.messages_other_application_id_id_idx;

ALTER INDEX lifecycle.messages_pkey ATTACH PARTITION lifecycle.messages_other_pkey;

ALTER INDEX lifecycle.messages_subscription ATTACH PARTITION lifecycle.messages_other_subscription_id_id_idx;

ALTER INDEX lifecycle.messages_template ATTACH PARTITION lifecycle.messages_other_template_id_id_idx;

ALTER INDEX lifecycle.messages_user ATTACH PARTITION lifecycle.messages_other_user_id_id_idx;

ALTER TABLE ONLY application.api_keys
    ADD CONSTRAINT api_keys_application_id_fkey FOREIGN KEY (application_id) REFERENCES application.applications(id);

ALTER TABLE ONLY application.credentials
    ADD CONSTRAINT credentials_application_id_fkey FOREIGN KEY (application_id) REFERENCES application.applications(id);

ALTER TABLE ONLY application.stops
    ADD CONSTRAINT stops_application_id_fkey FOREIGN KEY (application_id) REFERENCES application.applications(id);

ALTER TABLE ONLY lifecycle.week_counts
    ADD CONSTRAINT week_counts_week_fkey FOREIGN KEY (week) REFERENCES lifecycle.archived_weeks(week);

ALTER TABLE ONLY subscription.subscriptions
    ADD CONSTRAINT subscriptions_user_id_fkey FOREIGN KEY (user_id) REFERENCES subscription.users(id);

ALTER TABLE ONLY templating.versions
    ADD CONSTRAINT versions_template_id_fkey FOREIGN KEY (template_id) REFERENCES templating.templates(id);

GRANT USAGE ON SCHEMA application TO automata_application;

GRANT USAGE ON SCHEMA lifecycle TO automata_lifecycle;

REVOKE USAGE ON SCHEMA public FROM PUBLIC;

GRANT USAGE ON SCHEMA subscription TO automata_subscription;

GRANT USAGE ON SCHEMA templating TO automata_templating;

REVOKE ALL ON FUNCTION lifecycle.add_partition(parent text, week date) FROM PUBLIC;
GRANT ALL ON FUNCTION lifecycle.add_partition(parent text, week date) TO automata_lifecycle;

REVOKE ALL ON FUNCTION lifecycle.archive_week(asked date) FROM PUBLIC;
GRANT ALL ON FUNCTION lifecycle.archive_week(asked date) TO automata_lifecycle;

REVOKE ALL ON FUNCTION lifecycle.count_anew(asked date) FROM PUBLIC;

REVOKE ALL ON FUNCTION lifecycle.count_week(asked date, page integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lifecycle.count_week(asked date, page integer) TO automata_lifecycle;

GRANT SELECT,INSERT ON TABLE application.api_keys TO automata_application;

GRANT UPDATE(revoked_at) ON TABLE application.api_keys TO automata_application;

GRANT UPDATE(expires_at) ON TABLE application.api_keys TO automata_application;

GRANT UPDATE(last_used_at) ON TABLE application.api_keys TO automata_application;

GRANT SELECT,INSERT ON TABLE application.applications TO automata_application;

GRANT UPDATE(name) ON TABLE application.applications TO automata_application;

GRANT UPDATE(tier) ON TABLE application.applications TO automata_application;

GRANT UPDATE(settings) ON TABLE application.applications TO automata_application;

GRANT UPDATE(identity_public_key) ON TABLE application.applications TO automata_application;

GRANT UPDATE(identity_required) ON TABLE application.applications TO automata_application;

GRANT SELECT,INSERT ON TABLE application.audit_log TO automata_application;

GRANT SELECT,INSERT,DELETE ON TABLE application.credentials TO automata_application;

GRANT UPDATE(version) ON TABLE application.credentials TO automata_application;

GRANT UPDATE(sealed) ON TABLE application.credentials TO automata_application;

GRANT UPDATE(wrapped_key) ON TABLE application.credentials TO automata_application;

GRANT UPDATE(updated_at) ON TABLE application.credentials TO automata_application;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE application.rate_windows TO automata_application;

GRANT SELECT,INSERT,DELETE ON TABLE application.stops TO automata_application;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE lifecycle.alerts TO automata_lifecycle;

GRANT SELECT ON TABLE lifecycle.archived_weeks TO automata_lifecycle;

GRANT SELECT ON TABLE lifecycle.week_counts TO automata_lifecycle;

GRANT SELECT ON TABLE lifecycle.archived_counts TO automata_lifecycle;

GRANT USAGE ON SEQUENCE lifecycle.message_events_position TO automata_lifecycle;

GRANT SELECT,INSERT ON TABLE lifecycle.message_events TO automata_lifecycle;

GRANT SELECT,INSERT,UPDATE ON TABLE lifecycle.messages TO automata_lifecycle;

GRANT SELECT ON TABLE lifecycle.attached_weeks TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE lifecycle.breakers TO automata_lifecycle;

GRANT SELECT,INSERT,UPDATE ON TABLE lifecycle.cursors TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE lifecycle.due TO automata_lifecycle;

GRANT SELECT ON TABLE lifecycle.epochs TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE lifecycle.handoffs TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE lifecycle.idempotency_keys TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE lifecycle.receipt_cursors TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,MAINTAIN,UPDATE ON TABLE lifecycle.receipts_awaited TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE lifecycle.reconciliations TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,MAINTAIN ON TABLE lifecycle.reserved_sends TO automata_lifecycle;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE subscription.data_keys TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.erasures TO automata_subscription;

GRANT UPDATE(completed_at) ON TABLE subscription.erasures TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.import_errors TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.import_parts TO automata_subscription;

GRANT SELECT,INSERT,UPDATE ON TABLE subscription.imports TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.subscription_events TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(status) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(user_id) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(key_id) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(token_hash) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(token_hint) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(token_kind) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(token_version) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(registered_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(sealed_token) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(device_info) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(tags) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(ad_consent) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(updated_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(subscribed_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(unsubscribed_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(last_active_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(archived_at) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(wrapped_key) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(installation_id) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(secret_hash) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(night_consent) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT UPDATE(quiet_hours) ON TABLE subscription.subscriptions TO automata_subscription;

GRANT SELECT,INSERT ON TABLE subscription.users TO automata_subscription;

GRANT UPDATE(external_id) ON TABLE subscription.users TO automata_subscription;

GRANT UPDATE(key_id) ON TABLE subscription.users TO automata_subscription;

GRANT UPDATE(last_active_at) ON TABLE subscription.users TO automata_subscription;

GRANT UPDATE(erased_at) ON TABLE subscription.users TO automata_subscription;

GRANT SELECT,INSERT ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(name) ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(description) ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(is_active) ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(version) ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(actor) ON TABLE templating.templates TO automata_templating;

GRANT UPDATE(updated_at) ON TABLE templating.templates TO automata_templating;

GRANT SELECT,INSERT ON TABLE templating.versions TO automata_templating;
