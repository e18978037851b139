-- Why the application rejected a dead letter; NULL where it was handed out too often.
ALTER TABLE messages ADD COLUMN reason TEXT;
