-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation

-- R11: beyond a window of unfinished messages, an application's hand-offs of a lane wait here, unpublished.
ALTER TABLE lifecycle.handoffs
    ADD COLUMN published boolean NOT NULL DEFAULT true,
    -- How many messages: their ids lie outside of the row.
    ADD COLUMN size smallint NOT NULL DEFAULT 0,
    -- When the first of its messages expires: what no consumer ever took is found by it.
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT 'infinity';
CREATE INDEX handoffs_published ON lifecycle.handoffs (application_id, lane) INCLUDE (size) WHERE published;
CREATE INDEX handoffs_waiting ON lifecycle.handoffs (lane, application_id, id) WHERE NOT published;
CREATE INDEX handoffs_expiry ON lifecycle.handoffs (expires_at);
