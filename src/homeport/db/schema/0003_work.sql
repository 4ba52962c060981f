-- compatibility: 1
-- What runs, what has to be told to whom, and what a reader of the audit log needs. Times are seconds since 1970 UTC.

-- detail: JSON, for what a run has to tell.
ALTER TABLE events ADD COLUMN detail TEXT;

-- The audit log in the order in which it is followed, by (transaction_id, id). An id is given when a row is written and
-- seen when it is committed; transaction_id says which transaction that was, so a reader stops before the first that is
-- still open (`Transaction.horizon`).
CREATE VIEW event_log AS
    SELECT id, happened_at, kind, actor, address, repository, digest, tag, reason, run, detail,
        $TRANSACTION AS transaction_id
    FROM events;

-- owner: jobs/queue.py
-- What is to be done, is being done, and was done. arguments, progress and summary: JSON.
-- waiting_key: at most one job that waits has it. running_key: at most one job that runs has it.
-- lease: who runs it, until when; somebody else may take it after that. epoch counts the times that it was taken.
CREATE TABLE jobs (
    id $IDENTITY,
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'ended')),
    waiting_key TEXT,
    running_key TEXT,
    schedule TEXT,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    ended_at DOUBLE PRECISION,
    lease_owner TEXT,
    lease_until DOUBLE PRECISION,
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    progress TEXT,
    outcome TEXT,
    reason TEXT,
    summary TEXT,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'ended') = (outcome IS NOT NULL))
);
CREATE UNIQUE INDEX jobs_one_waiting ON jobs (waiting_key) WHERE state = 'waiting' AND waiting_key IS NOT NULL;
CREATE UNIQUE INDEX jobs_one_running ON jobs (running_key) WHERE state = 'running' AND running_key IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, due_at);

-- owner: jobs/joblog.py
-- The newest lines of what a job said.
CREATE TABLE job_lines (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    said_at DOUBLE PRECISION NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
)$CLUSTERED;

-- owner: jobs/schedule.py
-- When what is to run next. expression, time_zone and planned_at are those that next_at was worked out from.
CREATE TABLE schedules (
    name TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    expression TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    next_at DOUBLE PRECISION NOT NULL,
    planned_at DOUBLE PRECISION NOT NULL
);

-- owner: notify/deliveries.py
-- How far in the audit log each target is: everything up to there has a delivery, or is none of its business.
CREATE TABLE notify_positions (
    target TEXT NOT NULL PRIMARY KEY,
    transaction_id BIGINT NOT NULL,
    event_id BIGINT NOT NULL
);

-- owner: notify/deliveries.py
-- One event for one target. message_id stays the same at every try, so a receiver can tell that it has it already.
-- answer: what the receiver said last, or why it could not be asked.
CREATE TABLE deliveries (
    id $IDENTITY,
    target TEXT NOT NULL,
    event_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    message_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'given-up')),
    happened_at DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    attempts INTEGER NOT NULL,
    tried_at DOUBLE PRECISION,
    status INTEGER,
    answer TEXT
);
CREATE INDEX deliveries_by_target ON deliveries (target, state, id);
