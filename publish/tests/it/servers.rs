//! The whole protocol on servers that speak S3.

use std::fs;
use std::time::Duration;

use durafile_publish::object_store::aws::AmazonS3Builder;
use durafile_publish::{CollectOptions, ErrorKind, PublishOptions, Published, PullOptions};

use crate::common::{Site, commit, noise, server, tree};

async fn whole_protocol(site: Site) {
    let (from, to) = (site.path("from"), site.path("to"));
    site.place.check_store().await.unwrap();
    for version in 1..=4u64 {
        let names: Vec<String> = (0..100).map(|number| format!("d/{number}")).collect();
        let contents: Vec<_> = (0..100).map(|number| noise(number * version.min(number + 1), 5000)).collect();
        let big = noise(version, 20 << 20);
        let files = names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice));
        commit(&from, &files.chain([("big", big.as_slice())]).collect::<Vec<_>>());
        let done = site.place.publish(&from, &PublishOptions::new().expect(version - 1)).await.unwrap();
        assert_eq!(done.version, version);
        site.place.pull(&to, &PullOptions::new()).await.unwrap();
        assert_eq!(tree(&to), tree(&from));
        assert!(site.place.pull(&to, &PullOptions::new()).await.unwrap().unchanged);
    }
    let done = site.place.collect(&CollectOptions::new().keep(1).grace(Duration::ZERO)).await.unwrap();
    assert!(done.oldest == 4 && done.objects >= 6, "{done:?}");
    fs::remove_dir_all(&to).unwrap();
    site.place.pull(&to, &PullOptions::new()).await.unwrap();
    assert_eq!(tree(&to), tree(&from));
    let gone = site.place.pull(&to, &PullOptions::new().version(1)).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_serves_the_whole_protocol() {
    let Some(store) = server("MOTO") else { return };
    whole_protocol(Site::on(store, "whole")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ceph_serves_the_whole_protocol() {
    let Some(store) = server("CEPH") else { return };
    whole_protocol(Site::on(store, "whole")).await;
}

/// moto believes any secret.
#[tokio::test]
async fn ceph_refuses_wrong_credentials() {
    if server("CEPH").is_none() {
        return;
    }
    let builder = AmazonS3Builder::new()
        .with_endpoint(std::env::var("PUBLISH_TEST_CEPH").unwrap())
        .with_allow_http(true);
    let builder = builder.with_region("us-east-1").with_access_key_id("test").with_secret_access_key("wrong");
    let store = builder.with_bucket_name("bucket").build().unwrap();
    let site = Site::on(std::sync::Arc::new(store), "refused");
    let from = site.path("from");
    commit(&from, &[("a", b"one")]);
    let error = site.place.publish(&from, &PublishOptions::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Store, false), "{error:?}");
    let _: &Published = &site.place;
}
