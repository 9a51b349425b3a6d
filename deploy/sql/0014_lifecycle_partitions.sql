-- Weeks of the log: made ahead, counted, put away, without a lock that traffic waits for longer than an instant; and
-- which messages wait for a receipt.
-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation, ban-drop-function

-- Where a receipt is due: two walks over an application's messages, the second a day behind the first, since an id may
-- carry a time from up to a day before its message was accepted.
CREATE TABLE lifecycle.receipt_cursors (
    application_id uuid NOT NULL,
    walk           smallint NOT NULL CHECK (walk IN (0, 1)),
    last_id        uuid NOT NULL,
    PRIMARY KEY (application_id, walk)
);
-- What a walk passed and could not decide: not sent yet, or sent later than its id says.
CREATE TABLE lifecycle.receipts_awaited (
    message_id     uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    look_at        timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX receipts_awaited_look ON lifecycle.receipts_awaited (look_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON lifecycle.receipt_cursors, lifecycle.receipts_awaited TO automata_lifecycle;

-- Weeks that were put away: an operator may read them, no service may.
CREATE SCHEMA lifecycle_archive;

-- One row a week that is counted, to be put away, or that was.
CREATE TABLE lifecycle.archived_weeks (
    -- Its Monday, UTC.
    week        date PRIMARY KEY,
    -- All facts of transactions before this one are in the counts; one of a later transaction makes them void.
    epoch       smallint NOT NULL,
    since       xid8 NOT NULL,
    counted_to  uuid NOT NULL,
    counted     boolean NOT NULL DEFAULT false,
    -- A message that is not final: the week waits for it, and is looked at again at this time.
    open_id     uuid,
    look_at     timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz
);
CREATE TABLE lifecycle.week_counts (
    week           date NOT NULL REFERENCES lifecycle.archived_weeks,
    application_id uuid NOT NULL,
    day            date NOT NULL,
    channel        text NOT NULL,
    category       text NOT NULL,
    status         text NOT NULL,
    messages       bigint NOT NULL,
    PRIMARY KEY (week, application_id, day, channel, category, status)
);
-- R12: what is left of a week for statistics. It appears in the transaction that puts the week away.
CREATE VIEW lifecycle.archived_counts AS
SELECT c.week, c.application_id, c.day, c.channel, c.category, c.status, c.messages
FROM lifecycle.week_counts AS c
JOIN lifecycle.archived_weeks AS w ON w.week = c.week
WHERE w.archived_at IS NOT NULL;
GRANT SELECT ON lifecycle.archived_weeks, lifecycle.week_counts, lifecycle.archived_counts TO automata_lifecycle;

CREATE FUNCTION lifecycle.week_label(week date) RETURNS text LANGUAGE sql STABLE
RETURN to_char(week, 'IYYY"w"IW');
CREATE FUNCTION lifecycle.first_id_of(week date) RETURNS uuid LANGUAGE sql STABLE
RETURN lifecycle.first_id_at(week::timestamp AT TIME ZONE 'UTC');

-- Weeks of which both tables are there.
CREATE VIEW lifecycle.attached_weeks AS
SELECT to_date(substring(c.relname FROM '[0-9]{4}w[0-9]{2}$'), 'IYYY"w"IW') AS week
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('lifecycle.messages'::regclass, 'lifecycle.message_events'::regclass)
    AND c.relname ~ '^message(s|_events)_[0-9]{4}w[0-9]{2}$'
GROUP BY 1
HAVING count(*) = 2;
GRANT SELECT ON lifecycle.attached_weeks TO automata_lifecycle;

-- Makes a week's table of `messages` or `message_events`; false: it is there, or somebody else is at it. The table is
-- made apart and attached, which lets reads and writes of its parent go on. Only the table of other ids is locked hard,
-- and what it holds of the week moves over.
CREATE FUNCTION lifecycle.add_partition(parent text, week date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, lifecycle SET lock_timeout = '75ms'
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

-- Counts a page of a week's messages: `more`; `counted`: that was the last one; `open`: a message is not final, so the
-- week waits; `archived`: it is put away. A week that goes on until after yesterday is none.
CREATE FUNCTION lifecycle.count_week(asked date, page integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, lifecycle SET lock_timeout = '75ms'
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

CREATE FUNCTION lifecycle.count_anew(asked date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, lifecycle
AS $$
BEGIN
    DELETE FROM lifecycle.week_counts WHERE week = asked;
    UPDATE lifecycle.archived_weeks
    SET epoch = current_setting('automata.epoch')::smallint, since = pg_snapshot_xmin(pg_current_snapshot()),
        counted_to = lifecycle.first_id_of(asked), counted = false, open_id = NULL, look_at = now()
    WHERE week = asked;
END
$$;

-- Puts a counted week away, both tables together: `archived`. `changed`: a fact came since, so it is counted anew;
-- `unread`: the relay has not published all of it; `open`: something in `due` is of it; `uncounted`: not yet.
-- Nobody may use the parents for that instant. Their locks are asked for first, for 75 ms each at the most, and the
-- others only if they are free: who waits behind this waits no longer than that.
CREATE FUNCTION lifecycle.archive_week(asked date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, lifecycle SET lock_timeout = '75ms'
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

REVOKE ALL ON FUNCTION
    lifecycle.add_partition(text, date), lifecycle.count_week(date, integer), lifecycle.count_anew(date),
    lifecycle.archive_week(date)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    lifecycle.add_partition(text, date), lifecycle.count_week(date, integer), lifecycle.archive_week(date)
TO automata_lifecycle;
DROP FUNCTION lifecycle.ensure_partitions(integer);
