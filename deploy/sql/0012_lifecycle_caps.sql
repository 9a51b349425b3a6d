-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation

-- What was sent to whom, or is about to be: counted against frequency caps, and forgotten after the longest window.
CREATE TABLE lifecycle.reserved_sends (
    message_id     uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    -- The user if known, else the subscription.
    subject_id     uuid NOT NULL,
    category       text NOT NULL CHECK (category IN ('info', 'ad')),
    at             timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX reserved_sends_subject ON lifecycle.reserved_sends (application_id, subject_id, at) INCLUDE (category);
CREATE INDEX reserved_sends_age ON lifecycle.reserved_sends (at);

GRANT SELECT, INSERT, DELETE ON lifecycle.reserved_sends TO automata_lifecycle;
