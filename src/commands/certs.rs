//! `sr3 certs init|issue|renew|revoke`: a private certificate authority in a folder, for clusters that have no other.
//!
//! Everything is a file: `ca.crt` and `ca.key` of the authority, a folder for each name with what one part needs (the names
//! of Kubernetes' TLS secrets), `ca.crl` with what was revoked. Whoever has `ca.key` can be anybody: it belongs on no part.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use sr3_proto::access::Role;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{
    CertificateRevocationList, FromDer, GeneralName, ParsedExtension, Pem, X509Certificate,
};

use crate::{
    exit::{CommandError, Ending},
    say::print,
};

/// Clocks of two machines may differ by so much.
const BEFORE: Duration = Duration::hours(1);
const CA_DAYS: i64 = 3650;
const DAYS: u16 = 365;

/// `sr3 certs`.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a certificate authority in a folder: keep the folder to yourself.
    Init(InitArgs),
    /// Issue a certificate: FOLDER/NAME has what `--tls` of that part wants.
    Issue(IssueArgs),
    /// Issue it anew, for the same name, role and hosts, with a new key.
    Renew(RenewArgs),
    /// Revoke it: FOLDER/ca.crl says so, there and in the folder of every name; copy it to the running parts.
    Revoke(RevokeArgs),
}

/// Arguments of `sr3 certs init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The authority's folder; made if it is not there.
    pub folder: PathBuf,
}

/// Arguments of `sr3 certs issue`.
#[derive(Clone, Debug, Args)]
pub struct IssueArgs {
    /// The authority's folder.
    pub folder: PathBuf,
    /// Whose certificate it is.
    pub name: String,
    /// coordinator, work, admin, submit or read.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// Name or address by which others reach it; needed for a coordinator. May be repeated.
    #[arg(long)]
    pub host: Vec<String>,
    /// Days that it holds.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u16).range(1..))]
    pub days: u16,
}

/// Arguments of `sr3 certs renew`.
#[derive(Clone, Debug, Args)]
pub struct RenewArgs {
    /// The authority's folder.
    pub folder: PathBuf,
    /// Whose certificate it is.
    pub name: String,
    /// Days that it holds.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u16).range(1..))]
    pub days: u16,
}

/// Arguments of `sr3 certs revoke`.
#[derive(Clone, Debug, Args)]
pub struct RevokeArgs {
    /// The authority's folder.
    pub folder: PathBuf,
    /// Whose certificate it is.
    pub name: String,
}

/// Runs it.
pub fn run(command: &CertsCommand) -> Result<Ending, CommandError> {
    match command {
        CertsCommand::Init(arguments) => init(&arguments.folder),
        CertsCommand::Issue(arguments) => {
            let IssueArgs { folder, name, role, host, days } = arguments;
            if *role == Role::Coordinator && host.is_empty() {
                let text = "a coordinator is recognised by its host: name it with --host, as others dial it";
                return Err(CommandError::usage(text));
            }
            if folder.join(name).join("tls.crt").exists() {
                let text = format!("`{name}` has a certificate there: `sr3 certs renew` makes it anew");
                return Err(CommandError::usage(text));
            }
            issue(folder, &Subject { name: name.clone(), role: *role, hosts: host.clone() }, *days)
        }
        CertsCommand::Renew(arguments) => {
            let path = arguments.folder.join(&arguments.name).join("tls.crt");
            issue(&arguments.folder, &Subject::read(&path)?, arguments.days)
        }
        CertsCommand::Revoke(arguments) => revoke(&arguments.folder, &arguments.name),
    }
}

fn init(folder: &Path) -> Result<Ending, CommandError> {
    if folder.join("ca.key").exists() || folder.join("ca.crt").exists() {
        let text = format!("`{}` has an authority already: `sr3 certs issue` uses it", folder.display());
        return Err(CommandError::usage(text));
    }
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "sr3 cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - BEFORE, now + Duration::days(CA_DAYS));
    let certificate = params.self_signed(&key).map_err(failed)?;
    fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    write(&folder.join("ca.key"), &key.serialize_pem(), 0o600)?;
    write(&folder.join("ca.crt"), &certificate.pem(), 0o644)?;
    print(&format!("{}\n", folder.join("ca.crt").display()));
    Ok(Ending::Done)
}

/// Whom a certificate names.
struct Subject {
    name: String,
    role: Role,
    hosts: Vec<String>,
}

impl Subject {
    /// Of a certificate that was issued.
    fn read(path: &Path) -> Result<Self, CommandError> {
        let broken =
            || CommandError::usage(format!("`{}` is no certificate of `sr3 certs issue`", path.display()));
        let der = der(path)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| broken())?;
        let text = |part: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            part.and_then(|part| part.as_str().ok()).map(str::to_string)
        };
        let name = text(parsed.subject().iter_common_name().next()).ok_or_else(broken)?;
        let unit = text(parsed.subject().iter_organizational_unit().next()).ok_or_else(broken)?;
        let role = Role::named(&unit).ok_or_else(broken)?;
        let mut hosts = Vec::new();
        for extension in parsed.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                continue;
            };
            hosts.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(host) => Some((*host).to_string()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            }));
        }
        Ok(Self { name, role, hosts })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|all| std::net::Ipv6Addr::from(all).to_string())
}

fn issue(folder: &Path, subject: &Subject, days: u16) -> Result<Ending, CommandError> {
    let Subject { name, role, hosts } = subject;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(CommandError::usage("a name has 1 to 64 letters, digits, `-`, `_` or `.`"));
    }
    let issuer = authority(folder)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(hosts.clone())
        .map_err(|e| CommandError::usage(format!("a host is no name or address: {e}")))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.distinguished_name.push(DnType::OrganizationalUnitName, role.name());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - BEFORE, now + Duration::days(days.into()));
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    let own = folder.join(name);
    fs::create_dir_all(&own).map_err(|e| unwritable(&own, &e))?;
    // A part that reads between the two keeps what it has.
    write(&own.join("tls.key"), &key.serialize_pem(), 0o600)?;
    write(&own.join("tls.crt"), &certificate.pem(), 0o644)?;
    for file in ["ca.crt", "ca.crl"] {
        if let Ok(text) = fs::read_to_string(folder.join(file)) {
            write(&own.join(file), &text, 0o644)?;
        }
    }
    print(&format!("{}\n", own.display()));
    Ok(Ending::Done)
}

fn revoke(folder: &Path, name: &str) -> Result<Ending, CommandError> {
    let certificate = der(&folder.join(name).join("tls.crt"))?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(failed)?;
    let serial = parsed.raw_serial().to_vec();
    let now = OffsetDateTime::now_utc();
    let list = folder.join("ca.crl");
    let mut revoked_certs = Vec::new();
    if list.exists() {
        let der = der(&list)?;
        let (_, known) = CertificateRevocationList::from_der(&der).map_err(failed)?;
        for one in known.iter_revoked_certificates().filter(|one| one.raw_serial() != serial) {
            let at = OffsetDateTime::from_unix_timestamp(one.revocation_date.timestamp()).map_err(failed)?;
            revoked_certs.push(revoked(one.raw_serial(), at));
        }
    }
    revoked_certs.push(revoked(&serial, now));
    let params = CertificateRevocationListParams {
        this_update: now - BEFORE,
        next_update: now + Duration::days(CA_DAYS),
        // Each list replaces the one before it.
        crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or(0)),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let text = params.signed_by(&authority(folder)?).and_then(|list| list.pem()).map_err(failed)?;
    write(&list, &text, 0o644)?;
    let entries = fs::read_dir(folder).map_err(|e| unwritable(folder, &e))?;
    for own in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if own.join("tls.crt").exists() {
            write(&own.join("ca.crl"), &text, 0o644)?;
        }
    }
    print(&format!("{}\n", list.display()));
    Ok(Ending::Done)
}

fn revoked(serial: &[u8], at: OffsetDateTime) -> RevokedCertParams {
    let serial_number = SerialNumber::from_slice(serial);
    RevokedCertParams { serial_number, revocation_time: at, reason_code: None, invalidity_date: None }
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>, CommandError> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(|e| {
            let way_out = "make an authority with `sr3 certs init`";
            CommandError::usage(format!("`{}` cannot be read ({e}): {way_out}", path.display()))
        })
    };
    let key = KeyPair::from_pem(&read("ca.key")?).map_err(failed)?;
    Issuer::from_ca_cert_pem(&read("ca.crt")?, key).map_err(failed)
}

/// What a PEM file holds first.
fn der(path: &Path) -> Result<Vec<u8>, CommandError> {
    let unreadable = |reason: String| CommandError::usage(format!("`{}`: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|e| unreadable(e.to_string()))?;
    let first = Pem::iter_from_buffer(&bytes).next();
    match first {
        Some(Ok(pem)) => Ok(pem.contents),
        _ => Err(unreadable("it holds nothing in PEM".into())),
    }
}

/// All of a file or nothing of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CommandError> {
    let half = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = options
        .open(&half)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&half, path));
    written.map_err(|e| unwritable(path, &e))
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::failed(format!("`{}` cannot be written: {error}", path.display()))
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format!("the certificates cannot be made or read: {error}"))
}

fn role(text: &str) -> Result<Role, String> {
    Role::named(text).ok_or_else(|| "a role is coordinator, work, admin, submit or read".to_string())
}
