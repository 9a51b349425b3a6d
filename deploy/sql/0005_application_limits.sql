-- Keys that expire, rotate and are told apart; identity verification; rate windows; emergency stops; the audit log.
ALTER TABLE application.api_keys
    ADD COLUMN hint text NOT NULL DEFAULT '' CHECK (length(hint) <= 8),
    ADD COLUMN expires_at timestamptz,
    -- The life that the key was made with; a rotation gives its successor as much.
    ADD COLUMN lifetime interval,
    -- Exact to a minute, so that reading with a key is not a write each time.
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN rotated_from uuid;

ALTER TABLE application.applications
    -- PEM of the key that verifies the tokens by which an application's back end vouches for its users.
    ADD COLUMN identity_public_key text,
    ADD COLUMN identity_required boolean NOT NULL DEFAULT false;

-- One row an application and minute: the counter that all gateways lease from.
CREATE UNLOGGED TABLE application.rate_windows (
    application_id uuid NOT NULL,
    starts_at      timestamptz NOT NULL,
    granted        integer NOT NULL CHECK (granted >= 0),
    -- The limit that was asked for last.
    ceiling        integer NOT NULL CHECK (ceiling >= 0),
    PRIMARY KEY (application_id, starts_at)
);

CREATE TABLE application.stops (
    application_id uuid NOT NULL REFERENCES application.applications (id),
    -- A sender channel, or `*` for all of them.
    channel        text NOT NULL CHECK (channel ~ '^([a-z][a-z_]{0,31}|[*])$'),
    actor          text NOT NULL,
    reason         text NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    since          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, channel)
);

-- Who did what to which resource, when: append-only by grant, and without values, which may be personal.
CREATE TABLE application.audit_log (
    application_id uuid NOT NULL,
    position       bigint GENERATED ALWAYS AS IDENTITY,
    actor          text NOT NULL,
    action         text NOT NULL,
    resource       text NOT NULL,
    request_id     text NOT NULL,
    data           jsonb NOT NULL DEFAULT '{}',
    occurred_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, position)
);
-- One for each filter of the list, however rare what it lets through.
CREATE INDEX audit_log_actor ON application.audit_log (application_id, actor, position);
CREATE INDEX audit_log_action ON application.audit_log (application_id, action, position);
CREATE INDEX audit_log_resource ON application.audit_log (application_id, resource, position);
CREATE INDEX audit_log_time ON application.audit_log (application_id, occurred_at);

GRANT UPDATE (name, tier, settings, identity_public_key, identity_required)
    ON application.applications TO automata_application;
GRANT UPDATE (expires_at, last_used_at) ON application.api_keys TO automata_application;
GRANT DELETE ON application.credentials TO automata_application;
GRANT SELECT, INSERT, UPDATE, DELETE ON application.rate_windows TO automata_application;
GRANT SELECT, INSERT, DELETE ON application.stops TO automata_application;
GRANT SELECT, INSERT ON application.audit_log TO automata_application;
