-- What is known of a user beside name and password. Times are seconds since the Unix epoch, NULL where
-- nothing is known. A program that knows only the first three columns still reads and adds users.
ALTER TABLE users ADD COLUMN created_at INTEGER;
ALTER TABLE users ADD COLUMN last_login_at INTEGER;
-- Since the last login that succeeded.
ALTER TABLE users ADD COLUMN failed_logins INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
-- Grows with each disabling, and is part of the credential version: a session from before it stays ended.
ALTER TABLE users ADD COLUMN times_disabled INTEGER NOT NULL DEFAULT 0;
-- The peer whose certificate alone the user may log in with; NULL for any.
ALTER TABLE users ADD COLUMN bound_peer TEXT;

-- The certificates that servers have seen, each as it was seen last.
CREATE TABLE IF NOT EXISTS peers (
    fingerprint BLOB NOT NULL PRIMARY KEY,
    name TEXT,
    serial TEXT,
    last_seen_at INTEGER NOT NULL,
    user TEXT,
    envelope_key_id TEXT
) WITHOUT ROWID;
