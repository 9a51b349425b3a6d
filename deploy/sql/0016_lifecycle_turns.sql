-- Applied before the first release, to small or stopped installations: its locks are short.
-- squawk-ignore-file require-concurrent-index-creation

-- R10, R11: the timekeeper takes what is due of each application and lane in turn.
CREATE INDEX due_turns ON lifecycle.due (lane, application_id, due_at);
