//! A private authority of `sr3 certs`, and its certificates, for a cluster on loopback.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::processes::{Environment, json, run};

/// An authority in a folder of its own.
pub(crate) struct Authority(TempDir);

impl Authority {
    /// With certificates for a coordinator, a worker and an admin.
    pub(crate) fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.certs(&["init"], &[]);
        authority.issue("coordinator", "coordinator");
        authority.issue("worker", "work");
        authority.issue("admin", "admin");
        authority
    }

    /// The one of every process of this suite, where `SR3_TEST_TLS` is set.
    pub(crate) fn of_all_tests() -> Option<&'static Self> {
        static ALL: OnceLock<Option<Authority>> = OnceLock::new();
        ALL.get_or_init(|| std::env::var_os("SR3_TEST_TLS").map(|_| Self::new())).as_ref()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// `sr3 certs COMMAND FOLDER …`.
    pub(crate) fn certs(&self, command: &[&str], more: &[&str]) {
        let mut certs = Command::new(env!("CARGO_BIN_EXE_sr3"));
        certs.arg("certs").args(command).arg(self.0.path()).args(more);
        let output = certs.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate of that name and role; returns its folder.
    pub(crate) fn issue(&self, name: &str, role: &str) -> String {
        let hosts: &[&str] = if role == "coordinator" { &["--host", "127.0.0.1"] } else { &[] };
        self.certs(&["issue"], &[&[name, "--role", role], hosts].concat());
        self.of(name)
    }

    /// The folder of a name.
    pub(crate) fn of(&self, name: &str) -> String {
        self.path_of(name).to_str().unwrap().to_string()
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As whom a process acts.
    pub(crate) fn environment(&self, name: &str, more: &Environment) -> Environment {
        [more.as_slice(), &[("SR3_TLS", self.of(name))]].concat()
    }

    /// A folder that trusts this authority, and shows nothing.
    pub(crate) fn trust_alone(&self) -> String {
        let folder = self.path_of("trust");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(self.folder().join("ca.crt"), folder.join("ca.crt")).unwrap();
        folder.to_str().unwrap().to_string()
    }

    /// A bearer of a new token of the coordinator at `address`, who trusts this authority.
    pub(crate) fn bearer(&self, address: &str, name: &str, role: &str, more: &[&str]) -> Bearer {
        let create = ["tokens", "create", name, "--role", role, "--coordinator", address];
        let admin = self.environment("admin", &Vec::new());
        let (code, out, errors) = run(&[&create[..], more].concat(), &admin);
        assert_eq!(code, 0, "{errors}");
        Bearer { token: out.trim().to_string(), trust: self.trust_alone() }
    }

    /// The admin does something.
    pub(crate) fn ask_nothing(&self, arguments: &[&str], address: &str) {
        let all = [arguments, &["--coordinator", address]].concat();
        let (code, _, errors) = run(&all, &self.environment("admin", &Vec::new()));
        assert_eq!(code, 0, "{errors}");
    }

    /// What the admin is told in JSON.
    pub(crate) fn ask(&self, arguments: &[&str], address: &str) -> serde_json::Value {
        let all = [arguments, &["--json", "--coordinator", address]].concat();
        let (code, out, errors) = run(&all, &self.environment("admin", &Vec::new()));
        assert_eq!(code, 0, "{errors}");
        json(&out)
    }
}

/// Who has a token, and no certificate.
pub(crate) struct Bearer {
    pub(crate) token: String,
    trust: String,
}

impl Bearer {
    /// As whom a process acts.
    pub(crate) fn environment(&self, more: &Environment) -> Environment {
        [more.as_slice(), &[("SR3_TLS", self.trust.clone()), ("SR3_TOKEN", self.token.clone())]].concat()
    }

    /// The public part of the token.
    pub(crate) fn id(&self) -> &str {
        self.token.split('_').nth(1).unwrap()
    }
}
