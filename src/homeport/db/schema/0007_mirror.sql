-- compatibility: 6
-- What is known of other registries, and what of it is here. Times are seconds since 1970 UTC. A host is written as in
-- image names (docker.io, registry.lan:5000).

-- owner: upstreams/quotas.py
-- How many pulls the registry said that it still allows, in a window of so many seconds. limited_until: it asked us to
-- stay away until then.
CREATE TABLE upstream_quotas (
    host TEXT NOT NULL PRIMARY KEY,
    pulls_max BIGINT,
    remaining BIGINT,
    window_seconds DOUBLE PRECISION,
    source TEXT,
    seen_at DOUBLE PRECISION NOT NULL,
    limited_until DOUBLE PRECISION
)$CLUSTERED;

-- owner: mirror/sightings.py
-- What an upstream tag pointed at when it was last looked at (NULL: at nothing), and since when it was seen so.
CREATE TABLE upstream_tags (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT,
    first_seen_at DOUBLE PRECISION NOT NULL,
    checked_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (host, repository, tag)
)$CLUSTERED;

-- owner: mirror/sightings.py
-- How many tags an upstream repository had in its last complete list.
CREATE TABLE upstream_lists (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    listed BIGINT NOT NULL,
    listed_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (host, repository)
)$CLUSTERED;

-- owner: mirror/read_ahead.py
-- Manifests that were read from an upstream before they were needed, so that the pull that they cost is paid once.
CREATE TABLE read_manifests (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    data $BYTES NOT NULL,
    read_at DOUBLE PRECISION NOT NULL
);

-- owner: mirror/ages.py
-- When the image of a digest was made, as it says itself.
CREATE TABLE image_times (
    digest TEXT NOT NULL PRIMARY KEY,
    created_at DOUBLE PRECISION NOT NULL
)$CLUSTERED;

-- owner: mirror/origins.py
-- Where a tag of ours came from, and the digest that it had then: another one now was pushed by somebody.
-- image: what the configuration called it; NULL: it was fetched because somebody asked, or found to be upstream's.
-- leaving, leaving_since: why it is no longer meant to be here, and since when each run has found it so.
CREATE TABLE origins (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    host TEXT NOT NULL,
    source TEXT NOT NULL,
    source_tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    found_by TEXT NOT NULL CHECK (found_by IN ('mirror', 'cache', 'name')),
    image TEXT,
    copied_at DOUBLE PRECISION NOT NULL,
    leaving TEXT,
    leaving_since DOUBLE PRECISION,
    PRIMARY KEY (repository, tag)
)$CLUSTERED;
CREATE INDEX origins_by_source ON origins (host, source);

-- owner: mirror/remaining.py
-- What a run has still to copy, and what it could not.
CREATE TABLE mirror_copies (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    run BIGINT NOT NULL,
    image TEXT NOT NULL,
    host TEXT NOT NULL,
    source TEXT NOT NULL,
    source_tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    why TEXT NOT NULL,
    planned_at DOUBLE PRECISION NOT NULL,
    failure TEXT,
    PRIMARY KEY (repository, tag)
)$CLUSTERED;

-- owner: mirror/brake.py
-- An upstream repository whose list had lost so much that nothing was done for it; released_at: a person believes it.
CREATE TABLE mirror_brakes (
    run BIGINT NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    reason TEXT NOT NULL,
    listed BIGINT NOT NULL,
    stopped_at DOUBLE PRECISION NOT NULL,
    released_at DOUBLE PRECISION,
    PRIMARY KEY (run, host, repository)
)$CLUSTERED;
