-- Applied before the first release, to small or stopped installations: its locks are short.

-- R6: what the reconciler of a lane looks for, and how far it came. Whoever leads next goes on from here.
CREATE TABLE lifecycle.reconciliations (
    lane           text PRIMARY KEY CHECK (lane IN ('critical', 'normal', 'bulk')),
    -- Of this search: whoever knows another one is late.
    id             uuid NOT NULL,
    -- A search of another epoch is void: it was begun on a database that had another future.
    epoch          smallint NOT NULL,
    -- All of them old enough before the first wait began; none is added.
    handoff_ids    uuid[] NOT NULL,
    -- The wait that it is in: DISPATCH, SEND and OUTCOME, each twice.
    stage          smallint NOT NULL DEFAULT 0 CHECK (stage BETWEEN 0 AND 5),
    -- When the stream of that wait was made, and what it held last as the wait began. NULL: not looked at yet.
    stream_created timestamptz,
    last_seq       bigint,
    updated_at     timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON lifecycle.reconciliations TO automata_lifecycle;
