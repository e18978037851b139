//! The certificate authority of a web-ipc installation and the leaf certificates it issues.
