-- compatibility: 1
-- What is asked of uploads while others clean up. Times are seconds since 1970 UTC.

-- Which uploads of a repository move.
CREATE INDEX uploads_by_repository ON uploads (repository, moved_at);
