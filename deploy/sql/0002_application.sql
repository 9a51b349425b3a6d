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
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- HMAC of the key's SHA-256 under the ring's index key: neither the table nor the ring alone tells who has access.
    keyed_hash     bytea NOT NULL UNIQUE CHECK (length(keyed_hash) = 32),
    scopes         text[] NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    revoked_at     timestamptz
);
CREATE INDEX api_keys_application ON application.api_keys (application_id);

CREATE TABLE application.credentials (
    application_id uuid NOT NULL REFERENCES application.applications (id),
    provider       text NOT NULL CHECK (provider IN ('apns', 'fcm')),
    version        integer NOT NULL CHECK (version > 0),
    -- The secret under a data key of its own, and that key wrapped by the ring (libs.seal).
    sealed         bytea NOT NULL,
    wrapped_key    bytea NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, provider)
);

GRANT SELECT, INSERT ON application.applications TO automata_application;
GRANT SELECT, INSERT ON application.api_keys TO automata_application;
GRANT UPDATE (revoked_at) ON application.api_keys TO automata_application;
GRANT SELECT, INSERT ON application.credentials TO automata_application;
GRANT UPDATE (version, sealed, wrapped_key, updated_at) ON application.credentials TO automata_application;
