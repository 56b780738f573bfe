//! `sr3 tokens create|list|revoke`.

use std::time::Duration;

use clap::{Args, Subcommand};
use rand::{TryRngCore, rngs::OsRng};
use serde_json::json;
use sr3_proto::{
    access::{Role, Token},
    wire::v1,
    words::printable,
};

use super::{
    remote_args::{RemoteArgs, block_on},
    table::table,
};
use crate::{
    exit::{CommandError, Ending},
    say::print,
};

/// `sr3 tokens`.
#[derive(Clone, Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token, and print it: it is shown this once, and kept nowhere.
    Create(CreateArgs),
    /// List the tokens, without their secrets.
    List(ListArgs),
    /// Refuse a token from now on, also where it is in use.
    Revoke(RevokeArgs),
}

/// Arguments of `sr3 tokens create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Who bears it: letters, digits, `-`, `_`, `.`, `@`. A second token of a name stands for the first, so that one can be
    /// replaced.
    pub name: String,
    /// What it allows: read, submit (and read), work (for workers), or admin.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// Until when it holds, such as 90d, 12h or 30m [default: until it is revoked].
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub expires: Option<Duration>,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Arguments of `sr3 tokens list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// A line of JSON per token.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sr3 tokens revoke`.
#[derive(Clone, Debug, Args)]
pub struct RevokeArgs {
    /// Id of the token: what stands between `sr3_` and the next `_` of it.
    pub id: String,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Runs it.
pub fn run(command: &TokensCommand) -> Result<Ending, CommandError> {
    match command {
        TokensCommand::Create(arguments) => create(arguments),
        TokensCommand::List(arguments) => list(arguments),
        TokensCommand::Revoke(arguments) => revoke(arguments),
    }
}

fn create(arguments: &CreateArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    let (mut id, mut secret) = ([0; 6], [0; 32]);
    let drawn = OsRng.try_fill_bytes(&mut id).and_then(|()| OsRng.try_fill_bytes(&mut secret));
    drawn.map_err(|e| CommandError::failed(format!("the system gives no random bytes: {e}")))?;
    let token = Token::new(id, secret);
    block_on(async {
        client.create_token(&token, &arguments.name, arguments.role, arguments.expires).await?;
        print(&format!("{}\n", token.text()));
        Ok(Ending::Done)
    })
}

fn list(arguments: &ListArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let tokens = client.tokens().await?;
        if arguments.json {
            print(&tokens.iter().map(|token| format!("{}\n", as_json(token))).collect::<String>());
        } else {
            let rows: Vec<_> = tokens.iter().map(row).collect();
            print(&table(["TOKEN", "NAME", "ROLE", "HOLDS", "MADE BY"], &rows));
        }
        Ok(Ending::Done)
    })
}

fn revoke(arguments: &RevokeArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let token = client.revoke_token(&arguments.id).await?;
        print(&format!("token {} ({}): revoked\n", printable(&token.id), printable(&token.name)));
        Ok(Ending::Done)
    })
}

fn row(token: &v1::Token) -> [String; 5] {
    let holds = match token {
        t if t.revoked_ms > 0 => "revoked".to_string(),
        t if t.expires_ms == 0 => "until revoked".to_string(),
        t => {
            let days = t.expires_ms.saturating_sub(t.created_ms) as f64 / 86_400_000.0;
            format!("{days:.1} days from when it was made")
        }
    };
    [
        printable(&token.id),
        printable(&token.name),
        printable(&token.role),
        holds,
        printable(&token.created_by),
    ]
}

fn as_json(token: &v1::Token) -> serde_json::Value {
    json!({
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
        "revoked_ms": token.revoked_ms,
        "created_by": token.created_by,
    })
}

fn role(text: &str) -> Result<Role, String> {
    Role::named(text)
        .filter(|role| *role != Role::Coordinator)
        .ok_or_else(|| "a token's role is read, submit, work or admin".to_string())
}

/// `90d`, `12h`, `30m`, `45s`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and d, h, m or s, such as 90d".to_string();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(total) if total > 0 => Ok(Duration::from_secs(total)),
        _ => Err(wrong()),
    }
}
