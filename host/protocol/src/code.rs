//! Why a request failed: stable tokens for programs.

wire_enum! {
    /// The `code` of a failure. Tokens never change their meaning; new ones may come.
    ErrorCode: &'static str {
        /// The frame is not JSON.
        InvalidJson = "invalid_json",
        /// The frame is JSON, but not an object.
        NotAnObject = "not_an_object",
        /// A binary frame; this protocol is text.
        BinaryFrame = "binary_frame",
        /// A text frame that is not UTF-8; the socket is closed.
        InvalidUtf8 = "invalid_utf8",
        /// The frame is larger than the limit; it was not read, so that no `ref` is repeated, and the socket is closed.
        FrameTooLarge = "frame_too_large",
        /// `op` is none that this gateway knows.
        UnknownOp = "unknown_op",
        /// A required field is missing.
        MissingField = "missing_field",
        /// A field has the wrong type or an impossible value.
        InvalidField = "invalid_field",
        /// The canonical body is larger than the limit.
        BodyTooLarge = "body_too_large",
        /// The body is nested too deep.
        BodyTooDeep = "body_too_deep",
        /// The body has the same key twice in one object.
        DuplicateKey = "duplicate_key",
        /// The body holds a number that a double cannot hold.
        NumberOutOfRange = "number_out_of_range",
        /// The body holds U+0000 or a lone surrogate, which the database cannot store.
        UnstorableText = "unstorable_text",
        /// The socket must `auth` first, or again since its right has ended.
        AuthRequired = "auth_required",
        /// No `auth` came in time; the socket is closed.
        AuthTimeout = "auth_timeout",
        /// The token is no JWT (or, in development, no UUID).
        TokenMalformed = "token_malformed",
        /// The token is signed with an algorithm other than RS256.
        TokenAlgorithm = "token_algorithm",
        /// The token's signature does not fit the gateway's key.
        TokenSignature = "token_signature",
        /// The token has expired; sent unasked when it happens during a session.
        TokenExpired = "token_expired",
        /// The token is not valid yet.
        TokenNotYetValid = "token_not_yet_valid",
        /// The token's issuer is not the expected one.
        TokenIssuer = "token_issuer",
        /// The token's audience is not the expected one.
        TokenAudience = "token_audience",
        /// The token lacks `exp`, or a user that is a UUID in `sub` or `userId`.
        TokenClaims = "token_claims",
        /// The socket belongs to another user already.
        UserMismatch = "user_mismatch",
        /// The user does not participate in the conversation, or there is no such conversation.
        NotParticipant = "not_participant",
        /// The socket has not joined the conversation.
        NotJoined = "not_joined",
        /// The socket has joined as many conversations as it may.
        TooManyJoined = "too_many_joined",
        /// The conversation has no such message.
        UnknownMessage = "unknown_message",
        /// Too many requests; `retry_after_ms` says when to go on.
        RateLimited = "rate_limited",
        /// A plugin refused the message or the join: `plugin`, `reject_code` and perhaps `retry_after_ms` say more.
        Rejected = "rejected",
        /// A plugin failed and is configured to refuse then; `plugin` names it.
        PluginFailed = "plugin_failed",
        /// The gateway has more work than it can hold; nothing was stored, try again later.
        Overloaded = "overloaded",
        /// The database cannot be reached or refused for now; nothing was stored, try again.
        Unavailable = "unavailable",
        /// The database's answer was lost: the message may be stored. Send again with the same `idempotency_key`.
        OutcomeUnknown = "outcome_unknown",
        /// A fault of the gateway, which its log explains; nothing was stored.
        Internal = "internal",
    }
}
