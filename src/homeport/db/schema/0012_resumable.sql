-- compatibility: 9
-- What broke off on its way from upstream goes on where it was.

-- What the upload is of, as whoever brings it calls it: the next who brings the same may go on with it. NULL: only its
-- own client may.
ALTER TABLE uploads ADD COLUMN resumable_as TEXT;
