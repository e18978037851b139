//! Makes and manages a web-ipc home: init and certificates.
