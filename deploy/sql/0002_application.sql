CREATE TABLE application.applications (
    id         uuid PRIMARY KEY,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    tier       text NOT NULL CHECK (tier IN ('default', 'premium', 'enterprise', 'unlimited')),
    settings   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE application.api_keys (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL REFERENCES application.applications (id),
    name           text NOT NULL,
    keyed_hash     bytea NOT NULL UNIQUE,
    scopes         text[] NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    revoked_at     timestamptz
);
CREATE INDEX api_keys_application ON application.api_keys (application_id);

CREATE TABLE application.credentials (
    application_id uuid NOT NULL REFERENCES application.applications (id),
    provider       text NOT NULL CHECK (provider IN ('apns', 'fcm')),
    version        integer NOT NULL,
    sealed         bytea NOT NULL,
    wrapped_key    bytea NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, provider)
);

GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA application TO automata_application;
