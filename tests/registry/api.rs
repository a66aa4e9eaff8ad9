//! The endpoints of the distribution spec, in the order of its four categories:
//! pull, push, content discovery, content management.

use kukeon::oci::{Algorithm, Digest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{IMAGE, INDEX, failure, header, start, start_with};

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn base_tells_how_to_log_in() {
    let r = start().await;
    let answer = r.anonymous(Method::GET, "/v2/").send().await.unwrap();
    let challenge = header(&answer, "www-authenticate");
    let realm = format!("realm=\"http://{}/v2/token\"", r.host());
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(challenge.contains(&realm), "{challenge}");
    assert_eq!(failure(answer).await, code(401, "UNAUTHORIZED"));
    assert_eq!(r.get("/v2/").await.status(), 200);
    let wrong = r
        .anonymous(Method::GET, "/v2/")
        .basic_auth("admin", Some("x"));
    let answer = wrong.send().await.unwrap();
    assert_eq!(failure(answer).await, code(401, "UNAUTHORIZED"));
}

// --- pull --------------------------------------------------------------------

#[tokio::test]
async fn manifests_come_back_verbatim_by_tag_and_digest() {
    let r = start().await;
    let mut manifest = r.image("a/b", b"layer").await;
    manifest.extend_from_slice(b"\n \n");
    let digest = Digest::sha256(&manifest);
    let put = r.put_manifest("/v2/a/b/manifests/v1", IMAGE, &manifest);
    let put = put.await;
    assert_eq!(put.status(), 201);
    assert_eq!(header(&put, "docker-content-digest"), digest.as_str());
    let location = format!("/v2/a/b/manifests/{digest}");
    assert_eq!(header(&put, "location"), location);
    for path in ["/v2/a/b/manifests/v1", location.as_str()] {
        let head = r.head(path).await;
        assert_eq!(head.status(), 200);
        assert_eq!(header(&head, "content-length"), manifest.len().to_string());
        let get = r.get(path).await;
        assert_eq!(get.status(), 200);
        assert_eq!(header(&get, "content-type"), IMAGE);
        assert_eq!(header(&get, "docker-content-digest"), digest.as_str());
        assert_eq!(get.bytes().await.unwrap(), manifest);
    }
    let etag = format!("\"{digest}\"");
    let again = r.ask(Method::GET, &location).header("if-none-match", etag);
    assert_eq!(again.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_the_right_code() {
    let r = start().await;
    let digest = Digest::sha256(b"nothing");
    let get = async |path: String| failure(r.get(&path).await).await;
    assert_eq!(
        get(format!("/v2/a/blobs/{digest}")).await,
        code(404, "BLOB_UNKNOWN")
    );
    assert_eq!(
        get("/v2/a/manifests/v1".into()).await,
        code(404, "MANIFEST_UNKNOWN")
    );
    assert_eq!(
        get(format!("/v2/a/manifests/{digest}")).await,
        code(404, "MANIFEST_UNKNOWN")
    );
    assert_eq!(
        get("/v2/a/tags/list".into()).await,
        code(404, "NAME_UNKNOWN")
    );
    assert_eq!(
        get("/v2/A/tags/list".into()).await,
        code(400, "NAME_INVALID")
    );
    assert_eq!(
        get("/v2/a/blobs/sha256:12".into()).await,
        code(400, "DIGEST_INVALID")
    );
    assert_eq!(
        get("/v2/a/blobs/uploads/0123".into()).await,
        code(404, "BLOB_UPLOAD_UNKNOWN")
    );
    let long = "t".repeat(129);
    assert_eq!(
        get(format!("/v2/a/manifests/{long}")).await,
        code(400, "MANIFEST_INVALID")
    );
    assert_eq!(get("/v1/".into()).await, code(404, "UNSUPPORTED"));
    let odd = r.ask(Method::PATCH, "/v2/a/manifests/v1").send().await;
    assert_eq!(failure(odd.unwrap()).await, code(405, "UNSUPPORTED"));
    let head = r.head(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(head.status(), 404);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn parts_of_blobs() {
    let r = start().await;
    // Larger than what is read at a time, and no multiple of it.
    let content: Vec<u8> = (0..700_001_u32).map(|n| (n % 251) as u8).collect();
    let digest = r.blob("a", &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    let head = r.head(&path).await;
    assert_eq!(header(&head, "content-length"), "700001");
    assert_eq!(header(&head, "accept-ranges"), "bytes");
    assert_eq!(r.get(&path).await.bytes().await.unwrap(), content);
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=5-262200", 5, 262_200),
        ("bytes=700000-", 700_000, 700_000),
        ("bytes=-10", 699_991, 700_000),
        ("bytes=300000-9999999", 300_000, 700_000),
    ] {
        let part = r.ask(Method::GET, &path).header("range", range);
        let part = part.send().await.unwrap();
        assert_eq!(part.status(), 206, "{range}");
        let expected = format!("bytes {from}-{to}/700001");
        assert_eq!(header(&part, "content-range"), expected);
        assert_eq!(part.bytes().await.unwrap(), content[from..=to]);
    }
    let beyond = r.ask(Method::GET, &path).header("range", "bytes=700001-");
    let beyond = beyond.send().await.unwrap();
    assert_eq!(header(&beyond, "content-range"), "bytes */700001");
    assert_eq!(failure(beyond).await, code(416, "SIZE_INVALID"));
}

// --- push --------------------------------------------------------------------

#[tokio::test]
async fn the_four_ways_to_push_a_blob() {
    let r = start().await;
    let whole = b"in one request".as_slice();
    let digest = Digest::sha256(whole);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let answer = r.ask(Method::POST, &path).body(whole).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(header(&answer, "location"), format!("/v2/a/blobs/{digest}"));

    r.blob("a", b"in two requests").await;

    let content = b"streamed, then closed";
    let at = r.begin("a").await;
    let patch = r.ask(Method::PATCH, &at).body(content.as_slice());
    let patch = patch.send().await.unwrap();
    assert_eq!(patch.status(), 202);
    assert_eq!(header(&patch, "range"), "0-20");
    let digest = Digest::sha256(content);
    let to = format!("{}?digest={digest}", header(&patch, "location"));
    let put = r.ask(Method::PUT, &to).send().await.unwrap();
    assert_eq!(put.status(), 201);
    assert_eq!(r.head(&header(&put, "location")).await.status(), 200);

    let digest = Digest::of(Algorithm::Sha512, b"012345");
    let at = r.begin("a").await;
    let chunk = |method, to: &str, range: &'static str, body: &'static str| {
        r.ask(method, to).header("content-range", range).body(body)
    };
    let first = chunk(Method::PATCH, &at, "0-1", "01").send().await.unwrap();
    assert_eq!(first.status(), 202);
    let second = chunk(Method::PATCH, &at, "2-3", "23").send().await;
    assert_eq!(header(&second.unwrap(), "range"), "0-3");
    let so_far = r.get(&at).await;
    assert_eq!(so_far.status(), 204);
    assert_eq!(header(&so_far, "range"), "0-3");
    let to = format!("{at}?digest={digest}");
    let put = chunk(Method::PUT, &to, "4-5", "45").send().await.unwrap();
    assert_eq!(put.status(), 201);
    let back = r.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(back.bytes().await.unwrap(), "012345");
    // The session is over.
    assert_eq!(
        failure(r.get(&at).await).await,
        code(404, "BLOB_UPLOAD_UNKNOWN")
    );
}

#[tokio::test]
async fn chunks_out_of_order_or_of_another_length_are_refused() {
    let r = start().await;
    let at = r.begin("a").await;
    let chunk = async |range: &'static str, body: &'static str| {
        let patch = r.ask(Method::PATCH, &at).header("content-range", range);
        patch.body(body).send().await.unwrap()
    };
    let early = chunk("2-3", "23").await;
    assert_eq!(header(&early, "location"), at);
    assert_eq!(failure(early).await, code(416, "BLOB_UPLOAD_INVALID"));
    assert_eq!(chunk("0-1", "01").await.status(), 202);
    let twice = chunk("0-1", "01").await;
    assert_eq!(header(&twice, "range"), "0-1");
    assert_eq!(twice.status(), 416);
    assert_eq!(chunk("x", "01").await.status(), 416);
    assert_eq!(
        failure(chunk("2-9", "23").await).await,
        code(400, "SIZE_INVALID")
    );
    assert_eq!(header(&r.get(&at).await, "range"), "0-1");
    assert_eq!(r.delete(&at).await.status(), 204);
    assert_eq!(r.get(&at).await.status(), 404);
}

#[tokio::test]
async fn other_content_than_announced_is_refused() {
    let r = start().await;
    let digest = Digest::sha256(b"one thing");
    let to = format!("{}?digest={digest}", r.begin("a").await);
    let put = r
        .ask(Method::PUT, &to)
        .body("another")
        .send()
        .await
        .unwrap();
    assert_eq!(failure(put).await, code(400, "DIGEST_INVALID"));
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let post = r.ask(Method::POST, &path).body("another").send().await;
    assert_eq!(failure(post.unwrap()).await, code(400, "DIGEST_INVALID"));
    let without = r.ask(Method::PUT, &r.begin("a").await).send().await;
    assert_eq!(failure(without.unwrap()).await, code(400, "DIGEST_INVALID"));
    let odd = format!("{}?digest=md5:12", r.begin("a").await);
    let odd = r.ask(Method::PUT, &odd).send().await.unwrap();
    assert_eq!(failure(odd).await, code(400, "DIGEST_INVALID"));
    let blob = r.head(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(blob.status(), 404);
}

#[tokio::test]
async fn mounting_needs_no_second_upload() {
    let r = start().await;
    let digest = r.blob("from", b"shared").await;
    let mount = async |from: &str, digest: &Digest| {
        let path = format!("/v2/to/blobs/uploads/?mount={digest}{from}");
        r.ask(Method::POST, &path).send().await.unwrap()
    };
    let other = Digest::sha256(b"other");
    // What cannot be mounted becomes an upload.
    assert_eq!(mount("&from=from", &other).await.status(), 202);
    assert_eq!(mount("&from=none", &digest).await.status(), 202);
    assert_eq!(mount("", &digest).await.status(), 202);
    let mounted = mount("&from=from", &digest).await;
    assert_eq!(mounted.status(), 201);
    let got = r.get(&header(&mounted, "location")).await;
    assert_eq!(got.bytes().await.unwrap(), "shared");
}

#[tokio::test]
async fn manifests_are_checked_before_they_are_taken() {
    let r = start().await;
    let manifest = r.image("a", b"layer").await;
    let put = async |to: &str, kind: &str, bytes: &[u8]| {
        failure(r.put_manifest(to, kind, bytes).await).await
    };
    assert_eq!(
        put("/v2/b/manifests/v1", IMAGE, &manifest).await,
        code(400, "MANIFEST_BLOB_UNKNOWN")
    );
    assert_eq!(
        put("/v2/a/manifests/v1", IMAGE, b"{").await,
        code(400, "MANIFEST_INVALID")
    );
    assert_eq!(
        put("/v2/a/manifests/v1", INDEX, &manifest).await,
        code(400, "MANIFEST_INVALID")
    );
    let wrong = format!("/v2/a/manifests/{}", Digest::sha256(b"x"));
    assert_eq!(
        put(&wrong, IMAGE, &manifest).await,
        code(400, "DIGEST_INVALID")
    );
    let mut large = manifest.clone();
    large.resize((4 << 20) + 1, b' ');
    assert_eq!(
        put("/v2/a/manifests/v1", IMAGE, &large).await,
        code(413, "SIZE_INVALID")
    );
    large.truncate(4 << 20);
    let fits = r.put_manifest("/v2/a/manifests/large", IMAGE, &large);
    assert_eq!(fits.await.status(), 201);
    let mut lie: Value = serde_json::from_slice(&manifest).unwrap();
    lie["layers"][0]["size"] = json!(4);
    let lie = lie.to_string().into_bytes();
    assert_eq!(
        put("/v2/a/manifests/v1", IMAGE, &lie).await,
        code(400, "SIZE_INVALID")
    );
}

// --- content discovery -------------------------------------------------------

#[tokio::test]
async fn tags_are_listed_in_order_and_in_pages() {
    let r = start().await;
    let manifest = r.image("a", b"layer").await;
    for tag in ["test2", "test0", "B", "test1", "_x"] {
        let path = format!("/v2/a/manifests/{tag}");
        r.put_manifest(&path, IMAGE, &manifest).await;
    }
    let list = async |query: &str| {
        let answer = r.get(&format!("/v2/a/tags/list{query}")).await;
        assert_eq!(answer.status(), 200);
        let link = answer.headers().get("link").cloned();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["name"], "a");
        let tags: Vec<String> = serde_json::from_value(body["tags"].clone()).unwrap();
        (tags, link.map(|l| l.to_str().unwrap().to_owned()))
    };
    let (all, link) = list("").await;
    assert_eq!(all, ["B", "_x", "test0", "test1", "test2"]);
    assert_eq!(link, None);
    assert_eq!(list("?n=0").await.0, Vec::<String>::new());
    let (page, link) = list("?n=2").await;
    assert_eq!(page, ["B", "_x"]);
    let link = link.unwrap();
    assert!(link.ends_with(">; rel=\"next\""), "{link}");
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let (page, link) = list(next.trim_start_matches("/v2/a/tags/list")).await;
    assert_eq!(page, ["test0", "test1"]);
    assert!(link.is_some());
    let (page, link) = list("?n=2&last=test1").await;
    assert_eq!(page, ["test2"]);
    assert_eq!(link, None);
    assert_eq!(list("?last=test0").await.0, ["test1", "test2"]);
    let bad = r.get("/v2/a/tags/list?n=x").await;
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn referrers_are_found_by_subject_and_type() {
    let r = start().await;
    let subject = r.tagged("a", "v1", b"layer").await;
    let path = format!("/v2/a/referrers/{subject}");
    let list = async |path: &str| {
        let answer = r.get(path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), INDEX);
        let applied = answer.headers().get("oci-filters-applied").cloned();
        let link = answer.headers().get("link").cloned();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["mediaType"], INDEX);
        (body["manifests"].as_array().unwrap().clone(), applied, link)
    };
    assert!(list(&path).await.0.is_empty());
    let mut made = Vec::new();
    for kind in ["t/one", "t/two", "t/two"] {
        let n = made.len();
        let base = r.image("a", format!("{kind} {n}").as_bytes()).await;
        let mut value: Value = serde_json::from_slice(&base).unwrap();
        value["artifactType"] = json!(kind);
        value["annotations"] = json!({"n": n.to_string()});
        value["subject"] = json!({"mediaType": IMAGE, "digest": subject.as_str(), "size": 1});
        let bytes = value.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let to = format!("/v2/a/manifests/{digest}");
        let put = r.put_manifest(&to, IMAGE, &bytes).await;
        assert_eq!(header(&put, "oci-subject"), subject.as_str());
        made.push(digest);
    }
    let (all, applied, _) = list(&path).await;
    assert_eq!(all.len(), 3);
    assert_eq!(applied, None);
    assert!(all.iter().all(|d| d["annotations"]["n"].is_string()));
    let (some, applied, _) = list(&format!("{path}?artifactType=t%2Ftwo")).await;
    assert_eq!(some.len(), 2);
    assert!(some.iter().all(|d| d["artifactType"] == "t/two"));
    assert_eq!(applied.unwrap(), "artifactType");
    let (first, _, link) = list(&format!("{path}?n=2")).await;
    let link = link.unwrap().to_str().unwrap().to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let (second, _, link) = list(next).await;
    assert_eq!((first.len(), second.len()), (2, 1));
    assert_eq!(link, None);
    // A subject that is not there has an empty list, and may be referred to.
    let nowhere = format!("/v2/none/referrers/{}", Digest::sha256(b"x"));
    assert!(list(&nowhere).await.0.is_empty());
    r.delete(&format!("/v2/a/manifests/{}", made[0])).await;
    assert_eq!(list(&path).await.0.len(), 2);
}

#[tokio::test]
async fn the_catalog_shows_what_may_be_pulled() {
    let r = start().await;
    for repository in ["a/b", "c", "a-b"] {
        r.tagged(repository, "v1", b"layer").await;
    }
    let all: Value = r.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(all, json!({"repositories": ["a-b", "a/b", "c"]}));
    let page = r.get("/v2/_catalog?n=1&last=a-b").await;
    assert!(header(&page, "link").contains("last=a%2Fb"));
    let rules = vec!["a/**=pull".parse().unwrap()];
    let kind = kukeon::registry::auth::AccountKind::Robot;
    let password = r.storage().set_account("ci", kind, rules, None).unwrap();
    let some = r.anonymous(Method::GET, "/v2/_catalog");
    let some = some.basic_auth("ci", Some(password)).send().await.unwrap();
    let some: Value = some.json().await.unwrap();
    assert_eq!(some, json!({"repositories": ["a/b"]}));
}

// --- content management ------------------------------------------------------

#[tokio::test]
async fn deleting_tags_manifests_and_blobs() {
    let r = start().await;
    let digest = r.tagged("a", "one", b"layer").await;
    r.tagged("a", "two", b"layer").await;
    let by_tag = "/v2/a/manifests/one";
    assert_eq!(r.delete(by_tag).await.status(), 202);
    assert_eq!(r.get(by_tag).await.status(), 404);
    let by_digest = format!("/v2/a/manifests/{digest}");
    assert_eq!(r.get(&by_digest).await.status(), 200);
    assert_eq!(r.delete(&by_digest).await.status(), 202);
    assert_eq!(r.get(&by_digest).await.status(), 404);
    assert_eq!(r.get("/v2/a/manifests/two").await.status(), 404);
    assert_eq!(
        failure(r.delete(&by_digest).await).await,
        code(404, "MANIFEST_UNKNOWN")
    );
    let blob = format!("/v2/a/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(r.delete(&blob).await.status(), 202);
    assert_eq!(
        failure(r.delete(&blob).await).await,
        code(404, "BLOB_UNKNOWN")
    );
    let list: Value = r.get("/v2/a/tags/list").await.json().await.unwrap();
    assert_eq!(list["tags"], json!([]));
}

#[tokio::test]
async fn preparations_are_written_by_nobody_and_deleted_by_nobody() {
    let r = start().await;
    let at: kukeon::registry::Repository = "preparations/default/web".parse().unwrap();
    let storage = r.storage();
    let config = storage.put_blob(&at, b"{}", None).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "artifactType": kukeon::registry::PREPARATION_TYPE,
        "config": {"mediaType": "x/y", "digest": config.as_str(), "size": 2}, "layers": []});
    let manifest = manifest.to_string();
    let tag = "rev-1".parse().unwrap();
    let policy = kukeon::registry::Policy::Enforce;
    let digest = storage
        .put_manifest(&at, Some(&tag), None, manifest.as_bytes(), policy)
        .unwrap()
        .digest;
    let path = "/v2/preparations/default/web";
    let read = r.get(&format!("{path}/manifests/rev-1")).await;
    assert_eq!(read.text().await.unwrap(), manifest);
    for reference in ["rev-1", digest.as_str()] {
        let refused = r.delete(&format!("{path}/manifests/{reference}")).await;
        assert_eq!(failure(refused).await, code(405, "UNSUPPORTED"));
    }
    let active = format!("{path}/manifests/active");
    let push = r.put_manifest(&active, IMAGE, manifest.as_bytes());
    assert_eq!(failure(push.await).await, code(403, "DENIED"));
    let begin = r.ask(Method::POST, &format!("{path}/blobs/uploads/"));
    let begin = begin.send().await.unwrap();
    assert_eq!(failure(begin).await, code(403, "DENIED"));
    let blob = r.delete(&format!("{path}/blobs/{config}")).await;
    assert_eq!(failure(blob).await, code(403, "DENIED"));
    // Elsewhere the artifact is as safe.
    r.blob("copy", b"{}").await;
    let copy = r.put_manifest("/v2/copy/manifests/x", IMAGE, manifest.as_bytes());
    assert_eq!(copy.await.status(), 201);
    let refused = r.delete(&format!("/v2/copy/manifests/{digest}")).await;
    assert_eq!(failure(refused).await, code(405, "UNSUPPORTED"));
}

// --- who may -----------------------------------------------------------------

#[tokio::test]
async fn tokens_open_what_they_were_given_for() {
    let r = start().await;
    r.tagged("a", "v1", b"layer").await;
    let token = async |scope: &str| {
        let path = format!("/v2/token?service=x&scope={scope}");
        let answer: Value = r.get(&path).await.json().await.unwrap();
        assert_eq!(answer["token"], answer["access_token"]);
        answer["token"].as_str().unwrap().to_owned()
    };
    let pull = token("repository:a:pull").await;
    let with = async |method: Method, path: &str, token: &str| {
        let request = r.anonymous(method, path).bearer_auth(token);
        request.send().await.unwrap()
    };
    let got = with(Method::GET, "/v2/a/manifests/v1", &pull).await;
    assert_eq!(got.status(), 200);
    let refused = with(Method::POST, "/v2/a/blobs/uploads/", &pull).await;
    let challenge = header(&refused, "www-authenticate");
    assert!(challenge.contains("scope=\"repository:a:pull,push\""));
    assert_eq!(failure(refused).await, code(401, "UNAUTHORIZED"));
    let push = token("repository:a:pull,push").await;
    let begun = with(Method::POST, "/v2/a/blobs/uploads/", &push).await;
    assert_eq!(begun.status(), 202);
    let elsewhere = with(Method::GET, "/v2/b/tags/list", &push).await;
    assert_eq!(elsewhere.status(), 401);
    let nobody = r.anonymous(Method::GET, "/v2/token?scope=repository:a:pull");
    let nobody = nobody.send().await.unwrap();
    assert!(header(&nobody, "www-authenticate").starts_with("Basic "));
    assert_eq!(nobody.status(), 401);
    let form = "grant_type=password&username=admin&password=a+password+for+tests\
        &scope=repository%3Aa%3Apull";
    let posted = r.anonymous(Method::POST, "/v2/token").body(form);
    let posted: Value = posted.send().await.unwrap().json().await.unwrap();
    let posted = posted["access_token"].as_str().unwrap();
    let got = with(Method::GET, "/v2/a/manifests/v1", posted).await;
    assert_eq!(got.status(), 200);
}

#[tokio::test]
async fn anonymous_pull_lets_read_and_no_more() {
    let r = start_with(|c| c.anonymous_pull = true).await;
    r.tagged("a", "v1", b"layer").await;
    let ask = async |method, path| r.anonymous(method, path).send().await.unwrap();
    assert_eq!(ask(Method::GET, "/v2/a/manifests/v1").await.status(), 200);
    // So that clients with credentials learn to use them.
    assert_eq!(ask(Method::GET, "/v2/").await.status(), 401);
    let refused = ask(Method::POST, "/v2/a/blobs/uploads/").await;
    assert_eq!(failure(refused).await, code(401, "UNAUTHORIZED"));
    let refused = ask(Method::DELETE, "/v2/a/manifests/v1").await;
    assert_eq!(failure(refused).await, code(401, "UNAUTHORIZED"));
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let r = start_with(|c| c.requests_per_second = Some(2)).await;
    let mut refused = None;
    for _ in 0..60 {
        let answer = r.anonymous(Method::GET, "/v2/").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("nobody was put off");
    assert!(header(&refused, "retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(failure(refused).await, code(429, "TOOMANYREQUESTS"));
}
