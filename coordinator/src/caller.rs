//! Who calls.

use std::{fmt, net::SocketAddr};

use sr3_proto::{access::Role, words::printable};

/// Who calls, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that a certificate or a token bears; empty for anybody.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it is known.
    pub proof: Proof,
    /// From where.
    pub from: Option<SocketAddr>,
}

/// How a caller is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nobody is asked.
    None,
    /// By a certificate.
    Certificate {
        /// Its number at whoever issued it.
        serial: Vec<u8>,
        /// Seconds since the Unix epoch until which it holds.
        not_after: i64,
    },
    /// By a bearer token.
    Token {
        /// Its public part.
        id: String,
    },
}

impl Caller {
    /// Where nobody is asked: anybody, who may do anything.
    pub fn anybody(from: Option<SocketAddr>) -> Self {
        Self { name: String::new(), role: Role::Admin, proof: Proof::None, from }
    }

    /// What it is bound to: everybody of one kind and name is the same. Empty for anybody.
    pub fn identity(&self) -> String {
        let kind = match &self.proof {
            Proof::None => return String::new(),
            Proof::Certificate { .. } => "certificate",
            Proof::Token { .. } => "token",
        };
        format!("{kind}:{}", printable(&self.name))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proof {
            Proof::None => f.write_str("anybody"),
            Proof::Certificate { .. } => write!(f, "the certificate of {}", printable(&self.name)),
            Proof::Token { id } => write!(f, "the token {id} ({})", printable(&self.name)),
        }
    }
}
