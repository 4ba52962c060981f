-- compatibility: 1
-- What runs somewhere, so that nothing of it is deleted. Times are seconds since 1970 UTC.

-- owner: registry/protections.py
-- The container engines that are asked. succeeded_at: when one last told all that it runs; NULL: it never did.
-- failing_since, failure: since when it does not tell, and why; NULL: it does.
CREATE TABLE engines (
    name TEXT NOT NULL PRIMARY KEY,
    succeeded_at DOUBLE PRECISION,
    failing_since DOUBLE PRECISION,
    failure TEXT,
    CHECK ((failing_since IS NULL) = (failure IS NULL))
)$CLUSTERED;

-- owner: registry/protections.py
-- Who uses which digest. current: a service is meant to run it. previous: a service can be rolled back to it. task: a
-- node was told to run it for a service. container: an engine has a container of it.
-- image_id: what the engine calls the image; an image may have many digests. image: the name that it was started by.
-- last_seen_at: when it was last seen to run; NULL: it runs, as far as the engine last told.
CREATE TABLE protections (
    engine TEXT NOT NULL REFERENCES engines (name),
    used_by TEXT NOT NULL,
    node TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('current', 'previous', 'task', 'container')),
    digest TEXT NOT NULL,
    image_id TEXT NOT NULL,
    image TEXT NOT NULL,
    first_seen_at DOUBLE PRECISION NOT NULL,
    last_seen_at DOUBLE PRECISION,
    PRIMARY KEY (engine, used_by, node, kind, digest)
)$CLUSTERED;
CREATE INDEX protections_by_digest ON protections (digest);

-- The digests that nothing may take away.
CREATE VIEW protected_digests AS
    SELECT DISTINCT digest FROM protections;
