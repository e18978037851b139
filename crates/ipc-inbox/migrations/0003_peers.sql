-- The peer name in the sender's certificate; NULL without one, and for messages from before this
-- column. It is text in the row, as the user is: a number in a table of names would cost a lookup
-- with each message, and a name has 64 characters at most.
ALTER TABLE messages ADD COLUMN peer TEXT;
