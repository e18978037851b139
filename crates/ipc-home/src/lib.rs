//! The home directory of a web-ipc installation: paths, permissions, reading keys and TLS material.
