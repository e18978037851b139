-- Why the application gave no reply, for its sender; NULL with a reply, and where it gave no reason.
ALTER TABLE replies ADD COLUMN reason TEXT;
