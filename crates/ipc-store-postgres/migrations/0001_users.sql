-- Users, as the SQLite file has them. Times are seconds since the Unix epoch, NULL where nothing is
-- known. Names are compared byte by byte, whatever the collation of the database.
CREATE TABLE web_ipc_users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    username text COLLATE "C" NOT NULL UNIQUE,
    password_hash text NOT NULL,
    created_at bigint,
    last_login_at bigint,
    failed_logins bigint NOT NULL DEFAULT 0,
    disabled boolean NOT NULL DEFAULT false,
    times_disabled bigint NOT NULL DEFAULT 0,
    bound_peer text
);

-- The certificates that servers have seen, each as it was seen last.
CREATE TABLE web_ipc_peers (
    fingerprint bytea PRIMARY KEY CHECK (length(fingerprint) = 32),
    name text,
    serial text,
    last_seen_at bigint NOT NULL,
    username text,
    envelope_key_id text
);

-- One row, whose token is another one after each change of what a user may do. By it a server sees
-- with one small query whether what it knows of all its users still holds.
CREATE TABLE web_ipc_users_state (
    is_the_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_row),
    token uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO web_ipc_users_state DEFAULT VALUES;

CREATE FUNCTION web_ipc_users_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE web_ipc_users_state SET token = gen_random_uuid();
    RETURN NULL;
END
$$;
-- Also for changes that are made by hand. Notes of logins change nothing of it.
CREATE TRIGGER web_ipc_users_changed
    AFTER INSERT OR DELETE OR TRUNCATE
        OR UPDATE OF username, password_hash, disabled, times_disabled, bound_peer
    ON web_ipc_users FOR EACH STATEMENT EXECUTE FUNCTION web_ipc_users_changed();
