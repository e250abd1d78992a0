-- Held messages are decided on: released ones move to `messages`; refused ones stay, so that their idempotency keys go on
-- being known and a repeated send is not held a second time.
ALTER TABLE held_messages ADD COLUMN refused_at timestamptz;
CREATE INDEX held_messages_waiting ON held_messages (id) WHERE refused_at IS NULL;
