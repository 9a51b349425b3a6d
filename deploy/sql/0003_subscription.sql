-- A person's or an installation's data key, wrapped by the key ring. Deleting the row is the erasure (R14).
CREATE TABLE subscription.data_keys (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    wrapped        bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE subscription.users (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    external_id    text COLLATE "C" CHECK (length(external_id) BETWEEN 1 AND 255),
    -- What is registered or sent from now on is sealed under it. Erasing the person deletes both rows.
    key_id         uuid NOT NULL REFERENCES subscription.data_keys (id),
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (application_id, external_id)
);

CREATE TABLE subscription.subscriptions (
    id              uuid PRIMARY KEY,
    application_id  uuid NOT NULL,
    type            text NOT NULL
        CHECK (type IN ('iOSPush', 'AndroidPush', 'Email', 'SMS', 'KakaoTalk', 'InAppMessage', 'WebPush')),
    status          smallint NOT NULL,
    user_id         uuid REFERENCES subscription.users (id),
    -- The data key that sealed_token names: the user's, if known when the token was registered, else its own.
    key_id          uuid NOT NULL,
    -- Keyed hash over application, type and token.
    token_hash      bytea NOT NULL CHECK (length(token_hash) = 32),
    token_hint      text NOT NULL,
    token_kind      text NOT NULL CHECK (token_kind IN ('token', 'fid')),
    token_version   integer NOT NULL DEFAULT 1 CHECK (token_version > 0),
    registered_at   timestamptz NOT NULL DEFAULT now(),
    sealed_token    bytea NOT NULL,
    device_info     jsonb NOT NULL DEFAULT '{}',
    -- Read with every message, so not dug out of the JSON each time.
    country         text GENERATED ALWAYS AS (upper(device_info ->> 'country_code' COLLATE "C")) STORED,
    test            boolean NOT NULL
        GENERATED ALWAYS AS (coalesce(device_info ->> 'test_type' IN ('1', '2'), false)) STORED,
    tags            jsonb NOT NULL DEFAULT '{}',
    ad_consent      boolean NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    subscribed_at   timestamptz,
    unsubscribed_at timestamptz,
    last_active_at  timestamptz,
    archived_at     timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX subscriptions_token
    ON subscription.subscriptions (application_id, token_hash) WHERE archived_at IS NULL;
CREATE INDEX subscriptions_user ON subscription.subscriptions (user_id) WHERE user_id IS NOT NULL;

-- Who changed what, when and why: append-only by grant.
CREATE TABLE subscription.subscription_events (
    position        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    application_id  uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('created', 'disabled')),
    actor           text NOT NULL,
    reason          text,
    data            jsonb NOT NULL DEFAULT '{}',
    occurred_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX subscription_events_subscription ON subscription.subscription_events (subscription_id, position);

GRANT SELECT, INSERT ON subscription.data_keys, subscription.users, subscription.subscription_events
    TO automata_subscription;
GRANT SELECT, INSERT ON subscription.subscriptions TO automata_subscription;
GRANT UPDATE (status, unsubscribed_at, updated_at) ON subscription.subscriptions TO automata_subscription;
