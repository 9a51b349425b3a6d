-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file adding-field-with-default

ALTER TABLE subscription.subscriptions
    -- As the device says it; read with every message, so not dug out of the JSON each time.
    ADD COLUMN timezone text GENERATED ALWAYS AS (device_info ->> 'timezone' COLLATE "C") STORED,
    -- Their own quiet hours (`libs.policy.QuietHours`); NULL: the application's.
    ADD COLUMN quiet_hours jsonb;
GRANT UPDATE (quiet_hours) ON subscription.subscriptions TO automata_subscription;
