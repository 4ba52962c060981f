-- compatibility: 1
-- What the registry knows about images. docs/format.md draws it. Each table has one owner: only that module's SQL may
-- name it. Times are seconds since 1970 UTC. Digests are text, "algorithm:encoded". CLUSTERED marks tables that are
-- looked up by their whole key only.

-- owner: registry/repositories.py
-- A row exists as long as something is linked in the repository. Ids are never used twice, so that what was kept about
-- a deleted repository can't attach itself to a new one of the same name.
CREATE TABLE repositories (
    id $IDENTITY,
    name TEXT NOT NULL UNIQUE,
    created_at DOUBLE PRECISION NOT NULL
);

-- owner: registry/blobs.py
-- arriving: somebody writes the bytes; nobody may be told that they are here
-- live: the bytes are durable at `location`
-- condemned: about to go; to every reader the blob is absent
CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('arriving', 'live', 'condemned')),
    size INTEGER,
    location TEXT,
    changed_at DOUBLE PRECISION NOT NULL,
    CHECK (state <> 'live' OR (size IS NOT NULL AND location IS NOT NULL))
)$CLUSTERED;

-- owner: registry/blobs.py
-- A write hold: "these bytes are being written by me". Once lapsed it is never renewed.
CREATE TABLE holds (
    digest TEXT NOT NULL,
    upload TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (digest, upload)
)$CLUSTERED;

-- owner: registry/blobs.py
-- The unit that is checked, kept and swept. keep_until: until then a client may rely on having been told that the
-- digest is here. released_at: when the last reference to it was lost (grace counts from there).
CREATE TABLE links (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest TEXT NOT NULL REFERENCES blobs (digest),
    linked_at DOUBLE PRECISION NOT NULL,
    keep_until DOUBLE PRECISION NOT NULL,
    released_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (repository_id, digest)
)$CLUSTERED;
CREATE INDEX links_by_digest ON links (digest);

-- owner: registry/uploads.py
-- Upload sessions. Where one stands is what the blob store says of it, never a column.
CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    actor TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    started_at DOUBLE PRECISION NOT NULL,
    moved_at DOUBLE PRECISION NOT NULL
)$CLUSTERED;

-- owner: registry/manifests.py
CREATE TABLE manifests (
    id $IDENTITY,
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT,
    subject TEXT,
    data $BYTES NOT NULL,
    pushed_at DOUBLE PRECISION NOT NULL,
    UNIQUE (repository_id, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES links (repository_id, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

-- owner: registry/manifests.py
-- What a manifest names: its config, its layers, an index's children. A missing child of a sparse index, and a layer
-- that is never distributed, stand here without a link.
CREATE TABLE manifest_references (
    repository_id BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    digest TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest, role),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
)$CLUSTERED;
CREATE INDEX manifest_references_by_digest ON manifest_references (repository_id, digest);

-- owner: registry/tags.py
-- pushed_at: when it was last pushed, also when that changed nothing.
CREATE TABLE tags (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    name TEXT NOT NULL,
    manifest_id BIGINT NOT NULL REFERENCES manifests (id),
    pushed_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (repository_id, name)
)$CLUSTERED;
CREATE INDEX tags_by_manifest ON tags (manifest_id);

-- owner: registry/tags.py
-- Every state that a tag ever had, the oldest first; digest NULL: it was deleted. By the repository's name, not its
-- id: the history outlives the repository.
CREATE TABLE tag_history (
    id $SERIAL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT,
    actor TEXT NOT NULL,
    changed_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX tag_history_by_tag ON tag_history (repository, tag, id);

-- owner: registry/pulls.py
-- When a tag or digest was last pulled; written once a minute, so it may be a minute late, or miss one before a crash.
CREATE TABLE pulls (
    repository TEXT NOT NULL,
    reference TEXT NOT NULL,
    pulled_at DOUBLE PRECISION NOT NULL,
    pulls BIGINT NOT NULL,
    PRIMARY KEY (repository, reference)
)$CLUSTERED;

-- owner: events.py
-- The outbox, which is the audit log. Append only.
CREATE TABLE events (
    id $SERIAL,
    happened_at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    repository TEXT,
    digest TEXT,
    tag TEXT,
    reason TEXT,
    run TEXT
);

-- What spans owners. Reading a view is not naming its tables.

-- The blobs that a repository offers.
CREATE VIEW held_blobs AS
    SELECT r.name AS repository, l.repository_id, b.digest, b.size, b.location, l.keep_until
    FROM repositories r
    JOIN links l ON l.repository_id = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE b.state = 'live';

-- The manifests that a repository offers, by digest.
CREATE VIEW held_manifests AS
    SELECT r.name AS repository, m.repository_id, m.id, m.digest, m.media_type, m.artifact_type, m.subject, m.data,
        m.pushed_at
    FROM repositories r
    JOIN manifests m ON m.repository_id = r.id;

-- The manifests that a repository offers, by tag.
CREATE VIEW tagged_manifests AS
    SELECT r.name AS repository, t.name AS tag, m.digest, m.media_type, m.data, t.pushed_at
    FROM repositories r
    JOIN tags t ON t.repository_id = r.id
    JOIN manifests m ON m.id = t.manifest_id;

-- What the tags of a repository point at, by its id.
CREATE VIEW tag_targets AS
    SELECT t.repository_id, t.name, m.id AS manifest_id, m.digest, t.pushed_at
    FROM tags t
    JOIN manifests m ON m.id = t.manifest_id;

-- What would break if a digest left a repository: the manifests that name it, and itself if it is one.
CREATE VIEW named_digests AS
    SELECT repository_id, digest, manifest FROM manifest_references
    UNION ALL
    SELECT repository_id, digest, digest AS manifest FROM manifests;

-- The repositories that have something to pull.
CREATE VIEW pullable_repositories AS
    SELECT r.id, r.name, r.created_at
    FROM repositories r
    WHERE EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id);
