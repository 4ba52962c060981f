-- compatibility: 1
-- What a cleanup has to look at, and what can be brought back. Times are seconds since 1970 UTC.

-- A tag that says in its name which manifest it belongs to, as cosign's signatures and the fallback of the referrers API
-- do: that digest, or as much of a longer one as fits into a tag. Such a tag keeps nothing by itself.
ALTER TABLE tags ADD COLUMN subject TEXT;
UPDATE tags SET subject = substr(name, 1, 6) || ':' || substr(name, 8, 64)
    WHERE substr(name, 1, 7) IN ('sha256-', 'sha512-')
        AND length(substr(name, 8, 64)) = 64 AND trim(substr(name, 8, 64), '0123456789abcdef') = ''
        AND substr(name, 72) IN ('', '.sig', '.att', '.sbom');
CREATE INDEX tags_by_subject ON tags (subject, repository_id) WHERE subject IS NOT NULL;

-- Why the tag was deleted, where somebody said; it tells a restore which tags went with their repository.
ALTER TABLE tag_history ADD COLUMN reason TEXT;

-- When the bytes of a live row were first found missing or cut short; NULL: nobody found that.
ALTER TABLE blobs ADD COLUMN lost_at DOUBLE PRECISION;
-- The name under which the bytes of a condemned row go to the trash: the same at every try.
ALTER TABLE blobs ADD COLUMN trash TEXT;
-- When somebody purged the last that could be brought back of this blob, while its bytes were still in their place;
-- once they are in the trash they go from there at once. NULL: nobody did.
ALTER TABLE blobs ADD COLUMN purged_at DOUBLE PRECISION;
CREATE INDEX blobs_by_trash ON blobs (trash) WHERE trash IS NOT NULL;

-- owner: registry/reviews.py
-- What may have become superfluous, and when to look. repository_id 0: the blob itself, else the repository's link to it.
-- Whatever nothing refers to has a row; a row says nothing but that somebody has to look. failures: how often a look
-- could not be finished.
CREATE TABLE reviews (
    repository_id BIGINT NOT NULL,
    digest TEXT NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
)$CLUSTERED;
CREATE INDEX reviews_by_time ON reviews (due_at);
INSERT INTO reviews (repository_id, digest, due_at, failures) SELECT repository_id, digest, keep_until, 0 FROM links;
INSERT INTO reviews (repository_id, digest, due_at, failures)
    SELECT 0, digest, changed_at + 86400, 0 FROM blobs b
    WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest);

-- owner: registry/trash.py
-- What a repository offered once and can offer again. media_type and data are a manifest's.
CREATE TABLE trashed_links (
    id $IDENTITY,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    media_type TEXT,
    data $BYTES,
    removed_at DOUBLE PRECISION NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (repository, digest)
);
CREATE INDEX trashed_links_by_digest ON trashed_links (digest);
CREATE INDEX trashed_links_by_time ON trashed_links (removed_at);

-- owner: registry/trash.py
-- Bytes that were taken out of their place. name: what the store was told to call them.
CREATE TABLE trashed_blobs (
    name TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    size BIGINT,
    location TEXT NOT NULL,
    retired_at DOUBLE PRECISION NOT NULL
)$CLUSTERED;
CREATE UNIQUE INDEX trashed_blobs_by_location ON trashed_blobs (location);
CREATE INDEX trashed_blobs_by_digest ON trashed_blobs (digest);
CREATE INDEX trashed_blobs_by_time ON trashed_blobs (retired_at);

-- owner: garbage/totals.py
-- What was cleaned up since the beginning, by what was counted, and how much of it the runs before `run` have told.
CREATE TABLE cleanup_totals (
    name TEXT NOT NULL PRIMARY KEY,
    total BIGINT NOT NULL,
    told BIGINT NOT NULL,
    told_before BIGINT NOT NULL,
    run BIGINT NOT NULL
)$CLUSTERED;

-- owner: garbage/guard.py
-- The last time that was seen, and why nothing is deleted until a person says that the clock is right.
CREATE TABLE cleanup_clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seen_at DOUBLE PRECISION NOT NULL,
    stopped TEXT
);

-- owner: garbage/brake.py
-- Runs (the ids of their jobs) that would have removed too many tags. released_at: when a person let them go.
-- used_by: the run that made use of that; no other can.
CREATE TABLE cleanup_brakes (
    run BIGINT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    stopped_at DOUBLE PRECISION NOT NULL,
    released_at DOUBLE PRECISION,
    used_by BIGINT
)$CLUSTERED;

-- owner: garbage/brake.py
-- How many tags of each repository such a run would have removed.
CREATE TABLE cleanup_braked_tags (
    run BIGINT NOT NULL REFERENCES cleanup_brakes (run) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    going BIGINT NOT NULL,
    PRIMARY KEY (run, repository)
)$CLUSTERED;

-- What keeps a link, whatever the time is: tags that are roots, the manifests that name it, the subject that it belongs
-- to (by its manifest or by one of its tags). `keeper` is the tag or the digest.
CREATE VIEW link_keepers AS
    SELECT m.repository_id, m.digest, 'tag' AS kind, t.name AS keeper
    FROM tags t JOIN manifests m ON m.id = t.manifest_id
    WHERE t.subject IS NULL
    UNION ALL
    SELECT f.repository_id, f.digest, 'manifest' AS kind, f.manifest AS keeper
    FROM manifest_references f
    UNION ALL
    SELECT m.repository_id, m.digest, 'subject' AS kind, s.digest AS keeper
    FROM manifests m JOIN manifests s ON s.repository_id = m.repository_id AND s.digest = m.subject
    UNION ALL
    SELECT m.repository_id, m.digest, 'subject' AS kind, s.digest AS keeper
    FROM tags t
    JOIN manifests m ON m.id = t.manifest_id
    JOIN manifests s ON s.repository_id = t.repository_id AND s.digest >= t.subject AND s.digest < t.subject || 'g'
    WHERE t.subject IS NOT NULL;

-- A repository's links with what decides when they may go.
CREATE VIEW link_ages AS
    SELECT r.name AS repository, l.repository_id, l.digest, b.size, l.linked_at, l.keep_until, l.released_at,
        m.id AS manifest_id
    FROM links l
    JOIN repositories r ON r.id = l.repository_id
    JOIN blobs b ON b.digest = l.digest
    LEFT JOIN manifests m ON m.repository_id = l.repository_id AND m.digest = l.digest;

-- Whether something refers to a link or blob, or somebody was asked to look at it. One of both is always so, unless
-- something went wrong.
CREATE VIEW attended_links AS
    SELECT l.repository_id, l.digest,
        EXISTS (SELECT 1 FROM reviews q WHERE q.repository_id = l.repository_id AND q.digest = l.digest)
        OR EXISTS (SELECT 1 FROM link_keepers k WHERE k.repository_id = l.repository_id AND k.digest = l.digest)
        AS attended
    FROM links l;
CREATE VIEW attended_blobs AS
    SELECT b.digest,
        EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest)
        OR EXISTS (SELECT 1 FROM reviews q WHERE q.repository_id = 0 AND q.digest = b.digest)
        AS attended
    FROM blobs b;

-- What belongs to a subject: manifests that name it, and those under tags that do. `name` tells those of one subject
-- apart.
CREATE VIEW subject_manifests AS
    SELECT repository_id, subject, digest AS name, digest FROM manifests WHERE subject IS NOT NULL;
CREATE VIEW subject_tags AS
    SELECT t.repository_id, t.subject, t.name, m.digest
    FROM tags t JOIN manifests m ON m.id = t.manifest_id WHERE t.subject IS NOT NULL;

-- The tags of a repository with their last pulls: by name, by digest (docker asks for a tag with HEAD, then gets the
-- digest), and of a child alone, as those do who know the index already.
CREATE VIEW tag_pulls AS
    SELECT t.repository_id, t.name, m.digest, t.pushed_at,
        (SELECT p.pulled_at FROM pulls p WHERE p.repository = r.name AND p.reference = t.name) AS by_name,
        (SELECT p.pulled_at FROM pulls p WHERE p.repository = r.name AND p.reference = m.digest) AS by_digest,
        (SELECT max(p.pulled_at) FROM manifest_references f
            JOIN pulls p ON p.repository = r.name AND p.reference = f.digest
            WHERE f.repository_id = t.repository_id AND f.manifest = m.digest AND f.role = 'child') AS of_child
    FROM tags t
    JOIN repositories r ON r.id = t.repository_id
    JOIN manifests m ON m.id = t.manifest_id;

-- What the manifests of a repository name, by the manifest.
CREATE VIEW manifest_names AS
    SELECT repository_id, manifest, digest, role FROM manifest_references;

-- The links that a manifest names, by it.
CREATE VIEW named_links AS
    SELECT f.repository_id, f.manifest, f.digest
    FROM manifest_references f
    JOIN links l ON l.repository_id = f.repository_id AND l.digest = f.digest;
