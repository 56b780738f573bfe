//! Who a command is to the other parts of a cluster, and whom it trusts.

use std::{env, path::PathBuf};

use clap::Args;
use sr3_proto::{
    access::Token,
    net::{Address, Bearer, Dialer, Tls},
};

use crate::exit::CommandError;

/// Certificates and token.
#[derive(Clone, Debug, Default, Args)]
pub struct CredentialArgs {
    /// Folder of certificates: ca.crt for whom to trust, and tls.crt with tls.key for who this is; `sr3 certs` makes them
    /// [env: SR3_TLS] [default: whom the system trusts]
    #[arg(long, value_name = "FOLDER")]
    pub tls: Option<PathBuf>,
    /// File with a token of `sr3 tokens create` [env: SR3_TOKEN_FILE, or the token itself in SR3_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl CredentialArgs {
    /// Certificates and token of the options, or of the environment.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn dialer(&self) -> Result<Dialer, CommandError> {
        Ok(Dialer::new(self.tls()?, self.bearer()?))
    }

    /// The same, for these addresses.
    ///
    /// # Errors
    /// A token would go to one of them in plain text, too.
    pub fn dialer_to(&self, addresses: &[Address]) -> Result<Dialer, CommandError> {
        let dialer = self.dialer()?;
        for address in addresses {
            dialer.check(address).map_err(|e| CommandError::usage(e.to_string()))?;
        }
        Ok(dialer)
    }

    /// The certificates.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn tls(&self) -> Result<Option<Tls>, CommandError> {
        let folder = self.tls.clone().or_else(|| path("SR3_TLS"));
        let opened = folder.map(|folder| Tls::open(&folder)).transpose();
        opened.map_err(|e| CommandError::usage(e.to_string()))
    }

    fn bearer(&self) -> Result<Bearer, CommandError> {
        if let Some(file) = self.token_file.clone().or_else(|| path("SR3_TOKEN_FILE")) {
            let bearer = Bearer::File(file);
            bearer.token().map_err(CommandError::usage)?;
            return Ok(bearer);
        }
        match env::var("SR3_TOKEN") {
            Ok(text) if !text.trim().is_empty() => Token::parse(&text)
                .map(Bearer::Token)
                .ok_or_else(|| CommandError::usage("SR3_TOKEN holds no token of sr3")),
            _ => Ok(Bearer::None),
        }
    }
}

fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
