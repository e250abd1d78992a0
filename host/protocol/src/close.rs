//! Why a socket was closed, and whether to come back.

wire_enum! {
    /// The close codes. 1000 to 1012 as RFC 6455 and its registry have them; 4000 to 4499: reconnect and resume;
    /// 4500 to 4999: do not reconnect before something is put right.
    CloseCode: u16 {
        /// A frame broke the WebSocket protocol. Do not reconnect before the client is mended.
        ProtocolError = 1002,
        /// A text frame was not UTF-8. Do not reconnect before the client is mended.
        InvalidUtf8 = 1007,
        /// A frame was larger than the limit. Reconnect, and send smaller ones.
        FrameTooLarge = 1009,
        /// The gateway is restarting. Reconnect elsewhere after a moment, and resume.
        ServiceRestart = 1012,
        /// The client read too slowly and its queue is full. Reconnect and resume.
        SlowConsumer = 4000,
        /// The stream of events cannot go on without a hole. Reconnect and resume.
        ResumeRequired = 4001,
        /// The client did not answer pings. Reconnect and resume.
        HeartbeatLost = 4002,
        /// The token expired and no new one came. Reconnect with a fresh token, and resume.
        SessionExpired = 4003,
        /// No valid `auth` came in time. Do not reconnect without a token.
        AuthTimeout = 4500,
        /// The client went on sending far beyond the rate limit, or a message without end. Do not reconnect before it is
        /// mended.
        Flooding = 4501,
    }
}
