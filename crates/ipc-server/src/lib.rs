//! The web-ipc server: receives sealed messages over HTTPS with mutual TLS.
