-- compatibility: 9
-- What is not for everybody. An older Homeport would show it to everybody.

-- owner: registry/privacy.py
-- Repositories that were fetched with a login, and that upstream does not show to those who have none. By name: the row
-- is there before the repository is, and stays after it.
CREATE TABLE private_repositories (
    repository TEXT NOT NULL PRIMARY KEY
)$CLUSTERED;
