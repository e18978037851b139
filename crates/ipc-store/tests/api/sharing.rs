//! Several stores on one file at the same time, in one process and in many.

use std::process::{Command, Stdio};

use ipc_store::UserStore;

use crate::support::{FilePlace, name, names, options, password};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_make_one_file_at_the_same_time_all_succeed() {
    for _ in 0..5 {
        let place = FilePlace::new();
        let makers: Vec<_> = (0..8)
            .map(|number| {
                let path = place.path.clone();
                tokio::spawn(async move {
                    let store = options().create(path).await.unwrap();
                    store.add(&name(&format!("user{number}")), &password("x")).await.unwrap();
                    store.close().await;
                })
            })
            .collect();
        for maker in makers {
            maker.await.unwrap();
        }
        assert_eq!(names(&place.open().await).await.len(), 8);
    }
}

#[test]
fn processes_that_make_and_fill_one_file_at_the_same_time_all_succeed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The test starts itself again as the other processes.
    if let (Some(path), Ok(tag)) =
        (std::env::var_os("IPC_STORE_TEST_SHARED"), std::env::var("IPC_STORE_TEST_TAG"))
    {
        runtime.block_on(async {
            let store = options().create(path).await.unwrap();
            for number in 0..10 {
                store.add(&name(&format!("{tag}-{number}")), &password("x")).await.unwrap();
            }
            store.close().await;
        });
        return;
    }
    let place = FilePlace::new();
    let children: Vec<_> = (0..4)
        .map(|tag| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "sharing::processes_that_make_and_fill_one_file_at_the_same_time_all_succeed",
                ])
                .env("IPC_STORE_TEST_SHARED", &place.path)
                .env("IPC_STORE_TEST_TAG", tag.to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(runtime.block_on(async { names(&place.open().await).await }).len(), 40);
}

#[test]
fn a_store_outlives_the_runtime_that_opened_it() {
    let place = FilePlace::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime().block_on(place.create());
    runtime().block_on(async { store.add(&name("bob"), &password("x")).await.unwrap() });
    assert!(runtime().block_on(async { store.verify("bob", "x").await.unwrap() }).is_some());
}
