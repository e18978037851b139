//! What another program wrote into the table of certificates.

use ipc_store::{Fingerprint, PeerSighting, UserStore};

use crate::support::FilePlace;

#[tokio::test]
async fn what_another_program_wrote_among_the_certificates_does_no_harm() {
    let place = FilePlace::new();
    let store = place.create().await;
    drop(
        place
            .raw(
                "INSERT INTO peers (fingerprint, name, last_seen_at, user) VALUES
                 ('text', NULL, 1, NULL), (x'00', NULL, 2, NULL),
                 (zeroblob(32), 'no peer', -3, ' no user')",
            )
            .await,
    );
    assert_eq!(
        store.peers().await.unwrap(),
        [PeerSighting::new(Fingerprint::from_bytes([0; 32]), 0)]
    );
}
