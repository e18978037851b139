//! The routes of protocol version 1. A frame names the path of its route in `to`, so both ends need
//! the routes for frames as well as for URLs. This file depends on no HTTP library.

/// A route of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `GET /is/running`: 200 and [`IS_RUNNING_TEXT`](crate::IS_RUNNING_TEXT), however busy the
    /// server is; 503 while it stops, or soon will.
    IsRunning,
    /// `POST /client/auth`: [`AuthRequest`](crate::AuthRequest) in, [`AuthReply`](crate::AuthReply)
    /// out.
    ClientAuth,
    /// `POST /message/submit`: an object in, [`SUBMIT_TEXT`](crate::SUBMIT_TEXT) out once the inbox
    /// has stored it.
    MessageSubmit,
    /// `POST /message/request`: an object in, the application's reply out.
    MessageRequest,
    /// `POST /message/batch`: an array of [`BatchEntry`](crate::BatchEntry) in,
    /// [`BatchReply`](crate::BatchReply) out once the inbox has stored all that it accepts.
    MessageBatch,
    /// `GET /message/channel`: a WebSocket. Frames with a [`ChannelFrame`](crate::ChannelFrame) go
    /// in, frames with a [`ChannelAnswer`](crate::ChannelAnswer) come out.
    MessageChannel,
    /// `POST /client/renew`: [`RenewalRequest`](crate::RenewalRequest) in,
    /// [`RenewalReply`](crate::RenewalReply) out.
    ClientRenew,
}

impl Route {
    /// Every route.
    pub const ALL: [Route; 7] = [
        Route::IsRunning,
        Route::ClientAuth,
        Route::MessageSubmit,
        Route::MessageRequest,
        Route::MessageBatch,
        Route::MessageChannel,
        Route::ClientRenew,
    ];

    /// The path. A frame for this route has it in `to`.
    pub const fn path(self) -> &'static str {
        match self {
            Route::IsRunning => "/is/running",
            Route::ClientAuth => "/client/auth",
            Route::MessageSubmit => "/message/submit",
            Route::MessageRequest => "/message/request",
            Route::MessageBatch => "/message/batch",
            Route::MessageChannel => "/message/channel",
            Route::ClientRenew => "/client/renew",
        }
    }

    /// The only method of this route. Any other is refused with 405.
    pub const fn method(self) -> &'static str {
        match self {
            Route::IsRunning | Route::MessageChannel => "GET",
            Route::ClientAuth
            | Route::ClientRenew
            | Route::MessageSubmit
            | Route::MessageRequest
            | Route::MessageBatch => "POST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_of_old_are_those_the_python_tool_has() {
        let all: Vec<_> =
            Route::ALL[..3].iter().map(|route| (route.method(), route.path())).collect();
        assert_eq!(
            all,
            [("GET", "/is/running"), ("POST", "/client/auth"), ("POST", "/message/submit")]
        );
    }
}
