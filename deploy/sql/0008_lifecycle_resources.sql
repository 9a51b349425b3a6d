-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

ALTER TABLE lifecycle.messages
    ADD COLUMN user_id uuid,
    ADD COLUMN template_id uuid,
    ADD COLUMN template_version integer,
    -- Milliseconds that do not count towards the ttl: held by a stop, or lying failed before it was sent again.
    ADD COLUMN waited_ms bigint NOT NULL DEFAULT 0,
    -- Attempts that the schedule of retries does not count: those a stop held, and all before it was sent again.
    ADD COLUMN uncounted smallint NOT NULL DEFAULT 0;
CREATE INDEX messages_list ON lifecycle.messages (application_id, id);
-- Finds later messages with the same collapse key too: a subscription has few messages after any one of them.
CREATE INDEX messages_subscription ON lifecycle.messages (subscription_id, id);
DROP INDEX lifecycle.messages_collapse;
CREATE INDEX messages_user ON lifecycle.messages (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX messages_template ON lifecycle.messages (template_id, id) WHERE template_id IS NOT NULL;

ALTER TABLE lifecycle.due ADD COLUMN since timestamptz NOT NULL DEFAULT now();
-- What an emergency stop holds lies in the far future, by application and channel, until the stop is released.
CREATE INDEX due_stopped ON lifecycle.due (application_id, reason, due_at) WHERE reason LIKE 'emergency_stop:%';

-- Users and subscriptions that a remembered answer speaks of: erasing one of them forgets the answer.
ALTER TABLE lifecycle.idempotency_keys ADD COLUMN subjects uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX idempotency_keys_subjects ON lifecycle.idempotency_keys USING gin (subjects) WHERE subjects <> '{}';
