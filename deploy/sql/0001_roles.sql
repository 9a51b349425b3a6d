-- One role and one schema a service: a service cannot read another's tables, whatever its code says.
-- Passwords are set by `automata migrate` from the environment, never here.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['automata_application', 'automata_subscription', 'automata_lifecycle']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role_name);
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA application;
CREATE SCHEMA subscription;
CREATE SCHEMA lifecycle;

GRANT USAGE ON SCHEMA application TO automata_application;
GRANT USAGE ON SCHEMA subscription TO automata_subscription;
GRANT USAGE ON SCHEMA lifecycle TO automata_lifecycle;
