-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

-- R11: beyond a window of unfinished messages, an application's hand-offs of a lane wait here, unpublished.
ALTER TABLE lifecycle.handoffs
    ADD COLUMN published boolean NOT NULL DEFAULT true,
    -- How many messages: their ids lie outside of the row.
    ADD COLUMN size smallint NOT NULL DEFAULT 0,
    -- When the first of its messages expires: what no consumer ever took is found by it.
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT 'infinity';
ALTER TABLE lifecycle.handoffs SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
DROP INDEX lifecycle.handoffs_age;
CREATE INDEX handoffs_age ON lifecycle.handoffs (lane, created_at) WHERE published;
CREATE INDEX handoffs_published ON lifecycle.handoffs (application_id, lane) INCLUDE (size) WHERE published;
CREATE INDEX handoffs_looked_at ON lifecycle.handoffs (lane, id) WHERE published;
CREATE INDEX handoffs_waiting ON lifecycle.handoffs (lane, application_id, id) WHERE NOT published;
CREATE INDEX handoffs_expiry ON lifecycle.handoffs (expires_at);

-- What a rate limit or a slow provider sent back counts as unfinished.
CREATE INDEX due_pressed ON lifecycle.due (application_id, lane) WHERE reason IN ('rate_limit', 'provider_slow');
