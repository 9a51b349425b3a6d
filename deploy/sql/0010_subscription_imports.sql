-- Which parts of an import are done. A part commits with its subscriptions, so that the same file sent again goes on where
-- it broke off, and no line is imported twice.
CREATE TABLE subscription.import_parts (
    application_id uuid NOT NULL,
    import_id      uuid NOT NULL,
    first_line     bigint NOT NULL CHECK (first_line > 0),
    lines          integer NOT NULL CHECK (lines > 0),
    -- SHA-256 over the part's bytes: another file under the same id is noticed.
    digest         bytea NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (application_id, import_id, first_line)
);

GRANT SELECT, INSERT ON subscription.import_parts TO automata_subscription;
