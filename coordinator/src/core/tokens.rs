//! The bearer tokens of a cluster, as their rows say.
//!
//! What is here is durable: a token holds from when its row is in the ledger, and is refused from when its revocation is.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use sr3_proto::{
    access::{NAME_BYTES_MAX, Role, Token},
    wire::ledger::TokenRow,
};
use subtle::ConstantTimeEq;

use super::view::Refusal;

/// Tokens that may be known at once, revoked ones included.
const TOKENS_MAX: usize = 10_000;

/// Why a token does not let its bearer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// There is none of this id, or its secret is another.
    #[error("the token is not known here")]
    Unknown,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired: ask for a new one")]
    Expired,
}

/// The tokens.
#[derive(Debug, Default)]
pub struct Tokens(RwLock<BTreeMap<String, TokenRow>>);

impl Tokens {
    /// Name and role of whoever bears `token`.
    ///
    /// # Errors
    /// It does not hold.
    pub fn check(&self, token: &Token, now_ms: u64) -> Result<(String, Role), BadToken> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let row = rows.get(token.id()).ok_or(BadToken::Unknown)?;
        if !bool::from(row.sha256.as_ref().ct_eq(&token.sha256())) {
            return Err(BadToken::Unknown);
        }
        let role = Role::named(&row.role).ok_or(BadToken::Unknown)?;
        holds(row, now_ms).map(|()| (row.name.clone(), role))
    }

    /// Whether the token of this id still holds.
    pub fn still_holds(&self, id: &str, now_ms: u64) -> bool {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.get(id).is_some_and(|row| holds(row, now_ms).is_ok())
    }

    /// All of them, in the order of their ids.
    pub fn list(&self) -> Vec<(String, TokenRow)> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|(id, row)| (id.clone(), row.clone())).collect()
    }

    pub(super) fn get(&self, id: &str) -> Option<TokenRow> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn put(&self, id: String, row: TokenRow) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, row);
    }

    /// Whether a new token may be made like this.
    pub(super) fn check_new(&self, id: &str, row: &TokenRow) -> Result<(), Refusal> {
        let invalid = |text: String| Err(Refusal::Invalid(text));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if row.name.is_empty() || row.name.len() > NAME_BYTES_MAX || !row.name.chars().all(plain) {
            return invalid(format!(
                "a token's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` or `@`"
            ));
        }
        if !matches!(Role::named(&row.role), Some(role) if role != Role::Coordinator) {
            return invalid("a token's role is read, submit, work or admin".into());
        }
        if row.sha256.len() != 32 || id.len() != 12 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return invalid("the token's id or hash is none".into());
        }
        if self.0.read().unwrap_or_else(PoisonError::into_inner).len() >= TOKENS_MAX {
            return invalid(format!("there are {TOKENS_MAX} tokens already, and no more are kept"));
        }
        Ok(())
    }
}

fn holds(row: &TokenRow, now_ms: u64) -> Result<(), BadToken> {
    match row {
        _ if row.revoked_ms > 0 => Err(BadToken::Revoked),
        _ if row.expires_ms > 0 && row.expires_ms <= now_ms => Err(BadToken::Expired),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(token: &Token) -> TokenRow {
        TokenRow {
            name: "ci".into(),
            role: "submit".into(),
            sha256: token.sha256().to_vec().into(),
            expires_ms: 100,
            ..TokenRow::default()
        }
    }

    #[test]
    fn a_token_holds_until_it_expires_or_is_revoked_and_no_other_secret_does() {
        let (tokens, token) = (Tokens::default(), Token::new([1; 6], [2; 32]));
        assert_eq!(tokens.check(&token, 0), Err(BadToken::Unknown));
        tokens.put(token.id().into(), row(&token));
        assert_eq!(tokens.check(&token, 99), Ok(("ci".into(), Role::Submit)));
        assert_eq!(tokens.check(&Token::new([1; 6], [3; 32]), 0), Err(BadToken::Unknown));
        assert_eq!(tokens.check(&token, 100), Err(BadToken::Expired));
        assert!(tokens.still_holds(token.id(), 99) && !tokens.still_holds(token.id(), 100));
        tokens.put(token.id().into(), TokenRow { revoked_ms: 5, ..row(&token) });
        assert_eq!(tokens.check(&token, 6), Err(BadToken::Revoked));
        assert!(!tokens.still_holds(token.id(), 6));
    }

    #[test]
    fn a_new_token_needs_a_plain_name_and_a_role_of_people_or_workers() {
        let (tokens, token) = (Tokens::default(), Token::new([1; 6], [2; 32]));
        assert_eq!(tokens.check_new(token.id(), &row(&token)), Ok(()));
        for wrong in [
            TokenRow { name: String::new(), ..row(&token) },
            TokenRow { name: "a b".into(), ..row(&token) },
            TokenRow { name: "x".repeat(65), ..row(&token) },
            TokenRow { role: "coordinator".into(), ..row(&token) },
            TokenRow { role: "root".into(), ..row(&token) },
            TokenRow { sha256: vec![1].into(), ..row(&token) },
        ] {
            assert!(tokens.check_new(token.id(), &wrong).is_err(), "{wrong:?}");
        }
        assert!(tokens.check_new("x", &row(&token)).is_err());
    }
}
