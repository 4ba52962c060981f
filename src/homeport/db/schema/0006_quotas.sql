-- compatibility: 6
-- How much the repositories of a pattern may hold, and what is asked of uploads for that and by cleanups. An older
-- Homeport would link and unlink without counting. Times are seconds since 1970 UTC.

-- Which uploads of a repository move.
CREATE INDEX uploads_by_repository ON uploads (repository, moved_at);

-- reserved_bytes: what the upload has received, as far as a quota has to know. 0: too little to matter, or no quota.
ALTER TABLE uploads ADD COLUMN reserved_bytes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX uploads_by_reservation ON uploads (moved_at) WHERE reserved_bytes > 0;

-- owner: registry/quotas.py
-- A quota of the configuration. pattern NULL: it has left the configuration, and its digests are being forgotten.
-- used_bytes: the sizes of its digests, added up. counted_repository, counted_digest: the link up to which all are
-- counted; NULL: every link is. Limits are no rows: they are in the configuration.
CREATE TABLE quota_rules (
    id $IDENTITY,
    pattern TEXT UNIQUE,
    used_bytes BIGINT NOT NULL,
    counted_repository BIGINT,
    counted_digest TEXT,
    CHECK ((counted_repository IS NULL) = (counted_digest IS NULL))
);

-- owner: registry/quotas.py
-- What counts in a rule. link_count: how many of the counted links lead to the digest; with the last of them it goes.
CREATE TABLE quota_digests (
    rule_id BIGINT NOT NULL REFERENCES quota_rules (id),
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    link_count BIGINT NOT NULL CHECK (link_count > 0),
    PRIMARY KEY (rule_id, digest)
)$CLUSTERED;

-- Every link with the size of what it leads to.
CREATE VIEW linked_blobs AS
    SELECT l.repository_id, r.name AS repository, l.digest, coalesce(b.size, 0) AS size
    FROM links l
    JOIN repositories r ON r.id = l.repository_id
    JOIN blobs b ON b.digest = l.digest;
