//! Users and their bcrypt password hashes in SQLite.
