-- compatibility: 6
-- What upstream shows to everybody. An older Homeport fetches it again.

-- owner: mirror/public_blobs.py
-- A blob that was once fetched from a repository that its registry shows to everybody: to link it anywhere discloses
-- nothing. It goes with the blob.
CREATE TABLE public_blobs (
    digest TEXT PRIMARY KEY REFERENCES blobs (digest) ON DELETE CASCADE
)$CLUSTERED;
