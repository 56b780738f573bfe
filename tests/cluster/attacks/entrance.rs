//! Who gets in, and who may do what there.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use sr3::{
    proto::net::Address,
    worker::{Connect, GrpcConnect},
};
use tokio::runtime::Runtime;

use super::{Target, hello, spec};
use crate::{
    authority::Authority,
    pictures,
    processes::{Coordinator, Environment, run, until},
};

#[test]
fn nobody_gets_in_without_a_certificate_or_a_token_that_holds() {
    let target = Target::new();
    let authority = &target.authority;
    let jobs = |somebody: &Environment| target.ask(&["jobs"], somebody);
    assert_eq!(jobs(&target.admin()).0, 0);

    let as_whom = |folder: &str| -> Environment { vec![("SR3_TLS", folder.to_string())] };
    let trust = authority.trust_alone();
    let foreign = Authority::new();
    let mixed = foreign.path_of("admin");
    let foreign_trust = foreign.trust_alone();
    fs::copy(authority.folder().join("ca.crt"), mixed.join("ca.crt")).unwrap();
    let expired = expired(authority);
    let revoked = authority.issue("revoked", "admin");
    assert_eq!(jobs(&as_whom(&revoked)).0, 0);
    authority.certs(&["revoke"], &["revoked"]);
    until(Duration::from_secs(5), || (jobs(&as_whom(&revoked)).0 != 0).then_some(()));
    let nobody = authority.issue("nobody", "coordinator");
    for (folder, said) in [
        (trust.as_str(), "wants to know who calls"),
        (mixed.to_str().unwrap(), "does not take the certificate of this side"),
        (&foreign_trust, "is not to be trusted"),
        (&expired, "does not take the certificate of this side"),
        (&revoked, "does not take the certificate of this side"),
        (&nobody, "has the role coordinator, and this wants read"),
    ] {
        let (code, out) = jobs(&as_whom(folder));
        assert!(code != 0 && out.contains(said), "{folder}: {out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }

    let bearer =
        |token: &str| -> Environment { vec![("SR3_TLS", trust.clone()), ("SR3_TOKEN", token.to_string())] };
    let good = authority.bearer(target.address(), "reader", "read", &[]);
    assert_eq!(jobs(&bearer(&good.token)).0, 0);
    let last = if good.token.ends_with('0') { "1" } else { "0" };
    let altered = format!("{}{last}", &good.token[..good.token.len() - 1]);
    let foreign = format!("sr3_{}_{}", "0".repeat(12), "0".repeat(64));
    let brief = authority.bearer(target.address(), "brief", "read", &["--expires", "1s"]);
    let gone = authority.bearer(target.address(), "gone", "admin", &[]);
    assert_eq!(target.ask(&["tokens", "revoke", gone.id()], &target.admin()).0, 0);
    until(Duration::from_secs(5), || (jobs(&bearer(&brief.token)).0 != 0).then_some(()));
    for (token, said) in [
        (altered.as_str(), "the token is not known here"),
        (&foreign, "the token is not known here"),
        (&brief.token, "the token has expired: ask for a new one"),
        (&gone.token, "the token was revoked"),
        ("sr3_1_2", "SR3_TOKEN holds no token of sr3"),
    ] {
        let (code, out) = jobs(&bearer(token));
        assert!(code != 0 && out.contains(said), "{token}: {out}");
    }
    // What it guards against is written down, with names and without secrets.
    let audit = target.audit();
    for part in ["the token was revoked", "\"outcome\":\"refused\"", "wants to know who calls"] {
        assert!(audit.contains(part), "{part}");
    }
    for token in [&good, &brief, &gone] {
        let secret = token.token.rsplit('_').next().unwrap();
        assert!(!audit.contains(secret), "a secret is in the audit log");
    }
}

/// A folder with a certificate of the authority that held until yesterday.
fn expired(authority: &Authority) -> String {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
    let folder = authority.path_of("expired");
    fs::create_dir(&folder).unwrap();
    let read = |name: &str| fs::read_to_string(authority.folder().join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.crt"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "expired");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - time::Duration::days(3), now - time::Duration::days(1));
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("tls.crt"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("ca.crt"), read("ca.crt")).unwrap();
    folder.to_str().unwrap().to_string()
}

#[test]
fn a_role_allows_no_more_than_its_name_says() {
    let target = Target::new();
    let authority = &target.authority;
    pictures::write(&target.folder.path().join("in"), 1, false);
    let mut jobs = 0;
    for (role, may) in [
        ("read", ["jobs"].as_slice()),
        ("submit", &["jobs", "submit"]),
        ("work", &["session"]),
        ("admin", &["jobs", "submit", "tokens", "session"]),
    ] {
        let name = format!("the-{role}");
        authority.issue(&name, role);
        let bearer = authority.bearer(target.address(), role, role, &[]);
        for somebody in
            [authority.environment(&name, &Environment::new()), bearer.environment(&Environment::new())]
        {
            jobs += 1;
            let job = spec(&target.at("in"), &target.at(&format!("out/{jobs}")));
            for (what, (code, out)) in [
                ("jobs", target.ask(&["jobs"], &somebody)),
                ("submit", target.submit(&job, &somebody)),
                ("tokens", target.ask(&["tokens", "list"], &somebody)),
            ] {
                let refused = out.contains(&format!("has the role {role}, and this wants"));
                assert_eq!(code == 0, may.contains(&what), "{role} {what}: {out}");
                assert_eq!(refused, !may.contains(&what), "{role} {what}: {out}");
            }
        }
        let session = Runtime::new().unwrap().block_on(async {
            let address = Address::parse(target.address()).unwrap();
            GrpcConnect::new(vec![address], target.dialer(&name)).connect(hello(role)).await.map(drop)
        });
        assert_eq!(session.is_ok(), may.contains(&"session"), "{role}: {session:?}");
    }
    // A worker that may not work ends, and says why.
    let (code, out) = target.ask(&["worker"], &authority.environment("the-read", &Environment::new()));
    assert!(code != 0 && out.contains("has the role read, and this wants work"), "{out}");
}

#[test]
fn plain_text_and_old_tls_do_not_pass() {
    let target = Target::new();
    let plain = target.address().replace("https://", "http://");
    let (code, out, errors) = run(&["jobs", "--coordinator", &plain], &Environment::new());
    assert!(code != 0, "{out}{errors}");
    let token = format!("sr3_{}_{}", "0".repeat(12), "0".repeat(64));
    let (code, _, errors) = run(&["jobs", "--coordinator", &plain], &vec![("SR3_TOKEN", token)]);
    assert!(code == 2 && errors.contains("a token is never sent in plain text"), "{errors}");
    // And TLS to somebody who only speaks plain text.
    let folder = tempfile::tempdir().unwrap();
    let open = Coordinator::start(folder.path().to_str().unwrap(), &[], &Environment::new());
    let secure = open.address.replace("http://", "https://");
    if Authority::of_all_tests().is_none() {
        let (code, _, errors) = run(&["jobs", "--coordinator", &secure], &target.admin());
        assert!(code != 0 && errors.contains("it does not speak TLS"), "{errors}");
    }

    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let http1 = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    // A hello of TLS 1.2, which offers nothing newer.
    let mut old = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    for bytes in [preface, http1, old] {
        let mut stream = TcpStream::connect(target.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // At most an alert, which is seven bytes.
        assert!(answer.is_empty() || (answer[0] == 0x15 && answer.len() == 7), "{answer:?}");
    }
    assert_eq!(target.ask(&["jobs"], &target.admin()).0, 0);
}
