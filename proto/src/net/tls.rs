//! The certificates of a process: a folder, read again when its files change.
//!
//! The names are those of Kubernetes' TLS secrets: `tls.crt` (the chain), `tls.key`, `ca.crt` (who is trusted), and
//! `ca.crl` (what was revoked). A folder with `ca.crt` alone trusts others and shows no certificate of its own.
//!
//! Promises: TLS 1.3 and nothing older; no session is resumed, so that every connection shows its certificate again; files
//! that do not fit together (a copy is under way) change nothing until they do. Nothing runs in the background: whoever
//! dials or listens asks for what is current, and the files are looked at once a second at most.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::access::Role;

/// Files are looked at again after so long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FILES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"];

/// What is wrong with a folder of certificates.
#[derive(Debug, thiserror::Error)]
#[error("the certificates in `{}` cannot be used: {reason}", folder.display())]
pub struct TlsError {
    /// The folder.
    pub folder: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// Who a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The subject's common name.
    pub name: String,
    /// The subject's organizational unit, if it is a role.
    pub role: Option<Role>,
    /// Its number at whoever issued it.
    pub serial: Vec<u8>,
    /// Seconds since the Unix epoch until which it holds.
    pub not_after: i64,
}

impl CertificateName {
    /// Reads it. None for what is no certificate.
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next().and_then(|part| part.as_str().ok()).unwrap_or_default();
        let unit = subject.iter_organizational_unit().next().and_then(|part| part.as_str().ok());
        Some(Self {
            name: name.to_string(),
            role: unit.and_then(Role::named),
            serial: parsed.raw_serial().to_vec(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// The certificates of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    looked: Instant,
    stamp: Stamp,
    material: Arc<Material>,
}

/// What the files were when they were read.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// What the files say.
#[derive(Debug)]
struct Material {
    client: Arc<ClientConfig>,
    server: Option<Arc<ServerConfig>>,
    own: Option<CertificateName>,
    revoked: BTreeSet<Vec<u8>>,
}

impl Tls {
    /// Reads a folder.
    ///
    /// # Errors
    /// Something is missing or does not fit together.
    pub fn open(folder: &Path) -> Result<Self, TlsError> {
        let stamp = stamp(folder);
        let material = Arc::new(Material::read(folder)?);
        let current = Mutex::new(Current { looked: Instant::now(), stamp, material });
        Ok(Self(Arc::new(Folder { path: folder.to_path_buf(), current })))
    }

    /// Without a folder: those trust that the system trusts, and no certificate is shown.
    ///
    /// # Errors
    /// The system trusts nobody.
    pub fn of_system() -> Result<Arc<ClientConfig>, TlsError> {
        let wrong = |reason: String| TlsError { folder: "the system's store".into(), reason };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(wrong("it holds none: name a folder with ca.crt (--tls)".into()));
        }
        client(roots, Vec::new(), None).map_err(|e| wrong(e.to_string()))
    }

    /// For whoever dials.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current().client)
    }

    /// For whoever listens.
    ///
    /// # Errors
    /// There is no certificate of its own.
    pub fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.current().server.clone().ok_or_else(|| {
            wrong(&self.0.path, "tls.crt and tls.key are missing: issue them (`sr3 certs issue`)")
        })
    }

    /// Who this process is, if it shows a certificate.
    pub fn own(&self) -> Option<CertificateName> {
        self.current().own.clone()
    }

    /// Whether a certificate was revoked.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        self.current().revoked.contains(serial)
    }

    fn current(&self) -> Arc<Material> {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let now = stamp(&self.0.path);
            if now != current.stamp {
                match Material::read(&self.0.path) {
                    Ok(material) => {
                        tracing::info!(folder = %self.0.path.display(), "the certificates were read again");
                        (current.material, current.stamp) = (Arc::new(material), now);
                    }
                    Err(error) => tracing::warn!(%error, "the earlier certificates stay in use"),
                }
            }
        }
        Arc::clone(&current.material)
    }
}

fn stamp(folder: &Path) -> Stamp {
    let of = |name| fs::metadata(folder.join(name)).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
    FILES.into_iter().map(of).collect()
}

fn wrong(folder: &Path, reason: impl ToString) -> TlsError {
    TlsError { folder: folder.to_path_buf(), reason: reason.to_string() }
}

impl Material {
    fn read(folder: &Path) -> Result<Self, TlsError> {
        let path = |name| folder.join(name);
        let wrong = |reason: String| wrong(folder, reason);
        let mut roots = RootCertStore::empty();
        for one in certificates(&path("ca.crt")).map_err(|e| wrong(format!("ca.crt: {e}")))? {
            roots.add(one).map_err(|e| wrong(format!("ca.crt: {e}")))?;
        }
        let crls = match CertificateRevocationListDer::pem_file_iter(path("ca.crl")) {
            Err(_) if !path("ca.crl").exists() => Vec::new(),
            read => read
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| wrong(format!("ca.crl: {e}")))?,
        };
        let mut revoked = BTreeSet::new();
        for crl in &crls {
            let (_, list) =
                CertificateRevocationList::from_der(crl).map_err(|e| wrong(format!("ca.crl: {e}")))?;
            revoked.extend(list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()));
        }
        let identity = if path("tls.crt").exists() {
            let chain = certificates(&path("tls.crt")).map_err(|e| wrong(format!("tls.crt: {e}")))?;
            let key =
                PrivateKeyDer::from_pem_file(path("tls.key")).map_err(|e| wrong(format!("tls.key: {e}")))?;
            Some((chain, key))
        } else {
            None
        };
        let own = identity.as_ref().and_then(|(chain, _)| CertificateName::read(chain.first()?));
        let server = match &identity {
            Some(identity) => {
                let built = server(roots.clone(), crls.clone(), (identity.0.clone(), identity.1.clone_key()));
                Some(built.map_err(|e| wrong(e.to_string()))?)
            }
            None => None,
        };
        let client = client(roots, crls, identity).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { client, server, own, revoked })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
type Crls = Vec<CertificateRevocationListDer<'static>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client(roots: RootCertStore, crls: Crls, identity: Option<Identity>) -> Result<Arc<ClientConfig>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(crls)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status()
        .build()?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whoever comes may show a certificate; one that is shown must hold.
fn server(roots: RootCertStore, crls: Crls, (chain, key): Identity) -> Result<Arc<ServerConfig>, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(crls)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status()
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error.to_string())
    }
}
