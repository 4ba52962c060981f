-- compatibility: 1
-- Who may log in. Rights are no rows: they are in the configuration. Times are seconds since 1970 UTC.

-- owner: auth/users.py
-- Ids are never used twice, so that what was given to a removed user can't pass to a new one of the same name.
-- version: counts every change, so that whoever remembers a login can tell with one look that it still holds.
CREATE TABLE users (
    id $IDENTITY,
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    admin INTEGER NOT NULL CHECK (admin IN (0, 1)),
    version INTEGER NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL
);

-- owner: auth/tokens.py
-- personal: logs its owner in. robot: logs in nobody but itself; `owner` is the robot's name. refresh: what the token
-- service gave to a client instead of the password. A row is only ever added, used, and deleted: what a token may do
-- never changes. user_id: the owner's row, NULL for robots and for users of the configuration. limits: JSON.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('personal', 'robot', 'refresh')),
    owner TEXT NOT NULL,
    user_id BIGINT,
    secret_hash TEXT NOT NULL,
    limits TEXT,
    description TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    used_at DOUBLE PRECISION,
    CHECK (kind <> 'robot' OR (user_id IS NULL AND limits IS NOT NULL)),
    CHECK (kind <> 'refresh' OR expires_at IS NOT NULL)
);
CREATE INDEX tokens_by_owner ON tokens (owner, kind);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

-- owner: auth/keys.py
-- What bearer tokens are signed with: the newest signs, the others are kept until the last token they signed expired.
CREATE TABLE signing_keys (
    id TEXT NOT NULL PRIMARY KEY,
    secret $BYTES NOT NULL,
    created_at DOUBLE PRECISION NOT NULL
);
