//! Homes of servers and of enrolled clients, with certificates that are due.

use std::sync::Arc;

use ipc_home::{Home, PeerName};
use ipc_server::blocking::Server;
use ipc_setup::{
    CertificateRequest, EnrolRequest, HomeIssuer, InitOptions, ListedCertificate, accept_enrolment,
    create_enrolment, init, issue_certificate, list_certificates,
};

const DAY_SECS: u64 = 86_400;

pub(crate) fn now_secs() -> u64 {
    InitOptions::now().now_secs
}

/// When the homes of the tests were made.
pub(crate) fn then_secs() -> u64 {
    now_secs() - 20 * DAY_SECS
}

/// The home of a server.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) home: Home,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = InitOptions { now_secs: then_secs(), ..InitOptions::now() };
        let home = init(&directory.path().join("home"), &options).unwrap().home;
        Self { directory, home }
    }

    /// Issues a pair that is due.
    pub(crate) fn issue_due(&self, name: &str) {
        let request = CertificateRequest {
            validity_days: 25,
            force: true,
            ..CertificateRequest::new(name, then_secs())
        };
        issue_certificate(&self.home, &request).unwrap();
    }

    /// A server that issues certificates.
    pub(crate) fn serve(&self) -> Server {
        let issuer = HomeIssuer::new(self.home.clone(), PeerName::parse("localhost").unwrap());
        let server = ipc_server::Server::builder(&self.home).certificate_issuer(Arc::new(issuer));
        server.bind("127.0.0.1:0").start_blocking().unwrap()
    }

    /// A server that issues none.
    pub(crate) fn serve_without_issuer(&self) -> Server {
        ipc_server::Server::builder(&self.home).bind("127.0.0.1:0").start_blocking().unwrap()
    }

    /// The home of a client whose certificate is due.
    pub(crate) fn enrol(&self, name: &str, server: &Server) -> Home {
        let addresses = [server.address().to_string()];
        let request =
            EnrolRequest { validity_days: 25, ..EnrolRequest::new(name, &addresses, then_secs()) };
        let bundle = create_enrolment(&self.home, &request).unwrap();
        let path = self.directory.path().join(name);
        accept_enrolment(&path, &bundle.text, &bundle.code, then_secs()).unwrap().home
    }

    /// A copy of a client's home that goes to another server of the installation.
    pub(crate) fn copy_for(&self, client: &Home, server: &Server) -> Home {
        let root = self.directory.path().join("elsewhere");
        ipc_home::make_private_directory(&root).unwrap();
        for entry in std::fs::read_dir(client.root()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
            }
        }
        let home = Home::at(root);
        let mut settings = home.client_settings().unwrap().unwrap();
        settings.addresses = vec![server.address().to_string()];
        home.write_client_settings(&settings).unwrap();
        home
    }
}

/// The certificate of a pair.
pub(crate) fn certificate(home: &Home, name: &str) -> ListedCertificate {
    let list = list_certificates(home).unwrap().certificates;
    let is_it =
        |one: &ListedCertificate| one.pair.as_ref().is_some_and(|pair| pair.as_str() == name);
    list.into_iter().find(is_it).unwrap()
}

/// How many certificates a server has issued to clients.
pub(crate) fn issued(home: &Home) -> usize {
    std::fs::read_dir(home.issued_dir()).map_or(0, Iterator::count)
}
