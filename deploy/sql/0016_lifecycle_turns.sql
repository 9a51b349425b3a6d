-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation

-- R10, R11: the timekeeper takes what is due of each application and lane in turn.
CREATE INDEX due_turns ON lifecycle.due (lane, application_id, due_at);

-- What is filled and emptied is told to the planner as soon as it is filled. They may be analyzed; nothing else of
-- MAINTAIN changes a row.
GRANT MAINTAIN ON lifecycle.due, lifecycle.handoffs, lifecycle.reserved_sends, lifecycle.receipts_awaited
    TO automata_lifecycle;
