-- compatibility: 1
-- owner: registry/visibility.py
CREATE TABLE private_repositories (
    repository TEXT NOT NULL PRIMARY KEY
)$CLUSTERED;
