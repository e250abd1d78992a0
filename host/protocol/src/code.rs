//! Why a request failed: stable tokens for programs.

wire_enum! {
    /// The `code` of a failure. Codes never change their meaning; new ones may be added.
    ErrorCode: &'static str {
        /// The frame is not JSON.
        InvalidJson = "invalid_json",
        /// The frame is JSON, but not an object.
        NotAnObject = "not_an_object",
        /// The frame is binary; this protocol uses text frames only.
        BinaryFrame = "binary_frame",
        /// The text frame is not valid UTF-8. The socket is closed.
        InvalidUtf8 = "invalid_utf8",
        /// The frame is larger than the limit. It was not read, so no `ref` is repeated. The socket is closed.
        FrameTooLarge = "frame_too_large",
        /// Unknown `op`.
        UnknownOp = "unknown_op",
        /// A required field is missing.
        MissingField = "missing_field",
        /// A field has the wrong type or an invalid value.
        InvalidField = "invalid_field",
        /// The canonical body is larger than the limit.
        BodyTooLarge = "body_too_large",
        /// The body is nested too deeply.
        BodyTooDeep = "body_too_deep",
        /// The body has the same key twice in one object.
        DuplicateKey = "duplicate_key",
        /// The body contains a number beyond the range of a double, or one of more than 1,100 digits.
        NumberOutOfRange = "number_out_of_range",
        /// The body contains U+0000 or a lone surrogate, which the database cannot store.
        UnstorableText = "unstorable_text",
        /// The socket must send `auth` first, or again because its token has expired.
        AuthRequired = "auth_required",
        /// No `auth` arrived in time. The socket is closed.
        AuthTimeout = "auth_timeout",
        /// The token is not a JWT, or one with `crit` (in development: not a UUID).
        TokenMalformed = "token_malformed",
        /// The token is signed with an algorithm that is not allowed, or that is not its key's.
        TokenAlgorithm = "token_algorithm",
        /// The token's signature does not match the gateway's key.
        TokenSignature = "token_signature",
        /// The issuer has no key of the token's `kid`. It may have a newer one if there is a `retry_after_ms`: retry
        /// then.
        TokenKeyUnknown = "token_key_unknown",
        /// The issuer's keys could not be fetched yet, so the token was not looked at. Retry after `retry_after_ms`.
        KeysUnavailable = "keys_unavailable",
        /// The token has expired. Also sent unsolicited, when the token expires during a session.
        TokenExpired = "token_expired",
        /// The token is not valid yet.
        TokenNotYetValid = "token_not_yet_valid",
        /// The token's issuer is not the expected one.
        TokenIssuer = "token_issuer",
        /// The token's audience is not the expected one.
        TokenAudience = "token_audience",
        /// The token has no `exp`, or does not name its user where it should: by a UUID in `sub` or `userId` unless the
        /// gateway is told otherwise, and not two different ones.
        TokenClaims = "token_claims",
        /// The user was disconnected after the token was issued. Get a fresh one.
        TokenRevoked = "token_revoked",
        /// The socket already belongs to another user.
        UserMismatch = "user_mismatch",
        /// The user has as many sockets open as the limit allows. The socket is closed.
        TooManySockets = "too_many_sockets",
        /// The user is not a participant of the conversation, or the conversation does not exist.
        NotParticipant = "not_participant",
        /// The conversation is read-only: nobody sends, edits or gives reactions in it. What was said can be deleted.
        ConversationReadOnly = "conversation_read_only",
        /// The other one of the conversation's two participants has blocked the user: what was said can be deleted, and
        /// nothing new is said.
        Blocked = "blocked",
        /// The socket has not joined the conversation.
        NotJoined = "not_joined",
        /// The socket has already joined as many conversations as the limit allows.
        TooManyJoined = "too_many_joined",
        /// The conversation never had such a message, or has purged it.
        UnknownMessage = "unknown_message",
        /// The message is deleted: it cannot be edited, replied to or given a reaction.
        MessageDeleted = "message_deleted",
        /// Only the message's author may edit it, and only they or a role in `DELETE_ROLES` may delete it.
        NotAuthor = "not_author",
        /// The message is older than `EDIT_WINDOW_SECONDS`.
        EditTooLate = "edit_too_late",
        /// Another version stands than `if_version`; it is in `version`.
        VersionConflict = "version_conflict",
        /// The message has as many different reactions as it can have.
        TooManyReactions = "too_many_reactions",
        /// The `idempotency_key` belongs to a change of another message.
        KeyReused = "key_reused",
        /// Too many requests. Retry after `retry_after_ms`.
        RateLimited = "rate_limited",
        /// A plugin refused the message or the join; see `plugin`, `reject_code` and, if present, `retry_after_ms`.
        Rejected = "rejected",
        /// A plugin failed, and its `on_error` is `reject`; see `plugin`.
        PluginFailed = "plugin_failed",
        /// The gateway has too much work waiting. Nothing was stored; retry after `retry_after_ms`.
        Overloaded = "overloaded",
        /// The database is temporarily unavailable. Nothing was stored; retry.
        Unavailable = "unavailable",
        /// The database's answer was lost; the message or the change may be stored. Repeat it, with the same
        /// `idempotency_key`.
        OutcomeUnknown = "outcome_unknown",
        /// The gateway failed; its log has the cause. Nothing was stored.
        Internal = "internal",
    }
}
