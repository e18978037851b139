-- Messages that were accepted and not yet acknowledged, in the order of their acceptance.
CREATE TABLE messages (
    seq         INTEGER PRIMARY KEY,
    user        TEXT    NOT NULL,
    id          BLOB    NOT NULL,  -- 16 bytes
    certificate BLOB,              -- 32 bytes, or NULL over plain http
    received_at INTEGER NOT NULL,  -- milliseconds since the Unix epoch
    body        TEXT    NOT NULL,  -- a JSON object
    wants_reply INTEGER NOT NULL,
    deliveries  INTEGER NOT NULL,  -- how often it was handed out, or was going to be
    is_dead     INTEGER NOT NULL   -- handed out too often: waits to be looked at
);

-- Ids that were accepted, longer than any client retries them.
CREATE TABLE remembered (
    user        TEXT    NOT NULL,
    id          BLOB    NOT NULL,
    body_hash   BLOB    NOT NULL,  -- first 16 bytes of the body's SHA-256
    accepted_at INTEGER NOT NULL,  -- milliseconds since the Unix epoch
    PRIMARY KEY (user, id)
) WITHOUT ROWID;

CREATE INDEX remembered_by_age ON remembered (accepted_at);

-- What requests were answered; body is NULL where the application gave no reply.
CREATE TABLE replies (
    user        TEXT    NOT NULL,
    id          BLOB    NOT NULL,
    body        TEXT,
    replied_at  INTEGER NOT NULL,  -- milliseconds since the Unix epoch
    PRIMARY KEY (user, id)
) WITHOUT ROWID;

CREATE INDEX replies_by_age ON replies (replied_at);
