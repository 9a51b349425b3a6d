DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'automata_templating') THEN
        CREATE ROLE automata_templating LOGIN;
    END IF;
END
$$;

CREATE SCHEMA templating;
GRANT USAGE ON SCHEMA templating TO automata_templating;

CREATE TABLE templating.templates (
    id             uuid PRIMARY KEY,
    application_id uuid NOT NULL,
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description    text CHECK (length(description) <= 2000),
    is_active      boolean NOT NULL DEFAULT true,
    version        integer NOT NULL DEFAULT 1 CHECK (version > 0),
    actor          text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (application_id, name)
);
-- Of the latest change, `actor` and `updated_at`; who made a version stands with the version.
CREATE INDEX templates_list ON templating.templates (application_id, id);

-- A version is immutable: by grant, nothing here is ever updated.
CREATE TABLE templating.versions (
    template_id    uuid NOT NULL REFERENCES templating.templates (id),
    version        integer NOT NULL CHECK (version > 0),
    application_id uuid NOT NULL,
    content        jsonb NOT NULL,
    default_locale text,
    variants       jsonb NOT NULL DEFAULT '[]',
    variables      text[] NOT NULL DEFAULT '{}',
    actor          text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (template_id, version)
);

GRANT SELECT, INSERT ON templating.templates, templating.versions TO automata_templating;
GRANT UPDATE (name, description, is_active, version, actor, updated_at) ON templating.templates TO automata_templating;
