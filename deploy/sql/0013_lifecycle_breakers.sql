-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

-- R11: applications whose way to a provider is broken. What is closed is no row.
CREATE TABLE lifecycle.breakers (
    application_id uuid NOT NULL,
    channel        text NOT NULL CHECK (length(channel) BETWEEN 1 AND 32),
    -- Of the last failure: a code without secrets.
    reason         text NOT NULL CHECK (length(reason) <= 200),
    retry_class    text NOT NULL CHECK (retry_class IN ('network', 'outage', 'credentials')),
    opened_at      timestamptz NOT NULL DEFAULT now(),
    -- From then on single messages try whether the provider is well again.
    probe_at       timestamptz NOT NULL,
    -- When messages were last released to try it; their verdict clears it.
    probed_at      timestamptz,
    failures       integer NOT NULL DEFAULT 1 CHECK (failures > 0),
    PRIMARY KEY (application_id, channel)
);

-- Written with what they tell of, deleted once the stream ALERTS has them.
CREATE TABLE lifecycle.alerts (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Names it on the stream, also after positions began anew.
    msg_id         uuid NOT NULL DEFAULT gen_random_uuid(),
    application_id uuid NOT NULL,
    alert          jsonb NOT NULL
);

-- What waits until somebody ends it (a stop, a breaker) has this set once that happened: it is due then.
ALTER TABLE lifecycle.due ADD COLUMN released_at timestamptz;
DROP INDEX lifecycle.due_stopped;
CREATE INDEX due_held ON lifecycle.due (application_id, reason, message_id)
    WHERE released_at IS NULL AND (reason LIKE 'breaker:%' OR reason LIKE 'emergency_stop:%');
CREATE INDEX due_released ON lifecycle.due (released_at) WHERE released_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON lifecycle.breakers, lifecycle.alerts TO automata_lifecycle;
