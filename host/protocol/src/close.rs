//! Why a socket was closed, and whether to reconnect.

wire_enum! {
    /// The close codes. 1000 to 1013 have the meaning of RFC 6455 and its registry. 4000 to 4499: reconnect and resume.
    /// 4500 to 4999: do not reconnect until the cause is fixed.
    ///
    /// A code's text is the reason in the close frame, which holds at most 123 bytes.
    CloseCode: u16 {
        /// The client violated the WebSocket protocol. Client bug; do not reconnect automatically.
        ProtocolError = 1002,
        /// A text frame was not valid UTF-8. Client bug; do not reconnect automatically.
        InvalidUtf8 = 1007,
        /// A frame was larger than the limit. Reconnect, and send smaller frames.
        FrameTooLarge = 1009,
        /// The gateway is restarting. Reconnect to another gateway after a short delay, and resume.
        ServiceRestart = 1012,
        /// The gateway is full. Reconnect to another gateway, or later, and resume.
        TryAgainLater = 1013,
        /// The client read too slowly and its queue is full. Reconnect and resume.
        SlowConsumer = 4000,
        /// The gateway cannot continue the event stream without a gap. Reconnect and resume.
        ResumeRequired = 4001,
        /// The client did not answer pings. Reconnect and resume.
        HeartbeatLost = 4002,
        /// The token expired and was not renewed. Reconnect with a fresh token, and resume.
        SessionExpired = 4003,
        /// No valid `auth` arrived in time. Do not reconnect without a valid token.
        AuthTimeout = 4500,
        /// The client kept exceeding the rate limit, or sent an endless message. Do not reconnect automatically.
        Flooding = 4501,
        /// Five tokens in a row were refused. Do not reconnect without a valid token.
        TokensRefused = 4502,
        /// The user has too many sockets open. Do not reconnect until one of them is closed.
        TooManySockets = 4503,
        /// The user was disconnected. Do not reconnect without a token that is issued after that.
        Disconnected = 4504,
    }
}
