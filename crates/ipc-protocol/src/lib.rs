//! What both ends of web-ipc agree on: routes, statuses, frames, problem codes.
