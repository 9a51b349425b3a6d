-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file adding-field-with-default, ban-drop-constraint, ban-drop-not-null, constraint-missing-not-valid, require-concurrent-index-creation

-- A token is sealed under its subscription's own key, whoever the user is, so that erasing one user of a device leaves
-- the next one's token readable. The first own key has the subscription's id, and is kept in the row.
ALTER TABLE subscription.subscriptions
    ADD COLUMN wrapped_key bytea,
    -- What the SDK made up once for an installation of an app: a re-registered device replaces its old token.
    ADD COLUMN installation_id text COLLATE "C" CHECK (length(installation_id) BETWEEN 1 AND 128),
    -- Keyed hash of the secret that `client` keys must carry.
    ADD COLUMN secret_hash bytea CHECK (length(secret_hash) = 32),
    ADD COLUMN night_consent boolean NOT NULL DEFAULT false,
    ADD COLUMN language text GENERATED ALWAYS AS (device_info ->> 'device_language' COLLATE "C") STORED;
CREATE UNIQUE INDEX subscriptions_installation
    ON subscription.subscriptions (application_id, type, installation_id)
    WHERE installation_id IS NOT NULL AND archived_at IS NULL;
CREATE UNIQUE INDEX subscriptions_secret
    ON subscription.subscriptions (application_id, secret_hash) WHERE secret_hash IS NOT NULL;
-- Lists go backwards in time, which is in the id. Most subscriptions are active: the others have an index of their own.
CREATE INDEX subscriptions_list ON subscription.subscriptions (application_id, id) WHERE archived_at IS NULL;
CREATE INDEX subscriptions_list_type
    ON subscription.subscriptions (application_id, type, id) WHERE archived_at IS NULL;
CREATE INDEX subscriptions_list_status
    ON subscription.subscriptions (application_id, status, id) WHERE archived_at IS NULL AND status <> 1;

-- Keys adopted from a subscription's time before its user was known go when the user goes.
ALTER TABLE subscription.data_keys
    ADD COLUMN user_id uuid,
    -- Whose own key it is, or was before a user adopted it, where that was not the subscription's first.
    ADD COLUMN subscription_id uuid;
UPDATE subscription.data_keys SET user_id = users.id FROM subscription.users WHERE users.key_id = data_keys.id;
CREATE INDEX data_keys_user ON subscription.data_keys (user_id) WHERE user_id IS NOT NULL;

ALTER TABLE subscription.users
    ADD COLUMN last_active_at timestamptz,
    ADD COLUMN erased_at timestamptz,
    ALTER COLUMN key_id DROP NOT NULL;
ALTER TABLE subscription.users DROP CONSTRAINT users_key_id_fkey;

ALTER TABLE subscription.subscription_events
    ADD COLUMN source text NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'user', 'sdk', 'provider', 'import')),
    DROP CONSTRAINT subscription_events_kind_check,
    ADD CONSTRAINT subscription_events_kind_check CHECK (kind IN (
        'created', 'subscribed', 'unsubscribed', 'disabled', 'error', 'status_changed', 'token_updated', 'device_updated',
        'tags_changed', 'consent_changed', 'user_linked', 'user_unlinked', 'confirmed', 'archived', 'erased'));
-- Whose subscriptions were whose, and when: what is exported about a person must hold nothing of the next one.
CREATE INDEX subscription_events_link ON subscription.subscription_events ((data ->> 'user_id'), subscription_id)
    WHERE kind IN ('user_linked', 'user_unlinked');

-- Requests to forget a person. Kept, because a restored backup must forget them again.
CREATE TABLE subscription.erasures (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    user_id        uuid NOT NULL,
    subscriptions  uuid[] NOT NULL,
    -- Data keys that were destroyed.
    key_ids        uuid[] NOT NULL,
    actor          text NOT NULL,
    requested_at   timestamptz NOT NULL DEFAULT now(),
    completed_at   timestamptz
);
CREATE INDEX erasures_open ON subscription.erasures (requested_at) WHERE completed_at IS NULL;

-- Bulk imports: how far each one came commits with the lines themselves, so that it can go on from there.
CREATE TABLE subscription.imports (
    id             uuid NOT NULL,
    application_id uuid NOT NULL,
    actor          text NOT NULL,
    status         text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
    lines_done     bigint NOT NULL DEFAULT 0,
    created        bigint NOT NULL DEFAULT 0,
    updated        bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    started_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    PRIMARY KEY (application_id, id)
);
CREATE TABLE subscription.import_errors (
    application_id uuid NOT NULL,
    import_id      uuid NOT NULL,
    line           bigint NOT NULL,
    code           text NOT NULL,
    field          text,
    PRIMARY KEY (application_id, import_id, line)
);

GRANT UPDATE (
    status, user_id, key_id, wrapped_key, token_hash, token_hint, token_kind, token_version, registered_at,
    sealed_token, device_info, tags, ad_consent, night_consent, installation_id, secret_hash, updated_at,
    subscribed_at, unsubscribed_at, last_active_at, archived_at
) ON subscription.subscriptions TO automata_subscription;
GRANT UPDATE, DELETE ON subscription.data_keys TO automata_subscription;
GRANT UPDATE (external_id, key_id, last_active_at, erased_at) ON subscription.users TO automata_subscription;
GRANT SELECT, INSERT ON subscription.erasures, subscription.import_errors TO automata_subscription;
GRANT UPDATE (completed_at) ON subscription.erasures TO automata_subscription;
GRANT SELECT, INSERT, UPDATE ON subscription.imports TO automata_subscription;
