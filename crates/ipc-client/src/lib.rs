//! The web-ipc client: sends JSON objects, sealed, over HTTPS with mutual TLS.
