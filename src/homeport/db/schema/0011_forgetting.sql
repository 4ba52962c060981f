-- compatibility: 9
-- What of other registries is forgotten when nothing needs it any more. An older Homeport keeps it.

-- When a run or a plan last needed it, to within a week. NULL: not since that is noted, so it stays.
ALTER TABLE image_times ADD COLUMN used_at DOUBLE PRECISION;

-- The lists of upstream repositories of which nothing is here, and at which no run has stopped.
CREATE VIEW unneeded_upstream_lists AS
    SELECT l.host, l.repository, l.listed_at
    FROM upstream_lists l
    WHERE NOT EXISTS (SELECT 1 FROM origins o WHERE o.host = l.host AND o.source = l.repository)
        AND NOT EXISTS (SELECT 1 FROM mirror_brakes b WHERE b.host = l.host AND b.repository = l.repository);
