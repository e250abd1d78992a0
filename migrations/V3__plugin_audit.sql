-- Why a message is not what its sender wrote, or not there at all: one row for each message that a plugin rejected, held,
-- replaced or discarded, or that was refused because a plugin failed. Never the message's text.
CREATE TABLE plugin_audit (
    id bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    conversation_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    -- 'rejected', 'held', 'replaced', 'discarded' or 'failed'.
    verdict text NOT NULL,
    -- The plugin that decided, its version if its file says, and the digest of that file.
    plugin text NOT NULL,
    version text,
    sha256 text NOT NULL,
    -- Of a rejection, and why it was rejected or held.
    code text,
    reason text,
    -- The message, if it was stored (replaced) or held; a held one that was released is known by another id since.
    message_id bigint,
    held_id bigint
);
CREATE INDEX plugin_audit_by_sender ON plugin_audit (sender_id, id);
