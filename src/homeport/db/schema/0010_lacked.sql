-- compatibility: 9
-- What images had not all of, so that they come back as they were. An older Homeport refuses to bring those back.

-- The digests that a manifest named and its repository did not have when it went, with spaces between: what a mirror left
-- out, or nobody had asked the cache for. NULL: none.
ALTER TABLE trashed_links ADD COLUMN lacked TEXT;
