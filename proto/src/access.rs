//! Who may do what: roles, and how a bearer token is written.
//!
//! A caller is known by a certificate (its subject's common name is the name, its organizational unit the role) or by a
//! token. Nothing here decides about a call: which role a call wants stands in the coordinator's gate.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look at jobs and workers.
    Read,
    /// That, and submit, pause and cancel jobs.
    Submit,
    /// Be a worker, and nothing else.
    Work,
    /// Everything.
    Admin,
    /// Be a coordinator: it serves, and asks nothing of others but whether they live.
    Coordinator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Submit, Self::Work, Self::Admin, Self::Coordinator];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Work => "work",
            Self::Admin => "admin",
            Self::Coordinator => "coordinator",
        }
    }

    /// The one that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether who has it may do what wants `wanted`.
    pub fn allows(self, wanted: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Submit => matches!(wanted, Self::Read | Self::Submit),
            other => other == wanted,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Longest name of a token.
pub const NAME_BYTES_MAX: usize = 64;
/// What every token begins with, so that scanners for leaked secrets know it.
const START: &str = "sr3_";
/// Hexadecimal digits of its id, and of its secret.
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;

/// A bearer token: `sr3_ID_SECRET`. Never shown by `Debug`; only its hash is kept anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    /// With these random bytes.
    pub fn new(id: [u8; ID_DIGITS / 2], secret: [u8; SECRET_DIGITS / 2]) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id: hex(&id), secret: hex(&secret) }
    }

    /// Reads one; none if it is not written like one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(START)?.split_once('_')?;
        let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        (hex(id, ID_DIGITS) && hex(secret, SECRET_DIGITS))
            .then(|| Self { id: id.to_string(), secret: secret.to_string() })
    }

    /// Its public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As it is sent. A secret.
    pub fn text(&self) -> String {
        format!("{START}{}_{}", self.id, self.secret)
    }

    /// What is kept of it. The secret has 256 random bits, so that no slow hash is needed.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text().as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_allows_what_its_name_says_and_no_more() {
        for (role, wanted) in [
            (Role::Read, vec![Role::Read]),
            (Role::Submit, vec![Role::Read, Role::Submit]),
            (Role::Work, vec![Role::Work]),
            (Role::Admin, Role::ALL.to_vec()),
            (Role::Coordinator, vec![Role::Coordinator]),
        ] {
            for one in Role::ALL {
                assert_eq!(role.allows(one), wanted.contains(&one), "{role} {one}");
            }
            assert_eq!(Role::named(role.name()), Some(role));
        }
        assert_eq!(Role::named("Admin"), None);
    }

    #[test]
    fn a_token_reads_back_and_never_shows_its_secret() {
        let token = Token::new([7; 6], [9; 32]);
        assert_eq!(Token::parse(&format!(" {}\n", token.text())), Some(token.clone()));
        assert!(!format!("{token:?}").contains("0909"));
        for wrong in ["", "sr3_", "sr3_07_09", &token.text()[1..], &format!("{}0", token.text())] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }
}
